"""Tasks and their label sets, read from YAML: the built-in ones and a user's own files.

A file looks like this; `version` and `profile` may be left out:

    name: vehicles
    description: Everything that drives on a road.
    version: 1
    profile: machine
    labels: [car, delivery van, ...]   # at least 100 distinct ones
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from discover_stream.types import InputError, LabelSet, Profile, Task

MIN_LABELS = 100
"""Distinct labels that a label set has at least."""
MAX_LABELS = 4096
"""Labels that a label set has at most: an index stays small in a packet."""
MAX_LABEL_LENGTH = 100
"""Characters in a label: it names a thing, it does not tell a story."""

STREET_TASKS = ("everything", "pedestrians", "vehicles")
"""Built-in tasks that are meant where none is named; the others are those of the papers' evaluation."""

RESERVED_NAMES = frozenset({"all"})
"""`all` means the union of the tasks wherever tasks are named, so no task may be called so."""


class _TaskFile(BaseModel):
    """What a label-set file may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    description: str = Field(min_length=1, max_length=2000)
    version: int = Field(default=1, ge=1, le=2**31 - 1)
    profile: Profile = "machine"
    labels: list[str]


def normalise_label(label: str) -> str:
    """A label as it is compared: lower case, NFKC, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def checked_labels(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """The distinct labels, normalised, in the order of their first appearance.

    Args:
        labels: as given.
        where: what to name in an error, such as a file.

    Raises:
        InputError: a label is empty or too long, or there are not `MIN_LABELS` to `MAX_LABELS` of them.
    """
    distinct: dict[str, None] = {}
    for number, label in enumerate(labels, start=1):
        plain = normalise_label(label)
        if not plain:
            raise InputError(f"{where}: label {number} is empty; remove it or name something")
        if len(plain) > MAX_LABEL_LENGTH:
            raise InputError(f"{where}: label {number} has {len(plain)} characters; use at most {MAX_LABEL_LENGTH}")
        distinct[plain] = None
    if not MIN_LABELS <= len(distinct) <= MAX_LABELS:
        raise InputError(f"{where}: {len(distinct)} distinct labels; a label set needs {MIN_LABELS} to {MAX_LABELS}")
    return tuple(distinct)


def parse_task(text: str, where: str) -> Task:
    """Read a task from the text of a label-set file.

    Args:
        text: YAML.
        where: what to name in an error, such as the file's path.

    Raises:
        InputError: the text is not YAML or does not describe a task.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"label set {where}: not valid YAML{line}; correct the file") from error
    if not isinstance(content, dict):
        raise InputError(f"label set {where}: no mapping with name, description and labels; correct the file")
    try:
        parsed = _TaskFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"label set {where}: {place}: {first['msg']}; correct the file") from error
    if parsed.name in RESERVED_NAMES:
        raise InputError(f"label set {where}: the name {parsed.name!r} is reserved; choose another")
    labels = checked_labels(parsed.labels, f"label set {where}")
    return Task(
        parsed.name,
        parsed.description,
        LabelSet(parsed.name, parsed.version, labels),
        parsed.profile,
    )


@cache
def builtin_tasks() -> Mapping[str, Task]:
    """The tasks that come with the package, by name."""
    folder = resources.files("discover_stream.semantics") / "label_sets"
    tasks = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            task = parse_task(entry.read_text(encoding="utf-8"), entry.name)
            tasks[task.name] = task
    return MappingProxyType(tasks)


def load_task(name_or_path: str | Path) -> Task:
    """A built-in task by its name, or a task from a YAML file.

    A string that ends in `.yaml` or `.yml` or holds a path separator, and any `Path`, is a file.

    Raises:
        InputError: no such task or file, or a file that does not describe a task.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(name_or_path)
        try:
            return parse_task(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise InputError(f"label set {path}: cannot be read ({reason}); give a YAML file") from error
    tasks = builtin_tasks()
    if text not in tasks:
        raise InputError(f"unknown task {text!r}; known tasks: {', '.join(tasks)} (or give the path of a .yaml file)")
    return tasks[text]


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """The label set of a built-in task or of a YAML file; see `load_task`."""
    return load_task(name_or_path).label_set
