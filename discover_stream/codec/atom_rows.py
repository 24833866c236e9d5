"""Cells of several atoms as rows of one table, so that the exact branch runs once for all of them.

Atoms have grids of any size with masks. What the branch needs of a cell is its own symbols, those of its four
neighbours within the same atom, whether it is an anchor of the checkerboard, and which cell of z's output it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.network import Z_TO_Y

Rows = npt.NDArray[np.intp]
Whole = TypeVar("Whole", np.int64, np.uint8)


class AtomRows:
    """Where the cells of some atoms are: atom after atom, each in row order, only cells of its mask.

    Attributes:
        masks: of the atoms, (h, w) each.
        around: (4, cells) rows of the neighbours of each cell; the number of cells where there is none.
        anchors: (cells,) which are anchors: row + column of the grid that the checkerboard belongs to is even.
    """

    def __init__(self, masks: Sequence[CellMask], corners: Sequence[tuple[int, int]]) -> None:
        """For masks, and the places (row, column) of their first cells in the checkerboard."""
        self.masks = masks
        self._counts = [int(np.count_nonzero(mask)) for mask in masks]
        total = sum(self._counts)
        self.around = np.empty((4, total), dtype=np.intp)
        self.anchors = np.empty(total, dtype=np.bool_)
        start = 0
        for mask, (top, left), count in zip(masks, corners, self._counts, strict=True):
            own = slice(start, start + count)
            height, width = mask.shape
            rows, columns = np.nonzero(mask)
            numbers = np.full((height + 2) * (width + 2), total, dtype=np.intp)
            middle = (rows + 1) * (width + 2) + columns + 1
            numbers[middle] = np.arange(start, start + count)
            for side, step in enumerate((-width - 2, width + 2, -1, 1)):
                self.around[side, own] = numbers[middle + step]
            self.anchors[own] = (rows + columns + top + left) % 2 == 0
            start += count
        self._of_pass = (np.flatnonzero(self.anchors), np.flatnonzero(~self.anchors))
        ends = np.cumsum([0, *self._counts])
        self._splits: list[list[int]] = [np.diff(np.searchsorted(part, ends)).tolist() for part in self._of_pass]

    def __len__(self) -> int:
        return len(self.anchors)

    def of_pass(self, second: bool) -> Rows:
        """Rows of the cells of a pass, ascending: anchors, or the others."""
        return self._of_pass[second]

    def counts(self, second: bool) -> list[int]:
        """How many cells of a pass each atom has."""
        return self._splits[second]

    def spread(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What each atom has, (atoms, C), for each of its cells, (cells, C)."""
        return np.repeat(values, self._counts, axis=0)

    def coding_order(self, values: npt.NDArray[Whole], second: bool) -> npt.NDArray[Whole]:
        """Values (cells of the pass, C) as they are coded, flat: atom after atom, channel by channel, in row order."""
        flat, start = np.empty(values.size, dtype=values.dtype), 0
        for count in self._splits[second]:
            own = values[start : start + count]
            flat[start * values.shape[1] : (start + count) * values.shape[1]] = own.T.ravel()
            start += count
        return flat

    def from_coding_order(self, flat: npt.NDArray[np.int64], size: int, second: bool) -> npt.NDArray[np.int64]:
        """What `coding_order` made of values (cells of the pass, `size`)."""
        values, start = np.empty((len(self._of_pass[second]), size), dtype=flat.dtype), 0
        for count in self._splits[second]:
            own = flat[start * size : (start + count) * size]
            values[start : start + count] = own.reshape(size, count).T
            start += count
        return values

    def gather(self, grids: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        """Grids (C, h, w) of the atoms as rows (cells, C)."""
        return np.concatenate([grid[:, mask].T for grid, mask in zip(grids, self.masks, strict=True)])

    def grids(self, values: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Rows (cells, C) as one grid (C, h, w) per atom, zero outside its mask."""
        result, start = [], 0
        for mask, count in zip(self.masks, self._counts, strict=True):
            grid = np.zeros((values.shape[1], *mask.shape), dtype=values.dtype)
            grid[:, mask] = values[start : start + count].T
            result.append(grid)
            start += count
        return result


def places_in(mask: CellMask, first: int = 0) -> Rows:
    """(cells of the mask,) position of z and cell within its 4x4 cells, as position * 16 + cell, in row order.

    Args:
        mask: (h, w), which z covers: its positions are -(-w // 4) a row.
        first: number of the first position.
    """
    rows, columns = np.nonzero(mask)
    position = first + (rows // Z_TO_Y) * -(-mask.shape[1] // Z_TO_Y) + columns // Z_TO_Y
    places: Rows = position * Z_TO_Y**2 + (rows % Z_TO_Y) * Z_TO_Y + columns % Z_TO_Y
    return places
