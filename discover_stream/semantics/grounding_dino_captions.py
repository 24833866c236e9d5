"""Captions for Grounding DINO: which labels share one, and which tokens of it are which label's.

Grounding DINO reads a caption of at most 256 tokens, "car . delivery van . bus ." and scores every token against
every box. What lies behind the 256th token its own code drops without a word, so that a label set has to be
spread over captions by *tokens*, and a score has to find its way back to a label by the tokens' places: words of
one label also occur in others ("delivery van", "delivery robot"), so their text would not tell.

    caption   car  .  delivery van  .  bus  .
    tokens  [CLS] car . delivery van . bus . [SEP]
    column     0    1  2    3     4  5   6  7    8      spans: car 1-2, delivery van 3-5, bus 6-7

A label costs its tokens and one for the full stop. Pure functions; what a token is, a function handed in says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from discover_stream.semantics.labels import normalise_label
from discover_stream.types import InputError, LabelSet

SEARCH_NODES = 50_000
"""Steps after which the search for a packing with one caption fewer gives up; up to 9 labels cannot need as many."""

_SEPARATORS = re.compile(r"[.?\[\]]+")
"""Full stops and question marks end a label in a caption; brackets make the tokenizer's special tokens."""


class Token(NamedTuple):
    """One column of a caption: the characters [start, end) it stands for (none for [CLS] and [SEP]), and whether
    the vocabulary knows them."""

    start: int
    end: int
    known: bool


Encode = Callable[[str], Sequence[Token]]
"""The tokens of a text, those that the tokenizer adds at both ends included, in the order of the columns."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption of a label set.

    `labels` are indices into the label set, ascending; `spans` names for each of them its columns [first, last)
    among the caption's `width` tokens.
    """

    text: str
    labels: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    width: int


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """All captions of a label set, and the labels of which the vocabulary knows no piece."""

    captions: tuple[Caption, ...]
    unsupported: tuple[str, ...]


def caption_text(label: str) -> str:
    """A label as it stands in a caption: nothing in it ends it early.

    >>> caption_text("U.S. mail van?")
    'u s mail van'
    """
    return " ".join(_SEPARATORS.sub(" ", normalise_label(label)).split())


def plan_captions(label_set: LabelSet, encode: Encode, limit: int) -> CaptionPlan:
    """Spread a label set over the fewest captions of at most `limit` tokens.

    The captions depend on the label set alone, so that other tasks change nothing about a task's scores.

    Args:
        label_set: any labels.
        encode: the tokenizer.
        limit: tokens that a caption may have, those at both ends included.

    Raises:
        InputError: a label that needs more tokens than a caption has.
    """
    texts = [caption_text(label) for label in label_set.labels]
    frame = len(encode(""))
    sizes: dict[int, int] = {}
    unsupported = []
    for index, (label, text) in enumerate(zip(label_set.labels, texts, strict=True)):
        tokens = [token for token in encode(text) if token.end > token.start]
        if not any(token.known for token in tokens):
            unsupported.append(label)
        elif frame + len(tokens) + 1 > limit:
            raise InputError(
                f"task {label_set.task}: the label {label!r} has {len(tokens)} tokens, and a caption of Grounding DINO "
                f"holds {limit - frame - 1}; shorten it"
            )
        else:
            sizes[index] = len(tokens) + 1
    places = list(sizes)
    bins = pack(list(sizes.values()), limit - frame)
    groups = sorted(tuple(sorted(places[item] for item in group)) for group in bins)
    return CaptionPlan(tuple(_caption(texts, group, encode, limit) for group in groups), tuple(unsupported))


def _caption(texts: Sequence[str], labels: tuple[int, ...], encode: Encode, limit: int) -> Caption:
    """The caption of some labels, with the columns of each found by the characters that its tokens stand for."""
    text = "".join(f"{texts[index]} . " for index in labels).rstrip()
    tokens = encode(text)
    spans, begin = [], 0
    for index in labels:
        end = begin + len(texts[index])
        columns = [n for n, token in enumerate(tokens) if begin <= token.start < token.end <= end]
        spans.append((columns[0], columns[-1] + 1))
        begin = end + len(" . ")
    if len(tokens) > limit:  # a tokenizer that does not split at spaces: better no answer than half of one
        raise InputError(f"a caption of Grounding DINO has {len(tokens)} tokens instead of {limit}: {text[:80]!r}...")
    return Caption(text, labels, tuple(spans), len(tokens))


def pack(sizes: Sequence[int], capacity: int) -> tuple[tuple[int, ...], ...]:
    """Put items into the fewest bins.

    Best fit, largest first, then compared with the bound of Martello and Toth (1990): with many small items both
    nearly always agree, and nothing can be better. Where they do not, a depth-first search looks for a packing
    with one bin fewer, and again, until there is none or `SEARCH_NODES` steps are spent; only then the result may
    have more bins than needed (best fit decreasing has at most 11/9 of them).

    Args:
        sizes: of the items, each 1..capacity.
        capacity: of every bin.

    Returns:
        bins of indices into `sizes`, each item in exactly one.
    """
    order = sorted(range(len(sizes)), key=lambda item: -sizes[item])  # of equals the first comes first
    falling = [sizes[item] for item in order]
    places = _best_fit(falling, capacity)
    bound = _fewest_possible(falling, capacity)
    while max(places, default=-1) + 1 > bound:
        better = _search(falling, capacity, max(places))
        if better is None:
            break
        places = better
    bins: list[list[int]] = [[] for _ in range(max(places, default=-1) + 1)]
    for item, place in zip(order, places, strict=True):
        bins[place].append(item)
    return tuple(tuple(items) for items in bins)


def _best_fit(falling: Sequence[int], capacity: int) -> list[int]:
    """The bin of each item: the fullest that still takes it."""
    free: list[int] = []
    places = []
    for size in falling:
        fitting = [n for n, room in enumerate(free) if room >= size]
        if fitting:
            place = min(fitting, key=lambda n: (free[n], n))
        else:
            place = len(free)
            free.append(capacity)
        free[place] -= size
        places.append(place)
    return places


def _fewest_possible(falling: Sequence[int], capacity: int) -> int:
    """No packing has fewer bins than this: items above half a bin never share one, and smaller ones only fit in
    what the large ones leave. The best such argument over all thresholds between "large" and "ignored"."""
    best = 0
    for least in {0, *(size for size in falling if 2 * size <= capacity)}:
        huge = [size for size in falling if size > capacity - least]
        large = [size for size in falling if capacity - least >= size and 2 * size > capacity]
        small = sum(size for size in falling if 2 * size <= capacity and size >= least)
        left = len(large) * capacity - sum(large)
        best = max(best, len(huge) + len(large) + max(0, -(-(small - left) // capacity)))
    return best


def _search(falling: Sequence[int], capacity: int, bins: int) -> list[int] | None:
    """The bin of each item in a packing with `bins` bins; None where there is none, or after too many steps."""
    behind = [0] * (len(falling) + 1)
    for item in range(len(falling) - 1, -1, -1):
        behind[item] = behind[item + 1] + falling[item]
    free, places = [capacity] * bins, [0] * len(falling)
    seen: set[tuple[int, tuple[int, ...]]] = set()

    def place_from(item: int) -> bool:
        if item == len(falling):
            return True
        # Bins with the same room are the same; what they hold no longer matters.
        state = item, tuple(sorted(free))
        if state in seen or len(seen) >= SEARCH_NODES:
            return False
        seen.add(state)
        if sum(room for room in free if room >= falling[-1]) < behind[item]:
            return False
        tried: set[int] = set()
        for place in range(bins):
            room = free[place]
            if room < falling[item] or room in tried:
                continue
            tried.add(room)
            free[place] -= falling[item]
            places[item] = place
            if place_from(item + 1):
                return True
            free[place] += falling[item]
        return False

    # A search without end is also one that goes too deep for Python's stack: so many items fit without it.
    return places if len(falling) <= 500 and place_from(0) else None
