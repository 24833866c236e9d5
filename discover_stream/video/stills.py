"""Reads single pictures and folders of pictures with Pillow."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import PIL.Image
import PIL.ImageOps

from discover_stream.types import Image, InputError
from discover_stream.video.shots import Outage, Shot

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
"""File names that are read as pictures."""

DEFAULT_FPS = 10.0
"""The rate given to the pictures of a folder, which carry no times."""


def are_pictures(source: str) -> bool:
    """Whether a source is a picture or a folder of them, which need not have anything to do with each other."""
    if "://" in source and not source.lower().startswith("file://"):
        return False
    path = Path(unquote(urlsplit(source).path) if "://" in source else source)
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def read_image(path: Path) -> Image:
    """A picture file as RGB (H, W, 3); transparency is laid over white, orientation tags are applied.

    Raises InputError where the file is missing, empty, damaged, too large or no picture.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty; give a picture that was written completely")
        with warnings.catch_warnings():
            # Large pictures are refused by Pillow's hard limit; below it they are fine.
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as opened:
                opened.load()
                return to_rgb(PIL.ImageOps.exif_transpose(opened))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path") from error
    except PIL.UnidentifiedImageError as error:
        raise InputError(f"{path}: this is not a picture that can be read; give PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the picture cannot be decoded ({_one_line(error)}); give a complete copy") from error


def to_rgb(picture: PIL.Image.Image) -> Image:
    """A Pillow picture of any mode as RGB (H, W, 3) uint8."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        deep = picture.mode.startswith("I") and float(values.max(initial=0.0)) > 255
        grey = np.clip(np.round(values / 257 if deep else values), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = PIL.Image.alpha_composite(white, layer)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts `a2` before `a10`: runs of digits compare as numbers."""
    return tuple(
        (0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part.lower())
        for part in re.split(r"([0-9]+)", name)
        if part
    )


class StillFeed:
    """Pictures in files, one after another at `fps`. Unreadable ones are left out and reported."""

    def __init__(self, paths: list[Path], fps: float) -> None:
        self._paths, self.fps = paths, fps
        self._unreadable: list[str] = []
        self._open = True
        self.height, self.width = self._first_readable().shape[:2]

    @classmethod
    def of_folder(cls, folder: Path, fps: float | None) -> StillFeed:
        """The pictures of a folder in natural order. Raises InputError where there is none."""
        paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not paths:
            raise InputError(f"{folder}: the folder holds no pictures; put files such as 000000.png or .jpg in it")
        return cls(sorted(paths, key=lambda path: (natural_key(path.name), path.name)), fps or DEFAULT_FPS)

    def _first_readable(self) -> Image:
        trouble: InputError | None = None
        for path in self._paths:
            try:
                return read_image(path)
            except InputError as error:
                trouble = trouble or error
        assert trouble is not None
        raise trouble

    @property
    def problem(self) -> str | None:
        """Names the pictures that were left out."""
        if not self._unreadable:
            return None
        return f"{len(self._unreadable)} pictures were left out: {'; '.join(self._unreadable[:3])}"

    def shots(self) -> Iterator[Shot | Outage]:
        """All readable pictures; times count readable and unreadable ones alike."""
        for index, path in enumerate(self._paths):
            if not self._open:
                return
            try:
                image = read_image(path)
            except InputError as error:
                self._unreadable.append(str(error))
                continue
            yield Shot(round(index * 1e9 / self.fps), partial(_given, image))

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._open = False

    def close(self) -> None:
        """Nothing stays open between pictures."""


def _given(image: Image) -> Image:
    return image


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
