"""Who may do what; tokens, keys and limits, without HTTP."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from discover_stream.app.gateway.access import ALLOWED, Principal
from discover_stream.app.gateway.keys import LIFETIME_S, key_holder, make_key
from discover_stream.app.gateway.limits import Limiter
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.types import InputError


@pytest.fixture
def state(tmp_path: Path) -> Iterator[GatewayState]:
    with closing(GatewayState(tmp_path / "gateway.db")) as opened:
        yield opened


def test_every_role_may_less_than_the_one_before() -> None:
    assert ALLOWED["admin"] > ALLOWED["operator"] > ALLOWED["viewer"]
    assert ALLOWED["operator"] > ALLOWED["subscriber"]


def test_a_viewer_sees_its_cameras_and_no_other() -> None:
    viewer = Principal("1", "v", "viewer", cameras=frozenset({"gate"}))
    assert viewer.may("replay", camera="gate", task="all")
    assert not viewer.may("replay", camera="yard", task="all")
    assert not viewer.may("follow", task="vehicles")
    assert Principal("1", "v", "viewer").may("replay", camera="yard")


def test_a_subscriber_reaches_its_tasks_and_nothing_else() -> None:
    subscriber = Principal("1", "s", "subscriber", tasks=frozenset({"vehicles"}))
    assert subscriber.may("replay", camera="gate", task="vehicles")
    for action in ("replay", "follow", "see tasks"):
        assert not subscriber.may(action, task="pedestrians")
        assert not subscriber.may(action, task="all")
    assert not subscriber.may("see cameras", camera="gate")
    assert not subscriber.may("see originals", camera="gate")


def test_a_token_opens_until_it_is_revoked(state: GatewayState) -> None:
    assert state.open
    token = state.make("desk", "viewer", cameras=["gate"])
    assert not state.open
    holder = state.holder(token)
    assert holder is not None
    assert (holder.name, holder.role, holder.cameras) == ("desk", "viewer", frozenset({"gate"}))
    for wrong in ("", "dsk", "dsk__", token[:-1], token + "x", token.replace("dsk", "abc"), f"dsk_{holder.token}_é"):
        assert state.holder(wrong) is None
    state.revoke(holder.token)
    assert state.holder(token) is None
    assert state.live(holder.token) is None
    assert not state.open, "once there was a token, the gateway never is open again"


def test_a_token_ends_by_itself(state: GatewayState) -> None:
    assert state.holder(state.make("guest", "operator", days=-1)) is None


def test_the_file_holds_no_token_and_nobody_else_may_read_it(state: GatewayState) -> None:
    token = state.make("desk", "admin")
    secret = token.split("_", 2)[2].encode()
    for path in state.path.parent.iterdir():
        assert secret not in path.read_bytes()
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o600


def test_threads_that_come_and_go_leave_no_connection_open(state: GatewayState) -> None:
    for _ in range(8):
        thread = threading.Thread(target=state.record, args=("me", "looked", "at the street"))
        thread.start()
        thread.join()
    assert len(state.entries(100)) == 8
    open_files = [Path(f"/proc/self/fd/{fd}").readlink() for fd in os.listdir("/proc/self/fd") if _is_link(fd)]
    assert open_files.count(state.path) == 1


def _is_link(fd: str) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()  # the one that the folder was listed by is gone again


@pytest.mark.parametrize(
    ("role", "limits"),
    [
        ("admin", {"cameras": ["gate"]}),
        ("operator", {"tasks": ["vehicles"]}),
        ("viewer", {"tasks": ["vehicles"]}),
        ("subscriber", {}),
        ("subscriber", {"tasks": ["all"]}),
        ("subscriber", {"tasks": ["vehicles"], "cameras": ["gate"]}),
    ],
)
def test_limits_that_do_not_belong_to_a_role_are_refused(state: GatewayState, role, limits) -> None:
    with pytest.raises(InputError):
        state.make("x", role, **limits)
    assert state.open


def test_the_record_is_only_ever_longer(state: GatewayState) -> None:
    state.record("me", "looked", "at the street")
    assert [entry.what for entry in state.entries(10)] == ["looked"]
    with closing(sqlite3.connect(state.path)) as connection:
        for statement in ("DELETE FROM audit", "UPDATE audit SET who='you'"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(statement)


def test_a_key_opens_one_thing_for_a_while() -> None:
    key = make_key(b"secret", "ab12", "replay", 1000.0)
    assert key_holder(b"secret", key, "replay", 1001.0) == "ab12"
    assert key_holder(b"secret", key, "another", 1001.0) is None
    assert key_holder(b"other", key, "replay", 1001.0) is None
    assert key_holder(b"secret", key, "replay", 1000.0 + LIFETIME_S + 1) is None
    token, until, proof = key.split(".")
    assert key_holder(b"secret", f"{token}.{int(until) + 9}.{proof}", "replay", 1001.0) is None
    assert key_holder(b"secret", f"cd34.{until}.{proof}", "replay", 1001.0) is None
    for broken in ("", ".", "..", "a.b.c", f"{token}.{'9' * 400}.{proof}", "é.1.x"):
        assert key_holder(b"secret", broken, "replay", 1001.0) is None


def test_a_limit_lets_a_burst_through_and_then_a_steady_rate() -> None:
    limiter = Limiter(per_s=2.0, burst=3)
    assert [limiter.take("a", 10.0) for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a", 10.0) == pytest.approx(0.5)
    assert limiter.take("b", 10.0) == 0
    assert limiter.take("a", 10.5) == 0
    assert limiter.take("a", 10.5) > 0
    assert limiter.take("a", 9.0) > 0, "a clock that goes back gives nothing"
