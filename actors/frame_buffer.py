"""What ingest holds between a camera and the log: coded frames that wait to be written, within a bound.

While the log takes records, there is next to nothing here. While it cannot (its broker is away, its disk is
full), frames gather up to a bound; then the camera's policy decides: its source is made to wait, or frames are
left out, the oldest or the latest, and what was left out stands as a hole where it was.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Literal

from topics.messages import IngestState

LOG_UNAVAILABLE = "log unavailable"
"""Why frames were left out that no longer fitted."""

AHEAD = 4
"""Frames that a source which can wait is read ahead of the log, as long as the log takes records."""

_MOST_HOLES = 64
_LONGEST_RETRY_S = 5.0
_FIRST_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that is not in the log: `frames` lost between two capture times (0: nobody knows)."""

    from_ns: int
    to_ns: int
    reason: str
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Coded:
    """A frame ready for the log: its message, and where ingest stands once that is written."""

    seq: int
    capture_ns: int
    data: bytes
    state: IngestState


@dataclass(frozen=True, slots=True)
class Portion:
    """What is written together: holes, and the frame that follows them; None at the end of the source."""

    holes: tuple[Hole, ...]
    frame: Coded | None


@dataclass(frozen=True, slots=True)
class BufferRule:
    """A camera's bound in bytes of coded frames, and what happens beyond it. `waits`: its source can wait."""

    max_bytes: int
    waits: bool
    drops: Literal["oldest", "latest"] = "oldest"


Place = Literal["keep", "wait", "drop oldest", "drop latest"]


def place_for(size: int, frames: int, held: int, rule: BufferRule, log_away: bool) -> Place:
    """What happens to a frame of `size` bytes, given how many frames, and bytes of them, wait already.

    One frame always finds a place, however large it is.
    """
    if rule.waits and not log_away and frames >= AHEAD:
        return "wait"
    if frames == 0 or held + size <= rule.max_bytes:
        return "keep"
    if rule.waits:
        return "wait"
    return "drop oldest" if rule.drops == "oldest" else "drop latest"


def retry_delay_s(failures: int) -> float:
    """Seconds until the log is tried again after it failed so many times in a row (1, 2, ...): at most a few,
    since nothing can be written until somebody has seen that it is back."""
    return float(min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(max(failures - 1, 0), 30)))


def unasked(lag: int, max_lag: int) -> int:
    """Frames that may follow the next one without asking the log how far encoding is behind: asking a broker
    costs as much as writing. Few, since other cameras write to the same partition; none near the bound."""
    return max(0, (max_lag - lag) // 8 - 1)


Written = Literal["yes", "no", "by somebody else"]


def written(stored: IngestState | None, before: IngestState, wanted: IngestState) -> Written:
    """Whether a commit whose outcome nobody told was made, from the state that the log has afterwards.

    `before` is the state that was last known to be committed, `wanted` the one that went with the commit. A
    state that is neither, and further on, was written by another holder of the stage.
    """
    if stored == wanted:
        return "yes"
    if stored is None or stored.next_seq <= before.next_seq:
        return "no"
    return "by somebody else"


def with_hole(holes: tuple[Hole, ...], hole: Hole) -> tuple[Hole, ...]:
    """Holes with another one after them; a run of frames left out for one reason is one hole.

    There are never very many: beyond that, the first two become one that names the reason of the later one.
    """
    last = holes[-1] if holes else None
    if last is not None and last.reason == hole.reason and last.frames and hole.frames:
        return (*holes[:-1], replace(last, to_ns=hole.to_ns, frames=last.frames + hole.frames))
    holes = (*holes, hole)
    if len(holes) > _MOST_HOLES:
        first, second = holes[:2]
        both = Hole(first.from_ns, second.to_ns, second.reason, first.frames + second.frames)
        return (both, *holes[2:])
    return holes


@dataclass(slots=True)
class _Slot:
    """A frame that waits, and the holes before it."""

    holes: tuple[Hole, ...]
    frame: Coded


class FrameBuffer:
    """Between two threads: one puts frames and holes in, in order; the other takes portions out."""

    def __init__(self, rule: BufferRule) -> None:
        self._rule = rule
        self._changed = threading.Condition()
        self._slots: deque[_Slot] = deque()
        self._tail: tuple[Hole, ...] = ()  # after the last frame
        self._held = 0
        self._dropped: Counter[str] = Counter()
        self._log_away = self._ended = self._closed = False

    @property
    def frames(self) -> int:
        """How many frames wait."""
        return len(self._slots)

    @property
    def dropped(self) -> tuple[tuple[str, int], ...]:
        """Frames that were left out, by reason."""
        with self._changed:
            return tuple(self._dropped.items())

    def put(self, frame: Coded) -> None:
        """Add a frame; waits for room where the rule says so. Does nothing once the buffer is closed."""
        size = len(frame.data)
        with self._changed:
            while not self._closed:
                place = place_for(size, len(self._slots), self._held, self._rule, self._log_away)
                if place == "wait":
                    self._changed.wait()
                elif place == "drop oldest":
                    self._drop_oldest()
                elif place == "drop latest":
                    self._leave_out(frame.capture_ns, LOG_UNAVAILABLE)
                    return
                else:
                    self._slots.append(_Slot(self._tail, frame))
                    self._tail = ()
                    self._held += size
                    self._changed.notify_all()
                    return

    def lose(self, hole: Hole) -> None:
        """Something is missing after everything that was put in."""
        with self._changed:
            self._tail = with_hole(self._tail, hole)

    def leave_out(self, capture_ns: int, reason: str) -> None:
        """Count a frame that is not put in, and remember the hole."""
        with self._changed:
            self._leave_out(capture_ns, reason)

    def end(self) -> None:
        """Nothing more will come; what waits is still to be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more in: whoever waits for room goes on. Frames of a source that can wait are read
        again next time; those of others are still to be taken."""
        with self._changed:
            self._closed = True
            if self._rule.waits:
                self._slots.clear()
                self._held = 0
            self._changed.notify_all()

    def take(self) -> Portion | None:
        """The next frame with the holes before it; waits for it.

        At the end of the source the last portion has no frame. None once closed and empty.
        """
        with self._changed:
            while not self._slots and not self._ended and not self._closed:
                self._changed.wait()
            if self._slots:
                slot = self._slots.popleft()
                self._held -= len(slot.frame.data)
                self._changed.notify_all()
                return Portion(slot.holes, slot.frame)
            return None if self._closed else Portion(self._tail, None)

    def left_out(self, portion: Portion, reason: str) -> None:
        """A portion that was taken is not written: its frame becomes a hole before whatever comes next."""
        frame = portion.frame
        assert frame is not None
        with self._changed:
            self._dropped[reason] += 1
            holes = with_hole(portion.holes, Hole(frame.capture_ns, frame.capture_ns, reason, 1))
            self._before_next(holes)

    def log_away(self, away: bool) -> None:
        """The log cannot take records, or it can again."""
        with self._changed:
            self._log_away = away
            self._changed.notify_all()

    def _leave_out(self, capture_ns: int, reason: str) -> None:
        self._dropped[reason] += 1
        self._tail = with_hole(self._tail, Hole(capture_ns, capture_ns, reason, 1))

    def _drop_oldest(self) -> None:
        slot = self._slots.popleft()
        self._held -= len(slot.frame.data)
        self._dropped[LOG_UNAVAILABLE] += 1
        at_ns = slot.frame.capture_ns
        self._before_next(with_hole(slot.holes, Hole(at_ns, at_ns, LOG_UNAVAILABLE, 1)))

    def _before_next(self, holes: tuple[Hole, ...]) -> None:
        """Put holes before whatever is next."""
        following = self._slots[0].holes if self._slots else self._tail
        for hole in following:
            holes = with_hole(holes, hole)
        if self._slots:
            self._slots[0].holes = holes
        else:
            self._tail = holes
