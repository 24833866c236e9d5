"""Ingest of one camera: from its source to coded frames in the log, each exactly once.

A frame, the number of the next one and the place in the source are committed together, so an ingest that
was killed goes on where the log ends: a file is neither repeated nor skipped; a live stream continues with
the next number, and the time it was away is recorded as a gap.

Two threads: one reads and codes (`actors.ingest_source`), the other writes; between them lies a buffer, so
that a camera goes on while the log cannot take its frames. The writer tries again until it can. After an
error nobody knows whether the last commit was made, so the stage is acquired anew: that settles what was
open, and the position that comes back with it says whether the frame is there.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from actors.decisions import Admission, admit, is_live, policy_of
from actors.frame_buffer import AHEAD, BufferRule, FrameBuffer, Portion, retry_delay_s, unasked, written
from actors.ingest_source import CameraReader, resumed
from actors.log_view import TopicGone, check_topics
from actors.progress import Outage
from actors.steps import Steps
from discover_stream.config import CameraConfig
from discover_stream.video.picture_health import PictureState
from topics.catalogue import FRAMES
from topics.checks import stage_group, transactional_id
from topics.failpoints import hit
from topics.log import Fenced, Log, LogError, MessageTooLarge, Stage, lag
from topics.messages import EndMessage, GapMessage, IngestState, decode_as, encode

_LOOK_AGAIN_S = 0.05
_ASK_AGAIN_S = 1.0
_MIB = 2**20

LEFT_OUT: dict[Admission, str] = {"drop": "encoding fell behind", "thin": "thinned out while encoding was behind"}
"""Why a frame that was there is not encoded, by what was decided about it."""

Outcome = Literal["ended", "stopped"]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What ingest has done since its process started.

    `next_seq` is the number of the next frame to be written, `last_capture_ns` the time of the one before it,
    `problem` what the source could not read, in one line. `buffered` frames wait to be written, more than a few only
    during an `outage` of the log. `picture` tells what the camera's picture looks like.
    """

    frames: int = 0
    next_seq: int = 0
    gaps: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    problem: str | None = None
    buffered: int = 0
    outage: Outage | None = None
    last_capture_ns: int | None = None
    picture: PictureState = field(default_factory=PictureState)


class IngestStage:
    """The run loop of one camera's ingest. `run` once; `stop` from any thread."""

    def __init__(
        self,
        log: Log,
        camera: CameraConfig,
        partition: int,
        *,
        max_lag: int,
        owner: str,
        steps: Steps | None = None,
    ) -> None:
        self._log, self._camera, self._partition = log, camera, partition
        self._steps = steps or Steps()
        self._max_lag, self._owner = max_lag, owner
        self._encode_group = stage_group(transactional_id("encode", partition))
        self._policy = policy_of(camera.when_behind, is_live(camera.source))
        drops: Literal["oldest", "latest"] = "latest" if self._policy == "drop-latest" else "oldest"
        self._buffer = FrameBuffer(BufferRule(camera.buffer_mib * _MIB, self._policy == "wait", drops))
        self._stop = threading.Event()
        self._reader: CameraReader | None = None
        self._stage: Stage | None = None
        self._state = IngestState()  # as last committed
        self._outage: Outage | None = None
        self._frames = self._gaps = 0
        self._unasked, self._asked_s = 0, 0.0  # frames that may be taken before the lag is looked at again
        self._problem: str | None = None

    @property
    def report(self) -> IngestReport:
        """Figures so far."""
        return IngestReport(
            self._frames,
            self._state.next_seq,
            self._gaps,
            self._buffer.dropped,
            self._problem,
            self._buffer.frames,
            self._outage,
            self._state.last_capture_ns,
            PictureState() if self._reader is None else self._reader.picture,
        )

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()
        if self._reader is not None:
            self._reader.stop()

    def run(self) -> Outcome:
        """Read the source to its end, or until stopped.

        Raises InputError for a source that cannot be read, Fenced when another ingest took over, and LogError
        for a log that cannot be used at the start or has lost its topics; other trouble of the log is waited for.
        """
        stored = self._acquire()
        self._state = resumed(stored, self._camera, time.time_ns())
        reader = CameraReader(self._camera, self._state, self._buffer, self._name)
        try:
            if self._state.ended:
                return "ended"
            self._reader = reader
            if self._stop.is_set():  # it came before there was a reader to stop
                return "stopped"
            reader.open()
            return self._write_all(reader)
        finally:
            reader.close()
            self._release()

    @property
    def _name(self) -> str:
        return transactional_id(f"ingest-{self._camera.name}", self._partition)

    def _acquire(self) -> IngestState | None:
        check_topics(self._log, [FRAMES])
        self._stage = stage = self._log.stage(f"ingest-{self._camera.name}", self._partition, self._owner)
        return None if stage.state is None else decode_as(IngestState, stage.state)

    def _release(self) -> None:
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _write_all(self, reader: CameraReader) -> Outcome:
        while (portion := self._buffer.take()) is not None:
            if portion.frame is None:
                if reader.error is not None:
                    raise reader.error
                if self._stop.is_set():
                    break
                self._problem = reader.problem
            if not self._deliver(portion):
                break
            if portion.frame is None:
                return "ended"
        return "stopped"

    def _deliver(self, portion: Portion) -> bool:
        """Write a portion, or leave it out, however long that takes; False once stopped before it was done."""
        failures = 0
        while True:
            try:
                done = self._attempt(portion)
            except (Fenced, TopicGone):
                raise
            except MessageTooLarge:
                if portion.frame is None:
                    raise
                self._buffer.left_out(portion, "the log refused a frame as too large")
                return True
            except LogError as error:
                failures += 1
                self._lost_log(error)
                if self._stop.wait(retry_delay_s(failures)):
                    return False
            else:
                if self._outage is not None:
                    self._outage = None
                    self._buffer.log_away(False)
                return done

    def _lost_log(self, error: LogError) -> None:
        since_ns = time.time_ns() if self._outage is None else self._outage.since_ns
        self._outage = Outage(since_ns, " ".join(str(error).split()))
        self._buffer.log_away(True)
        self._release()

    def _attempt(self, portion: Portion) -> bool:
        """One try; False once stopped. Raises LogError, after which nobody knows what became of the portion."""
        wanted = self._state_after(portion)
        if self._stage is None:
            verdict = written(self._acquire(), self._state, wanted)
            if verdict == "by somebody else":
                raise Fenced(
                    f"stage {self._name}: another ingest of this camera wrote to the log while it was unavailable "
                    "here; nothing is written twice, stop this one"
                )
            if verdict == "yes":
                self._count(portion, wanted)
                return True
        if portion.frame is not None:
            admission = self._admission(portion.frame.seq)
            if admission in LEFT_OUT:
                self._buffer.left_out(portion, LEFT_OUT[admission])
            if admission != "take":
                return admission in LEFT_OUT
        self._write(portion, wanted)
        return True

    def _state_after(self, portion: Portion) -> IngestState:
        if portion.frame is not None:
            return portion.frame.state
        return msgspec.structs.replace(self._state, ended=True)

    def _admission(self, seq: int) -> Admission:
        """What becomes of the next frame; waits while it is to wait, "wait" once stopped."""
        if self._unasked > 0 and time.monotonic() - self._asked_s < _ASK_AGAIN_S:
            self._unasked -= 1
            return "take"
        bound = self._max_lag // 2 if self._policy == "adaptive" else self._max_lag
        while True:
            behind = lag(self._log, self._encode_group, FRAMES, [self._partition])[self._partition]
            verdict = admit(behind, self._max_lag, self._policy, seq)
            self._unasked, self._asked_s = unasked(behind, bound), time.monotonic()
            if verdict == "hold" and self._buffer.frames >= AHEAD:
                return "drop"  # newer ones have come meanwhile
            if verdict not in ("wait", "hold"):
                return verdict
            if self._stop.wait(_LOOK_AGAIN_S):
                return "wait"

    def _write(self, portion: Portion, state: IngestState) -> None:
        """Commit the holes before a frame (or the end), the frame, and the new position, together."""
        assert self._stage is not None
        name, seq = self._camera.name, self._state.next_seq if portion.frame is None else portion.frame.seq
        data = encode(self._end()) if portion.frame is None else portion.frame.data
        began_ns = time.time_ns()
        with self._stage.transaction() as transaction:
            for hole in portion.holes:
                gap = GapMessage(
                    camera=name,
                    from_ns=hole.from_ns,
                    to_ns=hole.to_ns,
                    reason=hole.reason[:1000],
                    next_seq=seq,
                    frames=hole.frames,
                )
                transaction.send(FRAMES, name, encode(gap), partition=self._partition)
            transaction.send(FRAMES, name, data, partition=self._partition)
            transaction.set_state(encode(state))
            hit(self._name, "after_send", seq)
        if portion.frame is not None:
            self._steps.done("ingest", name, seq, began_ns, captured_ns=portion.frame.capture_ns)
        hit(self._name, "after_commit", seq)
        self._count(portion, state)

    def _end(self) -> EndMessage:
        last_ns = self._state.last_capture_ns
        return EndMessage(
            camera=self._camera.name,
            next_seq=self._state.next_seq,
            at_ns=self._state.origin_ns if last_ns is None else last_ns,
            problem=self._problem[:1000] if self._problem else None,
        )

    def _count(self, portion: Portion, state: IngestState) -> None:
        self._state = state
        self._frames += portion.frame is not None
        self._gaps += len(portion.holes)
