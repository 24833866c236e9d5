"""What `discover task` does: find labels for what was asked, turn it on, and tell."""

from __future__ import annotations

import os
import re
import socket
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from actors.system import catalogue_settings
from actors.task_requests import AskLabels, Order, obtain_labels
from actors.task_switch import TaskFacts, ensure_topics, give_labels, switch_off, switch_on, task_facts
from discover_stream.app.options import refuse_both
from discover_stream.config import LogConfig, MllmConfig, load_config
from discover_stream.sdk import open_existing
from discover_stream.semantics.labels import RESERVED_NAMES, builtin_tasks, checked_labels, load_task, parse_task
from discover_stream.semantics.mllm import LabelAnswer, ask_labels
from discover_stream.semantics.mllm_endpoint import Patience, endpoint_from
from discover_stream.types import Delivery, InputError, LabelSet, Profile, Task, TaskOptions
from topics import open_log
from topics.catalogue import CatalogueSettings, check_task_name
from topics.log import Log
from topics.messages import LabelSetMessage

MAX_DESCRIPTION = 2000
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Delivering:
    """What `task add` says of how a task is delivered; None leaves it as it is."""

    deliver: Delivery | None = None
    tags: bool | None = None

    def over(self, before: TaskOptions) -> TaskOptions:
        """The options after this order."""
        return TaskOptions(self.deliver or before.deliver, before.tags if self.tags is None else self.tags)


@dataclass(frozen=True, slots=True)
class AddOrder:
    """The words of `task add`. Without a description, `name` may be one itself."""

    name: str
    description: str | None = None
    labels: Path | None = None
    refresh: bool = False
    model: str | None = None
    profile: Profile | None = None
    delivering: Delivering = field(default_factory=Delivering)


@dataclass(frozen=True, slots=True)
class Place:
    """An open log, with what a configuration says of it. `listed` names the tasks that the configuration lists."""

    log: Log
    settings: CatalogueSettings
    mllm: MllmConfig
    listed: frozenset[str]
    config: str


@dataclass(frozen=True, slots=True)
class Added:
    """What `task add` came to: where the labels are from, and in how many partitions it turned the task on."""

    facts: TaskFacts
    source: str
    asked: bool
    changed: int


def owner() -> str:
    """This process, as others are told of it."""
    return f"discover task, process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def open_place(config: Path | None, address: str | None, *, create: bool = False) -> Iterator[Place]:
    """The log of a configuration, or at an address. Raises InputError for both, and where there is none and none
    is to be made."""
    refuse_both(config, address)
    if address is not None:
        with open_existing(address) as log:
            yield Place(log, catalogue_settings(LogConfig()), MllmConfig(), frozenset(), "")
        return
    loaded = load_config(config)
    listed = frozenset(load_task(entry.task).name for entry in loaded.tasks)
    named = "the configuration" if config is None else str(config)
    with open_log(loaded.log.url) if create else open_existing(loaded.log.url) as log:
        yield Place(log, catalogue_settings(loaded.log), loaded.mllm, listed, named)


def carry_out(place: Place, order: AddOrder, tell: Callable[[str], None]) -> Added:
    """Find labels for a task and turn it on. Raises InputError, in one line, for what cannot be done."""
    order = named(order)
    check_order(order, place)
    settings = ensure_topics(place.log, place.settings)
    source, asked = find_labels(place, order, tell)
    changed = switch_on(place.log, order.name, settings, owner(), order.delivering.over)
    facts = next(item for item in task_facts(place.log) if item.name == order.name)
    return Added(facts, source, asked, changed)


def named(order: AddOrder) -> AddOrder:
    """The order with a name, made from the description where only that was given."""
    if order.description is None and not _NAME.fullmatch(order.name) and " " in order.name.strip():
        return replace(order, name=name_from(order.name), description=order.name)
    return order


def name_from(description: str) -> str:
    """A task's name made from its description.

    >>> name_from("Count delivery vans blocking the bus lane!")
    'count-delivery-vans-blocking-the-bus'
    """
    plain = unicodedata.normalize("NFKD", description).encode("ascii", "ignore").decode().lower()
    name = ""
    for word in re.findall(r"[a-z0-9]+", plain):
        longer = f"{name}-{word}" if name else word
        if len(longer) > 40:
            break
        name = longer
    return name


def check_order(order: AddOrder, place: Place) -> None:
    """Raise InputError for an order that makes no sense whatever the log holds."""
    check_task_name(order.name)
    if not _NAME.fullmatch(order.name) or order.name in RESERVED_NAMES:
        raise InputError(f"task name {order.name!r}: begin with a letter, and use no reserved name; choose another")
    if order.description is not None and not 1 <= len(order.description.strip()) <= MAX_DESCRIPTION:
        raise InputError(f"task {order.name}: describe it in 1 to {MAX_DESCRIPTION} characters")
    more = order.description is not None or order.labels is not None or order.refresh or order.profile is not None
    if (more or order.delivering != Delivering()) and order.name in place.listed:
        raise InputError(f"task {order.name} is listed in {place.config}: change it there, or choose another name")
    if more and order.name in builtin_tasks():
        raise InputError(f"task {order.name} comes with the package; leave the rest out, or choose another name")


def find_labels(place: Place, order: AddOrder, tell: Callable[[str], None]) -> tuple[str, bool]:
    """Make sure that the log has labels for a task; where they are from, and whether this call asked a model."""
    if order.labels is not None:
        give_labels(place.log, task_of_file(order, order.labels), owner(), refresh=order.refresh)
        return str(order.labels), False
    known = known_labels(place.log, order.name)
    builtin = builtin_tasks().get(order.name)
    if builtin is not None and known is None:
        give_labels(place.log, builtin, owner(), exact=True)
        return "built in", False
    if known is None and order.description is None:
        raise InputError(
            f"task {order.name} is neither built in ({', '.join(builtin_tasks())}) nor known to this log; "
            "describe it, or give --labels FILE"
        )
    asked = False
    if order.description is not None or order.refresh:
        description = order.description or (known.description if known is not None else "")
        wanted = Order(order.name, description, order.profile, order.refresh)
        asked = obtain_labels(place.log, wanted, asker(place, order, tell), owner(), tell=tell).asked
        known = known_labels(place.log, order.name)
    if known is not None and order.profile not in (None, known.profile):
        give_labels(place.log, replace(known.to_task(), profile=order.profile), owner(), refresh=True)
    return ("language model" if asked else "in the log already"), asked


def known_labels(log: Log, name: str) -> LabelSetMessage | None:
    """The latest labels of a task that the log has."""
    return next((item.labels for item in task_facts(log) if item.name == name), None)


def asker(place: Place, order: AddOrder, tell: Callable[[str], None]) -> AskLabels:
    """What asks the model. Looks at the environment only when it is needed: raises InputError as `endpoint_from`."""

    def ask(description: str) -> LabelAnswer:
        endpoint = endpoint_from(os.environ, order.model or os.environ.get("OPENAI_MODEL") or place.mllm.model)
        tell(f"asking {endpoint.model} at {endpoint.place} for the labels of task {order.name}")
        return ask_labels(description, endpoint, Patience(place.mllm.request_s, place.mllm.total_s))

    return ask


def task_of_file(order: AddOrder, path: Path) -> Task:
    """A task with the labels of a file: a label-set file, a YAML list, or (any other ending) one label per line.

    Raises InputError for a file that cannot be read or holds no label set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"label set {path}: cannot be read ({reason}); give a file of labels") from error
    description, profile = order.description, order.profile
    content = _yaml(text, path) if path.suffix in (".yaml", ".yml") else _lines(text)
    if isinstance(content, list):
        if not all(isinstance(item, str) for item in content):
            raise InputError(f"label set {path}: no list of labels; correct the file")
        labels = checked_labels(content, f"label set {path}")
    else:
        task = parse_task(text, str(path))
        labels = task.label_set.labels
        description, profile = description or task.description, profile or task.profile
    return Task(
        order.name,
        " ".join((description or f"labels of {path.name}").split()),
        LabelSet(order.name, 1, labels),
        profile or "machine",
    )


def _lines(text: str) -> list[str]:
    return [line for line in (raw.split("#")[0].strip() for raw in text.splitlines()) if line]


def _yaml(text: str, path: Path) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"label set {path}: not valid YAML; correct the file") from error


def removed(place: Place, name: str) -> list[str]:
    """Turn a task off, and say what that means. Raises InputError for one that is not on."""
    changed = switch_off(place.log, name, owner())
    lines = [f"{name}: off in {changed} partitions; its labels and packets stay"]
    if name in place.listed:
        lines.append(f"note: {place.config} lists {name}, so the next start of the system turns it on again")
    return lines
