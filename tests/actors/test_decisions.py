from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.decisions import (
    LONGEST_DELAY_S,
    MAX_DEATHS,
    Care,
    Running,
    StagePlan,
    active_tasks,
    admit,
    after_error,
    deaths_in_a_row,
    grounding_due,
    is_idle,
    is_live,
    key_collisions,
    plan_stages,
    policy_of,
    restart_delay_s,
    stream_kbps,
    stride,
    task_changes,
    to_be_buried,
)
from discover_stream.types import TaskOptions
from topics.messages import TaskRecord
from topics.partitioner import partition_for

NAMES = st.lists(st.text("abcdefgh-", min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


@given(NAMES, st.integers(1, 8), st.randoms())
def test_a_cameras_partition_depends_on_nothing_but_its_name(names: list[str], partitions: int, random) -> None:
    plans = plan_stages(names, partitions, [])
    homes = {plan.camera: plan.partition for plan in plans if plan.kind == "ingest"}
    assert homes == {name: partition_for(name, partitions) for name in names}
    random.shuffle(names)
    assert sorted(map(repr, plan_stages(names, partitions, []))) == sorted(map(repr, plans))
    for kind in ("encode", "route"):
        assert [plan.partition for plan in plans if plan.kind == kind] == sorted(set(homes.values()))


def test_what_a_removed_camera_left_behind_is_finished() -> None:
    kinds = [(plan.kind, plan.partition) for plan in plan_stages(["road-east"], 4, [3])]
    assert kinds == [("ingest", 0), ("encode", 0), ("encode", 3), ("route", 0), ("route", 3)]


@given(NAMES, st.integers(1, 8))
def test_no_two_stages_share_a_transactional_id(names: list[str], partitions: int) -> None:
    plans = plan_stages(names, partitions, range(partitions))
    assert len({plan.identity for plan in plans}) == len(plans)
    assert StagePlan("encode", 3).identity == "encode-3"


def test_restarts_come_later_and_later_and_start_afresh_after_a_good_minute() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(1, 200)]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == LONGEST_DELAY_S
    assert deaths_in_a_row(4, ran_s=2.0) == 5
    assert deaths_in_a_row(4, ran_s=600.0) == 1


@pytest.mark.parametrize(
    ("kind", "ending", "live", "verdict"),
    [
        ("encode", "fenced", False, "stop"),
        ("ingest", "fenced", True, "stop"),
        ("ingest", "input", False, "fail"),
        ("ingest", "input", True, "retry"),
        ("ground", "input", False, "stop"),
        ("encode", "death", False, "retry"),
        ("ingest", "other", False, "retry"),
    ],
)
def test_what_follows_an_error(kind: str, ending, live: bool, verdict: str) -> None:
    assert after_error(kind, ending, live) == verdict


def test_idle_means_no_source_and_no_lag_anywhere() -> None:
    assert is_idle([True, True], [0, 0], [0, 0])
    assert not is_idle([True, False], [0], [0])
    assert not is_idle([True], [0, 1], [0])
    assert not is_idle([True], [0], [2])


def test_the_third_death_is_the_last() -> None:
    assert [to_be_buried(attempts) for attempts in (1, 2, 3, 4)] == [False, False, False, True]


class Death(Exception):
    """A process is gone."""


@dataclass
class Partition:
    """A stage's input and what a log keeps of its work, with processes that die at it.

    `eager` stages touch all that a batch holds before they commit its first record, as one that asks ahead
    does; others touch and commit record by record. Both commit one by one.
    """

    killers: set[int]
    count: int
    in_hand: int
    eager: bool
    kills: list[int]
    done: list[int] = field(default_factory=list)
    buried: dict[int, int] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    died: Counter[int] = field(default_factory=Counter)
    steps: int = 0

    def touch(self, record: int) -> None:
        self.steps += 1
        if self.steps in self.kills:
            raise Death
        if record in self.killers:
            self.died[record] += 1
            raise Death

    def commit(self, record: int) -> None:
        self.done.append(record)
        self.attempts.pop(record, None)

    def run(self) -> None:
        care = Care(self.in_hand)
        while (first := len(self.done)) < self.count:
            if care.needed:
                self.attempts[first] += 1
                if to_be_buried(self.attempts[first]):
                    self.buried[first] = self.attempts[first] - 1
                else:
                    self.touch(first)
                self.commit(first)
                care = care.after(1)
                continue
            batch = range(first, min(self.count, first + self.in_hand))
            for record in batch if self.eager else ():
                self.touch(record)
            for record in batch:
                if not self.eager:
                    self.touch(record)
                self.commit(record)

    def run_to_the_end(self) -> int:
        deaths = 0
        while len(self.done) < self.count:
            try:
                self.run()
            except Death:
                deaths += 1
        return deaths


@given(
    killers=st.sets(st.integers(0, 39), max_size=8),
    in_hand=st.integers(1, 12),
    eager=st.booleans(),
    kills=st.lists(st.integers(1, 80), max_size=2),
)
def test_the_third_death_of_its_own_buries_a_record_wherever_it_lies(
    killers: set[int], in_hand: int, eager: bool, kills: list[int]
) -> None:
    partition = Partition(killers, 40, in_hand, eager, kills)
    deaths = partition.run_to_the_end()
    assert partition.done == list(range(40))  # each once, in order, buried or not
    assert set(partition.buried) == killers  # two deaths from outside bury nobody else
    assert all(count == MAX_DEATHS for count in partition.buried.values())
    # Besides the three, a killer may have taken a run down that worked on many at once, and counted nothing.
    assert all(count <= MAX_DEATHS + 1 for count in partition.died.values())
    assert deaths <= len(killers) * (MAX_DEATHS + 1) + len(kills)
    assert partition.attempts.total() == 0


def test_care_ends_and_begins_anew_with_every_run() -> None:
    care = Care(3)
    needed = []
    for _ in range(5):
        needed.append(care.needed)
        care = care.after(1)
    assert needed == [True, True, True, False, False]
    assert Care(3).needed


@pytest.mark.parametrize(
    ("setting", "live", "policy"),
    [
        ("auto", True, "drop-oldest"),
        ("auto", False, "wait"),
        ("wait", True, "wait"),
        ("drop-latest", False, "drop-latest"),
        ("adaptive", False, "adaptive"),
    ],
)
def test_policies(setting: str, live: bool, policy: str) -> None:
    assert policy_of(setting, live) == policy


@pytest.mark.parametrize(
    ("lag", "policy", "verdict"),
    [
        (9, "drop-oldest", "take"),
        (10, "drop-oldest", "hold"),
        (10, "drop-latest", "drop"),
        (99, "wait", "wait"),
        (4, "adaptive", "take"),
        (5, "adaptive", "thin"),
        (10, "adaptive", "drop"),
    ],
)
def test_frames_that_come_too_fast(lag: int, policy, verdict: str) -> None:
    assert admit(lag, 10, policy, 7) == verdict


@given(st.integers(1, 1000), st.integers(0, 2000))
def test_an_adaptive_camera_takes_fewer_the_further_behind(max_lag: int, lag: int) -> None:
    assert 1 <= stride(lag, max_lag) <= stride(lag + 1, max_lag) <= 8
    assert (stride(lag, max_lag) == 1) == (lag < max_lag // 2)
    if lag < max_lag:  # of any eight in a row, at least one is taken
        assert "take" in {admit(lag, max_lag, "adaptive", seq) for seq in range(13, 21)}


def test_live_addresses() -> None:
    assert is_live("RTSP://host/x")
    assert is_live("https://host/x.m3u8")
    assert not is_live("sim://road")
    assert not is_live("/data/http.mp4")


OPTIONS = st.builds(TaskOptions, st.sampled_from(["pixels", "regions"]), st.booleans())
TASKS_ON = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.builds(Running, st.integers(1, 3), OPTIONS))


@given(TASKS_ON, TASKS_ON)
def test_changes_lead_to_what_is_wanted_and_then_stop(active: dict[str, Running], wanted: dict[str, Running]) -> None:
    history = task_changes({}, active, 0)
    changes = task_changes(active, wanted, 1)
    assert active_tasks([*history, *changes]) == wanted
    assert task_changes(wanted, wanted, 2) == ()


def test_another_delivery_stops_nothing() -> None:
    before, after = {"a": Running(1)}, {"a": Running(1, TaskOptions("regions", tags=True))}
    (change,) = task_changes(before, after, 5)
    assert (change.action, change.deliver, change.tags) == ("start", "regions", True)


def test_every_nth_frame_is_grounded_also_where_frames_are_missing() -> None:
    last, grounded = None, []
    for seq in (7, 8, 9, 10, 11, 15, 16, 30, 2, 3, 4, 5):  # the camera began anew at 2
        if grounding_due(last, seq, 3):
            grounded.append(seq)
            last = seq
    assert grounded == [7, 10, 15, 30, 2, 5]
    assert all(grounding_due(seq - 1, seq, 1) for seq in range(1, 4))


def test_a_stop_of_another_version_changes_nothing() -> None:
    records = [
        TaskRecord(task="a", version=2, action="start", at_ns=0),
        TaskRecord(task="a", version=1, action="stop", at_ns=1),
    ]
    assert active_tasks(records) == {"a": Running(2)}


def test_equal_keys_are_found() -> None:
    assert key_collisions({("a", 1): 7, ("b", 1): 8}) is None
    assert key_collisions({("a", 1): 7, ("b", 1): 8, ("c", 2): 7}) == (("a", 1), ("c", 2))


def test_rate_is_of_stream_time() -> None:
    # 11 packets 0.1 s apart last 1.1 s.
    assert stream_kbps(1375, 11, 0, 10**9) == pytest.approx(10.0)
    assert stream_kbps(1000, 1, 5, 5) == 0.0
