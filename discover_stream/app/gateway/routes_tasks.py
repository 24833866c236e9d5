"""Routes about tasks: what there are, adding and changing them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from actors.system import catalogue_settings
from actors.task_switch import TaskFacts, ensure_topics, give_labels, switch_off, switch_on, task_facts
from discover_stream.app.gateway.context import Caller, Gateway, Here, allow, audited
from discover_stream.app.gateway.models import TASK_PATTERN
from discover_stream.app.gateway.models_tasks import LabelsIn, Task, TaskChange, TaskDetail, TaskIn, Tasks
from discover_stream.app.gateway.problems import Refused, documented, not_found
from discover_stream.app.task_report import builtin_json, facts_json, unseen_by_nano
from discover_stream.app.task_work import AddOrder, Delivering, Place, carry_out, check_order, named, owner
from discover_stream.semantics.labels import builtin_tasks, checked_labels, load_task
from discover_stream.semantics.mllm_endpoint import endpoint_from
from discover_stream.types import DiscoverError, InputError, LabelSet, TaskOptions
from discover_stream.types import Task as TaskOf

router = APIRouter(prefix="/tasks", tags=["tasks"])

Name = Annotated[str, Path(pattern=TASK_PATTERN, examples=["vehicles"])]
_ANSWER_WITHIN_S = 1.0
_SEEN_WITHIN_S = 10.0


@router.get("", responses=documented())
def tasks(gateway: Here, who: Caller) -> Tasks:
    """The tasks of the log and the built-in ones, those that the caller may see."""
    allow(who, "see tasks")
    found = task_facts(gateway.log)
    names = {item.name for item in found}
    listed = [facts_json(item) for item in found]
    listed += [builtin_json(task) for name, task in builtin_tasks().items() if name not in names]
    return Tasks(tasks=[Task(**_told(item)) for item in listed if who.may("see tasks", task=item["task"])])


@router.get("/{task}", responses=documented(404))
def task(gateway: Here, who: Caller, task: Name) -> TaskDetail:
    """One task with its labels."""
    allow(who, "see tasks", task=task)
    return detail(gateway, task)


@router.post(
    "", status_code=201, responses={**documented(409), 202: {"model": Task, "description": "Labels are asked for"}}
)
def add(gateway: Here, who: Caller, order: TaskIn, response: Response) -> TaskDetail | Task:
    """Have a task: built in, known, with labels, or described in words; then a language model is asked for labels,
    and the answer 202 comes before its answer."""
    allow(who, "change tasks")
    if order.name is None and order.description is None:
        raise InputError("a task needs a name or a description; give one of them")
    wanted = named(
        AddOrder(
            order.name if order.name is not None else (order.description or ""),
            order.description if order.name is not None else None,
            profile=order.profile,
            delivering=Delivering(order.deliver, order.tags),
        )
    )
    if order.name is None and wanted.description is None:  # a single word
        wanted = AddOrder(wanted.name, order.description, profile=order.profile, delivering=wanted.delivering)
    allow(who, "change tasks", task=wanted.name)
    place = place_of(gateway)
    _checked(lambda: check_order(wanted, place))
    record = audited(gateway, who)
    if order.labels is not None:
        task = TaskOf(
            wanted.name,
            " ".join((wanted.description or "labels given over HTTP").split()),
            LabelSet(wanted.name, 1, checked_labels(order.labels, "labels")),
            order.profile or "machine",
        )
        _refuse_builtin(wanted.name)
        settings = ensure_topics(gateway.log, place.settings)
        _checked(lambda: give_labels(gateway.log, task, owner()))
        _checked(lambda: switch_on(gateway.log, wanted.name, settings, owner(), wanted.delivering.over))
        record("task added", f"{wanted.name}: {len(order.labels)} labels")
        return detail(gateway, wanted.name)
    if wanted.description is None or not _must_ask(gateway, wanted):
        _checked(lambda: carry_out(place, wanted, lambda line: None))
        record("task added", wanted.name)
        return detail(gateway, wanted.name)
    # Only to say at once that there is nobody to ask.
    endpoint_from(os.environ, os.environ.get("OPENAI_MODEL") or place.mllm.model)
    record("task described", f"{wanted.name}: {wanted.description}")
    found = _asked(gateway, place, wanted)
    response.status_code = 201 if found.version is not None else 202
    return found


@router.put("/{task}/labels", responses=documented(404, 409))
def set_labels(gateway: Here, who: Caller, task: Name, order: LabelsIn) -> TaskDetail:
    """Make labels a new version of a task, and turn it on; packets name the version that they were made with."""
    allow(who, "change tasks", task=task)
    before = _facts(gateway, task)
    place = place_of(gateway)
    _checked(lambda: check_order(AddOrder(task, refresh=True), place))
    labels, description = checked_labels(order.labels, "labels"), order.description
    known = before.labels
    changed = TaskOf(
        task,
        description or (known.description if known is not None else "labels given over HTTP"),
        LabelSet(task, 1, labels),
        known.profile if known is not None else "machine",
    )
    settings = ensure_topics(gateway.log, place.settings)
    version = _checked(lambda: give_labels(gateway.log, changed, owner(), refresh=True))
    _checked(lambda: switch_on(gateway.log, task, settings, owner()))
    audited(gateway, who)("labels changed", f"{task}: version {version}, {len(labels)} labels")
    return detail(gateway, task)


@router.patch("/{task}", responses=documented(404, 409))
def change(gateway: Here, who: Caller, task: Name, order: TaskChange) -> TaskDetail:
    """Change how a task is delivered, or turn it on or off."""
    allow(who, "change tasks", task=task)
    facts = _facts(gateway, task)
    place = place_of(gateway)
    if order.on is False:
        if facts.active or (facts.request is not None and facts.request.added):
            _checked(lambda: switch_off(gateway.log, task, owner()))
    elif order != TaskChange():
        delivering = Delivering(order.deliver, order.tags)
        if delivering != Delivering():
            _checked(lambda: check_order(AddOrder(task, delivering=delivering), place))
        if order.on or facts.active:
            settings = ensure_topics(gateway.log, place.settings)
            _checked(lambda: switch_on(gateway.log, task, settings, owner(), delivering.over))
        elif delivering != Delivering():
            raise Refused(409, f"task {task} is off; turn it on with the same request")
    audited(gateway, who)("task changed", f"{task}: {order.model_dump_json(exclude_none=True)}")
    return detail(gateway, task)


@router.delete("/{task}", status_code=204, responses=documented(404, 409))
def remove(gateway: Here, who: Caller, task: Name) -> None:
    """Turn a task off; its labels and packets stay."""
    allow(who, "change tasks", task=task)
    _facts(gateway, task)
    _checked(lambda: switch_off(gateway.log, task, owner()))
    audited(gateway, who)("task removed", task)


def place_of(gateway: Gateway) -> Place:
    """The log, with what the configuration says of tasks."""
    config = gateway.config
    listed = frozenset(load_task(entry.task).name for entry in config.tasks)
    return Place(gateway.log, catalogue_settings(config.log), config.mllm, listed, "the configuration")


def detail(gateway: Gateway, name: str) -> TaskDetail:
    """A task with its labels. Refuses one that is neither in the log nor built in."""
    facts = next((item for item in task_facts(gateway.log) if item.name == name), None)
    if facts is not None:
        labels = list(facts.labels.labels) if facts.labels is not None else []
        return TaskDetail(**_told(facts_json(facts)), all_labels=labels, unseen_by_nano=unseen_by_nano(labels))
    builtin = builtin_tasks().get(name)
    if builtin is None:
        raise not_found(f"task {name}: there is none; GET /v1/tasks tells which there are")
    labels = list(builtin.label_set.labels)
    return TaskDetail(**_told(builtin_json(builtin)), all_labels=labels, unseen_by_nano=unseen_by_nano(labels))


def _facts(gateway: Gateway, name: str) -> TaskFacts:
    found = next((item for item in task_facts(gateway.log) if item.name == name), None)
    if found is None and name in builtin_tasks():
        return TaskFacts(name, None, None, None, {}, TaskOptions())
    if found is None:
        raise not_found(f"task {name}: there is none in this log; GET /v1/tasks tells which there are")
    return found


def _told(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "name": item["task"], "on": bool(item["on"])}


def _must_ask(gateway: Gateway, order: AddOrder) -> bool:
    """Whether a language model has to be asked: the log has no labels for exactly this description."""
    found = next((item for item in task_facts(gateway.log) if item.name == order.name), None)
    same = found is not None and found.labels is not None and order.description is not None
    return not (same and found.labels.description == " ".join(order.description.split()))  # type: ignore[union-attr]


def _asked(gateway: Gateway, place: Place, order: AddOrder) -> TaskDetail | Task:
    """Have a thread ask; the task as it is when the labels are there, or a moment later."""
    failed: list[DiscoverError] = []

    def work() -> None:
        try:
            carry_out(place, order, lambda line: None)
        except DiscoverError as error:  # what the model did wrong is in the log too
            failed.append(error)

    thread = threading.Thread(target=work, name=f"labels of {order.name}", daemon=True)
    thread.start()
    thread.join(_ANSWER_WITHIN_S)
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while time.monotonic() < deadline:
        if not thread.is_alive() and failed:
            raise Refused(409, str(failed[0]))
        found = next((item for item in task_facts(gateway.log) if item.name == order.name), None)
        if not thread.is_alive() and found is not None:
            return detail(gateway, order.name)
        if found is not None:
            return Task(**_told(facts_json(found)))
        time.sleep(0.1)
    raise Refused(503, f"task {order.name}: the log took no request within {_SEEN_WITHIN_S:g} s; try again")


def _refuse_builtin(name: str) -> None:
    if name in builtin_tasks():
        raise Refused(409, f"task {name} comes with the package, with its labels; choose another name")


def _checked(action: Callable[[], Any]) -> Any:
    """Carry out; what contradicts the state of things is a conflict."""
    try:
        return action()
    except InputError as error:
        raise Refused(409, str(error)) from error
