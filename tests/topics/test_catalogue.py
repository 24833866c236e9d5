from __future__ import annotations

import pytest

from discover_stream.types import InputError
from topics.catalogue import (
    ARCHIVE,
    CAMERAS,
    DEAD,
    FRAMES,
    INDEX,
    LABELS,
    PLATES,
    REQUESTS,
    STATE,
    STATUS,
    TASKS,
    CatalogueSettings,
    catalogue,
    task_topic,
)
from topics.checks import check_topic
from topics.log import Retention


def test_every_topic_is_usable_and_explained() -> None:
    specs = catalogue(["vehicles", "pedestrians", "vehicles"])
    for spec in specs:
        check_topic(spec)
        assert spec.purpose
        assert spec.keyed
    names = [spec.name for spec in specs]
    fixed = [FRAMES, ARCHIVE, INDEX, PLATES, STATE, LABELS, TASKS, REQUESTS, CAMERAS, STATUS, DEAD]
    assert sorted(names) == sorted([*fixed, "task.vehicles", "task.pedestrians"])


def test_topics_of_cameras_are_split_alike() -> None:
    specs = {spec.name: spec for spec in catalogue(["a"], CatalogueSettings(partitions=7))}
    assert {specs[name].partitions for name in (FRAMES, ARCHIVE, INDEX, PLATES, TASKS, DEAD, "task.a")} == {7}


def test_what_a_replay_needs_outlives_the_archive() -> None:
    specs = {spec.name: spec for spec in catalogue()}
    for name in (PLATES, LABELS, TASKS, REQUESTS, CAMERAS, STATUS):
        assert specs[name].retention.age_ns is None
        assert specs[name].retention.max_bytes is None
    assert {name for name, spec in specs.items() if spec.compacted} == {
        PLATES, LABELS, REQUESTS, STATE, CAMERAS, STATUS
    }  # fmt: skip


def test_what_somebody_waits_for_is_guarded() -> None:
    assert {spec.name for spec in catalogue(["a"]) if spec.guarded} == {FRAMES, ARCHIVE}


def test_the_time_index_outlives_what_it_points_to() -> None:
    specs = {spec.name: spec for spec in catalogue((), CatalogueSettings(archive=Retention(5, 7)))}
    assert specs[INDEX].retention == Retention(5 + 3600 * 10**9, None)
    specs = {spec.name: spec for spec in catalogue((), CatalogueSettings(archive=Retention(None, 7)))}
    assert specs[INDEX].retention == Retention(None, None)


@pytest.mark.parametrize("name", ["", "A", "a b", "a.b", "a_b", "é", "x" * 41, "a\n", "../x", "٣"])
def test_task_names_are_checked(name: str) -> None:
    with pytest.raises(InputError, match="task name"):
        task_topic(name)


def test_task_topics() -> None:
    assert task_topic("wrong-way-2") == "task.wrong-way-2"
    assert task_topic("x" * 40) == "task." + "x" * 40
