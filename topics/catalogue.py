"""The topics of the system, as data: who is in which topic, how it is split, how long it stays.

Topics that carry pictures or packets are keyed by camera and all have the same number of partitions, so
partition p of one stage's output is exactly partition p of the next stage's input, and a camera's plates and
its time index lie in the partition of its packets (send plates with that partition: their key names the plate).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from discover_stream.types import InputError
from topics.log import STATE_TOPIC, Retention, TopicSpec

FRAMES = "frames"
ARCHIVE = "archive"
INDEX = "index"
PLATES = "plates"
STATE = STATE_TOPIC
LABELS = "labels"
TASKS = "tasks"
REQUESTS = "requests"
DEAD = "dead"
CAMERAS = "cameras"
STATUS = "status"
TASK_PREFIX = "task."

_TASK_NAME = re.compile(r"[a-z0-9-]{1,40}")
_HOUR_NS = 3600 * 10**9
_DAY_NS = 24 * _HOUR_NS
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class CatalogueSettings:
    """What a configuration may choose. Bounds in bytes are per partition."""

    partitions: int = 4
    frames: Retention = field(default_factory=lambda: Retention(_HOUR_NS, 2 * _GIB))
    archive: Retention = field(default_factory=lambda: Retention(7 * _DAY_NS, 20 * _GIB))
    task: Retention = field(default_factory=lambda: Retention(_DAY_NS, 5 * _GIB))
    dead: Retention = field(default_factory=lambda: Retention(30 * _DAY_NS, _GIB))


DEFAULT_SETTINGS = CatalogueSettings()


def check_task_name(name: str) -> str:
    """The name itself. Raises InputError unless it is 1 to 40 lower-case letters, digits and dashes."""
    if not _TASK_NAME.fullmatch(name):
        raise InputError(f"task name {name!r}: use 1 to 40 lower-case letters, digits and dashes")
    return name


def task_topic(name: str) -> str:
    """The topic that carries a task's packets. Raises InputError for an unusable name."""
    return TASK_PREFIX + check_task_name(name)


def task_spec(name: str, settings: CatalogueSettings = DEFAULT_SETTINGS) -> TopicSpec:
    """The specification of a task's topic."""
    return TopicSpec(
        task_topic(name),
        settings.partitions,
        retention=settings.task,
        purpose=f"packets of task {name}, by camera",
    )


def index_retention(archive: Retention) -> Retention:
    """How long the time index stays: an hour longer than what it points to, so that the oldest packet that is
    kept always has an entry at or before it."""
    return Retention(None if archive.age_ns is None else archive.age_ns + _HOUR_NS)


def catalogue(tasks: Iterable[str] = (), settings: CatalogueSettings = DEFAULT_SETTINGS) -> tuple[TopicSpec, ...]:
    """Every topic that a system with these tasks needs."""
    count = settings.partitions
    fixed = (
        # Guarded: age takes no frame that waits for encoding, and no packet that waits for routing.
        TopicSpec(FRAMES, count, guarded=True, retention=settings.frames, purpose="coded frames and gaps, by camera"),
        TopicSpec(
            ARCHIVE, count, guarded=True, retention=settings.archive, purpose="every atom of every frame, by camera"
        ),
        TopicSpec(
            INDEX,
            count,
            retention=index_retention(settings.archive),
            purpose="where in the archive a time is, and gaps, by camera",
        ),
        TopicSpec(
            PLATES,
            count,
            compacted=True,
            purpose="plates, immutable by camera/plate, and the latest of each camera",
        ),
        TopicSpec(STATE, count, compacted=True, purpose="what each stage needs to restart, by stage-partition"),
        TopicSpec(
            LABELS,
            1,
            compacted=True,
            purpose="label sets, immutable by task/version, and the latest of each task",
        ),
        # Never expires: it answers since when a task has been grounded, for as long as an archive is kept.
        TopicSpec(TASKS, count, purpose="starts and stops of tasks, by task, in every partition of cameras"),
        TopicSpec(
            REQUESTS, 1, compacted=True, purpose="tasks that were asked for, by task, and what their labels took"
        ),
        TopicSpec(CAMERAS, 1, compacted=True, purpose="cameras that are to be there, by camera"),
        TopicSpec(
            STATUS, 1, compacted=True, purpose="how the system, its cameras and its stages are, by what they are"
        ),
        TopicSpec(DEAD, count, retention=settings.dead, purpose="records that could not be processed, and why"),
    )
    return fixed + tuple(task_spec(name, settings) for name in dict.fromkeys(tasks))
