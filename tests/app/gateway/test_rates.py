"""What flows is counted once, whatever happens between two looks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from discover_stream.app.gateway.rates import KEPT_S, Rates
from topics.catalogue import CatalogueSettings, catalogue, task_topic
from topics.log import LogError
from topics.sqlite import SqliteLog
from topics.sqlite_reader import SqliteReader

NAME = ("trams", "gate")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue(["trams"], CatalogueSettings(partitions=2)))
        yield opened


def looked_again(rates: Rates, after_s: float = 2.0) -> int:
    """Packets in the window, by a look that comes some seconds after the last one."""
    rates._looked_s = time.monotonic() - after_s
    return rates.now(KEPT_S)[NAME].packets


def send(log: SqliteLog, count: int) -> None:
    for _ in range(count):
        log.append(task_topic("trams"), "gate", b"packet")


def test_after_the_log_was_away_nothing_is_counted_twice(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(log)
    send(log, 3)
    assert looked_again(rates) == 3

    def away(*args: object, **options: object) -> None:
        raise LogError("the log is away")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteReader, "poll", away)
        with pytest.raises(LogError):
            looked_again(rates)
    send(log, 2)
    assert looked_again(rates) == 5


def test_what_came_while_nobody_looked_for_long_is_not_read(log: SqliteLog) -> None:
    rates = Rates(log)
    send(log, 1)
    assert looked_again(rates) == 1
    reader = rates._readers[task_topic("trams")]
    send(log, 2)
    assert looked_again(rates, KEPT_S + 1) == 3
    assert rates._readers[task_topic("trams")] is not reader, "one that begins where the window does"
