"""`discover token` and `discover gateway` as people type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import film_log
import pytest

from discover_stream.app.cli import run
from discover_stream.app.gateway.serve import Address, parse_address, state_path
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import load_config
from discover_stream.types import InputError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return film_log.record(tmp_path)


@pytest.fixture
def discover(capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


def test_a_token_is_made_listed_and_revoked(place: Path, discover: Command) -> None:
    assert "no token was made yet" in discover("token", "list", "-c", place)[1]
    made = discover("token", "make", "desk", "--role", "viewer", "--camera", "gate", "--days", 1, "-c", place)
    token = made[1].strip()
    with closing(GatewayState(state_path(load_config(place)))) as state:
        holder = state.holder(token)
    assert holder is not None
    assert holder.cameras == frozenset({"gate"})
    (listed,) = json.loads(discover("token", "list", "--json", "-c", place)[1])
    assert (listed["id"], listed["role"], listed["live"], listed["cameras"]) == (holder.token, "viewer", True, ["gate"])
    assert "desk" in discover("token", "list", "-c", place)[1]
    assert discover("token", "revoke", holder.token, "-c", place)[0] == 0
    assert json.loads(discover("token", "list", "--json", "-c", place)[1])[0]["live"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("token", "make", "x", "--role", "king"), "no such role"),
        (("token", "make", "x", "--role", "subscriber"), "needs the tasks"),
        (("token", "make", "\t", "--role", "admin"), "printable"),
        (("token", "revoke", "none"), "there is none"),
        (("gateway", "--http", "here"), "HOST:PORT"),
        (("gateway", "--http", "0.0.0.0:0"), "no token was made yet"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(place: Path, discover: Command, words: tuple[str, ...], says: str) -> None:
    code, _, error = discover(*words, "-c", place)
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_addresses() -> None:
    assert parse_address("127.0.0.1:8000") == Address("127.0.0.1", 8000)
    assert parse_address("8000") == Address("127.0.0.1", 8000)
    assert parse_address("[::1]:80").url == "http://[::1]:80"
    with pytest.raises(InputError):
        parse_address("host:70000")
