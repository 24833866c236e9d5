"""The log: what every backend promises, whatever it stores records in.

Words:

* A *topic* is split into *partitions*; a partition is a sequence of records with growing offsets.
* A *stage* is a running step of the flow for one partition. Its *transactional id*, ``name-partition``,
  belongs to one holder at a time: acquiring it fences every earlier holder, for good.
* A stage's transaction makes output, input offsets and state visible together, or not at all.
* A *group* names a subscriber's committed positions (at least once).

What a caller may rely on in every backend: readers see committed records only, in offset order within
a partition; offsets grow, but only the embedded log promises that they are dense (a broker spends offsets
on its own markers, and compaction leaves holes), so the position after a record is ``record.offset + 1``;
record times are append times, never decrease within a partition, and are exact to a millisecond at least.
Partitions are assigned by the caller: nothing rebalances. Transactions, readers and stages belong to one
thread at a time; a log may be shared by threads, and every process opens its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from discover_stream.types import DiscoverError

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Key and value of one record together, in bytes."""

MAX_POLL_BYTES = 64 * 1024 * 1024
"""Values that one poll hands over, in bytes, unless the caller asks for another bound."""

STATE_TOPIC = "state"
"""Compacted topic that holds the latest state of every stage, under its transactional id."""


class LogError(DiscoverError):
    """The log cannot be opened, read or written; the message names what, why and the remedy."""


class Fenced(LogError):
    """Another holder has acquired this stage and partition; nothing of this attempt was written."""


class OutcomeUnknown(LogError):
    """Whether a transaction was committed is not known: the stage is of no more use, acquiring it again settles it."""


class MessageTooLarge(LogError):
    """A record is larger than `MAX_MESSAGE_BYTES`."""


class UnknownTopic(LogError):
    """A topic or a partition does not exist."""


class OffsetOutOfRange(LogError):
    """A reader stands beyond the end of a partition: the log was replaced or lost its last records."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records stay: until the first of both bounds is reached; None sets no bound.

    `age_ns` counts from the append time; `max_bytes` bounds keys and values of one partition.
    """

    age_ns: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic is. `keyed` topics refuse records without a key; `compacted` topics keep the last
    value of every key, take None as a tombstone, and are always keyed. Of `guarded` topics, age takes only
    what nobody waits for any more: see the floors of `Log.maintain`. Bytes take records of any topic,
    since disks end."""

    name: str
    partitions: int
    keyed: bool = True
    compacted: bool = False
    guarded: bool = False
    retention: Retention = field(default_factory=Retention)
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One committed record. `timestamp_ns` is its append time; `value` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ns: int
    key: str | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets [from_offset, to_offset) of a partition whose records retention took before they were read. On a
    broker, where markers take offsets too, there were fewer records."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets [start, end) that a partition holds; `end` is what the next record gets at least."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AtOffset:
    """Start at this offset in every partition read."""

    offset: int


TimeRule = Literal["at_or_after", "at_or_before"]


@dataclass(frozen=True, slots=True)
class AtTime:
    """Start at the first record at or after `at_ns`, or at the last one at or before it."""

    at_ns: int
    rule: TimeRule = "at_or_after"


Start = Literal["earliest", "latest"] | AtOffset | AtTime


@dataclass(frozen=True, slots=True)
class Maintained:
    """What one round of maintenance removed: `expired` records by retention, `compacted` ones by compaction, and
    `retired` immutable ones that nothing names any more (see `topics.low_water`). On a broker, `expired` counts
    offsets, markers of transactions included, of guarded topics only; it tells nobody what it removes itself."""

    expired: int = 0
    compacted: int = 0
    retired: int = 0


class Transaction(Protocol):
    """What a stage collects before it commits. Unusable once its `with` block has ended."""

    def send(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> None:
        """Append a record; without `partition` the key decides (`partition_for`).

        Raises MessageTooLarge, UnknownTopic, or LogError for a record the topic refuses.
        """

    def commit_offset(self, topic: str, partition: int, next_offset: int) -> None:
        """Everything before `next_offset` of an input is done; forgets attempts recorded below it."""

    def set_state(self, state: bytes) -> None:
        """Replace what a restart of this stage gets back as `Stage.state`."""


class Stage(Protocol):
    """The holder of one transactional id, from `Log.stage` until another holder fences it."""

    @property
    def transactional_id(self) -> str:
        """``name-partition``."""

    @property
    def group(self) -> str:
        """The group its input offsets are committed under (for `Log.committed` and `lag`)."""

    @property
    def offsets(self) -> Mapping[tuple[str, int], int]:
        """(topic, partition) -> next offset to read, as of the last commit; absent if never committed."""

    @property
    def state(self) -> bytes | None:
        """The state as of the last commit; None before the first."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Output, offsets and state in one transaction, committed when the block ends.

        An exception in the block aborts all of it and goes on to the caller. The commit raises Fenced,
        and writes nothing, once another holder has acquired the stage. One transaction at a time.
        """

    def record_attempt(self, topic: str, partition: int, offset: int) -> int:
        """Count, durably and at once, that work on a record begins; the count, from 1.

        It survives the death of the process, so a count of three at a restart means that the record
        was begun twice before and never finished. Cleared by a commit past the offset. Raises Fenced, and
        LogError inside a transaction (call it before).
        """

    def forget_attempt(self, topic: str, partition: int, offset: int) -> None:
        """Take back one `record_attempt`: the work failed for a reason that is not the record's. Raises Fenced."""

    def close(self) -> None:
        """Let go of resources; neither fences nor releases anything."""


class Reader(Protocol):
    """A position in some partitions of one topic."""

    @property
    def positions(self) -> Mapping[int, int]:
        """partition -> offset of the next record to be polled."""

    def poll(
        self, max_records: int = 500, timeout_s: float = 0.0, max_bytes: int = MAX_POLL_BYTES
    ) -> list[Record | Gap]:
        """Committed records from the positions on, in offset order within a partition.

        Waits up to `timeout_s` for the first one and returns [] after it. Stops after `max_records`, or
        with the record that reaches `max_bytes`. A Gap stands before the first record that follows it.
        Raises OffsetOutOfRange.
        """

    def seek(self, partition: int, offset: int) -> None:
        """Continue one partition at `offset`."""

    def seek_to_time(self, at_ns: int, rule: TimeRule = "at_or_after") -> None:
        """Continue every partition at a time, see `Log.offset_at`."""

    def commit(self, positions: Mapping[int, int] | None = None) -> None:
        """Store positions (by default: after everything polled) for the group, at least once.

        Raises LogError for a reader without a group.
        """

    def close(self) -> None:
        """Let go of resources."""


class Log(Protocol):
    """Topics and everything done with them. Close it, or use it in a `with` block."""

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create what is missing, and set retention and purpose of what exists.

        Raises LogError when an existing topic differs in partitions, keying or compaction: those decide
        where records are, and are never changed silently.
        """

    def topics(self) -> tuple[TopicSpec, ...]:
        """All topics, by name, as they are: a broker's own settings where somebody changed them there."""

    def delete_topic(self, name: str) -> None:
        """Remove a topic with all its records and the positions committed in it. Raises UnknownTopic."""

    def groups(self) -> tuple[str, ...]:
        """Names of all groups that have committed a position, stages' groups among them, sorted."""

    def append(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> int:
        """Append one record on its own, outside any stage; its offset.

        Not protected against zombies or repeated calls: what must be exactly once goes through a stage.
        """

    def stage(self, name: str, partition: int, owner: str) -> Stage:
        """Acquire a stage: fence earlier holders, then read offsets, then restore state, in that order.

        `owner` names the new holder in errors that the fenced ones get. Needs the topic `STATE_TOPIC`.
        """

    def reader(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        group: str | None = None,
        start: Start = "earliest",
    ) -> Reader:
        """Read some or all partitions of a topic, from the group's committed positions where it has any,
        else from `start`, which is resolved now (not at the first poll)."""

    def bounds(self, topic: str, partition: int) -> Bounds:
        """The offsets a partition holds."""

    def offset_at(self, topic: str, partition: int, at_ns: int, rule: TimeRule = "at_or_after") -> int:
        """The first record at or after `at_ns` (the end if none), or the last one at or before it (the
        start if none)."""

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """The group's committed position, None if it never committed."""

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """Remove what lies below an offset (clamped to the bounds); how many offsets that was, which are records
        except where a broker's markers have taken some. Raises LogError for a compacted topic."""

    def maintain(self, now_ns: int | None = None, floors: Mapping[tuple[str, int], int] | None = None) -> Maintained:
        """One round of retention and compaction. Run it every minute.

        `floors` maps (topic, partition) to the first offset that somebody still waits for: in a guarded
        topic, age takes nothing from there on; a guarded partition without a floor loses nothing to age.
        A broker compacts and retires unguarded topics by itself; there this is about guarded ones.
        """

    def close(self) -> None:
        """Close everything this process holds."""

    def __enter__(self) -> Self:
        """The log itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


def lag(log: Log, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Offsets between a group's committed position (the start, if it has none) and the end, by partition."""
    behind: dict[int, int] = {}
    for partition in partitions:
        bounds = log.bounds(topic, partition)
        position = log.committed(group, topic, partition)
        behind[partition] = max(0, bounds.end - max(bounds.start, position or 0))
    return behind


def latest_by_key(log: Log, topic: str, partitions: Sequence[int] | None = None) -> dict[str, Record]:
    """The latest record of every key up to the end as it is now; keys whose latest is a tombstone are absent.

    This reads the whole topic, so it is meant for compacted ones (labels, plates, tasks).
    """
    reader = log.reader(topic, partitions)
    ends = {partition: log.bounds(topic, partition).end for partition in reader.positions}
    table: dict[str, Record] = {}
    try:
        while any(reader.positions[partition] < end for partition, end in ends.items()):
            items = reader.poll(timeout_s=0.1)
            for item in items:
                if isinstance(item, Record) and item.key is not None:
                    table[item.key] = item
            if not items:
                break
    finally:
        reader.close()
    return {key: record for key, record in table.items() if record.value is not None}
