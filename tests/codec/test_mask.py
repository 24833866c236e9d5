from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.mask import bounds_of, read_mask, write_mask
from discover_stream.types import BitstreamError

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.booleans())


def coded(mask: CellMask) -> bytes:
    writer = BitWriter()
    write_mask(writer, mask)
    return writer.bytes()


@given(masks, st.binary(max_size=3))
def test_any_mask_with_a_cell_comes_back(mask: CellMask, after: bytes) -> None:
    assume(mask.any())
    data = coded(mask)
    reader = BitReader(data + after)
    assert np.array_equal(read_mask(reader, *mask.shape), mask)
    assert reader.consumed_bytes() == len(data)


@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_a_full_rectangle_costs_its_corners_and_one_bit(data: st.DataObject, rows: int, columns: int) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    mask = np.zeros((rows, columns), dtype=bool)
    mask[top:bottom, left:right] = True
    assert bounds_of(mask) == (slice(top, bottom), slice(left, right))
    bits = 2 * max(1, (rows - 1).bit_length()) + 2 * max(1, (columns - 1).bit_length()) + 1
    assert len(coded(mask)) == -(-bits // 8)
    assert np.array_equal(read_mask(BitReader(coded(mask)), rows, columns), mask)


@given(st.integers(1, 12), st.integers(1, 12), st.binary(min_size=1, max_size=24))
def test_any_bytes_are_a_mask_in_its_one_form_or_refused(rows: int, columns: int, data: bytes) -> None:
    reader = BitReader(data)
    try:
        mask = read_mask(reader, rows, columns)
        used = reader.consumed_bytes()
    except BitstreamError:
        return
    assert mask.shape == (rows, columns)
    assert mask.any()
    assert coded(mask) == data[:used]


@given(masks)
def test_a_cut_mask_is_refused(mask: CellMask) -> None:
    assume(mask.any())
    data = coded(mask)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            read_mask(BitReader(data[:length]), *mask.shape)


def runs(*lengths: int, height: int = 2, width: int = 2) -> BitReader:
    """The code of a height x width rectangle at the corner of a 4 x 4 grid, with the given runs."""
    writer = BitWriter()
    for value in (0, 0, height - 1, width - 1):
        writer.put(value, 2)
    writer.put(0, 1)
    for length in lengths:
        writer.put_gamma(length + 1)
    return BitReader(writer.bytes() + b"\0")


def test_runs_are_read_in_row_order_from_cells_that_belong() -> None:
    assert read_mask(runs(0, 1, 2, 1), 4, 4)[:2, :2].tolist() == [[False, True], [True, False]]
    assert read_mask(runs(3, 1), 4, 4)[:2, :2].tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    "reader",
    [
        runs(4),  # a full rectangle has a shorter form
        runs(0, 0, 3, 1),  # runs of nothing
        runs(1, 0, 2, 1),
        runs(2, 3),  # more cells than the rectangle has
        runs(5),
        runs(0, 4),  # no cell at all
        runs(2, 2),  # the second row is empty
        runs(0, 1, 1, 1, 1),  # the first column is empty
    ],
)
def test_other_forms_are_refused(reader: BitReader) -> None:
    with pytest.raises(BitstreamError):
        read_mask(reader, 4, 4)


def test_a_rectangle_outside_the_grid_is_refused() -> None:
    writer = BitWriter()
    for value in (2, 0, 1, 0):
        writer.put(value, 2)
    writer.put(1, 1)
    with pytest.raises(BitstreamError, match="outside"):
        read_mask(BitReader(writer.bytes()), 3, 4)
