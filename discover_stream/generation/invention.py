"""A score, with every decoded picture, of whether it shows something that was made up.

The decoder looks at its own picture with a detector: an object that lies in generated cells, and that no region of the
packet explains, has nothing behind it but the generator. It knows no original, so it cannot tell a real car that was
not sent from an invented one: both are objects on which nothing should be built. How often things are truly made up is
measured with originals, see `evaluation.faithfulness`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from discover_stream.generation.canvas import ProvenanceMap
from discover_stream.types import CELL, Box, Image, InputError, Provenance, Region

Finder = Callable[[Image], Sequence[Region]]
"""Finds objects in an (H, W, 3) uint8 RGB picture; labels do not matter."""


@dataclass(frozen=True, slots=True)
class InventionRules:
    """What counts as made up; all are in 0..1.

    Attributes:
        share: of an object's box that lies in generated cells, at least.
        cover: of it that a single region has to cover in order to explain it.
    """

    share: float = 0.5
    cover: float = 0.5


DEFAULT_RULES = InventionRules()


def invention_score(
    found: Sequence[Region],
    provenance: ProvenanceMap,
    explained: Sequence[Region],
    rules: InventionRules = DEFAULT_RULES,
) -> float:
    """How sure it is that at least one object has nothing behind it: 1 - prod(1 - score), 0..1.

    Args:
        found: what a detector finds in the decoded picture.
        provenance: (rows, columns) of its cells.
        explained: regions that came with it.
        rules: the thresholds.

    Raises:
        InputError: the provenance map is not one.
    """
    doubts = [
        min(1.0, one.score)
        for one in found
        if cell_share(one.box, provenance, Provenance.GENERATED) >= rules.share
        and not any(_cover(one.box, region.box) >= rules.cover for region in explained)
    ]
    return 1.0 - math.prod(1.0 - doubt for doubt in doubts)


def cell_share(box: Box, provenance: ProvenanceMap, *kinds: Provenance) -> float:
    """The share (0..1) of a box's area, inside the map, that lies in cells of the given kinds.

    Raises:
        InputError: the provenance map is not one.
    """
    if provenance.ndim != 2 or not provenance.size:
        raise InputError(f"a provenance map of shape {provenance.shape} is none; give one value per cell")
    rows, columns = provenance.shape
    down = _lengths(box.y0, box.y1, rows)
    across = _lengths(box.x0, box.x1, columns)
    area = down.sum() * across.sum()
    if area <= 0:
        return 0.0
    wanted = np.isin(provenance, [int(kind) for kind in kinds])
    return float(down @ wanted @ across / area)


def _lengths(low: float, high: float, cells: int) -> npt.NDArray[np.float64]:
    """How many pixels of an interval lie in each of a row of cells."""
    edges = np.clip(np.arange(cells + 1) * float(CELL), low, max(low, high))
    return np.diff(edges)


def _cover(box: Box, by: Box) -> float:
    """The share of a box that another one covers."""
    common = Box(max(box.x0, by.x0), max(box.y0, by.y0), min(box.x1, by.x1), min(box.y1, by.y1))
    if common.x1 <= common.x0 or common.y1 <= common.y0 or box.area <= 0:
        return 0.0
    return common.area / box.area
