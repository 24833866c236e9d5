"""When a camera's plate changes, and how: decisions without pictures.

`background` measures what this module decides on. Times are in seconds, differences in grey levels of blurred
pictures, shifts in pixels of the picture, so the rules hold for any frame rate and size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from discover_stream.codec.plates import MAX_CHAIN


class PlateAction(Enum):
    """What happens to the plate."""

    KEEP = "keep"
    WHOLE = "whole"
    """A new one that stands alone."""
    CELLS = "cells"
    """Some cells are sent anew."""
    GATHER = "gather"
    """These, and all that changed since the last whole plate, on that plate: the chain begins again."""
    TONE = "tone"
    """The same picture in other light."""
    WARP = "warp"
    """The same picture from a camera that was nudged."""
    STILL = "still"
    """This is no fixed camera: code it in still mode."""


@dataclass(frozen=True, slots=True)
class PlateRules:
    """The thresholds.

    Attributes:
        drift: a cell differs from the plate from here on. The background that it is measured on follows a
            change after `background.Options.window / 2`, so what passes or waits for a moment is no drift.
        ghost: a cell that differs from here on seems to show something that is not there.
        haunted: between two changes because of such cells where objects move.
        pause: because of such cells elsewhere, and of others where objects move: what these are told from.
        rest: because of all other cells, which nobody looks at.
        many: share of cells that are rather sent as a whole plate.
        scene: share of the visible cells that differ at once where the scene is another one.
        scene_after: for how long they have to.
        tone: mean difference that another light explains and that is worth a tone.
        opened: between changes because an object has left and what was behind it is seen.
        tone_pause: between two tones.
        nudge: shift that is worth a warp.
        settle: for how long a shift has to stay the same within `steady` before it is a nudge.
        steady: pixels.
        shake: typical change of the shift within `settle` that no fixed camera has.
        shake_after: for how long.
        wholes: so many whole plates within `wholes_within` seconds: no plate serves this camera.
        wholes_within: see `wholes`.
        chain: partial plates in a row; one action may add two.
        coarser: by how much the quantizer of what no object covers is higher.
        budget: bits a pixel from which a whole plate is coded again, coarser still: trees and gravel are not worth it.
        most: by how much it is higher at most.
        coarsest: quantizer that nothing is sent with.
    """

    drift: float = 13.0
    ghost: float = 18.0
    haunted: float = 2.0
    pause: float = 4.0
    rest: float = 10.0
    many: float = 0.5
    scene: float = 0.6
    scene_after: float = 0.5
    tone: float = 7.0
    opened: float = 0.5
    tone_pause: float = 1.0
    nudge: float = 0.75
    settle: float = 0.5
    steady: float = 0.3
    shake: float = 0.75
    shake_after: float = 2.0
    wholes: int = 4
    wholes_within: float = 20.0
    chain: int = MAX_CHAIN - 1
    coarser: int = 7
    budget: float = 0.18
    most: int = 12
    coarsest: int = 60


@dataclass(frozen=True, slots=True)
class Look:
    """Where the camera looked in one frame, against the plate.

    Attributes:
        time: of the frame.
        x: shift to the right.
        y: shift down.
        sure: whether the shifted plate fits the frame better than it does where it is, or no shift was seen.
    """

    time: float
    x: float = 0.0
    y: float = 0.0
    sure: bool = True


@dataclass(frozen=True, slots=True)
class PlateView:
    """What is known of the plate when a frame has been looked at.

    Attributes:
        time: of the frame.
        changed: time of the last change of any kind; None without a plate.
        rested: time of the last change of cells in which nothing moves, or of the whole plate.
        mended: time of the last change of other cells that have changed, or of the whole plate.
        depth: of the plate in its chain.
        cells: of the picture.
        ghosts: cells in which the background differs from the plate by `PlateRules.ghost`, and objects move.
        stale: these, and cells that do one of both and differ from the plate.
        far: other cells that do.
        released: cells in which the plate shows what is leaving.
        differing: share of the visible cells that differ now, after tone.
        differing_since: time since when that share is above `PlateRules.scene`; None where it is not.
        tone: mean difference that a tone would take away.
        looks: at the last frames, oldest first.
        wholes: times of whole plates that new scenes forced.
        asked: a whole plate is asked for (a task starts).
        gathered: cells that changed since the last whole plate; None where it cannot be built on again.
    """

    time: float
    changed: float | None
    depth: int
    cells: int
    stale: int = 0
    ghosts: int = 0
    far: int = 0
    released: int = 0
    differing: float = 0.0
    differing_since: float | None = None
    tone: float = 0.0
    looks: tuple[Look, ...] = ()
    wholes: tuple[float, ...] = ()
    asked: bool = False
    rested: float = 0.0
    mended: float = 0.0
    gathered: int | None = None


@dataclass(frozen=True, slots=True)
class PlateDecision:
    """What to do with the plate, and why, in words."""

    action: PlateAction
    reason: str


def decide_plate(view: PlateView, rules: PlateRules) -> PlateDecision:
    """What happens to the plate in this frame: the first of the rules that holds."""
    if view.changed is None:
        return PlateDecision(PlateAction.WHOLE, "there is no plate yet")
    if view.asked:
        return PlateDecision(PlateAction.WHOLE, "a task starts and has no plate")
    moving = _moving(view, rules)
    if moving is not None:
        return PlateDecision(PlateAction.STILL, moving)
    if view.differing_since is not None and view.time - view.differing_since >= rules.scene_after - 1e-9:
        return PlateDecision(PlateAction.WHOLE, f"{100 * view.differing:.0f} % of the picture is another one")
    return _chained(view, _partial(view, view.time - view.changed, rules), rules)


def _chained(view: PlateView, partial: PlateDecision, rules: PlateRules) -> PlateDecision:
    """A partial change, or what is done in its place where the chain is at its end."""
    if view.depth < rules.chain or partial.action == PlateAction.KEEP:
        return partial
    few = view.gathered is not None and view.gathered + view.stale + view.released < rules.many * view.cells
    if partial.action == PlateAction.CELLS and few:
        return PlateDecision(PlateAction.GATHER, f"{partial.reason}, after {view.depth} changes in a row")
    return PlateDecision(PlateAction.WHOLE, f"{partial.reason}, and {view.depth} changes in a row are enough")


def _moving(view: PlateView, rules: PlateRules) -> str | None:
    """Why no plate serves this camera; None where one does."""
    shake = shaking(view.looks, rules)
    if shake is not None:
        return f"the camera is hand-held: its view moves by {shake / rules.settle:.1f} pixels a second"
    if sum(time > view.time - rules.wholes_within for time in view.wholes) >= rules.wholes:
        return f"{rules.wholes} new scenes in {rules.wholes_within:g} s"
    return None


def _partial(view: PlateView, since: float, rules: PlateRules) -> PlateDecision:
    if not view.released:  # what leaves or parks has to be right in this very packet; light and place can wait
        shift = nudged(view.looks, rules)
        if shift is not None:
            return PlateDecision(PlateAction.WARP, f"the camera was nudged by {math.hypot(*shift):.1f} pixels")
        if view.tone >= rules.tone and since >= rules.tone_pause:
            return PlateDecision(PlateAction.TONE, f"the light changed by {view.tone:.0f} grey levels")
    old = view.stale if waited(view, rules) else 0
    old += view.far if rests(view, rules) else 0
    if not old and not view.released:
        return PlateDecision(PlateAction.KEEP, "the plate holds")
    reason = f"{old} of {view.cells} cells have changed, {view.released} are uncovered"
    whole = old >= rules.many * view.cells
    return PlateDecision(PlateAction.WHOLE if whole else PlateAction.CELLS, reason)


STEP = 0.08
"""Share (natural logarithm) of a still's bytes that a step of the quantizer takes: 0.07 to 0.1 on streets."""


def within_budget(quantizer: int, fine: int, bits_per_pixel: float, rules: PlateRules) -> int:
    """The quantizer for a whole plate that takes so many bits with another one; the same where that is good enough.

    Args:
        quantizer: it was coded with.
        fine: that of objects on the plate.
        bits_per_pixel: that it took.
        rules: with the budget.
    """
    if bits_per_pixel <= rules.budget:
        return quantizer
    steps = math.ceil(math.log(bits_per_pixel / rules.budget) / STEP)
    return max(quantizer, min(quantizer + steps, fine + rules.most, rules.coarsest))


def waited(view: PlateView, rules: PlateRules) -> bool:
    """Whether cells that have changed where objects move, or visibly, are due."""
    assert view.changed is not None
    return view.time - view.mended >= (rules.haunted if view.ghosts else rules.pause)


def rests(view: PlateView, rules: PlateRules) -> bool:
    """Whether cells in which nothing moves are due: also long before, where they are as many as a new plate's."""
    return view.time - view.rested >= rules.rest or view.far >= rules.many * view.cells


def around(quantizer: int, rules: PlateRules) -> int:
    """The quantizer for what no object covers, where that of objects on the plate is another.

    A detector looks at parked cars and not at the trees behind them, which take most of a street's bytes.
    """
    return max(quantizer, min(quantizer + rules.coarser, rules.coarsest))


def nudged(looks: Sequence[Look], rules: PlateRules) -> tuple[float, float] | None:
    """The shift (right, down) of a camera that looks elsewhere since `settle` and stands still there; else None."""
    if not looks:
        return None
    recent = [look for look in looks if look.time > looks[-1].time - rules.settle - 1e-9]
    if looks[-1].time - looks[0].time < rules.settle or not all(look.sure for look in recent):
        return None
    xs, ys = [look.x for look in recent], [look.y for look in recent]
    if max(max(xs) - min(xs), max(ys) - min(ys)) > rules.steady:
        return None
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return (x, y) if math.hypot(x, y) >= rules.nudge else None


def shaking(looks: Sequence[Look], rules: PlateRules) -> float | None:
    """Pixels that the view of a hand-held camera typically moves in `settle` seconds; None for a fixed one.

    The median over all pairs of sure looks that are so far apart: one push, or a doubtful look, makes no hand-held
    camera.
    """
    sure = [look for look in looks if look.sure]
    if len(sure) < 8 or 3 * len(sure) < len(looks) or sure[-1].time - sure[0].time < rules.shake_after - 1e-9:
        return None
    apart = []
    for index, old in enumerate(sure):
        later = next((new for new in sure[index + 1 :] if new.time - old.time >= rules.settle - 1e-9), None)
        if later is not None:
            apart.append(math.hypot(later.x - old.x, later.y - old.y))
    typical = sorted(apart)[len(apart) // 2]
    return typical if typical >= rules.shake else None
