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
    """The cells that a box touches, as slices of rows and columns; empty for a box outside or without a number."""
    cut = box.clipped(columns * CELL, rows * CELL)
    if not (cut.x0 < cut.x1 and cut.y0 < cut.y1):
        return slice(0, 0), slice(0, 0)
    return (
        slice(math.floor(cut.y0 / CELL), math.ceil(cut.y1 / CELL)),
        slice(math.floor(cut.x0 / CELL), math.ceil(cut.x1 / CELL)),
    )


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
    # What lies beyond the picture's edge, in the padding of the last cells, is not part of a box.
    inside = {task: [region.box.clipped(width, height) for region in regions[task]] for task in tasks}
    valid = {box for task in tasks for box in inside[task] if box.area > 0}
    boxes = sorted(valid, key=lambda b: (b.area, b.y0, b.x0, b.y1, b.x1))
    owner = np.full((rows, columns), -1, dtype=np.int64)
    for index in range(len(boxes) - 1, -1, -1):
        owner[cells_of(boxes[index], rows, columns)] = index
    # Objects dtype holds integers of any size: one bit per task.
    covered = np.zeros((rows, columns), dtype=object)
    for bit, task in enumerate(tasks):
        cover = np.zeros((rows, columns), dtype=bool)
        for box in inside[task]:
            if box.area > 0:
                cover[cells_of(box, rows, columns)] = True
        covered[cover] += 1 << bit
    cells = list(zip(owner.ravel().tolist(), covered.ravel().tolist(), strict=True))
    kinds = {kind: number for number, kind in enumerate(sorted({cell for cell in cells if cell[1]}))}
    numbers = np.array([kinds.get(cell, -1) for cell in cells]).reshape(rows, columns)
    return tuple(
        AtomPlan(tuple(task for bit, task in enumerate(tasks) if bits >> bit & 1), numbers == number)
        for (_, bits), number in kinds.items()
    )
