"""Whether a camera still shows what it is to show: frozen, black, covered, defocused or moved, from cheap figures.

A `PictureWatch` looks at a small copy of a picture about twice a second of capture time and measures a few numbers
against a slow reference of the same camera (`Figures`). What these numbers mean is `kind_of`, what becomes of a
camera's state is `after`: pure functions, with hysteresis twice. A kind is believed after it was seen without a break
for a while, so a truck in front of the lens is none, and it ends only beyond a looser bound, so that nothing flickers.

The reference follows the camera over minutes (day, night, weather) while all is well. Another view that stays for
`Rules.accept_s` was meant: it becomes the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from discover_stream.types import Image

Kind = Literal["unknown", "ok", "frozen", "black", "covered", "defocused", "moved"]

_SIZE = (320, 180)
_EDGES = (40, 23)


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds. Brightness is in levels of 0 to 255, times are in seconds of capture time.

    Attributes:
        every_s: time between two looks.
        learn_s: how long a camera is `unknown` until there is a reference.
        hold_s, freeze_s, leave_s: how long a fault, frozen pictures, and their end have to be seen to be believed.
        still: mean change of a picture from which on it is not frozen.
        dark, flat: mean and spread below which a picture is black; a spread below `flat` alone is covered.
        dull: part of the reference's spread and sharpness below which a picture is covered.
        blurred: part of the reference's sharpness, relative to the spread, below which it is defocused.
        unlike: correlation with the reference's edges below which the camera was moved.
        slack: factor by which the bounds widen for a fault that is believed already.
        follow_s: time in which the reference follows the camera.
        accept_s: how long another view has to stay to become the reference.
    """

    every_s: float = 0.5
    learn_s: float = 5.0
    hold_s: float = 5.0
    freeze_s: float = 10.0
    leave_s: float = 3.0
    still: float = 0.01
    dark: float = 16.0
    flat: float = 4.0
    dull: float = 0.25
    blurred: float = 0.45
    unlike: float = 0.4
    slack: float = 1.3
    follow_s: float = 120.0
    accept_s: float = 600.0


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Figures:
    """What is measured of one picture: mean and spread of brightness, mean gradient, mean change to the picture
    before (None for the first), and against the reference (None while there is none): its spread and gradient, and
    the correlation of both edge maps."""

    light: float
    spread: float
    sharpness: float
    change: float | None = None
    usual_spread: float | None = None
    usual_sharpness: float | None = None
    likeness: float | None = None


@dataclass(frozen=True, slots=True)
class PictureState:
    """What a camera's picture is believed to be, since which capture time, and what it may be instead (`seen`, since
    `seen_ns`) but is not believed yet."""

    kind: Kind = "unknown"
    since_ns: int | None = None
    seen: Kind | None = None
    seen_ns: int = 0


def kind_of(figures: Figures, believed: Kind, rules: Rules = RULES) -> Kind:
    """What a picture looks like by itself; `believed` is what its camera's pictures are taken for so far."""

    def bound(kind: Kind, value: float) -> float:
        return value * (rules.slack if kind == believed else 1.0)

    flat: tuple[tuple[Kind, bool], ...] = (
        # First, also for one that froze while it was black: nothing comes any more.
        ("frozen", figures.change is not None and figures.change < bound("frozen", rules.still)),
        ("black", figures.light < bound("black", rules.dark) and figures.spread < bound("black", rules.flat)),
        ("covered", figures.spread < bound("covered", rules.flat)),
        ("unknown", figures.likeness is None),
    )
    kind = next((kind for kind, found in flat if found), None)
    if kind is not None:
        return kind
    spread = figures.spread / max(figures.usual_spread or 0.0, 1e-6)
    sharpness = figures.sharpness / max(figures.usual_sharpness or 0.0, 1e-6)
    against: tuple[tuple[Kind, bool], ...] = (
        ("covered", max(spread, sharpness) < bound("covered", rules.dull)),
        ("defocused", sharpness < min(1.0, spread) * bound("defocused", rules.blurred)),
        ("moved", (figures.likeness or 0.0) < bound("moved", rules.unlike)),
    )
    return next((kind for kind, found in against if found), "ok")


def after(state: PictureState, seen: Kind, at_ns: int, rules: Rules = RULES) -> PictureState:
    """A camera's state once a picture that looks like `seen` was captured at `at_ns`."""
    if seen == state.kind:
        return replace(state, seen=None)
    if state.seen != seen or at_ns < state.seen_ns:
        return replace(state, seen=seen, seen_ns=at_ns)
    wait_s = rules.freeze_s if seen == "frozen" else rules.leave_s if seen in ("ok", "unknown") else rules.hold_s
    if at_ns - state.seen_ns < wait_s * 1e9:
        return state
    return PictureState(seen, state.seen_ns)


class PictureWatch:
    """Follows the pictures of one camera. For one thread; `state` may be read by all."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self._looked_ns: int | None = None
        self._began_ns: int | None = None
        self._before: NDArray[np.uint8] | None = None
        self._edges: NDArray[np.float32] | None = None
        self._spread = self._sharpness = 0.0
        self.state = PictureState()

    def see(self, image: Image, capture_ns: int) -> PictureState:
        """Look at a picture, (H, W, 3) uint8 RGB, if one is due; the camera's state after it."""
        if self._looked_ns is not None and 0 <= capture_ns - self._looked_ns < self._rules.every_s * 1e9:
            return self.state
        step_s = 0.0 if self._looked_ns is None else max(0.0, (capture_ns - self._looked_ns) / 1e9)
        self._looked_ns = capture_ns
        if self._began_ns is None or capture_ns < self._began_ns:
            self._began_ns = capture_ns
        figures, edges = self._measure(image)
        known = capture_ns - self._began_ns >= self._rules.learn_s * 1e9
        if not known:
            figures = replace(figures, likeness=None)
        kind = kind_of(figures, self.state.kind, self._rules)
        self.state = after(self.state, kind, capture_ns, self._rules)
        if self._meant(capture_ns):
            self._edges, self._began_ns, self.state = None, capture_ns, PictureState("unknown", capture_ns)
        if kind in ("ok", "unknown") or self._edges is None:
            self._follow(figures, edges, step_s, learning=not known)
        return self.state

    def _meant(self, at_ns: int) -> bool:
        """Whether another view has stayed for so long that it is the view now."""
        since = self.state.since_ns
        return self.state.kind == "moved" and since is not None and at_ns - since >= self._rules.accept_s * 1e9

    def _measure(self, image: Image) -> tuple[Figures, NDArray[np.float32]]:
        import cv2  # costs time and memory, and many only read what was found

        green = np.ascontiguousarray(image[:, :, 1])
        change = None
        if self._before is not None and self._before.shape == green.shape:
            change = float(cv2.absdiff(self._before, green).mean())
        self._before = green
        small = cv2.resize(green, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
        across = cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3)
        down = cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3)
        slope: NDArray[np.float32] = np.asarray(cv2.magnitude(across, down), np.float32)
        # Strong edges must not stand for the whole view: what a view is recognised by is where its edges are.
        edges = np.asarray(cv2.resize(np.sqrt(slope), _EDGES, interpolation=cv2.INTER_AREA), np.float32)
        figures = Figures(float(small.mean()), float(small.std()), float(slope.mean()), change)
        if self._edges is None:
            return figures, edges
        likeness = correlation(edges, self._edges)
        return replace(figures, usual_spread=self._spread, usual_sharpness=self._sharpness, likeness=likeness), edges

    def _follow(self, figures: Figures, edges: NDArray[np.float32], step_s: float, *, learning: bool) -> None:
        if self._edges is None or self._edges.shape != edges.shape:
            self._edges, self._spread, self._sharpness = edges, figures.spread, figures.sharpness
            return
        slow = self._rules.learn_s if learning else self._rules.follow_s
        part = min(1.0, step_s / slow)
        self._edges = np.asarray((1 - part) * self._edges + part * edges, np.float32)
        self._spread += part * (figures.spread - self._spread)
        self._sharpness += part * (figures.sharpness - self._sharpness)


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two maps of one shape, -1 to 1; 0 where one of them is flat."""
    here, there = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((here**2).sum() * (there**2).sum()))
    return 0.0 if scale < 1e-6 else float((here * there).sum()) / scale
