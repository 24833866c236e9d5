"""Writes pictures to films, folders and single files; nothing half-written under the final name."""

from __future__ import annotations

import math
import os
import shutil
import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
import av.container
import numpy as np
import PIL.Image
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace

from discover_stream.types import Image, InputError

_FFV1_OPTIONS = {"level": "3", "slicecrc": "1"}
_MP4_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "18", "preset": "medium"}),
    ("libopenh264", {}),
)


class ImageSink(Protocol):
    """Takes pictures (H, W, 3) one after another, all of one size; a context manager.

    The result appears under its name at `close`; leaving the context with an exception, or
    `discard`, removes what was written and leaves an older file of that name alone.
    """

    def write(self, image: Image) -> None:
        """Adds a picture. Raises InputError where its size differs or the disk refuses it."""
        ...

    def close(self) -> None:
        """Finishes the film or folder and gives it its name."""
        ...

    def discard(self) -> None:
        """Removes what was written."""
        ...

    def __enter__(self) -> ImageSink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_sink(path: str | os.PathLike[str], *, fps: float) -> ImageSink:
    """Opens what the name asks for: .mp4 (H.264), .mkv (lossless), .png (one picture) or a folder.

    A folder is a name without suffix, one that ends with a slash, or a folder that exists; its
    pictures are 000000.png and so on. Raises InputError for other names and places that cannot be
    written to.
    """
    text = os.fspath(path)
    if not text:
        raise InputError("output: no name was given; give one that ends in .mp4, .mkv or .png, or a folder name")
    target = Path(text)
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{text}: cannot write {fps} frames a second; give a number above 0")
    suffix = target.suffix.lower()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if text.endswith(("/", os.sep)) or suffix == "" or target.is_dir():
            return FolderSink(target)
        if suffix in (".mp4", ".mkv"):
            return FilmSink(target, fps)
        if suffix == ".png":
            return PictureSink(target)
    except (OSError, FFmpegError) as error:
        raise _refused(target, error) from error
    raise InputError(
        f"{text}: pictures cannot be written as {suffix}; use .mp4, .mkv (lossless), .png or a folder name"
    )


class _Sink:
    """What all sinks share: a temporary name beside the final one, and one size for all pictures."""

    def __init__(self, target: Path, suffix: str) -> None:
        self._target = target
        self._partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part{suffix}"
        self._shape: tuple[int, ...] | None = None
        self._count = 0
        self._done = False

    def __enter__(self) -> _Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, image: Image) -> None:
        """Adds a picture (H, W, 3)."""
        if self._done:
            raise InputError(f"{self._target}: it was closed already; open it again to write more")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"{self._target}: a picture has to be (H, W, 3) uint8, this one is {image.shape}")
        if self._shape not in (None, image.shape):
            raise InputError(f"{self._target}: {_size(image.shape)} follows {_size(self._shape)}; use one size")
        try:
            self._write(image)
        except (OSError, FFmpegError) as error:
            raise _refused(self._target, error) from error
        self._shape = image.shape
        self._count += 1

    def close(self) -> None:
        """Finishes and gives the result its name; a sink that got no picture leaves nothing."""
        if self._done:
            return
        if self._count == 0:
            self.discard()
            raise InputError(f"{self._target}: no picture was written, so there is no file; check the input")
        self._done = True
        try:
            self._finish()
            self._publish()
        except (OSError, FFmpegError) as error:
            self._remove()
            raise _refused(self._target, error) from error

    def discard(self) -> None:
        """Removes what was written."""
        if not self._done:
            self._done = True
            self._abandon()
            self._remove()

    def _write(self, image: Image) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Completes what is under the temporary name."""

    def _abandon(self) -> None:
        """Lets go of open files without caring for the result."""

    def _publish(self) -> None:
        os.replace(self._partial, self._target)

    def _remove(self) -> None:
        self._partial.unlink(missing_ok=True)


class PictureSink(_Sink):
    """One PNG."""

    def __init__(self, target: Path) -> None:
        super().__init__(target, ".png")

    def _write(self, image: Image) -> None:
        if self._count:
            raise InputError(f"{self._target}: one .png holds one picture; give a folder or .mp4 for more")
        PIL.Image.fromarray(image).save(self._partial, format="PNG")


class FolderSink(_Sink):
    """A folder of numbered PNGs. Pictures of a folder that exists are replaced, other files are kept."""

    def __init__(self, target: Path) -> None:
        super().__init__(target, "")
        if target.exists() and not target.is_dir():
            raise InputError(f"{target}: this is a file; give the name of a folder, or .mp4, .mkv, .png")
        self._partial.mkdir()

    def _write(self, image: Image) -> None:
        PIL.Image.fromarray(image).save(self._partial / f"{self._count:06d}.png", compress_level=3)

    def _publish(self) -> None:
        if not self._target.exists():
            os.replace(self._partial, self._target)
            return
        for old in self._target.glob("[0-9][0-9][0-9][0-9][0-9][0-9].png"):
            old.unlink()
        for picture in sorted(self._partial.iterdir()):
            os.replace(picture, self._target / picture.name)
        self._partial.rmdir()

    def _remove(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


class FilmSink(_Sink):
    """A film: .mp4 is H.264 yuv420p for browsers (odd sizes repeat the last row or column), .mkv is FFV1."""

    def __init__(self, target: Path, fps: float) -> None:
        super().__init__(target, target.suffix.lower())
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._lossless = target.suffix.lower() == ".mkv"
        options = {} if self._lossless else {"movflags": "+faststart"}
        self._container = av.open(str(self._partial), "w", options=options)
        self._stream: av.VideoStream | None = None

    def _write(self, image: Image) -> None:
        stream = self._stream or self._start(image)
        if self._lossless:
            # FFV1 knows RGB only with a fourth, unused channel, in the order blue, green, red.
            pixels = np.zeros((*image.shape[:2], 4), np.uint8)
            pixels[:, :, :3] = image[:, :, ::-1]
            frame = av.VideoFrame.from_ndarray(pixels, format="bgra").reformat(format="bgr0")
        else:
            odd = ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0))
            even = np.ascontiguousarray(np.pad(image, odd, mode="edge"))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts = self._count
        frame.time_base = 1 / self._rate
        self._container.mux(stream.encode(frame))

    def _start(self, image: Image) -> av.VideoStream:
        height, width = image.shape[:2]
        name, options = ("ffv1", dict(_FFV1_OPTIONS)) if self._lossless else mp4_encoder()
        stream = self._container.add_stream(name, rate=self._rate, options=options)
        assert isinstance(stream, av.VideoStream)
        if self._lossless:
            stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        else:
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            # What PyAV converts to; without the tag players guess from the size.
            stream.codec_context.colorspace = int(Colorspace.ITU601)
            stream.codec_context.color_range = int(ColorRange.MPEG)
        self._stream = stream
        return stream

    def _finish(self) -> None:
        assert self._stream is not None
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _abandon(self) -> None:
        self._container.close()


def mp4_encoder() -> tuple[str, dict[str, str]]:
    """The H.264 encoder of the installed PyAV and its options. Raises InputError where there is none."""
    for name, options in _MP4_ENCODERS:
        if name in av.codecs_available:
            try:
                av.Codec(name, "w")
            except (FFmpegError, ValueError):
                continue
            return name, dict(options)
    raise InputError(".mp4: the installed PyAV has no H.264 encoder; write .mkv, or install PyAV's own wheel")


def _size(shape: tuple[int, ...] | None) -> str:
    return f"{shape[1]}x{shape[0]}" if shape else "nothing"


def _refused(target: Path, error: BaseException) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{target}: it cannot be written ({reason}); check the folder, its permissions and the disk")
