from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.exact import (
    ACTIVATION_LIMIT,
    SCALE_LARGEST,
    SCALE_LEVELS,
    SCALE_SMALLEST,
    Z_LIMIT,
    activated,
    distinct_patches,
    on_grid,
    patches_of,
    scale_index,
    scale_table,
)

LARGEST_SUM = 2**53 - 2**32


def sums_around(unit: int, most: int) -> st.SearchStrategy[list[int]]:
    """Integers up to the bound of exact floats, many of them on a half of `unit` or just beside it."""
    halves = st.builds(lambda steps, off: unit * steps + unit // 2 + off, st.integers(-3, most + 3), st.integers(-1, 1))
    return st.lists(st.one_of(halves, st.integers(-LARGEST_SUM, LARGEST_SUM)), min_size=1, max_size=50)


@given(sums_around(2**12, 255 * 256))
def test_activations_are_rounded_and_clamped_as_integers_are(sums: list[int]) -> None:
    found = activated(np.array(sums, dtype=np.float64))
    assert found.tolist() == [max(0, min(int(ACTIVATION_LIMIT) * 256, (value + 2**11) >> 12)) for value in sums]


@given(sums_around(2**20, SCALE_LEVELS))
def test_scale_indices_are_rounded_and_clamped_as_integers_are(sums: list[int]) -> None:
    found = scale_index(np.array(sums, dtype=np.float64))
    assert found.dtype == np.uint8
    assert found.tolist() == [max(0, min(SCALE_LEVELS - 1, (value + 2**19) >> 20)) for value in sums]


def test_ties_go_up() -> None:
    halves = np.array([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert activated(halves * 2**12).tolist() == [0, 0, 1, 2, 3]
    assert scale_index(halves * 2**20).tolist() == [0, 0, 1, 2, 3]


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=20), st.sampled_from([12, 20]))
def test_weights_go_to_the_nearest_of_the_grid(values: list[float], bits: int) -> None:
    found = on_grid(torch.tensor(values, dtype=torch.float64), 2.0**bits)
    assert found.dtype == torch.int32
    assert (np.abs(found.numpy() / 2**bits - np.array(values)) <= 0.5 / 2**bits).all()


@pytest.mark.parametrize("value", [2.0**19, -(2.0**19), math.inf, -math.inf, math.nan])
def test_weights_that_do_not_fit_their_grid_are_refused(value: float) -> None:
    weights = torch.zeros(3, 4)
    weights[1, 2] = value
    with pytest.raises(ValueError, match="32 bits"):
        on_grid(weights, 2.0**12)


def test_the_scales_of_the_table_are_geometric() -> None:
    table = np.array(scale_table())
    assert len(table) == SCALE_LEVELS
    assert table[0] == pytest.approx(SCALE_SMALLEST)
    assert table[-1] == pytest.approx(SCALE_LARGEST)
    assert np.allclose(np.diff(np.log(table)), np.log(table[1] / table[0]))


def random_symbols(seed: int, rows: int, columns: int, spread: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.rint(random.normal(0, spread, (3, rows, columns))).astype(np.int64)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 5), st.sampled_from([2, 90]))
def test_a_patch_is_a_position_and_its_neighbours(seed: int, rows: int, columns: int, spread: float) -> None:
    """Channel by channel, in row order: nothing beyond the edge, far symbols as the limit."""
    symbols = random_symbols(seed, rows, columns, spread)
    found = patches_of(symbols)
    assert found.shape == (rows * columns, 27)
    for row in range(rows):
        for column in range(columns):
            expected = [
                max(-Z_LIMIT, min(Z_LIMIT, int(symbols[channel, row + dy, column + dx])))
                if 0 <= row + dy < rows and 0 <= column + dx < columns
                else 0
                for channel in range(3)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            assert found[row * columns + column].tolist() == expected


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4),
    st.sampled_from([9.0, 0.3, 0.0]),
)
def test_patches_of_several_are_those_of_each_and_zeros_are_there_once(
    drawn: list[tuple[int, int, int]], spread: float
) -> None:
    zs = [random_symbols(*one, spread) for one in drawn]
    patches, own = distinct_patches(zs)
    assert np.array_equal(patches[own], np.concatenate([patches_of(z) for z in zs]))
    assert not patches[0].any()
    assert patches[1:].any(axis=1).all()
