"""What `discover task` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from actors.task_switch import TaskFacts, task_facts
from discover_stream.app.moments import iso
from discover_stream.app.task_work import Added, open_place
from discover_stream.config import load_config
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.semantics.matching import match_label
from discover_stream.types import InputError, Task
from topics.messages import InquiryRecord, LabelSetMessage

DELIVERED: dict[str, str] = {"regions": "regions only", "objects": "no plate"}
"""What is said of tasks that are not sent everything."""
_NAMED = 12
"""Labels that a line names; `--json` names all."""


def inquiry_text(inquiry: InquiryRecord) -> str:
    """What a language model was asked, and what that took."""
    told = inquiry.tokens_in is not None
    tokens = f"{inquiry.tokens_in} tokens in, {inquiry.tokens_out} out" if told else "tokens not told"
    repaired = " after a repair request" if inquiry.requests > 1 else ""
    return f"from {inquiry.model} at {inquiry.place}{repaired}, {tokens}, {inquiry.seconds:.1f} s"


def added_lines(done: Added) -> list[str]:
    """What `task add` came to."""
    labels = done.facts.labels
    assert labels is not None
    where = inquiry_text(done.facts.inquiry) if done.asked and done.facts.inquiry is not None else done.source
    on = f"on in {done.changed} partitions now" if done.changed else "was on already"
    less = DELIVERED.get(done.facts.options.deliver)
    on += f", {less}" if less else ""
    on += ", with tags" if done.facts.options.tags else ""
    lines = [f"{labels.task} version {labels.version}: {len(labels.labels)} labels, {where}", f"{labels.task}: {on}"]
    unseen = unseen_text(labels.labels)
    return [*lines, f"{labels.task}: {unseen}"] if unseen else lines


def unseen_by_nano(labels: Sequence[str]) -> list[str]:
    """Labels that the default grounder cannot find."""
    return [label for label in labels if match_label(label) is None]


def unseen_text(labels: Sequence[str]) -> str:
    """The same in words; empty where it can find all."""
    unseen = unseen_by_nano(labels)
    named = ", ".join(unseen[:_NAMED]) + (f" and {len(unseen) - _NAMED} more" if len(unseen) > _NAMED else "")
    return f"the nano grounder cannot find {len(unseen)} of the {len(labels)} labels: {named}" if unseen else ""


def added_json(done: Added) -> dict[str, Any]:
    """The same for programs."""
    labels = done.facts.labels.labels if done.facts.labels is not None else ()
    facts = {**facts_json(done.facts), "source": done.source, "asked": done.asked, "changed": done.changed}
    return {**facts, "unseen_by_nano": unseen_by_nano(labels)}


def listed(config: Path | None, address: str | None) -> list[dict[str, Any]]:
    """The tasks of the log, if there is one, and the built-in ones."""
    found: list[dict[str, Any]] = []
    if address is not None or load_config(config).log.exists:
        with open_place(config, address) as place:
            found = [facts_json(item) for item in task_facts(place.log)]
    known = {item["task"] for item in found}
    return found + [builtin_json(task) for name, task in builtin_tasks().items() if name not in known]


def shown(config: Path | None, address: str | None, name: str) -> dict[str, Any]:
    """One task with its labels. Raises InputError for one that neither the log nor the package has."""
    found = next((item for item in listed(config, address) if item["task"] == name), None)
    if found is None:
        raise InputError(f"task {name} is neither in the log nor built in; `discover task list` tells which are")
    if found["builtin"]:
        named = list(builtin_tasks()[name].label_set.labels)
    else:
        with open_place(config, address) as place:
            labels = next(item.labels for item in task_facts(place.log) if item.name == name)
        named = [] if labels is None else list(labels.labels)
    return {**found, "all_labels": named, "unseen_by_nano": unseen_by_nano(named)}


def builtin_json(task: Task) -> dict[str, Any]:
    """A task that comes with the package, and that the log does not know."""
    facts = TaskFacts(task.name, LabelSetMessage.of(task), None, None, {})
    return {**facts_json(facts), "builtin": True}


def facts_json(item: TaskFacts) -> dict[str, Any]:
    """What is known of a task, without its labels."""
    request, labels, inquiry = item.request, item.labels, item.inquiry
    return {
        "task": item.name,
        "version": labels.version if labels is not None else None,
        "labels": len(labels.labels) if labels is not None else 0,
        "description": labels.description if labels is not None else request.description if request else "",
        "profile": labels.profile if labels is not None else request.profile if request else "machine",
        "deliver": item.options.deliver,
        "tags": item.options.tags,
        "on": sorted(item.active),
        "added": request is not None and request.added,
        "builtin": False,
        "asking": request.owner if request is not None and request.claim else None,
        "disabled": request is not None and request.disabled,
        "problem": request.problem if request is not None and request.problem else None,
        "inquiry": None
        if inquiry is None
        else {
            "summary": inquiry_text(inquiry),
            "model": inquiry.model,
            "place": inquiry.place,
            "at": iso(inquiry.at_ns),
            "requests": inquiry.requests,
            "tries": inquiry.tries,
            "tokens_in": inquiry.tokens_in,
            "tokens_out": inquiry.tokens_out,
            "seconds": round(inquiry.seconds, 3),
        },
    }


def listed_line(item: dict[str, Any]) -> str:
    """One line of `task list`."""
    state = "on" if item["on"] else "disabled" if item["disabled"] else "off"
    version = f"v{item['version']}" if item["version"] is not None else "-"
    notes = [
        DELIVERED.get(item["deliver"], ""),
        "with tags" if item["tags"] else "",
        "built in" if item["builtin"] else "",
        f"labels from {item['inquiry']['model']}" if item["inquiry"] else "",
        f"being asked for by {item['asking']}" if item["asking"] else "",
        f"problem: {item['problem']}" if item["problem"] else "",
    ]
    line = f"{item['task']:24} {version:4} {item['labels']:4} labels  {item['profile']:8} {state:8} "
    return (line + "; ".join(note for note in notes if note)).rstrip()


def shown_text(item: dict[str, Any]) -> str:
    """A label-set file, with what else is known as comments."""
    on = f"on in partitions {', '.join(map(str, item['on']))}" if item["on"] else "off"
    less = DELIVERED.get(item["deliver"])
    delivery = [*([less] if less else []), *["with tags"] * item["tags"]]
    comments = [", ".join([on, *delivery])] + ([f"problem: {item['problem']}"] if item["problem"] else [])
    if item["inquiry"] is not None:
        comments.append(f"labels {item['inquiry']['summary']}, {item['inquiry']['at']}")
    if item["unseen_by_nano"]:
        comments.append(unseen_text(item["all_labels"]))
    content = {
        "name": item["task"],
        "description": item["description"],
        "version": item["version"] or 1,
        "profile": item["profile"],
        "labels": item["all_labels"],
    }
    head = "".join(f"# {' '.join(comment.split())}\n" for comment in comments)
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
