"""What has to change so that a log's topics are those of the catalogue: a pure comparison, and carrying it out.

Partitions, keying and compaction decide where records are, so a difference there is refused, with what to do.
Everything else is set as the catalogue says, whoever changed it: the configuration, or somebody on the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from discover_stream.types import InputError
from topics.catalogue import ARCHIVE, TASK_PREFIX
from topics.checks import stage_group, transactional_id
from topics.log import Log, Retention, TopicSpec, lag

Kind = Literal["create", "alter", "refuse", "delete"]

_UNITS = ((24 * 3600 * 10**9, "d"), (3600 * 10**9, "h"), (60 * 10**9, "min"), (10**9, "s"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one topic, and why, in words."""

    kind: Kind
    topic: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, topics to be created first, by name within each kind; empty where the log is as wanted."""

    changes: tuple[Change, ...] = ()

    def of(self, kind: Kind) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind == kind)


def age_text(age_ns: int | None) -> str:
    """A time span in the largest unit that it is a whole number of, such as ``7 d``.

    >>> age_text(90 * 60 * 10**9), age_text(None)
    ('90 min', 'for ever')
    """
    if age_ns is None:
        return "for ever"
    scale, unit = next((item for item in _UNITS if age_ns >= item[0] and age_ns % item[0] == 0), (10**9, "s"))
    return f"{age_ns / scale:.6g} {unit}"


def size_text(size: int | None) -> str:
    """Bytes in the largest unit that fits, such as ``20 GiB``.

    >>> size_text(1536), size_text(7), size_text(None)
    ('1.5 KiB', '7 bytes', 'any size')
    """
    if size is None:
        return "any size"
    scale, unit = next((item for item in _SIZES if size >= item[0]), (1, "bytes"))
    return f"{size / scale:.4g} {unit}"


def retention_text(retention: Retention) -> str:
    """How long records stay, in words: ``7 d, 20 GiB``."""
    if retention.age_ns is None and retention.max_bytes is None:
        return age_text(None)
    return ", ".join(
        text
        for bound, text in (
            (retention.age_ns, age_text(retention.age_ns)),
            (retention.max_bytes, size_text(retention.max_bytes)),
        )
        if bound is not None
    )


def plan_topics(wanted: Iterable[TopicSpec], found: Iterable[TopicSpec]) -> Plan:
    """What turns the topics `found` in a log into the `wanted` ones."""
    there = {spec.name: spec for spec in found}
    specs = {spec.name: spec for spec in wanted}
    changes: list[Change] = []
    for name, spec in sorted(specs.items()):
        if name not in there:
            what = f"{_partitions(spec)}, {retention_text(spec.retention)}: {spec.purpose}"
            changes.append(Change("create", name, what))
            continue
        why = _misplaced(spec, there[name])
        if why is not None:
            changes.append(Change("refuse", name, why))
        elif differs := _differences(spec, there[name]):
            changes.append(Change("alter", name, "; ".join(differs)))
    changes += [Change("delete", name, "no topic of this configuration") for name in sorted(there) if name not in specs]
    order: Sequence[Kind] = ("create", "alter", "refuse", "delete")
    return Plan(tuple(sorted(changes, key=lambda change: order.index(change.kind))))


def apply_plan(log: Log, wanted: Sequence[TopicSpec], plan: Plan, *, delete: bool, active: Iterable[str] = ()) -> None:
    """Carry a plan out, all of it or (where anything is refused) nothing; topics are deleted only if `delete`.

    `active` names the tasks that are on, whose topics stay. Raises InputError for what is refused.
    """
    for change in plan.of("refuse"):
        raise InputError(f"topic {change.topic}: {change.why}; nothing was changed")
    doomed = plan.of("delete") if delete else ()
    tasks = [change.topic for change in doomed if change.topic.startswith(TASK_PREFIX)]
    if tasks:
        _check_tasks(log, tasks, frozenset(active))
    log.create_topics(wanted)
    for change in doomed:
        log.delete_topic(change.topic)


def _check_tasks(log: Log, topics: Sequence[str], active: frozenset[str]) -> None:
    """Raise InputError where a task's topic still gets packets."""
    for topic in topics:
        task = topic.removeprefix(TASK_PREFIX)
        if task in active:
            raise InputError(
                f"topic {topic}: task {task} is still on in this log; run the system with the configuration that "
                "leaves it out first, nothing was changed"
            )
    partitions = next((spec.partitions for spec in log.topics() if spec.name == ARCHIVE), 0)
    for partition in range(partitions):
        group = stage_group(transactional_id("route", partition))
        waiting = lag(log, group, ARCHIVE, [partition])[partition]
        if waiting:
            raise InputError(
                f"topic {topics[0]}: {waiting} archived packets of partition {partition} wait to be routed, and may "
                "be for it; run the system until it is idle first, nothing was changed"
            )


def _misplaced(wanted: TopicSpec, found: TopicSpec) -> str | None:
    """Why the records of a topic would be in the wrong place, and what to do; None where they are not."""
    if wanted.partitions != found.partitions:
        more = "adding" if wanted.partitions > found.partitions else "removing"
        harm = "would send keys to other partitions than their earlier records lie in" if found.keyed else "is not done"
        return (
            f"has {_partitions(found)}, wanted {wanted.partitions}; {more} partitions {harm}: keep "
            f"log.partitions at {found.partitions}, or name another log (path, or kafka.prefix) and ingest again"
        )
    for name, had, want in (
        ("keyed", found.keyed, wanted.keyed),
        ("compacted", found.compacted, wanted.compacted),
    ):
        if had != want:
            return (
                f"is {'' if had else 'not '}{name}, wanted the opposite, which would lose or misplace its records: "
                "name another log (path, or kafka.prefix) and ingest again"
            )
    return None


def _differences(wanted: TopicSpec, found: TopicSpec) -> list[str]:
    """Settings that differ, as ``what: as it is -> as it should be``."""
    pairs = (
        ("age", age_text(found.retention.age_ns), age_text(wanted.retention.age_ns)),
        ("size of a partition", size_text(found.retention.max_bytes), size_text(wanted.retention.max_bytes)),
        ("guarded", _yes(found.guarded), _yes(wanted.guarded)),
        ("purpose", repr(found.purpose), repr(wanted.purpose)),
    )
    same = (
        found.retention.age_ns == wanted.retention.age_ns,
        found.retention.max_bytes == wanted.retention.max_bytes,
        found.guarded == wanted.guarded,
        found.purpose == wanted.purpose,
    )
    return [f"{what}: {is_} -> {should}" for (what, is_, should), equal in zip(pairs, same, strict=True) if not equal]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _partitions(spec: TopicSpec) -> str:
    return f"{spec.partitions} partition" + ("s" if spec.partitions != 1 else "")
