import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

from discover_stream.semantics.detector import CLASSES
from discover_stream.semantics.labels import builtin_tasks, load_label_set
from discover_stream.semantics.matching import LEXICON, NOTHING, SCENE, match_label, plan_labels
from discover_stream.types import LabelSet


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("lorry", "truck"),
        ("Lorries", "truck"),
        ("people carrying umbrellas", "person"),
        ("person on a bicycle", "person"),
        ("a man who pushes a bike", "person"),
        ("delivery vans blocking the bus lane", "car"),
        ("the red double-decker buses", "bus"),
        ("cargo e-bike", "bicycle"),
        ("heavy-goods vehicles", "truck"),
        ("broken-down truck", "truck"),
        ("row of parked cars", "car"),
        ("trucks overtaking cars", "truck"),
        ("police officer directing traffic", "person"),
        ("moped rider", "person"),
        ("moped", "motorcycle"),
        ("wet road surface", SCENE),
        ("zebra crossing", SCENE),
        ("car park", SCENE),
        # The words are there, but the thing is not.
        ("bus stop", None),
        ("car door", None),
        ("front of a car", None),
        ("bicycle rack", None),
        ("zebra", None),
        ("dogs", None),
        ("woman's handbag", None),
        ("carpet", None),
        ("", None),
        ("???", None),
    ],
)
def test_labels_mean_what_their_head_says(label: str, kind: str | None) -> None:
    assert match_label(label) == kind


def test_vehicles_and_pedestrians_keep_to_themselves() -> None:
    vehicles = plan_labels(load_label_set("vehicles"))
    assert set(vehicles.best) == {"bicycle", "bus", "car", "motorcycle", "truck"}
    assert set(plan_labels(load_label_set("pedestrians")).best) == {"person"}
    assert plan_labels(load_label_set("pedestrians")).unsupported == ()


def test_everything_names_all_classes_and_the_scene() -> None:
    plan = plan_labels(load_label_set("everything"))
    assert set(plan.best) == {*CLASSES, SCENE}
    assert "traffic light" in plan.unsupported


@pytest.mark.parametrize("task", ["vehicles", "pedestrians", "everything"])
def test_detections_get_the_plainest_label(task: str) -> None:
    plan = plan_labels(load_label_set(task))
    for kind, index in plan.best.items():
        assert plan.classes[index] == kind
        assert plan.label_set.labels[index] == ("road" if kind == SCENE else kind)


def test_the_plainest_label_wins_wherever_it_stands() -> None:
    labels = ("red sports car at night", "sedan", "bus stop", "automobile")
    plan = plan_labels(LabelSet("t", 1, labels))
    assert plan.best == {"car": 3}
    assert plan.classes == ("car", "car", None, "car")
    assert plan.unsupported == ("bus stop",)


def test_of_two_equally_plain_labels_the_first_wins() -> None:
    assert plan_labels(LabelSet("t", 1, ("blue car", "red car"))).best == {"car": 0}


def test_only_everything_asks_for_the_whole_picture() -> None:
    asking = [n for n, task in builtin_tasks().items() if SCENE in plan_labels(task.label_set).best]
    assert asking == ["everything"]


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("bricklayer on a scaffold", "person"),
        ("motorcoach", "bus"),
        ("cable car", None),  # a car by its last word
        ("bumper cars", None),
        ("police dog", None),
        ("delivery truck", "truck"),
        ("shuttle bus", "bus"),
        ("minibuses", "bus"),
        ("articulated hauler", "truck"),
        ("gulls", None),  # also dupes, to a dictionary
        ("baby stroller", None),
    ],
)
def test_words_that_only_the_lexicon_knows(label: str, kind: str | None) -> None:
    assert match_label(label) == kind


def unseen(part: str) -> list[tuple[str, str]]:
    """The held-out phrases with their classes."""
    text = (Path(__file__).parent / "unseen_phrases.yaml").read_text(encoding="utf-8")
    return [(phrase, kind) for kind, phrases in yaml.safe_load(text)[part].items() for phrase in phrases]


@pytest.mark.parametrize(("part", "count", "right"), [("first", 180, 160), ("second", 72, 68)])
def test_unseen_phrases(part: str, count: int, right: int) -> None:
    phrases = unseen(part)
    assert len(phrases) == len({phrase for phrase, _ in phrases}) == count
    wrong = [(p, kind, match_label(p)) for p, kind in phrases if (match_label(p) or "none") != kind]
    assert count - len(wrong) >= right, wrong
    # To find nothing is said aloud; to find the wrong thing is not.
    assert not [case for case in wrong if case[1] == "none"]


def test_the_names_of_other_things_mean_nothing(shared: Path) -> None:
    """LVIS's 1203 categories: almost none of them can be seen, and only a few are mistaken."""
    path = shared.parent / "weights" / "clip_names" / "lvis_v1_train_cat_info.json"
    if not path.exists():
        pytest.skip(f"needs {path.name}, which is not there")
    names = [entry["name"].split("_(")[0].replace("_", " ") for entry in json.loads(path.read_text())]
    ours = {
        "ambulance": "truck", "bicycle": "bicycle", "bus": "bus", "cab": "car", "car": "car", "convertible": "car",
        "dirt bike": "motorcycle", "fire engine": "truck", "garbage truck": "truck", "golfcart": "car", "jeep": "car",
        "limousine": "car", "minivan": "car", "motor scooter": "motorcycle", "motor vehicle": "car",
        "motorcycle": "motorcycle", "person": "person", "pickup truck": "truck", "police cruiser": "car",
        "race car": "car", "school bus": "bus", "tow truck": "truck", "trailer truck": "truck", "truck": "truck",
    }  # fmt: skip
    found = {name: match_label(name) for name in names}
    assert {name: found[name] for name in ours} == ours
    mistaken = [name for name, kind in found.items() if kind is not None and name not in ours]
    assert len(mistaken) <= 0.03 * len(names), mistaken


def test_the_lexicon_is_small_and_says_where_it_is_from() -> None:
    path = resources.files("discover_stream.semantics") / LEXICON
    text = path.read_text(encoding="utf-8")
    assert len(text) <= 1_000_000
    content = json.loads(text)
    assert "WordNet 3.1" in content["source"]
    words = {kind: phrases.split("|") for kind, phrases in content["words"].items()}
    assert set(words) == {*CLASSES, SCENE, NOTHING}
    everything = [word for found in words.values() for word in found]
    assert len(everything) == len(set(everything)) > 10_000
    assert all(found == sorted(found) for found in words.values())
