"""Whatever the gateway's description allows, and does not: asked by schemathesis, over a small log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import film_log
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from discover_stream.app.gateway.decoders import LocalDecoder
from discover_stream.app.gateway.serve import Address, serving, state_path
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import load_config
from topics.sqlite import SqliteLog

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
LIGHTLY = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LIMITS = "gateway: {burst: 1000000, requests_per_s: 1000000}\n"


@dataclass(frozen=True)
class Running:
    """A gateway that listens, and an admin's token."""

    url: str
    headers: dict[str, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = load_config(film_log.record(tmp_path_factory.mktemp("schema"), LIMITS))
    with closing(GatewayState(state_path(config))) as state:
        headers = {"Authorization": f"Bearer {state.make('schema', 'admin')}"}
    with (
        SqliteLog(config.log.path) as log,
        serving(config, log, LocalDecoder(1, config.decoding), Address("127.0.0.1", 0)) as server,
    ):
        # Something to find for those who guess.
        body = json.dumps({"camera": "gate"}).encode()
        wanted = Request(f"{server.address.url}/v1/replays", body, {**headers, "Content-Type": "application/json"})
        assert urlopen(wanted, timeout=60).status == 201
        yield Running(server.address.url, headers)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_nothing_that_may_be_asked_breaks_the_gateway(running: Running, mode: GenerationMode) -> None:
    described = schemathesis.openapi.from_url(f"{running.url}/v1/openapi.json")
    known = {"camera": "gate", "task": film_log.FIRST, "number": 0}
    asked = []
    for result in described.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events"):  # they go on for ever, and have a test of their own
            continue

        @LIGHTLY
        @given(case=operation.as_strategy(generation_mode=mode), real=booleans())
        def ask(case: Any, real: bool) -> None:
            for name in known.keys() & (case.path_parameters or {}).keys() if real else ():
                case.path_parameters[name] = known[name]  # half of what is guessed is there
            case.call_and_validate(headers=running.headers, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:
            continue  # there is nothing about it that could be wrong
        asked.append(operation.label)
    assert len(asked) > 25
