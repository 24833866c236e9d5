"""What may go and what must stay: how far the flow has come, and what is still named by it.

*Floors.* A frame is waited for until its encoder's commit has passed it, a packet of the archive until its
router's has; retention by age takes nothing from there on (`floors`).

*Immutable records.* Old plates and label sets are named by packets that were archived before the next one
came. A packet's append time is never later than that of the plate that followed, so once the oldest packet of
the partition was appended well after it, nothing names the old one any more. `SLACK_NS` is how much later it
has to be: it covers clocks of several brokers, and packets that were already being made when a task stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from discover_stream.types import BitstreamError
from topics.catalogue import ARCHIVE, FRAMES, LABELS, PLATES, TASKS, task_topic
from topics.checks import stage_group, transactional_id
from topics.immutable import ImmutableTable
from topics.log import AtOffset, Fenced, Log, Maintained, Reader, Record
from topics.messages import PlateMessage, TaskRecord, decode_as
from topics.reading import read_all, read_to_end

SLACK_NS = 3600 * 10**9
"""How much later than the end of a version the oldest packet must be before the version is retired."""

OWNER = "look-after"


@dataclass(frozen=True, slots=True)
class PlateFact:
    """What retiring needs to know of a plate: `at_ns` is its append time, `parent` the id it is a change to."""

    camera: str
    plate_id: int
    parent: int | None
    at_ns: int

    @property
    def key(self) -> str:
        """Its key in the topic of plates."""
        return f"{self.camera}/{self.plate_id}"


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A start or stop of a task in one partition of cameras, appended at `at_ns`."""

    partition: int
    task: str
    version: int
    start: bool
    at_ns: int


def floors(log: Log, partitions: int) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the first offset that encoding or routing still has to do, for `Log.maintain`.

    Absent where nothing was done yet: then everything is waited for.
    """
    found: dict[tuple[str, int], int] = {}
    for partition in range(partitions):
        for stage, topic in (("encode", FRAMES), ("route", ARCHIVE)):
            done = log.committed(stage_group(transactional_id(stage, partition)), topic, partition)
            if done is not None:
                found[topic, partition] = done
    return found


def spent_plates(plates: Sequence[PlateFact], oldest_ns: int, slack_ns: int = SLACK_NS) -> tuple[PlateFact, ...]:
    """The plates of one partition, given in log order, that no packet names any more.

    A plate stays while it is its camera's latest, while a packet that was appended before its successor (and
    `slack_ns` more) may be in the archive, whose oldest record was appended at `oldest_ns`, and while a plate
    that stays is a change to it, directly or through others.
    """
    latest = {plate.camera: plate for plate in plates}
    successor: dict[str, PlateFact] = {}
    following: dict[str, PlateFact] = {}
    for plate in reversed(plates):
        if plate.camera in following:
            successor[plate.key] = following[plate.camera]
        following[plate.camera] = plate
    by_key = {plate.key: plate for plate in plates}
    kept: set[str] = set()
    waiting = [
        plate for plate in plates if latest[plate.camera] is plate or successor[plate.key].at_ns + slack_ns >= oldest_ns
    ]
    while waiting:
        plate = waiting.pop()
        kept.add(plate.key)
        parent = by_key.get(f"{plate.camera}/{plate.parent}") if plate.parent is not None else None
        if parent is not None and parent.key not in kept:
            waiting.append(parent)
    return tuple(plate for plate in plates if plate.key not in kept)


def spent_label_sets(
    known: Collection[tuple[str, int]],
    latest: Mapping[str, int],
    changes: Iterable[TaskChange],
    oldest_ns: Mapping[tuple[str, int], int],
    slack_ns: int = SLACK_NS,
) -> tuple[tuple[str, int], ...]:
    """The (task, version) pairs of label sets that no packet names any more, sorted.

    Args:
        known: all that the log has.
        latest: task -> the version that its pointer names, which stays.
        changes: starts and stops in log order within each partition; a version that never stopped stays.
        oldest_ns: (task, partition) -> append time of the oldest packet that is kept there, in the archive and
            in the task's own topic.
    """
    ended: dict[tuple[str, int], dict[int, int | None]] = {}
    for change in changes:
        if change.start:
            for (task, version), ends in ended.items():  # a start of another version ends this one
                if task == change.task and version != change.version and ends.get(change.partition, 0) is None:
                    ends[change.partition] = change.at_ns
        ended.setdefault((change.task, change.version), {})[change.partition] = None if change.start else change.at_ns

    def over(pair: tuple[str, int]) -> bool:
        ends = ended.get(pair, {})
        return bool(ends) and all(
            end is not None and end + slack_ns < oldest_ns[pair[0], partition] for partition, end in ends.items()
        )

    return tuple(sorted(pair for pair in known if latest.get(pair[0]) != pair[1] and over(pair)))


def look_after(log: Log, partitions: int, now_ns: int | None = None) -> Maintained:
    """One round of retention that respects the floors, then retire what nothing names. Run it every minute.

    `partitions` is that of topics keyed by camera. Whoever does this for long keeps a `Caretaker`, which reads
    each plate once and not in every round.
    """
    with closing(Caretaker(log, partitions)) as caretaker:
        return caretaker.look_after(now_ns)


def retire(log: Log, partitions: int, now_ns: int | None = None) -> int:
    """Only the second half of `look_after`; how many immutable records were retired."""
    with closing(Caretaker(log, partitions)) as caretaker:
        return caretaker.retire(now_ns)


@dataclass
class Caretaker:
    """Looks after a log's retention, round after round, for one thread at a time. `tell` gets a line for each plate
    that cannot be read: it stays, since nobody knows what names it."""

    log: Log
    partitions: int
    slack_ns: int = SLACK_NS
    tell: Callable[[str], None] = lambda line: None
    _plates: dict[int, dict[str, PlateFact]] = field(default_factory=dict)
    _reader: Reader | None = None

    def look_after(self, now_ns: int | None = None) -> Maintained:
        """See the function of this name."""
        done = self.log.maintain(now_ns, floors(self.log, self.partitions))
        return Maintained(done.expired, done.compacted, self.retire(now_ns))

    def retire(self, now_ns: int | None = None) -> int:
        """Write tombstones for plates and label sets that nothing names; how many."""
        now = time.time_ns() if now_ns is None else now_ns
        self._read_plates()
        plates = sum(self._retire_plates(partition, now) for partition in range(self.partitions))
        return plates + self._retire_labels(now)

    def close(self) -> None:
        """Let go of resources."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read_plates(self) -> None:
        if self._reader is None:
            self._reader = self.log.reader(PLATES)
        for record in read_to_end(self.log, PLATES, self._reader):
            if record.key is None or "/" not in record.key:
                continue  # a pointer
            plates = self._plates.setdefault(record.partition, {})
            if record.value is None:
                plates.pop(record.key, None)
                continue
            try:
                plate = decode_as(PlateMessage, record.value)
            except BitstreamError as error:
                where = f"plate {record.key}, offset {record.offset}"
                self.tell(f"{where}: {error}; pictures lack it until its camera's next whole plate")
                continue
            plates[record.key] = PlateFact(plate.camera, plate.plate_id, plate.parent, record.timestamp_ns)

    def _retire_plates(self, partition: int, now_ns: int) -> int:
        plates = tuple(self._plates.get(partition, {}).values())
        if len(plates) < 2:
            return 0
        oldest = oldest_append_ns(self.log, ARCHIVE, partition, now_ns)
        spent = spent_plates(plates, oldest, self.slack_ns)
        if spent:
            with closing(self.log.stage("retire", partition, OWNER)) as stage, stage.transaction() as transaction:
                for plate in spent:
                    transaction.send(PLATES, plate.key, None, partition=partition)
        return len(spent)

    def _retire_labels(self, now_ns: int) -> int:
        known, latest = label_versions(self.log)
        if all(latest.get(task) == version for task, version in known):
            return 0
        spent = self._spent_labels(known, latest, now_ns)
        if not spent:
            return 0
        # As the registry, so that none is retired while the registry starts it again: one of both is fenced.
        stage = self.log.stage("registry", 0, OWNER)
        spent = self._spent_labels(*label_versions(self.log), now_ns)
        try:
            with stage.transaction() as transaction:
                for task, version in spent:
                    transaction.send(LABELS, f"{task}/{version}", None)
        except Fenced:
            return 0  # the next round sees what the registry did
        finally:
            stage.close()
        return len(spent)

    def _spent_labels(
        self, known: Collection[tuple[str, int]], latest: Mapping[str, int], now_ns: int
    ) -> tuple[tuple[str, int], ...]:
        changes = task_changes(self.log)
        topics = {spec.name for spec in self.log.topics()}
        archive = {p: oldest_append_ns(self.log, ARCHIVE, p, now_ns) for p in range(self.partitions)}
        oldest: dict[tuple[str, int], int] = {}
        for task in {task for task, _ in known}:
            for partition, at_ns in archive.items():
                name = task_topic(task)
                own = oldest_append_ns(self.log, name, partition, now_ns) if name in topics else at_ns
                oldest[task, partition] = min(at_ns, own)
        return spent_label_sets(known, latest, changes, oldest, self.slack_ns)


def oldest_append_ns(log: Log, topic: str, partition: int, now_ns: int) -> int:
    """Append time of the oldest record that a partition holds; `now_ns` where it holds none."""
    held = log.bounds(topic, partition)
    if held.start >= held.end:
        return now_ns
    reader = log.reader(topic, [partition], start=AtOffset(held.start))
    try:
        found = next((item for item in reader.poll(1, timeout_s=1.0) if isinstance(item, Record)), None)
    finally:
        reader.close()
    return 0 if found is None else found.timestamp_ns  # what is there but not seen must not be passed over


def label_versions(log: Log) -> tuple[frozenset[tuple[str, int]], dict[str, int]]:
    """(task, version) of every label set in the log, and the latest version of every task."""
    table = ImmutableTable(log, LABELS)
    try:
        known = frozenset(table.versions())
        latest = {task: table.latest(task) for task in {task for task, _ in known}}
    finally:
        table.close()
    return known, {task: version for task, version in latest.items() if version is not None}


def task_changes(log: Log) -> tuple[TaskChange, ...]:
    """Every start and stop of a task, in log order within each partition."""
    found: list[TaskChange] = []
    for item in read_all(log, TASKS):
        if item.value is not None:
            record = decode_as(TaskRecord, item.value)
            start = record.action == "start"
            found.append(TaskChange(item.partition, record.task, record.version, start, item.timestamp_ns))
    return tuple(found)
