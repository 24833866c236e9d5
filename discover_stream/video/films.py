"""Reads video files with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from discover_stream.types import Image, InputError
from discover_stream.video.shots import Outage, Shot

FALLBACK_FPS = 25.0
"""Assumed where a stream does not tell its rate."""

# FFmpeg would draw any text file as a film of a terminal.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})


def video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The first video stream, set up for threaded decoding. Raises InputError where there is none."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams or container.format.name in _TEXT_FORMATS:
        raise InputError(f"{name}: there is no video in it; give a video file, a picture or a folder")
    streams[0].thread_type = "AUTO"
    return streams[0]


def rate_of(stream: av.VideoStream) -> float:
    """The nominal rate of a stream in frames a second."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else FALLBACK_FPS


def frame_rgb(frame: av.VideoFrame) -> Image:
    """A decoded frame as RGB (H, W, 3)."""
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def reason_of(error: BaseException) -> str:
    """FFmpeg's own words for what went wrong, without the address they are about."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class FilmFeed:
    """A finite video: a file, or a complete film behind an address. Damaged parts are left out and reported.

    Raises InputError where the video cannot be opened or not one frame of it decoded.
    """

    def __init__(self, container: av.container.InputContainer, name: str) -> None:
        self._name, self._container = name, container
        try:
            self._stream = video_stream(container, name)
            self.fps = rate_of(self._stream)
            self._damaged = self._packets = self._frames = 0
            self._cut: str | None = None
            self._end_s = 0.0
            self._finished = self._closed = self._running = False
            # Read now: the stream's numbers are gone once the file is closed.
            self._expected, self._told_s = self._stream.frames, self._told_seconds()
            self._decoded = self._decode()
            first = next(self._decoded, None)
        except InputError:
            container.close()
            raise
        if first is None:
            container.close()
            raise InputError(f"{name}: no frame could be decoded ({self._why_not()}); give a complete copy")
        self._first = first
        self.width, self.height = first.width, first.height

    @classmethod
    def of_file(cls, path: Path) -> FilmFeed:
        """Opens a video file."""
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty; give a video that was written completely")
        try:
            container = av.open(str(path))
        except (FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{path}: this is not a video that can be read ({reason_of(error)}); give a complete copy"
            ) from error
        return cls(container, str(path))

    @property
    def problem(self) -> str | None:
        """Tells after the last shot whether the video ended early or had damaged parts."""
        if not self._finished:
            return None
        expected, told = self._expected, self._told_s
        lines = []
        # Fewer packets than told is no proof: an edit list may leave some out on purpose.
        if expected and self._packets < expected and (told is None or self._end_s + 1.5 / self.fps < told):
            lines.append(f"it ends early: {self._frames} of {expected} frames could be read")
        elif not expected and told and self._end_s + max(0.5, 1.5 / self.fps) < told:
            lines.append(f"it ends early: {self._end_s:.1f} s of {told:.1f} s could be read")
        elif self._cut:
            lines.append(f"reading stopped after {self._frames} frames ({self._cut})")
        if self._damaged:
            parts = "1 part of it is" if self._damaged == 1 else f"{self._damaged} parts of it are"
            lines.append(f"{parts} damaged")
        if not lines:
            return None
        return f"{self._name}: {' and '.join(lines)}; what was read is kept, a complete copy would give more"

    def shots(self) -> Iterator[Shot | Outage]:
        """The frames in order of presentation; times start at 0 with the first."""
        origin = self._seconds(self._first, 0)
        previous = -1
        index = 0
        frame: av.VideoFrame | None = self._first
        self._running = True
        try:
            while frame is not None and not self._closed:
                time_ns = max(round((self._seconds(frame, index) - origin) * 1e9), previous + 1)
                previous = time_ns
                self._end_s = time_ns / 1e9 + 1 / self.fps
                yield Shot(time_ns, partial(frame_rgb, frame))
                index += 1
                frame = None if self._closed else next(self._decoded, None)
            self._finished = not self._closed
        finally:
            self._running = False
            self._container.close()

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._closed = True

    def close(self) -> None:
        """Closes the file, at once or as soon as the running iteration sees it."""
        self.stop()
        if not self._running:
            self._container.close()

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets = iter(self._container.demux(self._stream))
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, OSError) as error:
                self._cut = reason_of(error)
                return
            self._packets += packet.size > 0
            try:
                frames: list[Any] = packet.decode()
            except FFmpegError:
                self._damaged += 1
                continue
            self._damaged += bool(packet.is_corrupt or any(frame.is_corrupt for frame in frames))
            for frame in frames:
                self._frames += 1
                yield frame

    def _seconds(self, frame: av.VideoFrame, index: int) -> float:
        return index / self.fps if frame.time is None else float(frame.time)

    def _told_seconds(self) -> float | None:
        """How long the file says the video is from its first frame on, or None where it does not."""
        base, begin = self._stream.time_base, 0.0
        if base and self._stream.start_time and "matroska" in self._container.format.name:
            # Matroska counts its length from time 0, also where the first frame comes later.
            begin = float(self._stream.start_time * base)
        if self._stream.duration and base:
            return float(self._stream.duration * base) - begin
        if len(self._container.streams) == 1 and self._container.duration:
            return self._container.duration / 1e6 - begin
        return None

    def _why_not(self) -> str:
        if self._cut:
            return self._cut
        return "its data is damaged" if self._damaged else "it holds no pictures"
