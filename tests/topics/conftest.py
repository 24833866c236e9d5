"""A log of every backend for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_backends import KAFKA, SPECS, SQLITE, Backend

from deploy.kafka.broker import Broker
from topics import open_log
from topics.log import Log

_NUMBERS = itertools.count()


@pytest.fixture(params=[SQLITE, pytest.param(KAFKA, marks=pytest.mark.kafka)], ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture
def kafka_url(kafka_broker: Broker) -> Iterator[str]:
    """The address of an empty log on the broker of this session: a prefix of its own."""
    from kafka import KafkaAdminClient

    prefix = f"t{next(_NUMBERS)}."
    yield f"kafka:{kafka_broker.bootstrap}?prefix={prefix}"
    with KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap) as admin:
        ours = [name for name in admin.list_topics() if name.startswith(prefix)]
        if ours:  # hundreds of topics would slow the broker down
            admin.delete_topics(ours, raise_errors=False)


@pytest.fixture
def url(backend: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("kafka_url") if backend is KAFKA else f"sqlite:{tmp_path / 'log.db'}"


@pytest.fixture
def log(url: str) -> Iterator[Log]:
    with open_log(url) as opened:
        opened.create_topics(SPECS)
        yield opened
