"""How many decoders: by rules alone, and replayed from what a real pool measured."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.pool_policy import Decision, PoolLoad, PoolMemory, PoolRules, decide

RULES = PoolRules(most=8, deadline_s=2.0, cold_start_s=1.0, idle_s=10.0, down_s=5.0)

RECORDED = Path(__file__).with_name("recorded_pool.jsonl")


def load(at_s: float = 0.0, **changes: float) -> PoolLoad:
    usual = {"waiting": 0, "oldest_s": 0.0, "arriving": 0.0, "service_s": 0.1, "ready": 0, "starting": 0}
    return PoolLoad(at_s=at_s, **(usual | changes))  # type: ignore[arg-type]


def follow(rules: PoolRules, loads: list[PoolLoad], memory: PoolMemory | None = None) -> list[Decision]:
    memory, found = memory or PoolMemory(), []
    for each in loads:
        decision, memory = decide(rules, each, memory)
        found.append(decision)
    return found


def test_nobody_asks_so_there_is_none_and_the_first_packet_starts_one() -> None:
    assert follow(RULES, [load(), load(5, waiting=1)]) == [Decision(0, "idle"), Decision(1, "catch up")]


def test_arrivals_decide_how_many_keep_up() -> None:
    # 30 a second, 0.1 s each: three processes' work, and 0.8 of a process is planned.
    decision, _ = decide(RULES, load(arriving=30.0, waiting=3, ready=4), PoolMemory(4))
    assert decision == Decision(4, "steady")
    decision, _ = decide(RULES, load(arriving=40.0, waiting=3, ready=4), PoolMemory(4))
    assert decision.workers == 5


def test_a_backlog_is_worked_off_before_the_deadline_and_a_start_costs_its_time() -> None:
    behind = load(waiting=100, oldest_s=0.0, ready=1)  # 10 s of work; one process does 2 s of it in time
    quick, _ = decide(replace(RULES, cold_start_s=0.0), behind, PoolMemory(1))
    slow, _ = decide(replace(RULES, cold_start_s=1.0), behind, PoolMemory(1))
    assert quick == Decision(5, "catch up")
    assert slow == Decision(8, "capped: most")  # (10 - 2) / (2 - 1) more: 9
    assert decide(replace(RULES, cold_start_s=1.0, most=99), behind, PoolMemory(1))[0] == Decision(9, "catch up")


def test_who_cannot_be_helped_in_time_does_not_start_the_whole_fleet() -> None:
    late = load(waiting=10, oldest_s=30.0, ready=1)
    assert decide(replace(RULES, most=99), late, PoolMemory(1))[0].workers == 1


def test_one_packet_is_work_for_one_process() -> None:
    slow = load(waiting=1, oldest_s=9.0, service_s=60.0, starting=1)
    assert decide(RULES, slow, PoolMemory(1))[0].workers == 1


def test_processes_that_are_starting_count() -> None:
    behind = load(waiting=100, ready=1, starting=8)
    assert decide(replace(RULES, most=99), behind, PoolMemory(9))[0].workers == 9


def test_a_lull_ends_nothing_and_a_long_one_ends_what_was_not_needed_in_it() -> None:
    loads = [load(t, arriving=16.0 if t == 4 else 2.0, waiting=1, ready=4) for t in range(1, 12)]
    found = follow(RULES, loads, PoolMemory(4))
    assert found[:5] == [Decision(4, "lull")] * 5
    assert found[5] == Decision(2, "drain")  # as many as it needed at 4 s
    assert found[6:] == [Decision(2, "lull")] * 5


def test_the_last_one_goes_for_being_idle_only_and_a_long_start_keeps_it_longer() -> None:
    loads = [load(0, arriving=1.0, ready=1)] + [load(t, ready=1) for t in range(1, 12)]
    found = follow(RULES, loads)
    assert [decision.workers for decision in found] == [1] * 10 + [0, 0]
    assert found[-2].reason == "idle"
    slow = follow(replace(RULES, cold_start_s=20.0, idle_s=10.0), [load(t, ready=1) for t in range(62)], PoolMemory(1))
    assert [decision.workers for decision in slow].index(0) == 60


@pytest.mark.parametrize(
    ("changes", "most", "reason"),
    [
        ({"most": 3}, 3, "capped: most"),
        ({"gpu_share": 0.5, "gpus": 1.5}, 3, "capped: gpus"),
        ({"gpu_share": 0.6, "gpus": 2.0}, 2, "capped: gpus"),
        ({"gpu_share": 0.6, "gpus": 1.2}, 1, "capped: gpus"),
        ({"gpu_share": 2.0, "gpus": 5.0}, 2, "capped: gpus"),
        ({"gpu_share": 0.1, "gpus": 0.3}, 3, "capped: gpus"),
        ({"price": 0.4, "budget": 2.0}, 5, "capped: budget"),
        ({"price": 3.0, "budget": 2.0}, 0, "capped: budget"),
    ],
)
def test_caps(changes: dict[str, float], most: int, reason: str) -> None:
    rules = replace(RULES, **changes)  # type: ignore[arg-type]
    decision, _ = decide(rules, load(waiting=500, arriving=300.0, ready=1), PoolMemory(1))
    assert decision == Decision(most, reason)  # type: ignore[arg-type]


def test_a_cap_that_was_lowered_ends_processes_at_once() -> None:
    decision, memory = decide(replace(RULES, most=2), load(arriving=60.0, waiting=9, ready=6), PoolMemory(6))
    assert (decision.workers, memory.workers) == (2, 2)


_LOADS = st.lists(
    st.builds(
        PoolLoad,
        at_s=st.floats(0, 5),
        waiting=st.integers(0, 500),
        oldest_s=st.floats(0, 100),
        arriving=st.floats(0, 200),
        service_s=st.floats(0.001, 5),
        ready=st.integers(0, 8),
        starting=st.integers(0, 8),
    ),
    min_size=1,
    max_size=30,
)


@given(_LOADS, st.integers(1, 8), st.floats(0, 20))
def test_whatever_is_measured_caps_hold_and_work_is_never_left_alone(
    steps: list[PoolLoad], most: int, cold_start_s: float
) -> None:
    rules, memory, at_s = replace(RULES, most=most, cold_start_s=cold_start_s), PoolMemory(), 0.0
    last_busy_s: float | None = None
    for step in steps:
        at_s += step.at_s
        decision, memory = decide(rules, replace(step, at_s=at_s), memory)
        busy = step.waiting > 0 or step.arriving > 0
        last_busy_s = at_s if busy else last_busy_s
        assert 0 <= decision.workers <= most
        assert decision.workers > 0 or not busy
        if decision.reason == "idle" and last_busy_s is not None:
            assert at_s - last_busy_s >= rules.idle_s
        assert memory.workers == decision.workers


def simulated(rules: PoolRules, arrivals: list[int], service_s: float) -> tuple[list[int], list[float]]:
    """A pool in steps of a quarter second: how many processes there are, and how late pictures come."""
    memory, queue, lateness, counts = PoolMemory(), list[float](), list[float](), list[int]()
    ready, starting, credit = 0, list[float](), 0.0
    for tick, count in enumerate(arrivals):
        now = tick * 0.25
        ready += sum(at <= now for at in starting)
        starting = [at for at in starting if at > now]
        queue += [now] * count
        credit = min(credit + ready * 0.25 / service_s, len(queue))
        for _ in range(int(credit)):
            lateness.append(now - queue.pop(0))
        credit -= int(credit)
        lately = arrivals[max(0, tick - 19) : tick + 1]
        arriving = sum(lately) / 5.0
        oldest = now - queue[0] if queue else 0.0
        seen = PoolLoad(now, len(queue), oldest, arriving, service_s, ready, len(starting))
        decision, memory = decide(rules, seen, memory)
        starting += [now + rules.cold_start_s] * max(0, decision.workers - ready - len(starting))
        ready = min(ready, decision.workers)
        counts.append(ready + len(starting))
    return counts, lateness


def test_a_day_in_the_life_from_none_to_many_to_none() -> None:
    trace = [0] * 20 + [5] * 120 + [20] * 120 + [5] * 120 + [0] * 100
    counts, lateness = simulated(replace(RULES, most=16), trace, 0.1)
    assert counts[:20] == [0] * 20
    assert max(counts) in range(8, 17)
    assert counts[-1] == 0
    assert sum(late <= RULES.deadline_s for late in lateness) >= 0.97 * len(lateness)
    changes = sum(before != after for before, after in itertools.pairwise(counts))
    assert changes <= 16, "it flaps"


def test_a_load_that_swings_does_not_make_it_flap() -> None:
    trace = ([10] * 8 + [1] * 8) * 30
    counts, _ = simulated(RULES, trace, 0.1)
    settled = counts[40:]
    assert sum(before != after for before, after in itertools.pairwise(settled)) <= 2


def test_decisions_of_a_real_pool_are_the_same_today() -> None:
    """Recorded by `python -m benchmarks.pools --record`: what it measured, and what was decided then."""
    first, *lines = map(json.loads, RECORDED.read_text().splitlines())
    rules, memory = PoolRules(**first["rules"]), PoolMemory()
    assert len(lines) > 50
    for line in lines:
        decision, memory = decide(rules, PoolLoad(**line["load"]), memory)
        assert decision == Decision(**line["decision"]), line
    reached = [line["decision"]["workers"] for line in lines]
    assert reached[0] == 0
    assert max(reached) >= 2
    assert reached[-1] == 0
