"""The backends that the contract runs against, and what its tests share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from topics.log import Log, Record, Start, TopicSpec

SPAWN = multiprocessing.get_context("spawn")
SPECS = (
    TopicSpec("in", 2),
    TopicSpec("out", 2),
    TopicSpec("other", 3),
    TopicSpec("loose", 2, keyed=False),
    TopicSpec("table", 1, compacted=True),
    TopicSpec("state", 2, compacted=True),
)


@dataclass(frozen=True)
class Backend:
    """A way to make an empty log. `dense`: offsets have no holes. `url` can be opened by any process."""

    name: str
    url: Callable[[Path], str]
    dense: bool


BACKENDS = [Backend("sqlite", lambda folder: f"sqlite:{folder / 'log.db'}", dense=True)]


def records(log: Log, topic: str, partition: int | None = None, start: Start = "earliest") -> list[Record]:
    reader = log.reader(topic, None if partition is None else [partition], start=start)
    found = []
    while batch := reader.poll():
        found += batch
    assert all(isinstance(item, Record) for item in found)
    return found


def values(log: Log, topic: str, partition: int | None = None, start: Start = "earliest") -> list[bytes | None]:
    return [record.value for record in records(log, topic, partition, start)]


def in_child(target: Callable[..., None], *args: object) -> int | None:
    """Run `target` in a process of its own; its exit code (minus the signal that ended it)."""
    process = SPAWN.Process(target=target, args=args)
    process.start()
    process.join(60)
    assert not process.is_alive()
    return process.exitcode
