"""What the demo runs on: two cameras, one of them a clip if there is one, and the system's configuration."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

from discover_stream.config import Config, parse_config
from discover_stream.types import Image, InputError
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source

MAX_SIDE = 768
"""Pixels along the longer side of the demo's pictures: a larger clip is scaled down, so that it ends soon."""

MAX_FRAMES = 2000
"""Frames of one camera at most: the demo keeps what it shows in memory."""


@dataclass(frozen=True, slots=True)
class Files:
    """What the demo leaves in its folder."""

    folder: Path

    @property
    def log(self) -> Path:
        """The embedded log with everything that flowed."""
        return self.folder / "log.db"

    @property
    def config(self) -> Path:
        """The configuration that ran."""
        return self.folder / "demo.yaml"

    @property
    def clip(self) -> Path:
        """The part of the user's clip that the first camera shows, lossless."""
        return self.folder / "clip.mkv"

    @property
    def film(self) -> Path:
        """Original, decodes and provenance side by side."""
        return self.folder / "side_by_side.mp4"

    @property
    def sheet(self) -> Path:
        """Several moments of each camera as every subscriber sees them."""
        return self.folder / "contact_sheet.png"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep the folder for one demo: make it, and remove what an earlier demo left in it; other files stay.

        Raises:
            InputError: the folder's name is that of a file, it cannot be written to, or another demo is using it.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: this is a file; give --out the name of a folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written to ({error.strerror}); choose another folder with --out"
            ) from error
        try:
            self._claim(lock)
            for path in (self.config, self.clip, self.film, self.sheet, self.report):
                path.unlink(missing_ok=True)
            for suffix in ("", "-wal", "-shm"):
                self.log.with_name(self.log.name + suffix).unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def _claim(self, lock: int) -> None:
        try:
            # The kernel lets go of it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{self.folder}: another demo is writing here; wait for its end, or choose another folder with --out"
            ) from error


@dataclass(frozen=True, slots=True)
class DemoCamera:
    """A camera of the demo: its name, where its pictures come from, how many there will be, and their width and
    height in pixels."""

    name: str
    source: str
    frames: int
    what: str
    size: tuple[int, int]


def simulated(name: str, seed: int, size: tuple[int, int], seconds: float, fps: float) -> DemoCamera:
    """A simulated road of `size` (width, height) pixels."""
    width, height = size
    frames = max(1, round(seconds * fps))
    source = f"sim://road?seed={seed}&width={width}&height={height}&fps={fps:g}&seconds={frames / fps:.9g}"
    return DemoCamera(name, source, frames, f"simulated road, {width}x{height}", size)


def cut_clip(video: str, target: Path, seconds: float, fps: float) -> DemoCamera:
    """Write the first `seconds` of a clip, at most `fps` frames a second, losslessly to `target` (.mkv).

    Pictures with a side above `MAX_SIDE` are scaled down.

    Raises:
        InputError: the clip cannot be read, or holds no picture.
    """
    count, first_ns, size = 0, 0, (0, 0)
    # Half a tick early: the frame nearest to the tick at `seconds` belongs to what follows.
    length_ns = (seconds - 0.5 / fps) * 1e9
    with open_source(video, camera="clip", fps=fps) as source, open_sink(target, fps=min(fps, source.fps)) as sink:
        for frame in source:
            first_ns = frame.capture_ns if count == 0 else first_ns
            if (count > 0 and frame.capture_ns - first_ns >= length_ns) or count == MAX_FRAMES:
                break
            image = fit_inside(frame.image, MAX_SIDE)
            size = image.shape[1], image.shape[0]
            sink.write(image)
            count += 1
        if count == 0 and source.problem:
            raise InputError(source.problem)
    original = "" if size == (source.width, source.height) else f", scaled down from {source.width}x{source.height}"
    name = camera_name(video)
    return DemoCamera(name, str(target.resolve()), count, f"{Path(video).name}, {size[0]}x{size[1]}{original}", size)


def fit_inside(image: Image, side: int) -> Image:
    """The picture, scaled down where one of its sides exceeds `side` pixels; (H, W, 3)."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return image
    scale = side / max(height, width)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(PIL.Image.fromarray(image).resize(small, PIL.Image.Resampling.LANCZOS))


def camera_name(video: str) -> str:
    """A camera's name made from a clip's: lower-case letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", Path(video).stem.lower()).strip("-")[:40].rstrip("-")
    return plain if plain and plain != SECOND_CAMERA else "clip"


FIRST_CAMERA, SECOND_CAMERA = "road-east", "road-west"


def plan_cameras(video: str | None, seconds: float, fps: float, files: Files) -> tuple[DemoCamera, DemoCamera]:
    """The two cameras: the clip or a simulated road, and another simulated road.

    Raises:
        InputError: see `cut_clip`.
    """
    first = (
        simulated(FIRST_CAMERA, 5, (640, 352), seconds, fps)
        if video is None
        else cut_clip(video, files.clip, seconds, fps)
    )
    return first, simulated(SECOND_CAMERA, 3, (512, 288), seconds, fps)


def demo_config(base: Config, cameras: tuple[DemoCamera, ...], log: Mapping[str, Any], *, decoders: int) -> Config:
    """The configuration of the demo: that of `base` but for cameras, `log` and the number of decoding processes, and
    with pixels for every task, since it shows what each of them sees."""
    content = base.model_dump(mode="json")
    content["log"] = dict(log)
    content["cameras"] = [{"name": camera.name, "source": camera.source} for camera in cameras]
    content["tasks"] = [{**task, "deliver": "pixels"} for task in content["tasks"]]
    content["pools"] |= {"decode": decoders}
    return parse_config(yaml.safe_dump(content), "of the demo")


def write_config(config: Config, path: Path) -> None:
    """Write a configuration that `discover run`, `subscribe` and `replay` can read."""
    content: Mapping[str, object] = config.model_dump(mode="json", exclude_none=True)
    path.write_text("# What `discover demo` ran.\n" + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
