"""What is written into pictures for people: the clock, what they are, and cards where there are none."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from discover_stream.types import Image

RECONSTRUCTED = "reconstructed, not evidence"
_DIM = 0.35
_SHADE = (16, 18, 22)
_INK = (240, 242, 244)


def fitted(image: Image, width: int, height: int) -> Image:
    """The picture in a film of this size: as it is where only a row or column is lacking, else scaled."""
    if image.shape[:2] == (height, width):
        return image
    missing_rows, missing_columns = height - image.shape[0], width - image.shape[1]
    if 0 <= missing_rows <= 1 and 0 <= missing_columns <= 1:
        return np.pad(image, ((0, missing_rows), (0, missing_columns), (0, 0)), mode="edge")
    return np.array(PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR))


def with_marks(image: Image, clock: str, note: str) -> Image:
    """A copy of the picture with the clock at its top and the note at its bottom, each on a dark band."""
    canvas = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(canvas)
    size = _text_size(canvas.width)
    if clock:
        _band(draw, canvas.width, 0, clock, size)
    if note:
        _band(draw, canvas.width, canvas.height - size - 4, note, size)
    return np.array(canvas)


def card(image: Image | None, width: int, height: int, text: str) -> Image:
    """What is shown where there is no picture: the last one, darkened, under words."""
    if image is None:
        ground = np.full((height, width, 3), 40, np.uint8)
    else:
        ground = (image.astype(np.float32) * _DIM).astype(np.uint8)
    canvas = PIL.Image.fromarray(ground)
    draw = PIL.ImageDraw.Draw(canvas)
    size = _text_size(width) + 2
    lines = _wrapped(text, size, width - 2 * size)[: max(1, height // (size + 4))]
    top = (height - len(lines) * (size + 4)) / 2
    for number, line in enumerate(lines):
        draw.text((width / 2, top + number * (size + 4)), line, _INK, _font(size), anchor="ma")
    return np.array(canvas)


def _band(draw: PIL.ImageDraw.ImageDraw, width: int, top: int, text: str, size: int) -> None:
    while text and _font(size).getlength(text) > width - 6 and size > 7:
        size -= 1
    length = _font(size).getlength(text)
    draw.rectangle((0, top, min(width, length + 8), top + size + 4), fill=_SHADE)
    draw.text((4, top + 1), text, _INK, _font(size))


def _wrapped(text: str, size: int, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]


def _text_size(width: int) -> int:
    return max(8, min(22, width // 46))


@lru_cache(maxsize=32)
def _font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)
