"""Make the lexicon of the nano grounder: `python -m discover_stream.training.lexicon --wordnet DIR`.

WordNet (Princeton University) names the hypernyms of 80,000 noun senses and says how often each sense of a word was
met in text. `anchors.yaml` says which of them are what the detector can see. A sense is of the class of its nearest
anchor; a word, which may have many senses, is of a class if that class has most of the weight of its senses. Kept
are the words of a class, and phrases that end in such a word without being of its class ("cable car").
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from discover_stream.semantics.detector import CLASSES
from discover_stream.semantics.matching import LEXICON, NOTHING, canonical_words
from discover_stream.types import InputError

RANK_WEIGHT = 1.0
"""Weight of a word's first sense beside the number of times that it was met; the second has half of it, and so on:
most senses were never met."""
SHARE = 0.2
"""Part of the weight of all senses that a word's class has at least."""
LEAD = 3.0
"""How many times the weight of the visible things that the word may also mean (a "gull" is a dupe, and a bird).
All three were chosen by the words of `aliases.yaml`, which should be found again, and LVIS's names of other things."""
VISIBLE = frozenset({"05", "06", "08", "13", "17", "20", "27"})
"""WordNet's files of animals, artefacts, parts of bodies, food, natural objects, plants and substances."""
HYPERNYM = "@"


@dataclass(frozen=True, slots=True)
class Sense:
    """One sense of a word: the synset it is in and that one's file, its place among the word's senses from 1, and
    how often it was met in text."""

    synset: int
    file: str
    rank: int
    met: int


@dataclass(frozen=True, slots=True)
class Nouns:
    """The nouns of WordNet: `senses` by word ("delivery van"), `keys` by sense key, `hypernyms` by synset."""

    senses: Mapping[str, tuple[Sense, ...]]
    keys: Mapping[str, int]
    hypernyms: Mapping[int, tuple[int, ...]]


def read_wordnet(folder: Path) -> Nouns:
    """Read WordNet's nouns.

    Args:
        folder: with `data.noun` and `index.sense` in the format of wndb(5WN) and senseidx(5WN).

    Raises:
        InputError: a file is missing or of another format.
    """
    senses: dict[str, list[Sense]] = defaultdict(list)
    keys: dict[str, int] = {}
    hypernyms: dict[int, tuple[int, ...]] = {}
    try:
        for line in (folder / "index.sense").read_text(encoding="utf-8").splitlines():
            key, synset, rank, met = line.split()
            lemma, rest = key.split("%")
            if rest.startswith("1:"):
                keys[key] = int(synset)
                senses[lemma.replace("_", " ")].append(Sense(int(synset), rest[2:4], int(rank), int(met)))
        for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split(" | ")[0].split()
                pointers = fields[5 + 2 * int(fields[3], 16) :]
                above = [int(pointers[n + 1]) for n in range(0, len(pointers) - 3, 4) if pointers[n] == HYPERNYM]
                hypernyms[int(fields[0])] = tuple(above)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"WordNet in {folder}: cannot be read ({error}); give its folder of dictionary files"
        ) from error
    return Nouns({word: tuple(found) for word, found in senses.items()}, keys, hypernyms)


def class_of_synsets(nouns: Nouns, anchors: Mapping[str, Iterable[str]]) -> dict[int, str]:
    """The class of every synset that has an anchor among itself and its hypernyms: the nearest one's; of two equally
    near ones, the one that stands first in `anchors`.

    Raises:
        InputError: an anchor that is no sense key of a noun.
    """
    below: dict[int, list[int]] = defaultdict(list)
    for synset, above in nouns.hypernyms.items():
        for one in above:
            below[one].append(synset)
    classes: dict[int, str] = {}
    waiting: deque[int] = deque()
    for kind, names in anchors.items():
        for key in names:
            if key not in nouns.keys:
                raise InputError(f"anchors: {key} is no noun of this WordNet; correct it or use version 3.1")
            if nouns.keys[key] not in classes:
                classes[nouns.keys[key]] = kind
                waiting.append(nouns.keys[key])
    while waiting:  # breadth first, so whoever comes first is nearest
        synset = waiting.popleft()
        for one in below[synset]:
            if one not in classes:
                classes[one] = classes[synset]
                waiting.append(one)
    return classes


def class_of_word(senses: Iterable[Sense], classes: Mapping[int, str]) -> str:
    """What a word most probably means: a class, or `NOTHING`."""
    weights: dict[str, float] = defaultdict(float)
    total = rivals = 0.0
    for sense in senses:
        weight = sense.met + RANK_WEIGHT / sense.rank
        total += weight
        if sense.synset in classes:
            weights[classes[sense.synset]] += weight
        elif sense.file in VISIBLE:
            rivals += weight
    kind = max(sorted(weights), key=lambda k: weights[k], default=NOTHING)
    return kind if weights[kind] >= max(SHARE * total, LEAD * rivals) else NOTHING


def make_lexicon(nouns: Nouns, anchors: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Words by class, sorted; under `NOTHING` the phrases that end in a word of a class and are none.

    Words are in the form that labels are compared in: singular, without articles, hyphens apart.
    """
    classes = class_of_synsets(nouns, anchors)
    # Words that look alike in that form ("plier", "pliers") share their senses.
    alike: dict[str, list[Sense]] = defaultdict(list)
    for word in sorted(nouns.senses):
        if re.fullmatch(r"[a-z][a-z' -]*", word):
            alike[" ".join(canonical_words(word))] += nouns.senses[word]
    found = {word: class_of_word(senses, classes) for word, senses in alike.items() if word}
    table: dict[str, list[str]] = defaultdict(list)
    for word, meant in sorted(found.items()):
        first, _, last = word.rpartition(" ")
        # To WordNet a delivery truck is a van; what says that it is a truck is one.
        kind = last if last in CLASSES and meant != NOTHING else meant
        if kind != NOTHING or (first and found.get(last, NOTHING) != NOTHING):
            table[kind].append(word)
    return dict(sorted(table.items()))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="discover_stream.training.lexicon", description=__doc__)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.sense of 3.1")
    parser.add_argument("--out", type=Path, default=Path("discover_stream/semantics") / LEXICON, help="file to write")
    options = parser.parse_args(arguments)
    text = (resources.files("discover_stream.semantics") / "anchors.yaml").read_text(encoding="utf-8")
    anchors: dict[str, Any] = yaml.safe_load(text)
    table = make_lexicon(read_wordnet(options.wordnet), anchors)
    content = {
        "source": "WordNet 3.1, Princeton University; see NOTICE",
        "words": {k: "|".join(v) for k, v in table.items()},
    }
    options.out.write_text(json.dumps(content, indent=0, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
