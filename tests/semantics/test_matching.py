import pytest

from discover_stream.semantics.detector import CLASSES
from discover_stream.semantics.labels import builtin_tasks, load_label_set
from discover_stream.semantics.matching import SCENE, match_label, plan_labels
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
