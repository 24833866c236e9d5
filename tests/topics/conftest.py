"""A log of every backend for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_backends import BACKENDS, SPECS, Backend

from topics import open_log
from topics.log import Log


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture
def url(backend: Backend, tmp_path: Path) -> str:
    return backend.url(tmp_path)


@pytest.fixture
def log(url: str) -> Iterator[Log]:
    with open_log(url) as opened:
        opened.create_topics(SPECS)
        yield opened
