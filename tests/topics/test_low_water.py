"""What may go: floors of guarded topics, plates and label sets that no packet names any more."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.types import LabelSet, Task
from topics.catalogue import ARCHIVE, FRAMES, LABELS, PLATES, TASKS, CatalogueSettings, catalogue, task_topic
from topics.immutable import ImmutableTable
from topics.log import Fenced, Log, Maintained, Stage
from topics.low_water import (
    Caretaker,
    PlateFact,
    TaskChange,
    floors,
    look_after,
    oldest_append_ns,
    retire,
    spent_label_sets,
    spent_plates,
)
from topics.messages import LabelSetMessage, PlateMessage, TaskRecord, encode
from topics.sqlite import SqliteLog

HOUR_NS = 3600 * 10**9


@pytest.fixture
def flow(log: Log) -> Log:
    """A log of any backend with the topics of a system of two partitions."""
    topics = catalogue(["trams"], CatalogueSettings(partitions=2))
    log.create_topics(spec for spec in topics if spec.name != "state")
    return log


# --- floors -------------------------------------------------------------------------------------------------


def test_floors_are_what_encoding_and_routing_have_done(flow: Log) -> None:
    assert floors(flow, 2) == {}
    with flow.stage("encode", 1, "a").transaction() as transaction:
        transaction.commit_offset(FRAMES, 1, 7)
    with flow.stage("route", 0, "a").transaction() as transaction:
        transaction.commit_offset(ARCHIVE, 0, 3)
    assert floors(flow, 2) == {(FRAMES, 1): 7, (ARCHIVE, 0): 3}


def test_frames_that_wait_outlive_their_age(flow: Log) -> None:
    offsets = [flow.append(FRAMES, "gate", b"%d" % number, partition=0) for number in range(4)]
    later = time.time_ns() + 1000 * HOUR_NS
    assert look_after(flow, 2, later).expired == 0
    with flow.stage("encode", 0, "a").transaction() as transaction:
        transaction.commit_offset(FRAMES, 0, offsets[3])
    assert look_after(flow, 2, later).expired == 3
    assert flow.bounds(FRAMES, 0).start == offsets[3]


# --- plates -------------------------------------------------------------------------------------------------


def fact(plate_id: int, at_ns: int, parent: int | None = None, camera: str = "gate") -> PlateFact:
    return PlateFact(camera, plate_id, parent, at_ns)


def test_a_plate_goes_once_everything_before_its_successor_is_gone() -> None:
    plates = [fact(0, 10), fact(1, 20), fact(2, 30)]
    for oldest, gone in ((10, []), (25, []), (26, [0]), (35, [0]), (36, [0, 1]), (10**9, [0, 1])):
        assert [plate.plate_id for plate in spent_plates(plates, oldest, 5)] == gone


def test_the_latest_plate_of_every_camera_stays() -> None:
    plates = [fact(0, 10), fact(3, 11, camera="yard"), fact(1, 12)]
    assert [plate.key for plate in spent_plates(plates, 10**9, 0)] == ["gate/0"]


def test_parents_stay_as_long_as_what_is_built_on_them() -> None:
    plates = [fact(0, 10), fact(1, 20, parent=0), fact(2, 30, parent=1), fact(3, 40), fact(4, 50, parent=3)]
    assert [p.plate_id for p in spent_plates(plates, 36, 5)] == []
    assert [p.plate_id for p in spent_plates(plates, 46, 5)] == [0, 1, 2]
    assert [p.plate_id for p in spent_plates(plates, 10**9, 5)] == [0, 1, 2]


plate_lists = st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 6)), max_size=8)


@given(plate_lists, st.integers(0, 60), st.integers(0, 5))
def test_no_plate_that_a_packet_may_name_is_ever_spent(steps, oldest: int, slack: int) -> None:
    plates, at_ns = [], 0
    for number, (step, back) in enumerate(steps):
        at_ns += step
        parent = number - 1 - back if back is not None and number - 1 - back >= 0 else None
        plates.append(fact(number, at_ns, parent))
    spent = {plate.plate_id for plate in spent_plates(plates, oldest, slack)}
    # A packet that was appended at t names the plate that was the latest then (or the one before, at the same time).
    for t in range(oldest, 400):
        for plate in plates:
            following = plates[plate.plate_id + 1 : plate.plate_id + 2]
            if plate.at_ns <= t and (not following or t <= following[0].at_ns + slack):
                needed: int | None = plate.plate_id
                while needed is not None:
                    assert needed not in spent
                    needed = plates[needed].parent


def plate(plate_id: int, parent: int | None = None) -> PlateMessage:
    return PlateMessage(
        camera="gate",
        plate_id=plate_id,
        parent=parent,
        capture_ns=0,
        first_seq=plate_id,
        codec="av1",
        width=8,
        height=8,
        data=b"x" * 9,
    )


def commit_plate(flow: Log, stage: Stage, table: ImmutableTable, message: PlateMessage) -> None:
    with stage.transaction() as transaction:
        table.publish(transaction, message)
        transaction.send(ARCHIVE, "gate", b"%d" % message.plate_id, partition=1)
    time.sleep(0.005)  # times are only promised to a millisecond


def test_plates_are_retired_as_the_archive_moves_on(flow: Log) -> None:
    table, stage = ImmutableTable(flow, PLATES, 1), flow.stage("encode", 1, "a")
    # Times of appending have milliseconds, and a plate's may be one before its packet's: commits are far enough apart.
    caretaker = Caretaker(flow, 2, slack_ns=250_000_000)
    for number in range(4):
        commit_plate(flow, stage, table, plate(number))
        time.sleep(0.5)
    held = flow.reader(ARCHIVE, [1])
    packets = []
    while len(packets) < 4:
        packets += held.poll(timeout_s=5)
    assert caretaker.retire() == 0, "every plate is named by a packet"
    flow.trim(ARCHIVE, 1, packets[2].offset)
    assert caretaker.retire() == 1, "the one before the oldest packet's may still be named by it"
    assert caretaker.retire() == 0
    assert sorted(version for _, version in table.versions()) == [1, 2, 3]
    assert table.read_latest(PlateMessage, "gate") == plate(3)
    flow.trim(ARCHIVE, 1, flow.bounds(ARCHIVE, 1).end)
    assert retire(flow, 2, time.time_ns() + 2 * HOUR_NS) == 2
    assert sorted(version for _, version in table.versions()) == [3]


def test_a_damaged_plate_is_told_and_ends_nothing(flow: Log) -> None:
    told: list[str] = []
    table, stage = ImmutableTable(flow, PLATES, 1), flow.stage("encode", 1, "a")
    with closing(Caretaker(flow, 2, tell=told.append)) as caretaker:
        commit_plate(flow, stage, table, plate(0))
        flow.append(PLATES, "gate/1", b"what a broken disk left", partition=1)
        assert caretaker.retire() == 0
        assert caretaker.retire() == 0
    (line,) = told
    assert "plate gate/1, offset" in line


def test_young_plates_stay_where_the_archive_is_empty(flow: Log) -> None:
    table, stage = ImmutableTable(flow, PLATES, 1), flow.stage("encode", 1, "a")
    commit_plate(flow, stage, table, plate(0))
    commit_plate(flow, stage, table, plate(1))
    flow.trim(ARCHIVE, 1, flow.bounds(ARCHIVE, 1).end)
    assert retire(flow, 2) == 0


# --- label sets ---------------------------------------------------------------------------------------------


def change(version: int, start: bool, at_ns: int, partition: int = 0, task: str = "trams") -> TaskChange:
    return TaskChange(partition, task, version, start, at_ns)


KNOWN = {("trams", 1), ("trams", 2)}
LATEST = {"trams": 2}


def spent(changes: list[TaskChange], oldest: int) -> tuple[tuple[str, int], ...]:
    times = {("trams", partition): oldest for partition in range(2)}
    return spent_label_sets(KNOWN, LATEST, changes, times, 5)


def test_a_label_set_goes_once_everything_from_its_time_is_gone() -> None:
    changes = [change(1, True, 10), change(1, False, 20), change(2, True, 20)]
    assert spent(changes, 25) == ()
    assert spent(changes, 26) == (("trams", 1),)


def test_label_sets_that_are_on_or_were_never_on_or_are_the_latest_stay() -> None:
    assert spent([change(1, True, 10)], 10**9) == ()
    assert spent([], 10**9) == ()
    assert spent([change(2, True, 1), change(2, False, 2)], 10**9) == ()
    assert spent([change(1, True, 10), change(1, False, 20), change(1, True, 30)], 10**9) == ()


def test_a_label_set_stays_until_it_is_over_in_every_partition() -> None:
    first = [change(1, True, 10, 0), change(1, True, 10, 1), change(1, False, 20, 0)]
    assert spent(first, 10**9) == ()
    over = [*first, change(1, False, 50, 1)]
    assert spent(over, 55) == ()
    assert spent(over, 56) == (("trams", 1),)


def test_the_start_of_another_version_ends_one() -> None:
    assert spent([change(1, True, 10), change(2, True, 20)], 26) == (("trams", 1),)


def labels(version: int) -> LabelSetMessage:
    return LabelSetMessage.of(Task("trams", "all", LabelSet("trams", version, ("tram", f"kind {version}"))))


def switch(flow: Log, version: int, action: str) -> None:
    record = TaskRecord(task="trams", version=version, action=action, at_ns=0)  # type: ignore[arg-type]
    for partition in range(2):
        flow.append(TASKS, "trams", encode(record), partition=partition)


def known_versions(flow: Log) -> set[int]:
    return {version for _, version in ImmutableTable(flow, LABELS).versions()}


def test_label_sets_are_retired_as_archive_and_task_topic_move_on(flow: Log) -> None:
    table = ImmutableTable(flow, LABELS, 0)
    with flow.stage("registry", 0, "a").transaction() as transaction:
        table.publish(transaction, labels(1))
        table.publish(transaction, labels(2))
    switch(flow, 1, "start")
    flow.append(ARCHIVE, "gate", b"names 1", partition=0)
    flow.append(task_topic("trams"), "gate", b"names 1", partition=0)
    time.sleep(0.005)
    switch(flow, 1, "stop")
    switch(flow, 2, "start")
    time.sleep(0.005)
    caretaker = Caretaker(flow, 2, slack_ns=0)
    assert caretaker.retire() == 0
    flow.trim(ARCHIVE, 0, flow.bounds(ARCHIVE, 0).end)
    assert caretaker.retire() == 0, "a subscriber may still read a packet that names it"
    flow.trim(task_topic("trams"), 0, flow.bounds(task_topic("trams"), 0).end)
    assert Caretaker(flow, 2).retire() == 0, "it has only just ended"
    assert caretaker.retire() == 1
    assert known_versions(flow) == {2}
    assert caretaker.retire() == 0


def test_a_registry_that_comes_in_between_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue(["trams"], CatalogueSettings(partitions=2)))
        table = ImmutableTable(log, LABELS, 0)
        with log.stage("registry", 0, "a").transaction() as transaction:
            table.publish(transaction, labels(1))
            table.publish(transaction, labels(2))
        for action in ("start", "stop"):
            switch(log, 1, action)
        acquire = log.stage

        def and_then_the_registry(name: str, partition: int, owner: str) -> Stage:
            stage = acquire(name, partition, owner)
            acquire(name, partition, "registry")
            return stage  # type: ignore[return-value]

        caretaker = Caretaker(log, 2, slack_ns=-HOUR_NS)
        monkeypatch.setattr(log, "stage", and_then_the_registry)
        assert caretaker.retire() == 0
        monkeypatch.setattr(log, "stage", acquire)
        assert known_versions(log) == {1, 2}
        stale = acquire("registry", 0, "registry")
        assert caretaker.retire() == 1
        with pytest.raises(Fenced), stale.transaction():
            pass


# --- the whole round ----------------------------------------------------------------------------------------


def test_an_empty_log_needs_nothing(flow: Log) -> None:
    assert look_after(flow, 2) == Maintained()


def test_the_oldest_record(flow: Log) -> None:
    assert oldest_append_ns(flow, ARCHIVE, 0, 77) == 77
    before = time.time_ns()
    offset = flow.append(ARCHIVE, "gate", b"1", partition=0)
    time.sleep(0.005)
    flow.append(ARCHIVE, "gate", b"2", partition=0)
    first = oldest_append_ns(flow, ARCHIVE, 0, 77)
    assert before - 10**6 <= first <= time.time_ns()
    flow.trim(ARCHIVE, 0, offset + 1)
    assert oldest_append_ns(flow, ARCHIVE, 0, 77) > first


def test_one_round_leaves_no_reader_open(flow: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    closed: list[object] = []
    make = flow.reader

    def reader(*arguments, **options):
        one = make(*arguments, **options)
        made.append(one)
        close = one.close
        monkeypatch.setattr(one, "close", lambda: (closed.append(one), close()))
        return one

    monkeypatch.setattr(flow, "reader", reader)
    look_after(flow, 2)
    retire(flow, 2)
    assert made
    assert {id(one) for one in closed} == {id(one) for one in made}
