"""From free-text labels to what a detector with a few classes can see.

A label is read as an English noun phrase: what counts is its head, the words before the first preposition
or participle ("*people* carrying umbrellas", "*white delivery van* at a bus stop"), and of these the last
ones ("delivery *van*", but "bus *stop*" is no bus). A phrase whose head is no known word is reported as not
groundable.

Which words are which class, two tables say: `aliases.yaml`, by hand, with the words of the street; and where it knows
nothing, `lexicon.json`, some thousand nouns that WordNet's hypernyms lead to a class ("bricklayer" is a person,
"motorcoach" a bus, a "cable car" no car). Of both the longest phrase counts, and of equally long ones the hand's.
Pure functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType

import yaml

from discover_stream.semantics.labels import normalise_label
from discover_stream.types import LabelSet

SCENE = "scene"
"""The class of labels for what fills the picture (road, building, sky) and has no box of its own."""

NOTHING = "none"
"""In the lexicon: phrases that end in a word of a class, but name something else."""

LEXICON = "lexicon.json"

_STEERING = ("stops", "collectives", "singulars")
_ARTICLES = frozenset({"a", "an", "the", "some", "any", "several", "many", "two", "three", "all"})


@dataclass(frozen=True, slots=True)
class _Words:
    """The content of `aliases.yaml`: `phrases` maps the words of an alias to (class, rank). `lexicon` maps further
    words to a class or `NOTHING`."""

    stops: frozenset[str]
    collectives: frozenset[str]
    singulars: Mapping[str, str]
    phrases: Mapping[tuple[str, ...], tuple[str, int]]
    lexicon: Mapping[tuple[str, ...], str]
    longest: int


@dataclass(frozen=True, slots=True)
class GroundingPlan:
    """What a detector does for one label set.

    `classes` names for each label the class that grounds it, None where nothing does; `best` names for each
    class in use the label that fits it best, the one its detections get.
    """

    label_set: LabelSet
    classes: tuple[str | None, ...]
    best: Mapping[str, int]

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The labels that cannot be grounded, in their order."""
        pairs = zip(self.label_set.labels, self.classes, strict=True)
        return tuple(label for label, kind in pairs if kind is None)


@cache
def _words() -> _Words:
    text = (resources.files("discover_stream.semantics") / "aliases.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    singulars: dict[str, str] = content["singulars"]
    phrases: dict[tuple[str, ...], tuple[str, int]] = {}
    for kind, aliases in content.items():
        if kind not in _STEERING:
            for rank, alias in enumerate(aliases):
                phrases.setdefault(_tokens(alias, singulars), (kind, rank))
    lexicon = _lexicon()
    return _Words(
        frozenset(content["stops"]),
        frozenset(content["collectives"]),
        singulars,
        phrases,
        lexicon,
        max(len(phrase) for table in (phrases, lexicon) for phrase in table),
    )


def _lexicon() -> dict[tuple[str, ...], str]:
    text = (resources.files("discover_stream.semantics") / LEXICON).read_text(encoding="utf-8")
    words: dict[str, str] = json.loads(text)["words"]
    return {tuple(phrase.split()): kind for kind, phrases in words.items() for phrase in phrases.split("|")}


def _singular(word: str, irregular: Mapping[str, str]) -> str:
    if word in irregular:
        return irregular[word]
    if word.endswith("buses"):
        return word[:-2]
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _tokens(text: str, irregular: Mapping[str, str]) -> tuple[str, ...]:
    """The words in the singular, without articles; hyphens separate words, so that "semi-trailer" is two."""
    found = re.findall(r"[^\W_]+", normalise_label(text))
    return tuple(_singular(word, irregular) for word in found if word not in _ARTICLES)


def _ends_head(word: str, stops: frozenset[str]) -> bool:
    """Whether the head of a phrase is over at this word: a preposition or a participle."""
    return word in stops or (len(word) > 4 and word.endswith(("ing", "ed")))


def _class_at_end(tokens: tuple[str, ...], words: _Words) -> str | None:
    """The class, or `NOTHING`, of the longest phrase of either table that the words end in."""
    for length in range(min(words.longest, len(tokens)), 0, -1):
        phrase = tokens[len(tokens) - length :]
        alias = words.phrases.get(phrase)
        kind = alias[0] if alias is not None else words.lexicon.get(phrase)
        if kind is not None:
            return kind
    return None


def canonical_words(label: str) -> tuple[str, ...]:
    """The words of a label that tell it from others: in the singular, without articles, hyphens apart.

    >>> canonical_words("The Delivery-Vans")
    ('delivery', 'van')
    """
    return _tokens(label, _words().singulars)


def last_word(label: str) -> str:
    """The last word before the first preposition, in the singular; empty where there are no words.

    >>> last_word("white delivery vans at a bus stop")
    'van'
    """
    words = _words()
    tokens = _tokens(label, words.singulars)
    end = next((n for n in range(1, len(tokens)) if tokens[n] in words.stops), len(tokens))
    return tokens[end - 1] if tokens else ""


def match_label(label: str) -> str | None:
    """The class that grounds a label: a detector class, `SCENE`, or None.

    >>> match_label("red lorries"), match_label("bus stop"), match_label("people carrying umbrellas")
    ('truck', None, 'person')
    """
    words = _words()
    tokens = _tokens(label, words.singulars)
    whole = words.phrases.get(tokens)
    if whole is not None:
        return _seen(whole[0])
    if tokens in words.lexicon:
        return _seen(words.lexicon[tokens])
    if len(tokens) > 2 and tokens[1] == "of" and tokens[0] in words.collectives:
        tokens = tokens[2:]
    for end in range(1, len(tokens) + 1):
        if end < len(tokens) and not _ends_head(tokens[end], words.stops):
            continue
        kind = _class_at_end(tokens[:end], words)
        if kind is not None:
            return _seen(kind)
        if end < len(tokens) and tokens[end] in words.stops:
            return None  # the head is over and named nothing that can be seen
    return None


def _seen(kind: str) -> str | None:
    return None if kind == NOTHING else kind


@lru_cache(maxsize=1024)
def plan_labels(label_set: LabelSet) -> GroundingPlan:
    """Decide which class grounds each label, and which label each class's detections get.

    The best label of a class is its most ordinary name ("car" before "sedan"), then the shortest, then
    the first.
    """
    words = _words()
    classes = tuple(match_label(label) for label in label_set.labels)
    fits: dict[str, tuple[int, int, int]] = {}
    for index, (label, kind) in enumerate(zip(label_set.labels, classes, strict=True)):
        if kind is None:
            continue
        tokens = _tokens(label, words.singulars)
        exact = words.phrases.get(tokens)
        rank = exact[1] if exact is not None and exact[0] == kind else len(words.phrases)
        fits[kind] = min(fits.get(kind, (rank, len(tokens), index)), (rank, len(tokens), index))
    return GroundingPlan(label_set, classes, MappingProxyType({kind: fit[2] for kind, fit in sorted(fits.items())}))
