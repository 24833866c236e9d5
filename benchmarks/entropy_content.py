"""What the entropy benchmark codes: pictures of 640x360, ways to cut them into atoms; and where tables go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discover_stream.codec.atoms import CellMask, cell_grid, cells_of
from discover_stream.training.data import clip_first_half
from discover_stream.training.pairs import median_plate
from discover_stream.types import Box, Image
from discover_stream.video.simulate import SimulatedCamera

WIDTH, HEIGHT = 640, 360
CLIPS = ("topdown.mp4", "crossing.mp4")
"""Both are 640x360: a road from above (fixed camera), and a crowd at a crossing (hand-held)."""

OBJECTS = (
    (40, 60, 64, 48), (150, 200, 96, 64), (300, 40, 48, 40), (350, 150, 120, 80),
    (500, 250, 110, 90), (90, 290, 70, 60), (520, 80, 60, 100), (230, 280, 64, 56),
)  # fmt: skip
"""x, y, width and height of eight boxes, as a detector gives them for vehicles and people in such pictures."""


@dataclass(frozen=True)
class Content:
    """A picture (360, 640, 3), the plate of its clip, and a name."""

    name: str
    picture: Image
    plate: Image


def contents(data: Path | None) -> list[Content]:
    """One picture of each clip, from the middle of its first half; simulated streets where there are no clips."""
    found = []
    for name in CLIPS if data else ():
        path = data / "video" / name if data else Path(name)
        if path.exists():
            frames = tuple(clip_first_half(path, every=5))
            found.append(Content(path.stem, frames[len(frames) // 2], median_plate(frames)))
    for seed in (3, 8) if not found else ():
        camera = SimulatedCamera(f"street-{seed}", width=WIDTH, height=HEIGHT, seed=seed)
        frames = tuple(camera.render(index * 10)[0].image for index in range(12))
        found.append(Content(f"simulated, seed {seed}", frames[6], median_plate(frames)))
    return found


def objects() -> list[CellMask]:
    """Masks (23, 40) of eight objects; they do not overlap."""
    masks = []
    grid = cell_grid(WIDTH, HEIGHT)
    taken = np.zeros(grid, dtype=bool)
    for x, y, width, height in OBJECTS:
        mask = np.zeros_like(taken)
        mask[cells_of(Box(x, y, x + width, y + height), *grid)] = True
        mask &= ~taken
        taken |= mask
        masks.append(mask)
    return masks


def tiles() -> list[CellMask]:
    """Masks (23, 40) of the whole picture in eight tiles, cut at positions of z."""
    rows, columns = cell_grid(WIDTH, HEIGHT)
    masks = []
    for top, bottom in ((0, 12), (12, rows)):
        for left, right in ((0, 8), (8, 20), (20, 32), (32, columns)):
            mask = np.zeros((rows, columns), dtype=bool)
            mask[top:bottom, left:right] = True
            masks.append(mask)
    return masks


def write_into(page: Path, tables: dict[str, list[str]]) -> None:
    """Put tables between the markers of their names in a page."""
    text = page.read_text()
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(begin, 1)
        text = before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]
    page.write_text(text)
