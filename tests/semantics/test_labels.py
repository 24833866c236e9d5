from pathlib import Path

import pytest
import yaml

from discover_stream.semantics.labels import (
    MIN_LABELS,
    STREET_TASKS,
    builtin_tasks,
    checked_labels,
    load_label_set,
    load_task,
    normalise_label,
    parse_task,
)
from discover_stream.types import InputError


def task_text(**changes: object) -> str:
    content: dict[str, object] = {
        "name": "vans",
        "description": "Delivery vans.",
        "labels": [f"van number {n}" for n in range(MIN_LABELS)],
    }
    content.update(changes)
    return yaml.safe_dump({key: value for key, value in content.items() if value is not None})


def test_the_builtin_tasks_are_complete() -> None:
    tasks = builtin_tasks()
    papers = ["image-classification", "instance-segmentation", "object-detection"]
    assert sorted([*STREET_TASKS, *papers]) == list(tasks)
    for name, task in tasks.items():
        labels = task.label_set.labels
        assert task.name == task.label_set.task == name
        assert task.description
        assert task.label_set.version == 1
        assert len(labels) >= MIN_LABELS
        assert len({normalise_label(label) for label in labels}) == len(labels)


def test_the_builtin_files_repeat_no_label() -> None:
    # Loading would drop a repetition silently; our own data should not rely on it.
    folder = Path(__file__).resolve().parents[2] / "discover_stream" / "semantics" / "label_sets"
    for path in folder.glob("*.yaml"):
        labels = yaml.safe_load(path.read_text())["labels"]
        assert all(label == normalise_label(label) for label in labels), path.name
        assert len(set(labels)) == len(labels), path.name


def test_a_task_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "vans.yaml"
    path.write_text(task_text(version=3, profile="human"))
    for given in (path, str(path)):
        task = load_task(given)
        assert (task.name, task.profile, task.label_set.version) == ("vans", "human", 3)
    assert load_label_set("vehicles") is builtin_tasks()["vehicles"].label_set


def test_labels_are_normalised_and_repetitions_dropped() -> None:
    labels = [f"thing {n}" for n in range(MIN_LABELS)]
    assert checked_labels(["  Thing   0 ", *labels], "here") == tuple(labels)
    assert normalise_label("  DELIVERY\tVan ") == "delivery van"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 500, "1 distinct labels"),
        ([f"a {n}" for n in range(MIN_LABELS - 1)], "99 distinct labels"),
        ([f"a {n}" for n in range(MIN_LABELS)] + ["  "], "label 101 is empty"),
        ([f"a {n}" for n in range(MIN_LABELS)] + ["b" * 101], "label 101 has 101 characters"),
        ([f"a {n}" for n in range(4097)], "4097 distinct labels"),
    ],
)
def test_bad_labels_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_labels(labels, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [car\nname: x", "not valid YAML in line 2"),
        ("- car\n- bus\n", "no mapping"),
        ("", "no mapping"),
        (task_text(name=None), "name: Field required"),
        (task_text(description=""), "description: "),
        (task_text(labels=["car", 7]), r"labels.1: "),
        (task_text(labels="car"), "labels: "),
        (task_text(colour="red"), "colour: "),
        (task_text(version=0), "version: "),
        (task_text(profile="robot"), "profile: "),
        (task_text(name="Bus Lane"), "name: "),
        (task_text(name="all"), "'all' is reserved"),
        (task_text(labels=["car", "bus"]), "2 distinct labels"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_task(text, "my.yaml")
    assert "my.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown task 'vans'.*everything, .*pedestrians, vehicles"):
        load_task("vans")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gone.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read"):
        load_task(path)
