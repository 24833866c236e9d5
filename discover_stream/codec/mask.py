"""The mask that every atom carries: a rectangle of cells plus exceptions.

Layout: top, left, height - 1, width - 1 in as many bits as the grid needs; one bit that says whether
the rectangle is full; otherwise the lengths of runs in row order, starting with a run of cells that
belong to the atom (length + 1 in Elias gamma code, so that the first run may be empty), until the
rectangle is covered.
"""

from __future__ import annotations

import numpy as np

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.types import BitstreamError


def _coordinate_bits(size: int) -> int:
    return max(1, (size - 1).bit_length())


def bounds_of(mask: CellMask) -> tuple[slice, slice]:
    """The smallest rectangle (rows, columns) that holds all cells of a mask with at least one."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def write_mask(writer: BitWriter, mask: CellMask) -> None:
    """Append a non-empty mask (rows, columns)."""
    rows, columns = bounds_of(mask)
    row_bits, column_bits = (_coordinate_bits(size) for size in mask.shape)
    writer.put(rows.start, row_bits)
    writer.put(columns.start, column_bits)
    writer.put(rows.stop - rows.start - 1, row_bits)
    writer.put(columns.stop - columns.start - 1, column_bits)
    inside = mask[rows, columns].ravel()
    writer.put(int(inside.all()), 1)
    if inside.all():
        return
    edges = np.flatnonzero(np.diff(inside)) + 1
    lengths = np.diff([0, *edges, inside.size])
    if not inside[0]:
        lengths = np.concatenate([[0], lengths])
    for length in lengths:
        writer.put_gamma(int(length) + 1)


def read_mask(reader: BitReader, rows: int, columns: int) -> CellMask:
    """The mask (rows, columns) that comes next.

    Raises:
        BitstreamError: it does not fit the grid, or is not the shortest form of itself.
    """
    row_bits, column_bits = _coordinate_bits(rows), _coordinate_bits(columns)
    top, left = reader.take(row_bits), reader.take(column_bits)
    height, width = reader.take(row_bits) + 1, reader.take(column_bits) + 1
    if top + height > rows or left + width > columns:
        raise BitstreamError("an atom's rectangle lies outside the picture")
    mask = np.zeros((rows, columns), dtype=bool)
    if reader.take(1):
        mask[top : top + height, left : left + width] = True
        return mask
    size = height * width
    inside = np.zeros(size, dtype=bool)
    position, value, first = 0, True, True
    while position < size:
        length = reader.take_gamma(size + 1) - 1
        if (length == 0 and not first) or position + length > size:
            raise BitstreamError("an atom's runs do not fit its rectangle")
        inside[position : position + length] = value
        position += length
        value, first = not value, False
    if inside.all():
        raise BitstreamError("an atom's full rectangle is written as runs")
    mask[top : top + height, left : left + width] = inside.reshape(height, width)
    if not inside.any() or bounds_of(mask) != (slice(top, top + height), slice(left, left + width)):
        raise BitstreamError("an atom's rectangle is larger than its cells")
    return mask
