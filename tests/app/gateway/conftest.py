"""A gateway over a small log, answering in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from discover_stream.app.gateway.application import create_app
from discover_stream.app.gateway.context import Gateway
from discover_stream.app.gateway.decoders import LocalDecoder
from discover_stream.app.gateway.serve import state_path
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import load_config
from topics.sqlite import SqliteLog

HOST = "http://127.0.0.1"
Open = Callable[[Path], "contextmanager[tuple[TestClient, Gateway]]"]


@contextmanager
def opened(config_path: Path) -> Iterator[tuple[TestClient, Gateway]]:
    """A client on this machine, and its gateway."""
    config = load_config(config_path)
    with SqliteLog(config.log.path) as log:
        gateway = Gateway(config, log, GatewayState(state_path(config)), LocalDecoder(1, config.decoding))
        with TestClient(create_app(gateway), base_url=HOST, client=("127.0.0.1", 50000)) as client:
            yield client, gateway


@pytest.fixture(scope="module")
def open_gateway() -> Open:
    return opened
