"""Which cells form which atom: a pure decision over regions.

Still mode (the papers' mode): the cells of a frame are partitioned by the box that owns them and by
the set of tasks whose boxes cover them. So each cell is coded once, a task gets exactly the cells
its boxes cover, and an atom is usually one object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from discover_stream.types import CELL, Box, Region

CellMask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AtomPlan:
    """Cells to be coded together.

    Attributes:
        tasks: the tasks that get the atom, sorted.
        mask: (rows, columns) of the frame's cells, true where a cell belongs to the atom.
    """

    tasks: tuple[str, ...]
    mask: CellMask


def cell_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of cells that cover a picture of `width` x `height` pixels."""
    return math.ceil(height / CELL), math.ceil(width / CELL)


def cells_of(box: Box, rows: int, columns: int) -> tuple[slice, slice]:
    """The cells that a box touches, as slices of rows and columns; empty for a box outside."""
    top = max(0, math.floor(box.y0 / CELL))
    left = max(0, math.floor(box.x0 / CELL))
    bottom = min(rows, math.ceil(box.y1 / CELL))
    right = min(columns, math.ceil(box.x1 / CELL))
    if box.area <= 0:
        return slice(0, 0), slice(0, 0)
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def plan_atoms(regions: Mapping[str, Sequence[Region]], width: int, height: int) -> tuple[AtomPlan, ...]:
    """Partition the cells that any task's boxes cover.

    A cell belongs to the smallest box that covers it, the earlier one of equal boxes: small boxes are
    mostly objects in front of, or parts of, larger ones.

    Args:
        regions: per task, its regions in this frame.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Returns:
        Atoms in a fixed order, by owner and then by tasks. Their masks do not overlap.
    """
    rows, columns = cell_grid(width, height)
    tasks = sorted(regions)
    boxes = sorted({r.box for task in tasks for r in regions[task]}, key=lambda b: (b.area, b.y0, b.x0, b.y1, b.x1))
    owner = np.full((rows, columns), -1, dtype=np.int64)
    for index in range(len(boxes) - 1, -1, -1):
        owner[cells_of(boxes[index], rows, columns)] = index
    # Objects dtype holds integers of any size: one bit per task.
    covered = np.zeros((rows, columns), dtype=object)
    for bit, task in enumerate(tasks):
        cover = np.zeros((rows, columns), dtype=bool)
        for region in regions[task]:
            cover[cells_of(region.box, rows, columns)] = True
        covered[cover] += 1 << bit
    kinds = sorted({(o, c) for o, c in zip(owner.ravel().tolist(), covered.ravel().tolist(), strict=True) if c})
    plans = []
    for own, bits in kinds:
        members = tuple(task for bit, task in enumerate(tasks) if bits >> bit & 1)
        plans.append(AtomPlan(members, np.asarray((owner == own) & (covered == bits), dtype=bool)))
    return tuple(plans)
