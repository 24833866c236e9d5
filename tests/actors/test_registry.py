from __future__ import annotations

import dataclasses

import pytest

from actors.registry import TaskTable, load_tasks, read_label_sets, refuse_collisions, register
from discover_stream.codec.packet import task_key
from discover_stream.types import InputError, LabelSet, Task
from topics.catalogue import LABELS, TASKS
from topics.messages import LabelSetMessage, encode

LABEL_WORDS = tuple(f"thing {number}" for number in range(100))


def task(name: str, version: int = 1, words: tuple[str, ...] = LABEL_WORDS) -> Task:
    return Task(name, "things", LabelSet(name, version, words))


def names(table: TaskTable) -> dict[str, int]:
    return {known.name: known.labels.version for known in table.refresh()}


def test_registering_twice_writes_once(log, records) -> None:
    before = records(log, LABELS), records(log, TASKS)
    assert register(log, load_tasks(["vehicles", "pedestrians"]), 2, "again") == 0
    assert (records(log, LABELS), records(log, TASKS)) == before
    assert len(before[0]) == 4  # each label set under its version and as the latest
    assert len(before[1]) == 4  # two tasks in two partitions


def test_label_sets_come_back_whole(log) -> None:
    stored = read_label_sets(log)
    for loaded in load_tasks(["vehicles", "pedestrians"]):
        assert stored[loaded.name, 1] == loaded


@pytest.mark.parametrize("partition", [0, 1])
def test_tables_follow_starts_and_stops(log, partition: int) -> None:
    table = TaskTable(log, partition)
    assert names(table) == {"pedestrians": 1, "vehicles": 1}
    assert register(log, (task("trams", 3), *load_tasks(["vehicles"])), 2, "test") == 2 + 4
    assert names(table) == {"trams": 3, "vehicles": 1}
    assert names(TaskTable(log, partition)) == names(table)
    known = {item.name: item.key for item in table.refresh()}
    assert known["trams"] == task_key("trams", 3)
    assert table.names_by_key()[task_key("pedestrians", 1)] == "pedestrians"  # its packets are still in the archive


def test_a_new_version_replaces_the_old_one(log) -> None:
    register(log, (task("trams", 1),), 2, "test")
    table = TaskTable(log, 0)
    register(log, (task("trams", 2, (*LABEL_WORDS, "more")),), 2, "test")
    assert names(table) == {"trams": 2}
    assert len(table.refresh()[0].labels.labels) == 101


def test_a_changed_label_set_needs_a_new_version(log) -> None:
    register(log, (task("trams"),), 2, "test")
    with pytest.raises(InputError, match=r"other labels.*use a new version"):
        register(log, (task("trams", 1, (*LABEL_WORDS, "more")),), 2, "test")
    assert len(read_label_sets(log)["trams", 1].label_set.labels) == 100


def colliding() -> tuple[Task, Task]:
    seen: dict[int, str] = {}
    for number in range(100_000):
        name = f"task-{number}"
        key = task_key(name, 1)
        if key in seen:
            return task(seen[key]), task(name)
        seen[key] = name
    raise AssertionError("no two keys of 16 bits collide among 100,000")


def test_tasks_that_look_alike_in_packets_are_refused(log) -> None:
    one, two = colliding()
    with pytest.raises(InputError, match="have the same key"):
        refuse_collisions((one, two))
    register(log, (one,), 2, "test")
    with pytest.raises(InputError, match="have the same key"):  # also with one that is only in the archive
        register(log, (two,), 2, "test")


def test_unknown_and_doubled_tasks(tmp_path) -> None:
    with pytest.raises(InputError, match="unknown task 'bicycles'"):
        load_tasks(["vehicles", "bicycles"])
    words = "\n".join(f"  - thing {number}" for number in range(100))
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: vehicles\ndescription: mine\nlabels:\n{words}\n")
    with pytest.raises(InputError, match="configured twice"):
        load_tasks(["vehicles", str(path)])


@pytest.mark.parametrize(("field", "value"), [("description", "other words"), ("profile", "human")])
def test_nothing_of_a_version_changes(log, records, field: str, value: str) -> None:
    (loaded,) = load_tasks(["vehicles"])
    before = records(log, LABELS), records(log, TASKS)
    with pytest.raises(InputError, match=rf"vehicles/1: the log already has another record.*\(other {field}\)"):
        register(log, (dataclasses.replace(loaded, **{field: value}),), 2, "test")
    assert (records(log, LABELS), records(log, TASKS)) == before
    assert read_label_sets(log)["vehicles", 1] == loaded


def test_labels_of_an_earlier_release_are_known(log, records) -> None:
    """It wrote the label set itself under the task's name, where the pointer is now."""
    old = task("trams")
    for key in ("trams/1", "trams"):
        log.append(LABELS, key, encode(LabelSetMessage.of(old)))
    count = len(records(log, LABELS))
    register(log, (old,), 2, "test")
    assert len(records(log, LABELS)) == count
    assert names(TaskTable(log, 0)) == {"trams": 1}
