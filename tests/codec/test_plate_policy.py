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
    decide_plate,
    nudged,
    shaking,
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
    soon = replace(GOOD, changed=GOOD.time - RULES.pause / 2)
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
