"""The embedded log: every topic in one SQLite database file on a local disk, for one machine.

What a commit guarantees:

* Death of a process at any moment, ``kill -9`` included: everything committed stays, nothing else shows.
* Power loss or a crash of the kernel: with ``durability="normal"`` (the default) the file stays consistent,
  and outputs, offsets and states agree, but the last commits (since the last checkpoint, at most the
  seconds that 16 MiB of log take) may be gone together. ``"full"`` flushes the disk at every commit and
  keeps those too, at the price of one flush (milliseconds on an SSD) per transaction. Normal is the
  default because frames of a live camera are lost for as long as the power is gone anyway, and because
  stages stay exactly once either way: what they commit together is kept or lost together. A subscriber
  that stored positions elsewhere may then stand beyond the end, and is told so (OffsetOutOfRange) unless
  the log has grown past that position again: choose "full" where that matters.

Writers of all processes take turns on one write lock; a transaction holds it only while it commits,
never while its block runs. Readers never wait for writers. Beside the file lie its ``-wal``, ``-shm`` and
``-lock``: copy a log only while nothing has it open. Removed records leave room for new ones; the file
does not shrink.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from topics import sqlite_rows as rows
from topics.checks import check_group, check_partition, check_topic, check_trimmable, place, transactional_id
from topics.log import (
    STATE_TOPIC,
    AtOffset,
    AtTime,
    Bounds,
    LogError,
    Maintained,
    Retention,
    Start,
    TimeRule,
    TopicSpec,
    UnknownTopic,
)
from topics.sqlite_file import Durability, LogFile
from topics.sqlite_reader import SqliteReader
from topics.sqlite_stage import SqliteStage
from topics.usage import Usage

_CHUNK = 500
"""Records removed per transaction, so that maintenance never keeps writers waiting for long."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and the rows of its partitions, by partition number."""

    spec: TopicSpec
    parts: tuple[int, ...]

    def part(self, partition: int) -> int:
        """The row of a partition. Raises UnknownTopic."""
        check_partition(self.spec, partition)
        return self.parts[partition]


class SqliteLog:
    """The `topics.log.Log` in one file. Threads may share it; every process opens its own."""

    def __init__(self, path: Path | str, *, durability: Durability = "normal", busy_s: float = 30.0) -> None:
        """Open the log at `path`, or create it with its folder.

        `busy_s` bounds the wait for other writers, in seconds. Raises LogError for a path that cannot be
        used: another program's file, another format version, a network file system, no permission.
        """
        self.path = Path(path)
        self._file = LogFile(self.path, durability, busy_s)
        self._topics: dict[str, Topic] = {}
        self._lock = threading.Lock()

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """See `topics.log.Log.create_topics`."""
        wanted = list(specs)
        for spec in wanted:
            check_topic(spec)
        with self._file.writing() as connection:
            for spec in wanted:
                found = connection.execute(
                    "SELECT partitions, keyed, compacted FROM topics WHERE name=?", (spec.name,)
                ).fetchone()
                shape = (spec.partitions, spec.keyed, spec.compacted)
                if found is not None and found != shape:
                    raise LogError(
                        f"log {self.path}, topic {spec.name}: has (partitions, keyed, compacted) = "
                        f"({found[0]}, {bool(found[1])}, {bool(found[2])}), wanted {shape}; changing it "
                        "would misplace its records: use the old values or a new log"
                    )
                kept = (spec.retention.age_ns, spec.retention.max_bytes, spec.purpose, spec.guarded)
                connection.execute(
                    "INSERT INTO topics(name, partitions, keyed, compacted, age_ns, max_bytes, purpose, guarded) "
                    "VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET age_ns=excluded.age_ns, "
                    "max_bytes=excluded.max_bytes, purpose=excluded.purpose, guarded=excluded.guarded",
                    (spec.name, *shape, *kept),
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO partitions(topic, number) VALUES(?, ?)",
                    ((spec.name, number) for number in range(spec.partitions)),
                )

    def topics(self) -> tuple[TopicSpec, ...]:
        """See `topics.log.Log.topics`."""
        return tuple(topic.spec for topic in self._load().values())

    def delete_topic(self, name: str) -> None:
        """See `topics.log.Log.delete_topic`."""
        for part in self._topic(name).parts:  # in small steps first, so that writers need not wait for long
            self._trim(part, None)
        with self._file.writing() as connection:
            for (part,) in connection.execute("SELECT id FROM partitions WHERE topic=?", (name,)).fetchall():
                rows.delete_partition(connection, part)
            connection.execute("DELETE FROM topics WHERE name=?", (name,))
        self._load()

    def groups(self) -> tuple[str, ...]:
        """See `topics.log.Log.groups`."""
        with self._file.reading() as connection:
            return tuple(name for (name,) in connection.execute("SELECT DISTINCT grp FROM offsets ORDER BY grp"))

    def usage(self) -> dict[str, Usage]:
        """See `topics.usage.Measured`; bytes are those of keys and values."""
        topics = self._load()
        with self._file.reading() as connection:
            held = {
                name: [rows.usage(connection, part, topic.spec.compacted) for part in topic.parts]
                for name, topic in topics.items()
            }
        return {name: Usage(sum(n for n, _ in parts), sum(size for _, size in parts)) for name, parts in held.items()}

    def append(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> int:
        """See `topics.log.Log.append`."""
        outgoing = self._outgoing(topic, key, value, partition)
        with self._file.writing() as connection:
            return rows.append(connection, [outgoing], time.time_ns())[0]

    def stage(self, name: str, partition: int, owner: str) -> SqliteStage:
        """See `topics.log.Log.stage`."""
        identity = transactional_id(name, partition)
        states = self._topic(STATE_TOPIC)
        return SqliteStage(
            self._file,
            identity,
            owner,
            states.parts[partition % len(states.parts)],
            self._outgoing,
            lambda topic, number: self._topic(topic).part(number),
        )

    def reader(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        group: str | None = None,
        start: Start = "earliest",
    ) -> SqliteReader:
        """See `topics.log.Log.reader`."""
        if group is not None:
            check_group(group)
        found = self._topic(topic)
        numbers = range(len(found.parts)) if partitions is None else partitions
        parts = {number: found.part(number) for number in numbers}
        positions: dict[int, int] = {}
        for number in parts:
            committed = self.committed(group, topic, number) if group is not None else None
            positions[number] = self._resolve(topic, number, start) if committed is None else committed
        return SqliteReader(self._file, topic, parts, positions, group)

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See `topics.log.Log.bounds`."""
        part = self._topic(topic).part(partition)
        with self._file.reading() as connection:
            return rows.bounds(connection, part)

    def offset_at(self, topic: str, partition: int, at_ns: int, rule: TimeRule = "at_or_after") -> int:
        """See `topics.log.Log.offset_at`."""
        part = self._topic(topic).part(partition)
        with self._file.reading() as connection:
            return rows.offset_at(connection, part, at_ns, rule)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """See `topics.log.Log.committed`."""
        part = self._topic(topic).part(partition)
        with self._file.reading() as connection:
            row = connection.execute("SELECT next FROM offsets WHERE grp=? AND part=?", (group, part)).fetchone()
        return None if row is None else int(row[0])

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """See `topics.log.Log.trim`."""
        found = self._topic(topic)
        check_trimmable(found.spec)
        return self._trim(found.part(partition), before_offset)

    def rewrite(self, topic: str, partition: int, values: Mapping[int, bytes | None]) -> int:
        """See `topics.erase.Erasable`."""
        part = self._topic(topic).part(partition)
        total = 0
        places = sorted(values.items())
        for first in range(0, len(places), _CHUNK):
            with self._file.writing() as connection:
                total += rows.rewrite(connection, part, places[first : first + _CHUNK])
        return total

    def scrub(self) -> None:
        """See `topics.erase.Erasable`."""
        self._file.scrub()

    def maintain(self, now_ns: int | None = None, floors: Mapping[tuple[str, int], int] | None = None) -> Maintained:
        """See `topics.log.Log.maintain`."""
        now = time.time_ns() if now_ns is None else now_ns
        expired = compacted = 0
        for name, topic in self._load().items():
            for number, part in enumerate(topic.parts):
                floor = (floors or {}).get((name, number), 0) if topic.spec.guarded else None
                expired += self._expire(part, topic.spec.retention, now, floor)
                if topic.spec.compacted:
                    compacted += self._compact(part, now)
        return Maintained(expired, compacted)

    def close(self) -> None:
        """See `topics.log.Log.close`."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _trim(self, part: int, before: int | None) -> int:
        """Remove the records of a partition below an offset, or all; how many there were."""
        with self._file.writing() as connection:
            rows.raise_start(connection, part, rows.bounds(connection, part).end if before is None else before)
        return self._delete_hidden(part)

    def _expire(self, part: int, retention: Retention, now_ns: int, floor: int | None) -> int:
        oldest = None if retention.age_ns is None else now_ns - retention.age_ns
        with self._file.reading() as connection:
            before = rows.expired_below(connection, part, oldest, floor, retention.max_bytes)
            held = rows.bounds(connection, part)
        if before > held.start:
            with self._file.writing() as connection:
                rows.raise_start(connection, part, before)
        return self._delete_hidden(part)  # also what a trim that died half-way left behind

    def _delete_hidden(self, part: int) -> int:
        total = 0
        while True:
            with self._file.reading() as connection:
                first = rows.first_hidden(connection, part)
            if first is None:
                return total
            with self._file.writing() as connection:
                total += rows.delete_hidden(connection, part, _CHUNK)

    def _compact(self, part: int, now_ns: int) -> int:
        total = 0
        while True:
            with self._file.writing() as connection:
                removed = rows.compact(connection, part, now_ns, _CHUNK)
            total += removed
            if removed < _CHUNK:
                return total

    def _resolve(self, topic: str, partition: int, start: Start) -> int:
        if isinstance(start, AtOffset):
            if start.offset < 0:
                raise LogError(f"topic {topic}: cannot start at {start.offset}, offsets start at 0")
            return start.offset
        if isinstance(start, AtTime):
            return self.offset_at(topic, partition, start.at_ns, start.rule)
        held = self.bounds(topic, partition)
        return held.start if start == "earliest" else held.end

    def _outgoing(self, topic: str, key: str | None, value: bytes | None, partition: int | None) -> rows.Outgoing:
        found = self._topic(topic)
        number = place(found.spec, key, value, partition)
        return rows.Outgoing(found.parts[number], found.spec.compacted, key, value)

    def _topic(self, name: str) -> Topic:
        found = self._topics.get(name) or self._load().get(name)
        if found is None:
            known = ", ".join(self._topics) or "none"
            raise UnknownTopic(f"log {self.path}: has no topic {name!r} (it has: {known}); create it first")
        return found

    def _load(self) -> dict[str, Topic]:
        with self._file.reading() as connection:
            specs = connection.execute(
                "SELECT name, partitions, keyed, compacted, guarded, age_ns, max_bytes, purpose "
                "FROM topics ORDER BY name"
            ).fetchall()
            parts: dict[str, list[int]] = {}
            for name, part in connection.execute("SELECT topic, id FROM partitions ORDER BY topic, number"):
                parts.setdefault(name, []).append(part)
        topics = {
            name: Topic(
                TopicSpec(name, count, bool(keyed), bool(compacted), bool(guarded), Retention(age, size), purpose),
                tuple(parts[name]),
            )
            for name, count, keyed, compacted, guarded, age, size, purpose in specs
        }
        with self._lock:
            self._topics = topics
        return topics
