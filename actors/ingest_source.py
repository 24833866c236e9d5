"""What ingest reads: one camera's source, coded and numbered, in a thread of its own.

*Capture times* of files and simulated cameras are an origin plus the time since the first frame. The origin
is the camera's `starts_at`, or the moment its ingest first began; it is kept with the position, so it
survives restarts. Live streams bring times of their own.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from actors.cameras import opened_source
from actors.frame_buffer import Coded, FrameBuffer, Hole
from discover_stream.config import CameraConfig, starts_at_ns
from discover_stream.types import Frame
from discover_stream.video.jpeg import encode_jpeg
from discover_stream.video.picture_health import PictureState, PictureWatch
from discover_stream.video.privacy import blacked_out
from discover_stream.video.stills import are_pictures
from topics.failpoints import hit
from topics.log import MessageTooLarge
from topics.messages import FrameMessage, IngestState, encode

if TYPE_CHECKING:
    from discover_stream.video.source import Gap, Source

JPEG_QUALITY = 95


def source_identity(camera: CameraConfig) -> str:
    """What must stay the same for a position in a source to mean anything. It is kept in the log, so it holds
    neither user name nor password; a camera that gets new ones is the same camera."""
    from discover_stream.video.live import without_password

    source = without_password(camera.source) if "://" in camera.source else camera.source
    return source if camera.fps is None else f"{source} at {camera.fps:g} fps"


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


def stated(fps: float) -> float:
    """The frames a second that frames are marked with: as a source says, 0 where it says nothing of use."""
    return fps if 0 < fps <= 1000 else 0.0


class CameraReader:
    """Reads a camera into a buffer, from the position in `state` on.

    `open` and `close` belong to one thread; `stop` may be called from any.
    """

    def __init__(self, camera: CameraConfig, state: IngestState, buffer: FrameBuffer, stage: str) -> None:
        self._camera, self._state, self._buffer, self._stage = camera, state, buffer, stage
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {camera.name}", daemon=True)
        self._source: Source | None = None
        self._anchored = False  # until the first frame, nobody knows what the source's times mean
        self._early: list[Gap] = []
        # Pictures need not follow each other: there another view is no fault of anybody.
        self._watch = None if are_pictures(camera.source) else PictureWatch()
        self.error: BaseException | None = None  # what ended the reading, for whoever takes the last portion

    @property
    def picture(self) -> PictureState:
        """What the camera's picture looks like."""
        return PictureState() if self._watch is None else self._watch.state

    @property
    def problem(self) -> str | None:
        """What of the source could not be read, once it has ended."""
        return None if self._source is None else self._source.problem

    def open(self) -> None:
        """Open the source and begin. Raises InputError for one that cannot be read."""
        from discover_stream.video.source import open_source

        self._source = open_source(
            opened_source(self._camera.source),
            camera=self._camera.name,
            fps=self._camera.fps,
            start_ns=0,  # times are then since the first frame, whatever the source
            start_seq=self._state.next_seq - self._state.base_seq,
            on_gap=self._lost_contact,
        )
        if self._stop.is_set():
            self._source.stop()
        self._thread.start()

    def stop(self) -> None:
        """Read no more; does not wait."""
        self._stop.set()
        self._buffer.close()
        if self._source is not None:
            self._source.stop()

    def close(self) -> None:
        """Stop, wait for the thread, and let go of the source."""
        self.stop()
        if self._source is not None:
            self._source.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # told by the thread that writes, after what was read before
            self.error = error
        finally:
            self._buffer.end()

    def _follow(self) -> None:
        assert self._source is not None
        began: tuple[float, int] | None = None
        for found in self._source:
            if began is None:
                began = time.monotonic(), found.capture_ns
                self._anchor(found.capture_ns)
            if self._camera.realtime:
                due_s = began[0] + (found.capture_ns - began[1]) / 1e9
                self._stop.wait(max(0.0, due_s - time.monotonic()))
            if self._stop.is_set():
                return
            hit(self._stage, "after_read", self._state.base_seq + found.seq)
            self._code(self._placed(found))

    def _anchor(self, time_ns: int) -> None:
        restarts_clock = self._camera.source.lower().startswith("rtsp")
        origin, hole = anchored(self._state, time_ns, time.time_ns(), restarts_clock)
        self._state = msgspec.structs.replace(self._state, origin_ns=origin)
        self._anchored = True
        if hole is not None:
            self._buffer.lose(hole)
        for gap in self._early:
            self._lost_contact(gap)

    def _placed(self, found: Frame) -> Frame:
        """The frame with the camera's own number and capture time (which always grows)."""
        seq, capture_ns = self._state.base_seq + found.seq, self._state.origin_ns + found.capture_ns
        if self._state.last_capture_ns is not None:
            capture_ns = max(capture_ns, self._state.last_capture_ns + 1)
        self._state = msgspec.structs.replace(self._state, next_seq=seq + 1, last_capture_ns=capture_ns)
        return replace(found, seq=seq, capture_ns=capture_ns)

    def _code(self, frame: Frame) -> None:
        if self._watch is not None:
            self._watch.see(frame.image, frame.capture_ns)
        # What lies in a privacy zone is not in the frame for anything that follows, and leaves this process nowhere.
        jpeg = encode_jpeg(blacked_out(frame.image, self._camera.privacy), JPEG_QUALITY)
        assert self._source is not None
        message = FrameMessage(
            camera=frame.camera, seq=frame.seq, capture_ns=frame.capture_ns, jpeg=jpeg, fps=stated(self._source.fps)
        )
        try:
            data = encode(message)
        except MessageTooLarge:
            self._buffer.leave_out(frame.capture_ns, "a coded frame is larger than a message may be")
            return
        hit(self._stage, "after_process", frame.seq)
        self._buffer.put(Coded(frame.seq, frame.capture_ns, data, self._state))

    def _lost_contact(self, gap: Gap) -> None:
        """A live stream was away; called by the source, before the frame that follows."""
        if not self._anchored:
            self._early.append(gap)
            return
        origin = self._state.origin_ns
        reason = f"{gap.reason} ({gap.attempts} attempts to connect)"
        self._buffer.lose(Hole(origin + gap.begin_ns, origin + gap.end_ns, reason))
