"""What is on screen when, in one segment of a replay. Pure.

A replay runs in the camera's own time: a segment begins with the frame that shows its first instant, every later frame
appears when it was captured, and where nothing was captured a card says why. So every segment can be made alone, and
all of them follow each other without a seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discover_stream.app.gateway.fmp4 import CLOCK

CARD_FROM_NS = 1_500_000_000
"""Gaps from this length on get a card; the last frame before stays on for `CARD_AFTER_NS`."""
CARD_AFTER_NS = 500_000_000
NOTHING_YET = "no picture yet"


@dataclass(frozen=True, slots=True)
class Film:
    """The time of a replay: from `begin_ns` (capture time) to `end_ns`, None while it goes on; in steps of
    `step_ns`."""

    begin_ns: int
    end_ns: int | None
    step_ns: int

    def count(self, until_ns: int | None = None) -> int:
        """Segments up to the end; of a replay that goes on, those that are over by `until_ns`."""
        if self.end_ns is not None:
            whole, rest = divmod(self.end_ns - self.begin_ns, self.step_ns)
            return max(1, whole + (rest * CLOCK >= 10**9))  # a rest within one tick of the clock shows nothing
        return max(0, ((until_ns or self.begin_ns) - self.begin_ns) // self.step_ns)

    def span(self, number: int) -> tuple[int, int]:
        """Begin and end of a segment, capture time in ns."""
        begin = self.begin_ns + number * self.step_ns
        end = begin + self.step_ns
        return begin, end if self.end_ns is None else min(end, self.end_ns)

    def seconds(self, number: int) -> float:
        """How long a segment is."""
        begin, end = self.span(number)
        return (end - begin) / 1e9

    def tick(self, at_ns: int) -> int:
        """The film's clock at a capture time."""
        return (at_ns - self.begin_ns) * CLOCK // 10**9


@dataclass(frozen=True, slots=True)
class Blank:
    """Nothing of the camera is there between two capture times, and why; `frames` were lost as far as known."""

    begin_ns: int
    end_ns: int
    reason: str
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Shot:
    """What is shown between two capture times: the frame of a number, or a card over the last one (None: over
    nothing)."""

    begin_ns: int
    end_ns: int
    frame: int | None
    card: str | None = None


def plan_shots(span: tuple[int, int], times_ns: Sequence[int], blanks: Sequence[Blank]) -> list[Shot]:
    """What a segment shows.

    Args:
        span: of the segment.
        times_ns: capture times of its frames, growing; the first may lie before the span.
        blanks: what is known to be missing.
    """
    begin, end = span
    # Of what happens at the same instant the later one counts: a card that ends, a card that begins, a frame.
    events: list[tuple[int, int, int | None, str | None]] = [(begin, -1, None, NOTHING_YET)]
    for blank in blanks:
        first = blank.begin_ns + CARD_AFTER_NS
        if blank.end_ns - blank.begin_ns < CARD_FROM_NS or first >= end or blank.end_ns <= begin:
            continue
        events.append((max(first, begin), 1 if first >= begin else 3, None, blank.reason))
    events += [(max(at, begin), 2, number, None) for number, at in enumerate(times_ns) if at < end]
    events.sort(key=lambda event: event[:2])
    shots: list[Shot] = []
    shown: int | None = None
    for event, after in zip(events, [*events[1:], (end, 0, None, None)], strict=True):
        at, _, frame, card = event
        shown = frame if frame is not None else shown
        if after[0] > at:
            shots.append(Shot(at, after[0], shown, card))
    return shots
