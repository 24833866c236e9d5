"""Ingest of one camera: from its source to coded frames in the log, each exactly once.

A frame, the number of the next one and the place in the source are committed together, so an ingest that
was killed goes on where the log ends: a file is neither repeated nor skipped; a live stream continues with
the next number, and the time it was away is recorded as a gap.

*Capture times* of files and simulated cameras are an origin plus the time since the first frame. The origin
is the camera's `starts_at`, or the moment its ingest first began; it is kept with the position, so it
survives restarts. Live streams bring times of their own.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import msgspec

from actors.decisions import admit, is_live
from discover_stream.config import CameraConfig, starts_at_ns
from discover_stream.types import Frame
from discover_stream.video.jpeg import encode_jpeg
from topics.catalogue import FRAMES
from topics.checks import stage_group, transactional_id
from topics.log import Log, MessageTooLarge, Stage
from topics.messages import EndMessage, FrameMessage, GapMessage, IngestState, decode_as, encode

if TYPE_CHECKING:
    from discover_stream.video.source import Gap, Source

JPEG_QUALITY = 95
_LOOK_AGAIN_S = 0.05

Outcome = Literal["ended", "stopped"]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What ingest has done since its process started.

    `next_seq` is the number of the next frame, `problem` what the source could not read, in one line.
    """

    frames: int = 0
    next_seq: int = 0
    gaps: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that is not in the log: `frames` lost between two capture times (0: nobody knows)."""

    from_ns: int
    to_ns: int
    reason: str
    frames: int = 0


def source_identity(camera: CameraConfig) -> str:
    """What must stay the same for a position in a source to mean anything."""
    return camera.source if camera.fps is None else f"{camera.source} at {camera.fps:g} fps"


def resumed(state: IngestState | None, camera: CameraConfig, now_ns: int) -> IngestState:
    """Where ingest begins: at its last position, or at the first frame of a source that is new to it.

    A new source under an old name goes on with the camera's numbers, and never before its last capture time.
    """
    source = source_identity(camera)
    if state is not None and state.source == source:
        return state
    known = starts_at_ns(camera)
    origin = now_ns if known is None else known
    if state is None:
        return IngestState(source=source, origin_ns=origin)
    if state.last_capture_ns is not None:
        origin = max(origin, state.last_capture_ns + 1)
    return msgspec.structs.replace(state, source=source, origin_ns=origin, base_seq=state.next_seq, ended=False)


def anchored(state: IngestState, time_ns: int, now_ns: int, restarts_clock: bool) -> tuple[int, Hole | None]:
    """The origin for a run whose first frame has the source time `time_ns`, and the time lost before it.

    A stream that started its clock again while ingest was away (`restarts_clock`, or seen from times that
    are already taken) is tied to the present; a file simply goes on.
    """
    last = state.last_capture_ns
    if last is None or not (restarts_clock or state.origin_ns + time_ns <= last):
        return state.origin_ns, None
    origin = max(now_ns, last + 1) - time_ns
    return origin, Hole(last, origin + time_ns, "ingest was not running")


class IngestStage:
    """The run loop of one camera's ingest. `run` once; `stop` from any thread."""

    def __init__(self, log: Log, camera: CameraConfig, partition: int, *, max_lag: int, owner: str) -> None:
        self._log, self._camera, self._partition = log, camera, partition
        self._max_lag, self._owner = max_lag, owner
        self._encode_group = stage_group(transactional_id("encode", partition))
        self._stop = threading.Event()
        self._source: Source | None = None
        self._dropped: Counter[str] = Counter()
        self._holes: list[Hole] = []  # not yet in the log: they go with the next frame
        self._anchored = False  # until the first frame, nobody knows what the source's times mean
        self._early: list[Gap] = []
        self._state = IngestState()
        self.report = IngestReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()
        source = self._source
        if source is not None:
            source.stop()

    def run(self) -> Outcome:
        """Read the source to its end, or until stopped.

        Raises InputError for a source that cannot be read, Fenced when another ingest took over.
        """
        stage = self._log.stage(f"ingest-{self._camera.name}", self._partition, self._owner)
        stored = None if stage.state is None else decode_as(IngestState, stage.state)
        self._state = resumed(stored, self._camera, time.time_ns())
        self.report = replace(self.report, next_seq=self._state.next_seq)
        if self._state.ended:
            return "ended"
        self._source = self._open()
        with self._source as source:
            self._follow(stage, source)
            if self._stop.is_set():
                return "stopped"
            self._end(stage, source.problem)
        return "ended"

    def _open(self) -> Source:
        from discover_stream.video.source import open_source

        return open_source(
            self._camera.source,
            camera=self._camera.name,
            fps=self._camera.fps,
            start_ns=0,  # times are then since the first frame, whatever the source
            start_seq=self._state.next_seq - self._state.base_seq,
            on_gap=self._lost_contact,
        )

    def _follow(self, stage: Stage, source: Source) -> None:
        began: tuple[float, int] | None = None
        for found in source:
            if began is None:
                began = time.monotonic(), found.capture_ns
                self._anchor(found.capture_ns)
            if self._camera.realtime:
                due_s = began[0] + (found.capture_ns - began[1]) / 1e9
                self._stop.wait(max(0.0, due_s - time.monotonic()))
            frame = self._placed(found)
            taken = self._has_room()
            if self._stop.is_set():
                return
            if taken:
                self._commit(stage, frame)
            else:
                self._drop(frame.capture_ns, "encoding fell behind")

    def _anchor(self, time_ns: int) -> None:
        restarts_clock = self._camera.source.lower().startswith("rtsp")
        origin, hole = anchored(self._state, time_ns, time.time_ns(), restarts_clock)
        self._state = msgspec.structs.replace(self._state, origin_ns=origin)
        self._anchored = True
        if hole is not None:
            self._holes.append(hole)
        for gap in self._early:
            self._lost_contact(gap)

    def _placed(self, found: Frame) -> Frame:
        """The frame with the camera's own number and capture time (which always grows)."""
        capture_ns = self._state.origin_ns + found.capture_ns
        if self._state.last_capture_ns is not None:
            capture_ns = max(capture_ns, self._state.last_capture_ns + 1)
        return replace(found, seq=self._state.base_seq + found.seq, capture_ns=capture_ns)

    def _has_room(self) -> bool:
        """Wait until the frame may be taken (True) or is to be dropped (False)."""
        while not self._stop.is_set():
            bounds = self._log.bounds(FRAMES, self._partition)
            done = self._log.committed(self._encode_group, FRAMES, self._partition)
            lag = bounds.end - max(bounds.start, done or 0)
            verdict = admit(lag, self._max_lag, self._camera.when_behind, is_live(self._camera.source))
            if verdict != "wait":
                return verdict == "take"
            self._stop.wait(_LOOK_AGAIN_S)
        return False

    def _drop(self, capture_ns: int, reason: str) -> None:
        """Leave a frame out; a run of frames left out for one reason is one hole."""
        self._dropped[reason] += 1
        last = self._holes[-1] if self._holes else None
        if last is not None and last.reason == reason:
            self._holes[-1] = replace(last, to_ns=capture_ns, frames=last.frames + 1)
        else:
            self._holes.append(Hole(capture_ns, capture_ns, reason, 1))
        self.report = replace(self.report, dropped=tuple(self._dropped.items()))

    def _lost_contact(self, gap: Gap) -> None:
        """A live stream was away; called by the source, before the frame that follows."""
        if not self._anchored:
            self._early.append(gap)
            return
        origin = self._state.origin_ns
        reason = f"{gap.reason} ({gap.attempts} attempts to connect)"
        self._holes.append(Hole(origin + gap.begin_ns, origin + gap.end_ns, reason))

    def _commit(self, stage: Stage, frame: Frame) -> None:
        jpeg = encode_jpeg(frame.image, JPEG_QUALITY)
        message = FrameMessage(camera=frame.camera, seq=frame.seq, capture_ns=frame.capture_ns, jpeg=jpeg)
        try:
            coded = encode(message)
        except MessageTooLarge:
            self._drop(frame.capture_ns, "a coded frame is larger than a message may be")
            return
        state = msgspec.structs.replace(self._state, next_seq=frame.seq + 1, last_capture_ns=frame.capture_ns)
        self._write(stage, coded, state, frame.seq)
        self.report = replace(self.report, frames=self.report.frames + 1)

    def _end(self, stage: Stage, problem: str | None) -> None:
        state = msgspec.structs.replace(self._state, ended=True)
        last_ns = self._state.last_capture_ns
        end = EndMessage(
            camera=self._camera.name,
            next_seq=self._state.next_seq,
            at_ns=self._state.origin_ns if last_ns is None else last_ns,
            problem=problem[:1000] if problem else None,
        )
        self._write(stage, encode(end), state, state.next_seq)
        self.report = replace(self.report, problem=problem)

    def _write(self, stage: Stage, coded: bytes, state: IngestState, seq: int) -> None:
        """Commit the holes before frame `seq` (or the end), the frame, and the new position, together."""
        name = self._camera.name
        with stage.transaction() as transaction:
            for hole in self._holes:
                gap = GapMessage(
                    camera=name,
                    from_ns=hole.from_ns,
                    to_ns=hole.to_ns,
                    reason=hole.reason[:1000],
                    next_seq=seq,
                    frames=hole.frames,
                )
                transaction.send(FRAMES, name, encode(gap), partition=self._partition)
            transaction.send(FRAMES, name, coded, partition=self._partition)
            transaction.set_state(encode(state))
        self.report = replace(self.report, gaps=self.report.gaps + len(self._holes), next_seq=state.next_seq)
        self._holes = []
        self._state = state
