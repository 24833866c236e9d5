from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.plate_policy import (
    Look,
    PlateAction,
    PlateRules,
    PlateView,
    around,
    decide_plate,
    nudged,
    shaking,
    within_budget,
)

RULES = PlateRules()
GOOD = PlateView(time=100.0, changed=90.0, depth=0, cells=1000, looks=(Look(99.9), Look(100.0)))


def looks(*places: tuple[float, float], sure: bool = True, fps: float = 10.0) -> tuple[Look, ...]:
    return tuple(Look(index / fps, x, y, sure) for index, (x, y) in enumerate(places))


def action(view: PlateView) -> PlateAction:
    return decide_plate(view, RULES).action


def test_the_first_frame_becomes_a_plate() -> None:
    assert action(replace(GOOD, changed=None)) == PlateAction.WHOLE


def test_a_plate_that_holds_is_kept() -> None:
    assert action(GOOD) == PlateAction.KEEP


def test_a_task_that_starts_gets_a_plate_that_stands_alone() -> None:
    assert action(replace(GOOD, asked=True)) == PlateAction.WHOLE


@pytest.mark.parametrize(
    ("stale", "expected"), [(1, PlateAction.CELLS), (499, PlateAction.CELLS), (500, PlateAction.WHOLE)]
)
def test_changed_cells_are_sent_and_many_as_a_whole_plate(stale: int, expected: PlateAction) -> None:
    assert action(replace(GOOD, stale=stale)) == expected


def test_changed_cells_wait_but_what_leaves_does_not() -> None:
    soon = replace(GOOD, changed=GOOD.time - RULES.pause / 2, mended=GOOD.time - RULES.pause / 2)
    assert action(replace(soon, stale=700)) == PlateAction.KEEP
    assert action(replace(soon, released=4)) == PlateAction.CELLS
    assert action(replace(soon, stale=700, released=4)) == PlateAction.CELLS


@given(st.sampled_from([{"stale": 3}, {"released": 3}, {"tone": 20.0}, {"looks": looks(*[(4.0, 0.0)] * 12)}]))
def test_a_chain_is_never_longer_than_the_format_has_it(change: dict[str, object]) -> None:
    due = replace(GOOD, **change)  # type: ignore[arg-type]
    assert action(due) not in (PlateAction.KEEP, PlateAction.WHOLE)
    assert action(replace(due, depth=RULES.chain)) == PlateAction.WHOLE
    assert action(replace(GOOD, depth=RULES.chain)) == PlateAction.KEEP


def test_other_light_is_a_tone_and_not_too_often() -> None:
    assert action(replace(GOOD, tone=RULES.tone)) == PlateAction.TONE
    assert action(replace(GOOD, tone=RULES.tone - 0.1)) == PlateAction.KEEP
    assert action(replace(GOOD, tone=50.0, changed=GOOD.time - RULES.tone_pause / 2)) == PlateAction.KEEP


def test_another_scene_has_to_last() -> None:
    since = GOOD.time - RULES.scene_after
    assert action(replace(GOOD, differing=0.9, differing_since=since)) == PlateAction.WHOLE
    assert action(replace(GOOD, differing=0.9, differing_since=since + 0.2)) == PlateAction.KEEP


def test_scenes_that_keep_changing_are_no_fixed_camera() -> None:
    times = tuple(GOOD.time - 1 - index for index in range(RULES.wholes))
    decision = decide_plate(replace(GOOD, wholes=times), RULES)
    assert decision.action == PlateAction.STILL
    assert "scenes" in decision.reason
    assert action(replace(GOOD, wholes=tuple(time - 30 for time in times))) == PlateAction.KEEP


def test_a_nudge_is_a_shift_that_stays() -> None:
    assert nudged(looks(*[(0.0, 0.0)] * 5, *[(3.0, -1.0)] * 7), RULES) == pytest.approx((3.0, -1.0))
    assert nudged(looks(*[(0.0, 0.0)] * 9, *[(3.0, -1.0)] * 2), RULES) is None
    assert nudged(looks(*[(0.2, 0.1)] * 12), RULES) is None
    assert nudged(looks(*[(3.0, 0.0)] * 12, sure=False), RULES) is None
    assert nudged((), RULES) is None


def test_a_nudge_is_a_warp() -> None:
    assert action(replace(GOOD, looks=looks(*[(0.0, 0.0)] * 5, *[(3.0, -1.0)] * 7))) == PlateAction.WARP


def test_a_hand_held_camera_is_told_from_a_push() -> None:
    wandering = [(0.3 * index, 0.1 * index) for index in range(25)]
    assert shaking(looks(*wandering), RULES) is not None
    assert shaking(looks(*[(0.0, 0.0)] * 12, *[(9.0, 5.0)] * 13), RULES) is None
    assert shaking(looks(*wandering[:10]), RULES) is None
    assert shaking(looks(*wandering, sure=False), RULES) is None
    decision = decide_plate(replace(GOOD, looks=looks(*wandering)), RULES)
    assert decision.action == PlateAction.STILL
    assert "hand-held" in decision.reason


def test_ghosts_hurry_and_what_nobody_looks_at_waits() -> None:
    def due(since: float, **cells: int) -> bool:
        when = GOOD.time - since
        view = replace(GOOD, changed=when, rested=when, mended=when, **cells)
        return action(view) == PlateAction.CELLS

    assert [due(RULES.haunted, **cells) for cells in ({"stale": 2, "ghosts": 2}, {"stale": 2}, {"far": 2})] == [
        True, False, False,
    ]  # fmt: skip
    assert due(RULES.pause, stale=2)
    assert not due(RULES.pause, far=2)
    assert due(RULES.rest, far=2)
    assert action(replace(GOOD, changed=GOOD.time - 9, rested=GOOD.time - 9, far=600)) == PlateAction.WHOLE


def test_what_no_object_covers_is_coarser_and_never_finer() -> None:
    assert around(20, RULES) == 20 + RULES.coarser
    assert around(RULES.coarsest - 1, RULES) == RULES.coarsest
    assert around(63, RULES) == 63


@given(st.sampled_from([{"tone": 20.0}, {"looks": looks(*[(4.0, 0.0)] * 12)}]))
def test_what_leaves_or_parks_does_not_wait_for_light_or_a_nudge(change: dict[str, object]) -> None:
    """Its track says in this packet that the plate shows it: a mere tone would lose it, or leave a ghost."""
    due = replace(GOOD, released=3, **change)  # type: ignore[arg-type]
    assert action(due) == PlateAction.CELLS
    assert action(replace(due, released=0)) in (PlateAction.TONE, PlateAction.WARP)


def test_a_plate_of_trees_is_coded_again_until_it_is_within_its_budget_or_coarse_enough() -> None:
    assert within_budget(46, 39, RULES.budget, RULES) == 46
    assert 46 < within_budget(46, 39, 1.2 * RULES.budget, RULES) <= 49
    assert within_budget(46, 39, 9 * RULES.budget, RULES) == 39 + RULES.most
    assert within_budget(58, 55, 9 * RULES.budget, RULES) == RULES.coarsest
    assert within_budget(63, 63, 9 * RULES.budget, RULES) == 63


def test_at_the_end_of_a_chain_few_changed_cells_go_on_the_last_whole_plate() -> None:
    due = replace(GOOD, depth=RULES.chain, released=3)
    assert action(replace(due, gathered=40)) == PlateAction.GATHER
    assert action(replace(due, gathered=498)) == PlateAction.WHOLE
    assert action(replace(due, gathered=None)) == PlateAction.WHOLE
    assert action(replace(due, released=0, tone=20.0, gathered=40)) == PlateAction.WHOLE
    assert action(replace(due, depth=RULES.chain - 1, gathered=40)) == PlateAction.CELLS
