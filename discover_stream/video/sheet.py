"""Pictures for people: side by side, in sheets, with boxes, and with the provenance of their cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from discover_stream.types import CELL, Box, Image, InputError, Provenance

Rgb = tuple[int, int, int]

BACKGROUND: Rgb = (24, 26, 30)
TEXT: Rgb = (236, 238, 240)
GAP = 6
"""Pixels between pictures."""

PROVENANCE_COLOURS: dict[Provenance, Rgb] = {
    Provenance.SENT: (52, 168, 83),
    Provenance.PLATE: (66, 133, 244),
    Provenance.PROPAGATED: (0, 188, 188),
    Provenance.GENERATED: (234, 124, 30),
    Provenance.MISSING: (216, 48, 60),
}
"""The tint of each class of cells."""

BOX_COLOURS: tuple[Rgb, ...] = (
    (255, 214, 10), (48, 209, 88), (100, 210, 255), (255, 105, 97), (191, 90, 242), (255, 159, 10),
)  # fmt: skip


def side_by_side(images: Sequence[Image], titles: Sequence[str]) -> Image:
    """Pictures in one row under their titles; smaller ones are centred. (H, W, 3)."""
    return contact_sheet([images], titles)


def contact_sheet(rows: Sequence[Sequence[Image]], column_titles: Sequence[str]) -> Image:
    """Rows of pictures under column titles, each cell as large as its row and column need. (H, W, 3).

    Raises InputError where there is no picture, or a row has more or fewer pictures than titles.
    """
    if not rows or not column_titles:
        raise InputError("contact sheet: there are no pictures; give at least one row and one title")
    for number, row in enumerate(rows):
        if len(row) != len(column_titles):
            raise InputError(
                f"contact sheet: row {number} has {len(row)} pictures for {len(column_titles)} titles;"
                " give one picture for each title"
            )
    widths = [max(row[column].shape[1] for row in rows) for column in range(len(column_titles))]
    heights = [max(image.shape[0] for image in row) for row in rows]
    size = _font_size(min(widths))
    band = size + 2 * GAP
    width = sum(widths) + GAP * (len(widths) + 1)
    height = band + sum(heights) + GAP * len(heights)
    canvas = PIL.Image.new("RGB", (width, height), BACKGROUND)
    draw = PIL.ImageDraw.Draw(canvas)
    left = GAP
    for title, column in zip(column_titles, widths, strict=True):
        label = _shortened(title, size, column)
        draw.text((left + column / 2, band / 2), label, TEXT, _font(size), anchor="mm")
        left += column + GAP
    top = band
    for row, row_height in zip(rows, heights, strict=True):
        left = GAP
        for image, column in zip(row, widths, strict=True):
            spot = (left + (column - image.shape[1]) // 2, top + (row_height - image.shape[0]) // 2)
            canvas.paste(PIL.Image.fromarray(image), spot)
            left += column + GAP
        top += row_height + GAP
    return np.array(canvas)


def draw_boxes(image: Image, boxes: Sequence[Box], captions: Sequence[str]) -> Image:
    """A copy of the picture with an outline and a caption for each box; equal captions share a colour.

    An empty caption leaves only the outline. Raises InputError where boxes and captions differ in number.
    """
    if len(boxes) != len(captions):
        raise InputError(f"drawing boxes: {len(boxes)} boxes but {len(captions)} captions; give one for each")
    canvas = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(canvas)
    colours = {caption: BOX_COLOURS[i % len(BOX_COLOURS)] for i, caption in enumerate(sorted(set(captions)))}
    line = 1 if image.shape[1] < 900 else 2
    size = 11 if image.shape[1] < 900 else 15
    height, width = image.shape[:2]
    for box, caption in zip(boxes, captions, strict=True):
        inside = box.clipped(width, height)
        if inside.area == 0:
            continue
        corners = (round(inside.x0), round(inside.y0), max(round(inside.x0), round(inside.x1) - 1),
                   max(round(inside.y0), round(inside.y1) - 1))  # fmt: skip
        draw.rectangle(corners, outline=colours[caption], width=line)
        if caption:
            _caption(draw, caption, (corners[0], corners[1]), size, (colours[caption], width))
    return np.array(canvas)


def overlay_provenance(image: Image, provenance_cells: npt.NDArray[np.uint8], opacity: float = 0.35) -> Image:
    """A copy of the picture with every cell tinted by where it comes from, and a legend.

    `provenance_cells` is (Hc, Wc), values of `Provenance`, one for each 16x16 pixels; it covers the
    whole picture (Hc at least H / 16 rounded up). The legend lists the classes that occur, with
    their share of the picture. Raises InputError where the cells do not fit.
    """
    height, width = image.shape[:2]
    rows, columns = -(-height // CELL), -(-width // CELL)
    if provenance_cells.ndim != 2 or provenance_cells.shape[0] < rows or provenance_cells.shape[1] < columns:
        raise InputError(
            f"provenance overlay: {provenance_cells.shape} cells do not cover {width}x{height} pixels;"
            f" give at least ({rows}, {columns})"
        )
    if int(provenance_cells.max()) > max(Provenance):
        raise InputError(f"provenance overlay: there is no class {int(provenance_cells.max())}; use 0 to 4")
    table = np.array([PROVENANCE_COLOURS[kind] for kind in sorted(Provenance)], dtype=np.float32)
    pixels = np.repeat(np.repeat(provenance_cells, CELL, axis=0), CELL, axis=1)[:height, :width]
    tinted = image.astype(np.float32) * (1 - opacity) + table[pixels] * opacity
    canvas = PIL.Image.fromarray(np.round(tinted).astype(np.uint8))
    shares = {kind: float((pixels == kind).mean()) for kind in sorted(Provenance, reverse=True)}
    _legend(canvas, {kind: share for kind, share in shares.items() if share > 0})
    return np.array(canvas)


def _legend(canvas: PIL.Image.Image, shares: dict[Provenance, float]) -> None:
    """A small box at the bottom left, left out where the picture is too small for it."""
    size = 11 if canvas.width < 900 else 15
    lines = [f"{kind.name.lower()} {share:.0%}" for kind, share in shares.items()]
    widest = max(int(_font(size).getlength(line)) for line in lines)
    width, height = widest + size + 4 * GAP // 2 + GAP, len(lines) * (size + 4) + GAP
    if canvas.width < width + 2 * GAP or canvas.height < height + 2 * GAP:
        return
    draw = PIL.ImageDraw.Draw(canvas)
    left, top = GAP, canvas.height - height - GAP
    draw.rectangle((left, top, left + width, top + height), fill=BACKGROUND)
    for index, (kind, line) in enumerate(zip(shares, lines, strict=True)):
        y = top + GAP // 2 + 2 + index * (size + 4)
        draw.rectangle((left + GAP, y, left + GAP + size - 1, y + size - 1), fill=PROVENANCE_COLOURS[kind])
        draw.text((left + 2 * GAP + size, y + size / 2), line, TEXT, _font(size), anchor="lm")


def _caption(
    draw: PIL.ImageDraw.ImageDraw, text: str, corner: tuple[int, int], size: int, style: tuple[Rgb, int]
) -> None:
    """Dark text on the box's colour, above its corner where there is room, else inside."""
    colour, width = style
    extent = int(_font(size).getlength(text)) + 4
    left = max(0, min(corner[0], width - extent))
    top = corner[1] - size - 3 if corner[1] >= size + 3 else corner[1]
    draw.rectangle((left, top, left + extent, top + size + 3), fill=colour)
    draw.text((left + 2, top + (size + 3) / 2), text, (0, 0, 0), _font(size), anchor="lm")


def _shortened(text: str, size: int, width: int) -> str:
    """The text, or its beginning and an ellipsis, so that it fits `width` pixels."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font_size(width: int) -> int:
    return max(10, min(22, width // 24))


@lru_cache(maxsize=32)
def _font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)
