"""Reads live streams (RTSP, HTTP) with PyAV: time-outs, and reconnecting with growing pauses."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import av
import av.container
from av.error import FFmpegError, InvalidDataError

from discover_stream.types import InputError
from discover_stream.video.films import frame_rgb, rate_of, reason_of, video_stream
from discover_stream.video.shots import Outage, Shot


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """How patient to be with a live stream, all in seconds.

    After a failure the first pause is `first_pause_s`; each further one is twice as long, up to
    `longest_pause_s`. With `give_up_s` the stream ends after being away for that long.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    give_up_s: float | None = None


def pause_s(attempt: int, policy: LivePolicy) -> float:
    """Seconds to wait before attempt 0, 1, 2, ... to connect again."""
    return min(policy.longest_pause_s, policy.first_pause_s * 2.0 ** min(attempt, 60))


def connect(uri: str, policy: LivePolicy) -> av.container.InputContainer:
    """Opens an address. Raises InputError that names it without its password."""
    options = {"rtsp_transport": "tcp"} if uri.lower().startswith("rtsp") else {}
    try:
        return av.open(uri, options=options, timeout=(policy.open_timeout_s, policy.read_timeout_s))
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{without_secrets(uri)}: the stream cannot be opened ({reason_of(error)});"
            " check the address, the network and that the camera is on"
        ) from error


def is_finite(container: av.container.InputContainer) -> bool:
    """Whether what was opened is a complete film behind an address rather than a live stream."""
    return container.size > 0 or bool(container.duration and container.duration > 0)


def without_password(uri: str) -> str:
    """The address as it may be shown in messages: user name and password are left out."""
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def without_secrets(uri: str) -> str:
    """The same where variables were put in already: they may stand behind a question mark too."""
    address, mark, _ = without_password(uri).partition("?")
    return f"{address}?…" if mark else address


class LiveFeed:
    """A stream that goes on until it is closed, or stays away for longer than the policy allows.

    Times come from the stream's own clock, tied to this machine's at the first frame after every
    connect. `connect` is called again after each failure.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        name: str,
        policy: LivePolicy,
        reconnect: Callable[[], av.container.InputContainer],
    ) -> None:
        self._name, self._policy, self._reconnect = name, policy, reconnect
        self._closed = threading.Event()
        self._container = container
        try:
            self._stream = self._choose(container)
        except InputError:
            container.close()
            raise
        self.width, self.height = self._stream.width, self._stream.height
        self.fps = rate_of(self._stream)
        self._period = round(1e9 / self.fps)
        self._origin = time.monotonic_ns()
        self._last_ns = -1
        self._gave_up: str | None = None
        self._running = False

    @property
    def problem(self) -> str | None:
        """Set when the stream ended because it stayed away."""
        return self._gave_up

    def shots(self) -> Iterator[Shot | Outage]:
        """Frames as they arrive, with an outage wherever the connection was lost."""
        self._running = True
        try:
            while not self._closed.is_set():
                reason = "the sender closed the stream"
                try:
                    yield from self._until_lost()
                except (FFmpegError, OSError) as error:
                    reason = reason_of(error)
                self._container.close()
                outage = None if self._closed.is_set() else self._wait_for_return(reason)
                if outage is None:
                    return
                yield outage
        finally:
            self._running = False
            self._container.close()

    def stop(self) -> None:
        """See `Feed.stop`; also ends the wait for the next try to connect."""
        self._closed.set()

    def close(self) -> None:
        """Lets go of the connection, at once or as soon as the running iteration sees it."""
        self.stop()
        if not self._running:
            self._container.close()

    def _choose(self, container: av.container.InputContainer) -> av.VideoStream:
        stream = video_stream(container, self._name)
        # Threads that work on several frames at once would delay each by as many frames.
        stream.thread_type = "SLICE"
        return stream

    def _now(self) -> int:
        return time.monotonic_ns() - self._origin

    def _until_lost(self) -> Iterator[Shot]:
        tied: tuple[int, float] | None = None
        for frame in self._frames():
            seconds: float | None = frame.time
            if seconds is not None and not math.isfinite(seconds):
                seconds = None  # what is flushed out of the decoder after an error has no time base
            if tied is None or seconds is None:
                # A sender that is faster than time must not make times run backwards after a reconnect.
                time_ns = max(self._now(), self._last_ns + self._period if self._last_ns >= 0 else 0)
                tied = None if seconds is None else (time_ns, float(seconds))
            else:
                time_ns = tied[0] + round((float(seconds) - tied[1]) * 1e9)
            self._last_ns = max(time_ns, self._last_ns + 1)
            yield Shot(self._last_ns, partial(frame_rgb, frame))

    def _frames(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                if self._closed.is_set():
                    return
                try:
                    frames: list[Any] = packet.decode()
                except InvalidDataError:
                    # A packet was damaged on its way; the decoder recovers at the next keyframe.
                    continue
                yield from frames
        except (FFmpegError, OSError):
            # The decoder still holds frames that arrived before the connection was lost.
            with contextlib.suppress(FFmpegError):
                yield from self._stream.codec_context.decode(None)
            raise

    def _wait_for_return(self, reason: str) -> Outage | None:
        """Connects again; None where the feed was closed or the policy says to give up."""
        lost_at, attempt = self._now(), 0
        begin = max(self._last_ns, 0)
        while not self._closed.wait(pause_s(attempt, self._policy)):
            attempt += 1
            try:
                self._container = self._reconnect()
                self._stream = self._choose(self._container)
                return Outage(begin, max(self._now(), begin), attempt, reason)
            except InputError as error:
                away_s = (self._now() - lost_at) / 1e9
                if self._policy.give_up_s is not None and away_s >= self._policy.give_up_s:
                    self._gave_up = f"{error} (gave up after {away_s:.0f} s and {attempt} attempts)"
                    return None
        return None
