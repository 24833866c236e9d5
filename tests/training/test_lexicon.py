from pathlib import Path

import pytest

from discover_stream.training.lexicon import (
    Nouns,
    Sense,
    class_of_synsets,
    class_of_word,
    main,
    make_lexicon,
    read_wordnet,
)
from discover_stream.types import InputError

ANCHORS = {"person": ["person%1:03:00::"], "car": ["car%1:06:00::"], "truck": ["truck%1:06:00::"], "none": []}

# entity > person > worker > driver; entity > vehicle > truck > van; vehicle > car > taxi; vehicle > cable car;
# entity > bird > gull; person > gull (a dupe); van is below truck and, as in "minivan", a van below car too.
SYNSETS = [
    (1, "03", ["entity"], []),
    (2, "03", ["person", "soul"], [1]),
    (3, "18", ["worker"], [2]),
    (4, "18", ["driver"], [3]),
    (5, "06", ["vehicle"], [1]),
    (6, "06", ["truck"], [5]),
    (7, "06", ["delivery_truck", "Delivery_Van"], [8]),
    (8, "06", ["minivan", "vans"], [9, 6]),
    (9, "06", ["car", "auto"], [5]),
    (10, "06", ["cable_car", "car"], [5]),
    (11, "05", ["gull"], [1]),
    (12, "18", ["gull"], [2]),
    (13, "09", ["driver"], [1]),
    (14, "06", ["car_door"], [1]),
]
MET = {("person", 2): 50, ("car", 9): 9, ("driver", 4): 1}


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """A WordNet of fourteen synsets in the files' own format."""
    data, index, ranks = ["  1 a licence"], [], {}
    for synset, file, words, above in SYNSETS:
        listed = " ".join(f"{word} 0" for word in words)
        pointers = " ".join([*(f"@ {one:08d} n 0000" for one in above), "~ 00000001 n 0000", "@i 00000002 n 0000"])
        data.append(f"{synset:08d} {file} n {len(words):02x} {listed} {len(above) + 2:03d} {pointers} | a gloss @ 1  ")
        for word in (word.lower() for word in words):
            ranks[word] = ranks.get(word, -1) + 1
            met = MET.get((word, synset), 0)
            index.append(f"{word}%1:{file}:{ranks[word]:02d}:: {synset:08d} {ranks[word] + 1} {met}")
    index.append("drive%2:38:00:: 00000004 1 7")
    (tmp_path / "data.noun").write_text("\n".join(data) + "\n")
    (tmp_path / "index.sense").write_text("\n".join(sorted(index)) + "\n")
    return tmp_path


def test_reading(wordnet: Path) -> None:
    nouns = read_wordnet(wordnet)
    assert set(nouns.senses["driver"]) == {Sense(4, "18", 1, 1), Sense(13, "09", 2, 0)}
    assert nouns.senses["cable car"] == (Sense(10, "06", 1, 0),)
    assert "drive" not in nouns.senses
    assert nouns.hypernyms[8] == (9, 6)
    assert nouns.hypernyms[1] == ()
    assert nouns.keys["gull%1:18:01::"] == 12


def test_the_nearest_anchor_counts(wordnet: Path) -> None:
    classes = class_of_synsets(read_wordnet(wordnet), ANCHORS)
    people, cars, trucks = dict.fromkeys((2, 3, 4, 12), "person"), dict.fromkeys((7, 8, 9), "car"), {6: "truck"}
    assert classes == people | cars | trucks
    classes = class_of_synsets(read_wordnet(wordnet), {**ANCHORS, "none": ["worker%1:18:00::"]})
    assert {classes[3], classes[4]} == {"none"}
    with pytest.raises(InputError, match="bike%1:06:00:: is no noun"):
        class_of_synsets(read_wordnet(wordnet), {"bike": ["bike%1:06:00::"]})


def test_a_word_means_what_leads() -> None:
    classes = {1: "person", 2: "car"}
    assert class_of_word([Sense(1, "18", 1, 0)], classes) == "person"
    # A visible thing may not come near; what cannot be seen hardly matters.
    assert class_of_word([Sense(9, "05", 1, 0), Sense(1, "18", 2, 0)], classes) == "none"
    assert class_of_word([Sense(1, "18", 1, 0), Sense(9, "05", 2, 0)], classes) == "none"
    assert class_of_word([Sense(1, "18", 1, 2), Sense(9, "05", 2, 0)], classes) == "person"
    assert class_of_word([Sense(9, "04", 1, 1), Sense(1, "18", 2, 0)], classes) == "person"
    assert class_of_word([Sense(9, "04", 1, 5), Sense(1, "18", 2, 0)], classes) == "none"
    assert class_of_word([Sense(2, "06", 1, 1), Sense(1, "18", 2, 0)], classes) == "car"
    assert class_of_word([], classes) == "none"


def test_the_lexicon(wordnet: Path) -> None:
    assert make_lexicon(read_wordnet(wordnet), ANCHORS) == {
        "car": ["auto", "car", "delivery van", "minivan", "van"],
        "none": ["cable car"],  # unlike "car door" it ends like a car
        "person": ["driver", "person", "soul", "worker"],
        "truck": ["delivery truck", "truck"],  # a van by its synset
    }


def test_words_that_look_alike_share_their_senses() -> None:
    senses = {"plier": (Sense(1, "18", 1, 0),), "pliers": (Sense(2, "06", 1, 0),)}
    nouns = Nouns(senses, {"plier%1:18:00::": 1}, {1: (), 2: ()})
    assert make_lexicon(nouns, {"person": ["plier%1:18:00::"]}) == {}


def test_unreadable_folders(tmp_path: Path, wordnet: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_wordnet(tmp_path / "gone")
    (wordnet / "data.noun").write_text("00000001 03 n xx entity\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_wordnet(wordnet)


def test_the_command_needs_the_anchors_in_wordnet(wordnet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no noun of this WordNet"):
        main(["--wordnet", str(wordnet), "--out", str(tmp_path / "lexicon.json")])
    assert not (tmp_path / "lexicon.json").exists()
