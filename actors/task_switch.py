"""Tasks of a running system: turned on and off in every partition of cameras, by records that every stage follows.

A task that was added stays on, also in systems that start later: the registry turns it on along with those that a
configuration lists (`added_tasks`). Like everything about tasks, this is decided by one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from actors.decisions import Running, active_tasks, task_changes
from actors.task_requests import free_version, standing
from discover_stream.codec.packet import MAX_TASKS
from discover_stream.types import InputError, Task, TaskOptions
from topics.catalogue import LABELS, REQUESTS, TASKS, CatalogueSettings, catalogue, task_spec
from topics.immutable import ImmutableTable
from topics.log import Log, Stage
from topics.messages import InquiryRecord, LabelSetMessage, TaskRecord, TaskRequest, decode_as, encode
from topics.reading import read_all
from topics.requests import decided, read_requests


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a log knows of a task: its latest labels (None without), its request, what asking took, where it is
    on (partition -> version), and how it is delivered there, or would be."""

    name: str
    labels: LabelSetMessage | None
    request: TaskRequest | None
    inquiry: InquiryRecord | None
    active: Mapping[int, int]
    options: TaskOptions = field(default_factory=TaskOptions)


def ensure_topics(log: Log, settings: CatalogueSettings) -> CatalogueSettings:
    """Create the topics that the log lacks; the settings with the partitions that it has.

    What is there is left as it is: setting it to a configuration is for `discover topics` and the start of a system.
    """
    there = {spec.name: spec for spec in log.topics()}
    if TASKS in there:
        settings = replace(settings, partitions=there[TASKS].partitions)
    missing = [spec for spec in catalogue((), settings) if spec.name not in there]
    if missing:
        log.create_topics(missing)
    return settings


def active_by_partition(log: Log) -> list[dict[str, Running]]:
    """The tasks that are on, by name, for each partition of cameras."""
    partitions = next((spec.partitions for spec in log.topics() if spec.name == TASKS), 0)
    records: list[list[TaskRecord]] = [[] for _ in range(partitions)]
    if partitions:
        for record in read_all(log, TASKS):
            if record.value is not None:
                records[record.partition].append(decode_as(TaskRecord, record.value))
    return [active_tasks(found) for found in records]


def added_tasks(log: Log) -> tuple[Task, ...]:
    """The tasks that were added and not removed since, with their labels and how they are delivered, by name."""
    wanted = {r.task: r for r in read_requests(log).requests().values() if r.added and r.version}
    if not wanted:
        return ()
    labels = ImmutableTable(log, LABELS)
    try:
        found = [labels.read(LabelSetMessage, task, wanted[task].version) for task in sorted(wanted)]
    finally:
        labels.close()
    return tuple(
        replace(message.to_task(), options=wanted[message.task].options) for message in found if message is not None
    )


def give_labels(log: Log, task: Task, owner: str, *, refresh: bool = False, exact: bool = False) -> int:
    """Put labels that somebody has into the log, without asking any model; their version.

    Nothing is written where the latest labels are exactly these.

    Args:
        log: with the topics of the catalogue.
        task: name, description, profile and labels.
        owner: who this is.
        refresh: whether labels that differ from those in the log become a new version.
        exact: whether the version is to be that of the task, as for a task that comes with the package.

    Raises:
        InputError: the log has something else under this name, and no new version is wanted.
    """

    def decide(stage: Stage) -> int:
        request = standing(log, read_requests(log), task.name)
        labels = ImmutableTable(log, LABELS, 0)
        try:
            version = task.label_set.version if exact else free_version(labels, task.name)
            wanted = msgspec.structs.replace(LabelSetMessage.of(task), version=version)
            if request is not None and request.version and not exact:
                stored = labels.read(LabelSetMessage, task.name, request.version)
                if stored == msgspec.structs.replace(wanted, version=request.version):
                    return request.version
                if not refresh:
                    raise InputError(
                        f"task {task.name} has other labels, description or profile in this log, as version "
                        f"{request.version}; --refresh makes these a new version, or choose another name"
                    )
            request = msgspec.structs.replace(
                request or TaskRequest(task=task.name),
                description=task.description,
                profile=task.profile,
                version=version,
                problem="",
                disabled=False,
            )
            with stage.transaction() as transaction:
                labels.publish(transaction, wanted)
                transaction.send(REQUESTS, task.name, encode(request))
        finally:
            labels.close()
        return version

    return decided(log, owner, decide)


def switch_on(
    log: Log,
    name: str,
    settings: CatalogueSettings,
    owner: str,
    delivery: Callable[[TaskOptions], TaskOptions] = lambda before: before,
) -> int:
    """Turn a task's latest labels on in every partition of cameras, and keep them on; how many partitions changed.

    The task's topic is created first. `delivery` says how it is delivered, given how it was. Raises InputError for a
    task without labels, and where a partition would have more tasks than a packet can name.
    """
    if task_spec(name).name not in {spec.name for spec in log.topics()}:
        log.create_topics([task_spec(name, settings)])

    def decide(stage: Stage) -> int:
        request = standing(log, read_requests(log), name)
        if request is None or request.version == 0:
            raise InputError(f"task {name} has no labels in this log; add it with a description, or with --labels FILE")
        if not _has_labels(log, name, request.version):
            raise InputError(
                f"task {name}: nothing in the log names its label set, version {request.version}, any more, and it was "
                "retired; --refresh makes a new version"
            )
        changed = 0
        active = active_by_partition(log)
        options = delivery(_options(request, active, name))
        with stage.transaction() as transaction:
            for partition, on in enumerate(active):
                wanted = {**on, name: Running(request.version, options)}
                if len(wanted) > MAX_TASKS:
                    raise InputError(f"task {name}: {MAX_TASKS} tasks are on already, no more fit; remove one first")
                changes = task_changes(on, wanted, time.time_ns())
                changed += bool(changes)
                for change in changes:
                    transaction.send(TASKS, name, encode(change), partition=partition)
            added = msgspec.structs.replace(request, added=True, deliver=options.deliver, tags=options.tags)
            if added != request:
                transaction.send(REQUESTS, name, encode(added))
        return changed

    return decided(log, owner, decide)


def _options(request: TaskRequest | None, active: Iterable[Mapping[str, Running]], name: str) -> TaskOptions:
    """How a task is delivered where it is on, else as it was asked for."""
    running = next((on[name].options for on in active if name in on), None)
    return running or (request.options if request is not None else TaskOptions())


def _has_labels(log: Log, name: str, version: int) -> bool:
    labels = ImmutableTable(log, LABELS)
    try:
        return (name, version) in labels.versions()
    finally:
        labels.close()


def switch_off(log: Log, name: str, owner: str) -> int:
    """Turn a task off in every partition, and keep it off; how many partitions changed. Labels and packets stay.

    Raises InputError for a task that is not on, and was not added.
    """

    def decide(stage: Stage) -> int:
        request = read_requests(log).request(name)
        active = active_by_partition(log)
        if not any(name in on for on in active) and not (request is not None and request.added):
            names = sorted({task for on in active for task in on})
            raise InputError(f"task {name} is not on in this log; those that are: {', '.join(names) or 'none'}")
        changed = 0
        with stage.transaction() as transaction:
            for partition, on in enumerate(active):
                rest = {task: running for task, running in on.items() if task != name}
                changes = task_changes(on, rest, time.time_ns())
                changed += bool(changes)
                for change in changes:
                    transaction.send(TASKS, name, encode(change), partition=partition)
            if request is not None and request.added:
                transaction.send(REQUESTS, name, encode(msgspec.structs.replace(request, added=False)))
        return changed

    return decided(log, owner, decide)


def task_facts(log: Log) -> tuple[TaskFacts, ...]:
    """Everything that a log knows of tasks, by name."""
    table = read_requests(log)
    requests = table.requests()
    active = active_by_partition(log)
    labels = ImmutableTable(log, LABELS)
    try:
        latest = {name: labels.read_latest(LabelSetMessage, name) for name, _ in list(labels.versions())}
    finally:
        labels.close()
    found = []
    for name in sorted({*latest, *requests}):
        message = latest.get(name)
        inquiry = None if message is None else table.inquiry(name, message.version)
        on = {partition: tasks[name].version for partition, tasks in enumerate(active) if name in tasks}
        options = _options(requests.get(name), active, name)
        found.append(TaskFacts(name, message, requests.get(name), inquiry, on, options))
    return tuple(found)
