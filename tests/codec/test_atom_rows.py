from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.atom_rows import AtomRows, places_in


def random_atoms(seed: int) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """Masks of a few atoms of different sizes, some of them empty, and corners."""
    random = np.random.default_rng(seed)
    masks = [
        random.random((random.integers(1, 13), random.integers(1, 13))) < random.choice([0, 0.3, 0.8, 2])
        for _ in range(random.integers(1, 5))
    ]
    return masks, [(int(top), int(left)) for top, left in random.integers(0, 4, (len(masks), 2))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_each_row_knows_its_neighbours_and_its_colour(seed: int) -> None:
    masks, corners = random_atoms(seed)
    rows = AtomRows(masks, corners)
    cells = [(atom, r, c) for atom, mask in enumerate(masks) for r, c in np.argwhere(mask)]
    numbers = {cell: number for number, cell in enumerate(cells)}
    assert len(rows) == len(cells)
    for number, (atom, r, c) in enumerate(cells):
        around = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        assert [numbers.get((atom, *place), len(cells)) for place in around] == list(rows.around[:, number])
        assert rows.anchors[number] == ((r + c + sum(corners[atom])) % 2 == 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 13), st.integers(1, 13), st.integers(0, 99))
def test_each_cell_knows_its_place_in_z(seed: int, height: int, width: int, first: int) -> None:
    """Of a picture's cells, too, which may end before those of its last positions of z do."""
    mask = np.random.default_rng(seed).random((height, width)) < (0, 0.3, 2)[seed % 3]
    places = places_in(mask, first)
    assert len(places) == mask.sum()
    for place, (row, column) in zip(places.tolist(), np.argwhere(mask).tolist(), strict=True):
        position, within = divmod(place, 16)
        assert position == first + row // 4 * -(-width // 4) + column // 4
        assert within == row % 4 * 4 + column % 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_coding_order_is_atom_by_atom_channel_by_channel_in_row_order(seed: int, second: bool) -> None:
    masks, corners = random_atoms(seed)
    rows = AtomRows(masks, corners)
    random = np.random.default_rng(seed)
    grids = [random.integers(-9, 10, (3, *mask.shape)) for mask in masks]
    values = rows.gather(grids)[rows.of_pass(second)]
    expected = []
    for grid, mask, (top, left) in zip(grids, masks, corners, strict=True):
        colour = np.add.outer(np.arange(mask.shape[0]) + top, np.arange(mask.shape[1]) + left) % 2
        expected.append(grid[:, mask & (colour == second)].ravel())
    assert rows.coding_order(values, second).tolist() == np.concatenate(expected).tolist()
    assert np.array_equal(rows.from_coding_order(np.concatenate(expected), 3, second), values)
    assert [3 * count for count in rows.counts(second)] == [len(part) for part in expected]
    for grid, back, mask in zip(grids, rows.grids(rows.gather(grids)), masks, strict=True):
        assert np.array_equal(back, grid * mask)
