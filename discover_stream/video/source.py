"""Opens anything that pictures come from: files, folders, simulated cameras and live streams."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qsl, unquote, urlsplit

from discover_stream.types import Frame, Image, InputError
from discover_stream.video import live, stills
from discover_stream.video.films import FilmFeed
from discover_stream.video.live import LivePolicy
from discover_stream.video.shots import Feed, Outage, Shot, nearest_to_ticks
from discover_stream.video.simulate import SCENES, SimulatedCamera


@dataclass(frozen=True, slots=True)
class Gap:
    """Part of a live stream that was never received.

    It lies between frame `after_seq` (-1: before the first) and the frame that follows; times are
    in ns since the epoch, `attempts` counts the tries to connect, `reason` is one line.
    """

    camera: str
    after_seq: int
    begin_ns: int
    end_ns: int
    attempts: int
    reason: str


class Source:
    """Frames of one camera, to be run through once; a context manager.

    `width`, `height` (pixels) and `fps` describe the input as it was opened: frames of a folder, or
    of a stream that changes, may have other sizes. `problem` tells, after the last frame, in one
    line what could not be read (a truncated file, damaged pictures); the frames before it are good.
    `gaps` lists what a live stream lost so far; `on_gap` is called for each as it is found.
    """

    def __init__(self, feed: Feed, plan: Plan, on_gap: Callable[[Gap], None] | None = None) -> None:
        self._feed, self._plan, self._on_gap = feed, plan, on_gap
        self.camera = plan.camera
        self.width, self.height = feed.width, feed.height
        self.fps = feed.fps if plan.fps is None else min(plan.fps, feed.fps)
        self._gaps: list[Gap] = []
        self._frames = self._run()
        self._turn = threading.RLock()  # one thread at a time inside the feed: FFmpeg's objects are not safe

    @property
    def problem(self) -> str | None:
        """What could not be read, in one line, or None; complete after the last frame."""
        return self._feed.problem

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What a live stream lost so far, in order."""
        return tuple(self._gaps)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        with self._turn:
            return next(self._frames)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """The iteration ends soon; whoever runs it closes the source. For other threads: does not wait."""
        self._feed.stop()

    def close(self) -> None:
        """Lets go of the file or connection; the iteration ends. May be called more than once.

        Waits while another thread is inside the iteration: what it decodes must not be freed under it.
        """
        self._feed.stop()
        with self._turn:
            # Called from inside the iteration (`on_gap`), the generator cannot be closed: it ends by itself.
            with contextlib.suppress(ValueError):
                self._frames.close()
            self._feed.close()

    def _run(self) -> Generator[Frame, None, None]:
        plan = self._plan
        shots = self._feed.shots()
        if plan.fps is not None:
            shots = nearest_to_ticks(shots, plan.fps)
        seq = plan.first_seq
        for item in shots:
            if isinstance(item, Outage):
                self._report(item, seq - 1)
                continue
            if seq >= plan.start_seq:
                yield Frame(plan.camera, seq, plan.start_ns + item.time_ns, item.load())
            seq += 1

    def _report(self, outage: Outage, after_seq: int) -> None:
        start = self._plan.start_ns
        gap = Gap(
            self.camera,
            after_seq,
            start + outage.begin_ns,
            start + outage.end_ns,
            outage.attempts,
            outage.reason,
        )
        self._gaps.append(gap)
        if self._on_gap is not None:
            self._on_gap(gap)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which frames of a feed to take, and how to number them.

    The feed's first shot has the number `first_seq`; frames before `start_seq` are skipped.
    """

    camera: str
    fps: float | None
    start_ns: int
    start_seq: int
    first_seq: int = 0


def open_source(
    uri: str | os.PathLike[str],
    *,
    camera: str,
    fps: float | None = None,
    start_ns: int | None = None,
    start_seq: int = 0,
    on_gap: Callable[[Gap], None] | None = None,
    policy: LivePolicy | None = None,
) -> Source:
    """Opens a video file, a picture, a folder of pictures, or an address (sim, rtsp, http, https).

    `fps` keeps the frame nearest to each tick of a clock at that rate; frames are never made up.
    The pictures of a folder carry no times: `fps` (default 10) is their rate. `seq` counts the kept
    frames from 0; `capture_ns` is `start_ns` plus the time since the first frame. `start_ns`
    defaults to 0, for live streams to the time of opening. `start_seq` skips the frames before it:
    the rest are the same as without it. A live stream cannot be skipped: there it is the number
    of the first frame. `sim://road?seed=3&width=640&height=352&fps=10&seconds=8` is a simulated
    camera (scenes: `simulate.SCENES`); all its settings have defaults, and it never ends without `seconds`.

    Raises InputError, in one line with path, cause and remedy, where nothing can be read.
    """
    text = os.fspath(uri)
    if not text:
        raise InputError("input: no path was given; give a video, a picture, a folder or an address")
    _check_numbers(text, fps, start_seq)
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("rtsp", "rtsps", "http", "https"):
        return _open_address(text, Plan(camera, fps, start_ns or 0, start_seq), on_gap, (policy, start_ns))
    plan = Plan(camera, fps, start_ns or 0, start_seq)
    if scheme == "sim":
        simulated = simulated_camera(text, camera)
        # Without subsampling the numbers are the simulation's own: it can start anywhere.
        first = start_seq if fps is None else 0
        plan = Plan(camera, fps, start_ns or 0, start_seq, first)
        return Source(SimulatedFeed(simulated, first), plan)
    if scheme not in ("", "file"):
        raise InputError(
            f"{text}: addresses that start with {scheme}:// cannot be read;"
            " use rtsp, http, https, sim, or the path of a file"
        )
    path = Path(unquote(urlsplit(text).path) if scheme else text)
    if path.is_dir():
        return Source(stills.StillFeed.of_folder(path, fps), Plan(camera, None, start_ns or 0, start_seq))
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; check the path")
    if not path.is_file():
        raise InputError(f"{path}: this is neither a file nor a folder; give a video, a picture or a folder")
    try:
        if path.suffix.lower() in stills.SUFFIXES:
            return Source(stills.StillFeed([path], fps or stills.DEFAULT_FPS), plan)
        return Source(FilmFeed.of_file(path), plan)
    except PermissionError as error:
        raise InputError(f"{path}: reading it is not permitted; check its permissions") from error


def simulated_camera(uri: str, camera: str) -> SimulatedCamera:
    """The simulated camera that a `sim://road?...` address describes. Raises InputError."""
    parts = urlsplit(uri)
    if parts.netloc not in SCENES or parts.path not in ("", "/"):
        known = ", ".join(f"sim://{scene}" for scene in SCENES)
        raise InputError(f"{uri}: there is no such simulated scene; use {known}")
    settings: dict[str, float] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in ("seed", "width", "height", "fps", "seconds"):
            raise InputError(f"{uri}: unknown setting {key!r}; use seed, width, height, fps or seconds")
        try:
            settings[key] = float(value) if key in ("fps", "seconds") else int(value)
        except ValueError as error:
            raise InputError(f"{uri}: {key} is {value!r}, which is not a number; give a number") from error
    return SimulatedCamera(
        camera,
        width=int(settings.get("width", 640)),
        height=int(settings.get("height", 352)),
        fps=settings.get("fps", 10.0),
        seed=int(settings.get("seed", 0)),
        duration_s=settings.get("seconds"),
        scene=parts.netloc,
    )


class SimulatedFeed:
    """Shots of a simulated camera from frame `first` on, as fast as they are taken."""

    def __init__(self, camera: SimulatedCamera, first: int = 0) -> None:
        self._camera, self._first = camera, first
        self.width, self.height, self.fps = camera.width, camera.height, camera.fps
        self._open = True

    @property
    def problem(self) -> str | None:
        """A simulation has none."""
        return None

    def shots(self) -> Iterator[Shot | Outage]:
        """Frames that are rendered only when they are loaded."""
        seq = self._first
        while self._open and (self._camera.frames is None or seq < self._camera.frames):
            yield Shot(round(seq * 1e9 / self.fps), partial(self._image, seq))
            seq += 1

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._open = False

    def close(self) -> None:
        """Ends the iteration."""
        self.stop()

    def _image(self, seq: int) -> Image:
        return self._camera.render(seq)[0].image


def _open_address(
    uri: str,
    plan: Plan,
    on_gap: Callable[[Gap], None] | None,
    options: tuple[LivePolicy | None, int | None],
) -> Source:
    policy, start_ns = options[0] or LivePolicy(), options[1]
    container = live.connect(uri, policy)
    name = live.without_secrets(uri)
    if uri.lower().startswith("http") and live.is_finite(container):
        return Source(FilmFeed(container, name), plan)
    feed = live.LiveFeed(container, name, policy, partial(live.connect, uri, policy))
    anchor = time.time_ns() if start_ns is None else start_ns
    return Source(feed, Plan(plan.camera, plan.fps, anchor, plan.start_seq, plan.start_seq), on_gap)


def _check_numbers(uri: str, fps: float | None, start_seq: int) -> None:
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{uri}: cannot take {fps} frames a second; give a number above 0")
    if start_seq < 0:
        raise InputError(f"{uri}: cannot start at frame {start_seq}; give 0 or more")
