"""Tasks and their label sets in the log: written by the registry, read by every stage that needs them.

``labels`` holds each version of a task's label set under ``task/version``, never changed, and a pointer to the
latest under ``task``. ``tasks`` holds, in every partition of cameras, when a task started and stopped there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from actors.decisions import Running, active_tasks, key_collisions, task_changes
from actors.task_switch import added_tasks
from discover_stream.codec.packet import MAX_TASKS, task_key
from discover_stream.config import TaskConfig
from discover_stream.types import InputError, LabelSet, Task, TaskOptions
from topics.catalogue import LABELS, TASKS
from topics.immutable import ImmutableTable
from topics.log import Gap, Log, Record, Stage, latest_by_key
from topics.messages import LabelSetMessage, TaskRecord, decode_as, encode
from topics.reading import read_all, read_to_end
from topics.requests import decided


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task that is on: its label set, and the 16 bits that stand for it in packets."""

    task: Task
    key: int

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def labels(self) -> LabelSet:
        """What grounding looks for."""
        return self.task.label_set

    @property
    def options(self) -> TaskOptions:
        """How the task is delivered now."""
        return self.task.options


def load_tasks(listed: Iterable[str | TaskConfig]) -> tuple[Task, ...]:
    """The configured tasks, by name of built-in ones or path of label-set files, with how they are delivered.

    Raises InputError for one that cannot be loaded, two of one name, and two with the same key.
    """
    from discover_stream.semantics.labels import load_task

    entries = [entry if isinstance(entry, TaskConfig) else TaskConfig(task=entry) for entry in listed]
    tasks = tuple(replace(load_task(entry.task), options=entry.options) for entry in entries)
    for task in tasks:
        if [other.name for other in tasks].count(task.name) > 1:
            raise InputError(f"task {task.name!r} is configured twice; give every label set a name of its own")
    refuse_collisions(tasks)
    return tasks


def refuse_collisions(tasks: Iterable[Task]) -> None:
    """Raise InputError where two tasks or versions would look the same in packets."""
    keys = {(t.name, t.label_set.version): task_key(t.name, t.label_set.version) for t in tasks}
    pair = key_collisions(keys)
    if pair is not None:
        one, two = (f"{name} version {version}" for name, version in pair)
        raise InputError(
            f"tasks {one} and {two} have the same key {keys[pair[0]]:#06x} in packets; "
            "rename one of them or raise its version"
        )


def read_label_sets(log: Log) -> dict[tuple[str, int], Task]:
    """Every label set that the log knows, by (task, version)."""
    found: dict[tuple[str, int], Task] = {}
    for key, record in latest_by_key(log, LABELS).items():
        if "/" in key and record.value is not None:
            task = decode_as(LabelSetMessage, record.value).to_task()
            found[task.name, task.label_set.version] = task
    return found


def register(log: Log, tasks: tuple[Task, ...], partitions: int, owner: str) -> int:
    """Make these tasks the active ones in every partition, with those that were added to the log (of which one
    with a name of these gives way); how many records that took.

    Label sets and starts are written together, once: a call that finds everything in place writes nothing.
    Raises InputError when anything of a label set differs from what the log has under its version, or a key
    collides.
    """
    names = {task.name for task in tasks}

    def decide(stage: Stage) -> int:
        added = tuple(task for task in added_tasks(log) if task.name not in names)
        return _activate(log, stage, (*tasks, *added), partitions)

    return decided(log, owner, decide)


def _activate(log: Log, stage: Stage, tasks: tuple[Task, ...], partitions: int) -> int:
    table = ImmutableTable(log, LABELS, 0)
    known = read_label_sets(log)
    refuse_collisions({**known, **{(t.name, t.label_set.version): t for t in tasks}}.values())
    wanted = {task.name: Running(task.label_set.version, task.options) for task in tasks}
    if len(wanted) > MAX_TASKS:
        raise InputError(
            f"{len(wanted)} tasks are configured or were added to the log, and a packet names at most {MAX_TASKS}; "
            "remove some with `discover task remove`"
        )
    now_ns = time.time_ns()
    written = 0
    try:
        with stage.transaction() as transaction:
            for task in tasks:
                written += 2 * table.publish(transaction, LabelSetMessage.of(task))
            for partition in range(partitions):
                active = active_tasks(_task_records(read_all(log, TASKS, [partition])))
                for change in task_changes(active, wanted, now_ns):
                    transaction.send(TASKS, change.task, encode(change), partition=partition)
                    written += 1
    finally:
        table.close()
    return written


def active_in_log(log: Log) -> frozenset[str]:
    """The tasks that are on in any partition of cameras; none in a log without topics."""
    partitions = next((spec.partitions for spec in log.topics() if spec.name == TASKS), 0)
    return frozenset(
        name
        for partition in range(partitions)
        for name in active_tasks(_task_records(read_all(log, TASKS, [partition])))
    )


def _task_records(records: Iterable[Record | Gap]) -> list[TaskRecord]:
    return [
        decode_as(TaskRecord, item.value) for item in records if isinstance(item, Record) and item.value is not None
    ]


class TaskTable:
    """What a stage of one partition knows about tasks; `refresh` is cheap when nothing has changed."""

    def __init__(self, log: Log, partition: int) -> None:
        self._log = log
        self._reader = log.reader(TASKS, [partition])
        self._fresh = True
        self._records: list[TaskRecord] = []
        self._sets: dict[tuple[str, int], Task] = {}
        self._active: tuple[KnownTask, ...] = ()

    def refresh(self) -> tuple[KnownTask, ...]:
        """The tasks that are on in this partition now, by name."""
        # At first to the very end: what is encoded before is not grounded for the tasks that were not met yet.
        first = self._fresh
        self._fresh = False
        fresh = _task_records(read_to_end(self._log, TASKS, self._reader) if first else self._reader.poll())
        if fresh:
            self._records += fresh
            active = active_tasks(self._records)
            if any((name, on.version) not in self._sets for name, on in active.items()):
                self._sets = read_label_sets(self._log)
            self._active = tuple(
                KnownTask(replace(self._sets[name, on.version], options=on.options), task_key(name, on.version))
                for name, on in sorted(active.items())
            )
        return self._active

    def names_by_key(self) -> Mapping[int, str]:
        """Key -> name of every task and version that the log has labels for."""
        self._sets = read_label_sets(self._log)
        return {task_key(name, version): name for name, version in self._sets}

    def close(self) -> None:
        """Let go of resources."""
        self._reader.close()
