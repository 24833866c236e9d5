"""What a multimodal language model is asked about a task, and which of its labels are of use: pure functions.

The question follows DISCOVER's Algorithm 1 (Liu et al., arXiv 2412.18158): from the words that describe a task
to the labels of everything whose presence or place in the picture matters to it. The wording is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from discover_stream.semantics.labels import MAX_LABELS, MIN_LABELS, normalise_label
from discover_stream.semantics.matching import canonical_words, last_word

ASKED_LABELS = 130
"""How many labels are asked for: some are always refused."""
MAX_WORDS = 8
MAX_CHARACTERS = 60

_TOLD_REFUSALS = 25

SYSTEM = f"""\
You prepare an open-vocabulary object detector for traffic cameras. You are given a task: what somebody wants to \
learn from the pictures. List everything that can be seen and whose presence, absence or position in the picture \
could change the outcome of the task.

Go through these in turn: the things that the task names, under every common name and in every common kind; things \
that are easily mistaken for them; what they carry, use, block, wait for or meet; people who take part; lanes, \
markings, signs, signals, kerbs and other parts of the street that tell where something happens; and whatever may \
stand in front of any of these.

Every label
- names one kind of concrete, visible thing that one could draw a box around in a single picture;
- is an English noun or short noun phrase of at most five words, in lower case, singular;
- is no sentence, no action by itself, no quality, amount, rule, event or feeling;
- appears once: plurals, capitals, articles and hyphens do not make it another label.

Give at least {ASKED_LABELS} labels, the most important first. Answer with a JSON object of the form \
{{"labels": ["first label", "second label"]}} and nothing else."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "labels": {
            "type": "array",
            "description": f"At least {ASKED_LABELS} distinct labels, the most important first.",
            "items": {"type": "string"},
        }
    },
    "required": ["labels"],
    "additionalProperties": False,
}
"""JSON schema of an answer. Without bounds on the number of items, which not every endpoint accepts."""

_PUNCTUATION = re.compile(r"[.!?,;:\"{}\[\]<>=\n]")


class AnswerError(ValueError):
    """A model's answer does not hold labels; the text says why, to the model."""


class _Answer(BaseModel):
    """The JSON object that was asked for; anything beside `labels` is let pass."""

    model_config = ConfigDict(extra="ignore")

    labels: list[JsonValue]


@dataclass(frozen=True, slots=True)
class SortedLabels:
    """What a model's labels come to: those of use, as they are compared, and (label, why not) of the others."""

    labels: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def enough(self) -> bool:
        """Whether these make a label set."""
        return len(self.labels) >= MIN_LABELS


@cache
def _words(kind: str) -> frozenset[str]:
    text = (resources.files("discover_stream.semantics") / "ungroundable.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text)[kind])


def question(description: str) -> list[dict[str, str]]:
    """The messages that ask for the labels of a task."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"The task: {description.strip()}"}]


def refusal(label: str) -> str | None:
    """Why a label cannot be grounded, in a few words; None where nothing speaks against it.

    >>> refusal("delivery van"), refusal("The van is blocking the lane."), refusal("traffic safety")
    (None, 'a sentence or a list, not a name', 'abstract, no box can be drawn around it')
    """
    plain = normalise_label(label)
    words = plain.split()
    if not any(character.isalpha() for character in plain):
        return "names nothing"
    if len(plain) > MAX_CHARACTERS or len(words) > MAX_WORDS:
        return f"too long, {len(words)} words of {len(plain)} characters"
    if _PUNCTUATION.search(label.strip()) or not _words("verbs").isdisjoint(words):
        return "a sentence or a list, not a name"
    if last_word(plain) in _words("abstract"):
        return "abstract, no box can be drawn around it"
    return None


def sort_labels(labels: Iterable[object]) -> SortedLabels:
    """Which labels are of use, each once; plurals, case, articles and hyphens do not make two labels different.

    Args:
        labels: as the model gave them; what is not text is refused.

    Returns:
        the labels of use in order of first appearance, at most `MAX_LABELS`, and why the others are not.
    """
    kept: dict[tuple[str, ...], str] = {}
    refused: list[tuple[str, str]] = []
    for item in labels:
        if not isinstance(item, str):
            refused.append((str(item)[:MAX_CHARACTERS], "not a text"))
            continue
        why = refusal(item)
        words = canonical_words(item)
        if why is None and words in kept:
            why = f"the same as {kept[words]!r}"
        if why is None and len(kept) == MAX_LABELS:
            why = f"more than {MAX_LABELS} labels"
        if why is None:
            kept[words] = normalise_label(item)
        else:
            refused.append((normalise_label(item)[:MAX_CHARACTERS], why))
    return SortedLabels(tuple(kept.values()), tuple(refused))


def read_answer(text: str) -> tuple[object, ...]:
    """The labels in a model's answer, as it gave them.

    Takes the JSON object that was asked for, also where a model without structured output wraps it into prose,
    a fenced block or its thoughts. Raises AnswerError, which says what is wrong.
    """
    if not text.strip():
        raise AnswerError("the answer was empty")
    for candidate in _candidates(text):
        try:
            return tuple(_Answer.model_validate_json(candidate).labels)
        except ValidationError:
            continue
    raise AnswerError('the answer was no JSON object of the form {"labels": [...]}')


def _candidates(text: str) -> Iterator[str]:
    yield text
    spoken = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    first, last = spoken.find("{"), spoken.rfind("}")
    if 0 <= first < last:
        yield spoken[first : last + 1]


def join_labels(one: SortedLabels, two: SortedLabels) -> SortedLabels:
    """The labels of two answers, the first one's first; what the second was refused for."""
    both = sort_labels((*one.labels, *two.labels))
    return SortedLabels(both.labels, two.refused)


def repair_request(found: SortedLabels, problem: str | None) -> str:
    """What to tell a model whose answer does not make a label set.

    Args:
        found: the labels of its answer.
        problem: why the answer could not be read at all, None where it could.
    """
    if problem is not None:
        return (
            f'That cannot be used: {problem}. Answer again with the JSON object {{"labels": [...]}} alone, with at '
            f"least {ASKED_LABELS} labels that keep to the rules."
        )
    lines = [
        f"That cannot be used: it has {len(found.labels)} distinct labels that keep to the rules, and {MIN_LABELS} "
        "are needed."
    ]
    if found.refused:
        lines.append("These were refused:")
        lines += [f"- {label}: {why}" for label, why in found.refused[:_TOLD_REFUSALS]]
        if len(found.refused) > _TOLD_REFUSALS:
            lines.append(f"- and {len(found.refused) - _TOLD_REFUSALS} more")
    lines.append(
        f"Answer again with the whole JSON object: keep the good labels, and add others until there are at least "
        f"{ASKED_LABELS}."
    )
    return "\n".join(lines)


def shortage(found: SortedLabels, problem: str | None) -> str:
    """The same for people, in one line."""
    if problem is not None and not found.labels:
        return problem
    reasons = f", {len(found.refused)} refused (such as {_example(found)})" if found.refused else ""
    last = f"; {problem}" if problem is not None else ""
    return f"{len(found.labels)} labels of use{reasons}, {MIN_LABELS} are needed{last}"


def _example(found: SortedLabels) -> str:
    label, why = found.refused[0]
    return f"{label!r}: {why}"
