"""What the system decides, as pure functions over frozen values: no Ray, no log, no clock of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from discover_stream.config_edge import Role
from discover_stream.types import TaskOptions
from topics.messages import TaskRecord
from topics.partitioner import partition_for

MAX_DEATHS = 3
"""A record during which its stage died this often, while nothing else was in hand, goes to the dead topic."""

LONGEST_DELAY_S = 30.0
_FIRST_DELAY_S = 0.2
_SETTLED_S = 60.0

StageKind = Literal["ingest", "encode", "route", "forward"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A run loop to be started: its kind, its partition, and for ingest its camera."""

    kind: StageKind
    partition: int
    camera: str | None = None

    @property
    def name(self) -> str:
        """The stage's name in the log; its transactional id is this and the partition."""
        return self.kind if self.camera is None else f"{self.kind}-{self.camera}"

    @property
    def identity(self) -> str:
        """The transactional id, which also names the process in what people see."""
        return f"{self.name}-{self.partition}"


def plan_stages(
    cameras: Sequence[str], partitions: int, backlog: Collection[int], role: Role = "all"
) -> tuple[StagePlan, ...]:
    """The run loops a system needs: one ingest per camera, one encode and one route per partition in use. An edge
    forwards where others route; a core routes every partition, since it does not know what comes.

    A camera's partition is the one that every keyed topic gives it, so it never depends on the order or
    number of cameras in a configuration. `backlog` names partitions that still hold unprocessed records of
    cameras that are no longer configured: they are finished too.
    """
    if role == "core":
        return tuple(StagePlan("route", partition) for partition in range(partitions))
    last: StageKind = "forward" if role == "edge" else "route"
    homes = {camera: partition_for(camera, partitions) for camera in cameras}
    used = sorted(set(homes.values()) | set(backlog))
    return (
        *(StagePlan("ingest", homes[camera], camera) for camera in cameras),
        *(StagePlan("encode", partition) for partition in used),
        *(StagePlan(last, partition) for partition in used),
    )


def restart_delay_s(deaths: int) -> float:
    """Seconds to wait before a stage that died `deaths` times in a row (1, 2, ...) runs again."""
    return float(min(LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(max(deaths - 1, 0), 60)))


def deaths_in_a_row(before: int, ran_s: float) -> int:
    """The count after another death: a stage that ran for a minute is not in the same row any more."""
    return 1 if ran_s >= _SETTLED_S else before + 1


Ending = Literal["death", "fenced", "input", "log", "topic", "other"]
AfterError = Literal["retry", "fail", "stop"]


def after_error(kind: str, ending: Ending, live: bool) -> AfterError:
    """What follows when a process or its run loop ends with an error.

    Being fenced means that somebody else runs these stages: the whole system stops; it does too where a topic
    has gone, which does not come back by itself. A source that cannot be opened is given up, unless it is a
    live address, which may come back; what no other process can do without (weights that cannot be read)
    stops the system. Everything else is tried again, a log that is away ("log") for as long as it takes.
    """
    if ending in ("fenced", "topic"):
        return "stop"
    if ending != "input" or live:
        return "retry"
    return "fail" if kind == "ingest" else "stop"


def is_idle(sources_ended: Iterable[bool], encode_lag: Iterable[int], route_lag: Iterable[int]) -> bool:
    """Whether nothing is left to do: no source will give more, and no stage has unread input.

    The facts must be gathered in this order: what a later stage still gets was counted by an earlier one.
    """
    return all(sources_ended) and not any(encode_lag) and not any(route_lag)


def to_be_buried(attempts: int) -> bool:
    """Whether a record goes to the dead topic, given the count that `Stage.record_attempt` returned."""
    return attempts > MAX_DEATHS


@dataclass(frozen=True, slots=True)
class Care:
    """How a stage goes about its input, so that a record that kills it is found without counting them all.

    A stage that runs well works on many records at once and counts nothing. When it dies, nobody knows which
    of them it was. So every run begins with care: one record at a time, each counted durably before anything
    of it is touched, until the run has got past everything that the one before may have had in hand. A death
    then has one suspect, and the count of that record alone grows.

    `in_hand` is the most records that are worked on at once without care, `passed` what this run has done.
    """

    in_hand: int
    passed: int = 0

    @property
    def needed(self) -> bool:
        """Whether the next record is to be counted and done alone."""
        return self.passed < self.in_hand

    def after(self, records: int) -> Care:
        """The care to be taken after further records were finished."""
        return self if not self.needed else Care(self.in_hand, self.passed + records)


def is_live(source: str) -> bool:
    """Whether a camera's address is one that goes on while nobody reads it."""
    return source.lower().startswith(("rtsp://", "rtsps://", "http://", "https://"))


Policy = Literal["wait", "drop-oldest", "drop-latest", "adaptive"]
Admission = Literal["take", "wait", "hold", "drop", "thin"]
"""`wait`: until encoding has caught up; `hold`: likewise, but newer frames push this one out; `thin`: it is left out so
that those between which it lies can be taken."""

_LARGEST_STRIDE = 8


def policy_of(when_behind: str, live: bool) -> Policy:
    """What a camera's setting means for its kind of source."""
    for policy in ("wait", "drop-oldest", "drop-latest", "adaptive"):
        if policy == when_behind:
            return policy
    return "drop-oldest" if live else "wait"


def stride(lag: int, max_lag: int) -> int:
    """Of how many frames an adaptive camera takes one: all up to half of the bound, then fewer and fewer."""
    half = max_lag // 2
    if lag < half:
        return 1
    return min(_LARGEST_STRIDE, 2 + (_LARGEST_STRIDE - 1) * (lag - half) // max(1, max_lag - half))


def admit(lag: int, max_lag: int, policy: Policy, seq: int) -> Admission:
    """What happens to frame `seq` when `lag` frames of its partition wait for encoding."""
    if policy == "adaptive":
        if lag >= max_lag:
            return "drop"
        return "take" if seq % stride(lag, max_lag) == 0 else "thin"
    if lag < max_lag:
        return "take"
    if policy == "wait":
        return "wait"
    return "hold" if policy == "drop-oldest" else "drop"


@dataclass(frozen=True, slots=True)
class Running:
    """A task that is on: the version of its label set, and how it is delivered."""

    version: int
    options: TaskOptions = field(default_factory=TaskOptions)


def active_tasks(records: Iterable[TaskRecord]) -> dict[str, Running]:
    """The tasks that are on after these starts and stops, in log order, by name."""
    active: dict[str, Running] = {}
    for record in records:
        if record.action == "start":
            active[record.task] = Running(record.version, record.options)
        elif record.task in active and active[record.task].version == record.version:
            del active[record.task]
    return active


def task_changes(active: Mapping[str, Running], wanted: Mapping[str, Running], at_ns: int) -> tuple[TaskRecord, ...]:
    """The records that turn the `active` tasks of a partition into the `wanted` ones, stops first.

    Where only the delivery changes, the task starts again and never stops.
    """
    stops = [
        TaskRecord(task=task, version=on.version, action="stop", at_ns=at_ns)
        for task, on in sorted(active.items())
        if task not in wanted or wanted[task].version != on.version
    ]
    starts = [
        TaskRecord(
            task=task,
            version=on.version,
            action="start",
            at_ns=at_ns,
            deliver=on.options.deliver,
            tags=on.options.tags,
        )
        for task, on in sorted(wanted.items())
        if active.get(task) != on
    ]
    return (*stops, *starts)


def grounding_due(last: int | None, seq: int, every: int) -> bool:
    """Whether frame `seq` of a camera is to be grounded, when `last` was and every n-th is to be.

    What counts is the distance, not the number: frames may have been dropped on the way.
    """
    return last is None or seq < last or seq - last >= every


def key_collisions(keys: Mapping[tuple[str, int], int]) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """Two (task, version) pairs that stand for themselves with the same 16 bits, if there are any."""
    seen: dict[int, tuple[str, int]] = {}
    for task in sorted(keys):
        other = seen.setdefault(keys[task], task)
        if other != task:
            return other, task
    return None


def stream_kbps(size: int, packets: int, first_ns: int, last_ns: int) -> float:
    """Kilobits per second of stream time: every packet lasts as long as packets are apart on average.

    0 where there are fewer than two packets, since one has no duration.
    """
    if packets < 2 or last_ns <= first_ns:
        return 0.0
    return size * 8e6 / ((last_ns - first_ns) * packets / (packets - 1))
