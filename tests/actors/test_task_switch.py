"""Tasks turned on and off while stages run."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from chat_server import GOOD_LABELS

from actors.encode import EncodeSettings, EncodeStage
from actors.registry import TaskTable, load_tasks, register
from actors.route import RouteStage
from actors.task_switch import (
    active_by_partition,
    added_tasks,
    ensure_topics,
    give_labels,
    switch_off,
    switch_on,
    task_facts,
)
from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import MAX_TASKS, parse_packet, task_key
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.types import Box, Image, InputError, LabelSet, Region, Task
from discover_stream.video.jpeg import encode_jpeg
from topics.catalogue import FRAMES, LABELS, REQUESTS, TASKS, CatalogueSettings, catalogue, task_topic
from topics.log import lag
from topics.messages import FrameMessage, encode
from topics.sqlite import SqliteLog

SETTINGS = CatalogueSettings(partitions=2)
VANS = Task("vans", "delivery vans", LabelSet("vans", 1, GOOD_LABELS))


def picture(seq: int) -> Image:
    image = np.full((48, 64, 3), 90, np.uint8)
    image[16:32, 16:32] = 200 + seq
    return image


def versions(log: SqliteLog) -> list[dict[str, int]]:
    return [{name: on.version for name, on in tasks.items()} for tasks in active_by_partition(log)]


def names(table: TaskTable) -> dict[str, int]:
    return {known.name: known.labels.version for known in table.refresh()}


def test_on_and_off_in_every_partition(log: SqliteLog, records) -> None:
    tables = [TaskTable(log, partition) for partition in (0, 1)]
    give_labels(log, VANS, "test")
    assert task_topic("vans") not in {spec.name for spec in log.topics()}
    assert switch_on(log, "vans", SETTINGS, "test") == 2
    assert task_topic("vans") in {spec.name for spec in log.topics()}
    for table in tables:
        assert names(table) == {"pedestrians": 1, "vans": 1, "vehicles": 1}
    count = len(records(log, TASKS)), len(records(log, REQUESTS))
    assert switch_on(log, "vans", SETTINGS, "test") == 0
    assert (len(records(log, TASKS)), len(records(log, REQUESTS))) == count  # nothing was written
    assert switch_off(log, "vans", "test") == 2
    for table in tables:
        assert names(table) == {"pedestrians": 1, "vehicles": 1}
    with pytest.raises(InputError, match="task vans is not on in this log; those that are: pedestrians, vehicles"):
        switch_off(log, "vans", "test")


def test_a_new_version_replaces_the_old_one(log: SqliteLog) -> None:
    give_labels(log, VANS, "test")
    switch_on(log, "vans", SETTINGS, "test")
    table = TaskTable(log, 1)
    assert names(table)["vans"] == 1
    more = dataclasses.replace(VANS, label_set=LabelSet("vans", 1, (*GOOD_LABELS, "tandem")))
    with pytest.raises(InputError, match="other labels, description or profile in this log, as version 1; --refresh"):
        give_labels(log, more, "test")
    assert give_labels(log, more, "test", refresh=True) == 2
    assert give_labels(log, more, "test", refresh=True) == 2  # the same again is not new
    assert switch_on(log, "vans", SETTINGS, "test") == 2
    assert names(table)["vans"] == 2


def test_a_task_without_labels_cannot_be_turned_on(log: SqliteLog) -> None:
    with pytest.raises(InputError, match="task vans has no labels in this log"):
        switch_on(log, "vans", SETTINGS, "test")
    assert all("vans" not in on for on in active_by_partition(log))


def test_labels_that_were_retired_cannot_be_turned_on(log: SqliteLog) -> None:
    """Stages could not read them, and would die."""
    give_labels(log, VANS, "test")
    log.append(LABELS, "vans/1", None)
    with pytest.raises(InputError, match="version 1, any more, and it was retired; --refresh"):
        switch_on(log, "vans", SETTINGS, "test")


def test_a_packet_names_only_so_many_tasks(log: SqliteLog) -> None:
    for number in range(MAX_TASKS - 2):
        task = dataclasses.replace(VANS, name=f"vans-{number}", label_set=LabelSet(f"vans-{number}", 1, GOOD_LABELS))
        give_labels(log, task, "test")
        switch_on(log, task.name, SETTINGS, "test")
    give_labels(log, VANS, "test")
    with pytest.raises(InputError, match=f"{MAX_TASKS} tasks are on already"):
        switch_on(log, "vans", SETTINGS, "test")


def test_a_system_refuses_more_tasks_than_a_packet_names(log: SqliteLog) -> None:
    give_labels(log, VANS, "test")
    switch_on(log, "vans", SETTINGS, "test")
    tasks = [
        dataclasses.replace(VANS, name=f"vans-{n}", label_set=LabelSet(f"vans-{n}", 1, GOOD_LABELS))
        for n in range(MAX_TASKS)
    ]
    with pytest.raises(InputError, match=f"{MAX_TASKS + 1} tasks are configured or were added"):
        register(log, tuple(tasks), 2, "a system")
    assert versions(log) == [{"pedestrians": 1, "vans": 1, "vehicles": 1}] * 2


def test_added_tasks_stay_on_when_a_system_starts(log: SqliteLog) -> None:
    give_labels(log, VANS, "test")
    switch_on(log, "vans", SETTINGS, "test")
    assert [task.name for task in added_tasks(log)] == ["vans"]
    assert added_tasks(log)[0].label_set.labels == GOOD_LABELS
    register(log, load_tasks(["vehicles"]), 2, "the next system")
    assert names(TaskTable(log, 0)) == {"vans": 1, "vehicles": 1}  # pedestrians are not listed any more
    switch_off(log, "vans", "test")
    assert added_tasks(log) == ()
    register(log, load_tasks(["vehicles"]), 2, "the one after")
    assert names(TaskTable(log, 0)) == {"vehicles": 1}


def test_what_a_configuration_lists_has_the_last_word(log: SqliteLog) -> None:
    task = dataclasses.replace(VANS, name="trams", label_set=LabelSet("trams", 1, GOOD_LABELS))
    give_labels(log, task, "test")
    switch_on(log, "trams", SETTINGS, "test")
    listed = dataclasses.replace(task, label_set=LabelSet("trams", 5, GOOD_LABELS))
    register(log, (listed,), 2, "a system")
    assert names(TaskTable(log, 0)) == {"trams": 5}


def test_deciders_wait_for_each_other(log: SqliteLog) -> None:
    """Every one of them fences the one before; none may be lost, and starting systems neither."""
    tasks = [
        dataclasses.replace(VANS, name=f"vans-{n}", label_set=LabelSet(f"vans-{n}", 1, GOOD_LABELS)) for n in range(8)
    ]
    errors: list[BaseException] = []

    def one(task: Task) -> None:
        try:
            give_labels(log, task, task.name)
            switch_on(log, task.name, SETTINGS, task.name)
            register(log, load_tasks(["vehicles"]), 2, task.name)
        except BaseException as error:  # handed to the test below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert versions(log) == [{"vehicles": 1} | {task.name: 1 for task in tasks}] * 2


def test_built_in_labels_keep_their_version(log: SqliteLog) -> None:
    everything = builtin_tasks()["everything"]
    assert give_labels(log, everything, "test", exact=True) == everything.label_set.version
    switch_on(log, "everything", SETTINGS, "test")
    assert register(log, (*load_tasks(["vehicles", "pedestrians", "everything"]),), 2, "a system") == 0


def test_a_log_of_an_earlier_release_gets_what_it_lacks(tmp_path) -> None:
    with SqliteLog(tmp_path / "old.db") as old:
        old.create_topics(spec for spec in catalogue((), CatalogueSettings(partitions=3)) if spec.name != REQUESTS)
        assert added_tasks(old) == ()
        assert task_facts(old) == ()
        assert ensure_topics(old, CatalogueSettings(partitions=7)).partitions == 3
        assert REQUESTS in {spec.name for spec in old.topics()}
        give_labels(old, VANS, "test")
        assert switch_on(old, "vans", CatalogueSettings(partitions=3), "test") == 3


def test_a_task_that_is_added_gets_packets_from_stages_that_run(log: SqliteLog) -> None:
    """Encode and route of one partition, in threads, are never restarted."""
    torch.set_num_threads(1)
    whole = Region(0, 0.9, Box(16.0, 16.0, 32.0, 32.0))

    def ground(images, label_sets):
        answer = [{labels.task: (whole,) for labels in label_sets} for _ in images]
        return lambda: answer

    def frame(seq: int) -> None:
        jpeg = encode_jpeg(picture(seq))
        message = FrameMessage(camera="gate", seq=seq, capture_ns=seq * 10**8, jpeg=jpeg)
        log.append(FRAMES, "gate", encode(message), partition=1)

    def routed(count: int) -> None:
        while lag(log, "stage:encode-1", FRAMES, [1])[1] or log.committed("stage:route-1", "archive", 1) != count:
            assert all(thread.is_alive() for thread in threads)
            threading.Event().wait(0.01)

    stages = [
        EncodeStage(log, 1, load_codec(), ground, EncodeSettings(quality=3, batch=2), "test"),
        RouteStage(log, 1, "test"),
    ]
    threads = [threading.Thread(target=stage.run) for stage in stages]
    for thread in threads:
        thread.start()
    try:
        frame(0)
        routed(1)
        give_labels(log, VANS, "test")
        switch_on(log, "vans", SETTINGS, "test")
        frame(1)
        routed(2)
        switch_off(log, "vans", "test")
        frame(2)
        routed(3)
    finally:
        for stage in stages:
            stage.stop()
        for thread in threads:
            thread.join()
    reader = log.reader(task_topic("vans"))
    packets = [parse_packet(item.value, camera="gate") for item in reader.poll()]
    assert [packet.seq for packet in packets] == [1]
    assert packets[0].tasks == (task_key("vans", 1),)
    assert packets[0].regions
