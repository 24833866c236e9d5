"""The backends that the contract runs against, and what its tests share."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass

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
FILLER = "~filler"
"""A key that `Backend.compact` may leave behind."""


@dataclass(frozen=True)
class Backend:
    """What tests must know about a kind of log. `dense`: offsets have no holes before compaction.
    `compact` has a topic compacted soon, as its backend does by itself in its own time."""

    name: str
    dense: bool
    compact: Callable[[Log, str, int], None]


def _maintain(log: Log, topic: str, partition: int) -> None:
    log.maintain()


def _close_segment(log: Log, topic: str, partition: int) -> None:
    """Have the broker close the segment of a partition, which the next record does, and clean soon."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    from topics.kafka import KafkaLog

    assert isinstance(log, KafkaLog)
    soon = {"segment.ms": "50", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "50"}
    name = log.settings.prefix + topic
    with KafkaAdminClient(**log.settings.client_options()) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, soon)])
    for _ in range(2):
        time.sleep(0.1)
        log.append(topic, FILLER, b"", partition=partition)


SQLITE = Backend("sqlite", dense=True, compact=_maintain)
KAFKA = Backend("kafka", dense=False, compact=_close_segment)


def records(log: Log, topic: str, partition: int | None = None, start: Start = "earliest") -> list[Record]:
    reader = log.reader(topic, None if partition is None else [partition], start=start)
    found = []
    while batch := reader.poll():
        found += batch
    reader.close()
    assert all(isinstance(item, Record) for item in found)
    return found


def values(log: Log, topic: str, partition: int | None = None, start: Start = "earliest") -> list[bytes | None]:
    return [record.value for record in records(log, topic, partition, start)]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what a backend does in its own time."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def in_child(target: Callable[..., None], *args: object) -> int | None:
    """Run `target` in a process of its own; its exit code (minus the signal that ended it)."""
    process = SPAWN.Process(target=target, args=args)
    process.start()
    process.join(60)
    assert not process.is_alive()
    return process.exitcode
