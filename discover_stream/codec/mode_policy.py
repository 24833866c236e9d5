"""Which of the two modes a camera is coded in: decisions over frozen values, times by the camera's clock in ns.

*Stream* mode needs a camera that stands still. `auto` begins in it; where the encoder finds that no plate serves (a
hand-held camera, one new scene after another) the camera is coded in *still* mode, and stream mode is tried again
after a while: trying costs a plate and the keys of all tracks, so each setback makes the next wait longer.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from discover_stream.types import Delivery, Mode

CodedMode = Literal["still", "stream"]
"""What a frame is coded in."""

_SECOND_NS = 10**9


@dataclass(frozen=True, slots=True)
class ModeRules:
    """When stream mode is tried again.

    Attributes:
        retry_s: after it was given up for the first time.
        longest_s: the wait doubles with every setback, up to this.
        settled_s: a stream that lasted so long makes the setbacks before it forgotten.
    """

    retry_s: float = 60.0
    longest_s: float = 3600.0
    settled_s: float = 60.0


@dataclass(frozen=True, slots=True)
class CoderSettings:
    """How a camera is coded.

    Attributes:
        mode: as it is wanted.
        quality: 1 (fewest bits) to 8.
        bitrate: bits a second that the packets of a stream are to keep to, about; None for what the quality takes.
        fps: frames a second, where the frames do not say.
        rules: when stream mode is tried again.
    """

    mode: Mode = "auto"
    quality: int = 4
    bitrate: float | None = None
    fps: float | None = None
    rules: ModeRules = field(default_factory=ModeRules)


@dataclass(frozen=True, slots=True)
class ModeStatus:
    """What to tell about a camera: the mode of its last frame, and why it is not, or rather should not be, in stream
    mode; empty where there is nothing to say."""

    mode: CodedMode | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModeState:
    """What is remembered of a camera; a restart needs it too.

    Attributes:
        reason: why stream mode was given up; empty while it is not.
        since_ns: since when; in stream mode, when the stream began, None before it did.
        setbacks: how often it was given up in a row.
    """

    reason: str = ""
    since_ns: int | None = None
    setbacks: int = 0


def wait_s(setbacks: int, rules: ModeRules) -> float:
    """Seconds in still mode after so many setbacks in a row (1, 2, ...)."""
    return min(rules.longest_s, rules.retry_s * 2.0 ** min(max(setbacks - 1, 0), 60))


def at_frame(wanted: Mode, state: ModeState, now_ns: int, rules: ModeRules) -> tuple[CodedMode, ModeState]:
    """The mode of a frame captured at `now_ns`, and the state with which that is done."""
    if wanted == "still":
        return "still", ModeState()
    if wanted == "stream" or not state.reason:
        state = ModeState() if state.reason else state
        return "stream", state if state.since_ns is not None else replace(state, since_ns=now_ns)
    if state.since_ns is None or now_ns < state.since_ns:  # a clock that was set back says nothing of how long it was
        return "still", replace(state, since_ns=now_ns)
    if now_ns - state.since_ns < wait_s(state.setbacks, rules) * _SECOND_NS:
        return "still", state
    return "stream", ModeState("", now_ns, state.setbacks)


def after_frame(wanted: Mode, state: ModeState, advice: str | None, now_ns: int, rules: ModeRules) -> ModeState:
    """The state after a frame of a stream: `advice` says why no plate serves the camera, None where one does."""
    if wanted != "auto":
        return state
    lasted_ns = 0 if state.since_ns is None else now_ns - state.since_ns
    settled = lasted_ns >= rules.settled_s * _SECOND_NS
    if advice is not None:
        return ModeState(advice, now_ns, 1 if settled else state.setbacks + 1)
    return replace(state, setbacks=0) if settled and state.setbacks else state


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a camera that is kept in stream mode should not be, and when that was so last."""

    reason: str
    last_ns: int


def complaint(before: Complaint | None, advice: str | None, now_ns: int, rules: ModeRules) -> Complaint | None:
    """The complaint after another frame. It keeps its words, which are told once, until it has not been true for as
    long as a stream takes to settle."""
    if advice is not None:
        return Complaint(advice if before is None else before.reason, now_ns)
    if before is None or abs(now_ns - before.last_ns) >= rules.settled_s * _SECOND_NS:
        return None
    return before


def wants_pixels_anew(before: Mapping[int, Delivery], now: Mapping[int, Delivery]) -> bool:
    """Whether a task (by key) that runs on gets pixels from this frame on that the packets before do not lead to: it
    got regions alone so far, or objects with a plate and now without one, or the other way round."""
    return any(deliver not in (before.get(key, deliver), "regions") for key, deliver in now.items())


ENOUGH = 24
"""Intervals that a rate is judged by."""
OFF = 1.25
"""How many times the nominal rate, or the other way round, is another one."""


def other_rate(nominal: float, times: Sequence[tuple[int, int]]) -> float | None:
    """The frames a second that a camera turns out to have, where these are not the nominal ones; else None.

    Args:
        nominal: frames a second that the encoder was told.
        times: (seq, capture time in ns) of the last frames; frames in between may be lost.
    """
    if len(times) <= ENOUGH:
        return None
    pairs = itertools.pairwise(times)
    interval_ns = median((later_ns - ns) / max(1, later - seq) for (seq, ns), (later, later_ns) in pairs)
    if interval_ns <= 0:
        return None
    found = _SECOND_NS / interval_ns
    return None if nominal / OFF <= found <= nominal * OFF else min(found, 1000.0)
