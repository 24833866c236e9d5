from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discover_stream.codec.exact import (
    SCALE_LARGEST,
    SCALE_LEVELS,
    SCALE_SMALLEST,
    ExactScales,
    ScaleBranch,
    export_branch,
    scale_table,
)
from discover_stream.codec.network import CodecConfig

CONFIG = CodecConfig(y_channels=3, groups=(1, 2), z_channels=3)


def random_branch(seed: int) -> ScaleBranch:
    """A branch whose hidden units and indices take all values, clamps included."""
    torch.manual_seed(seed)
    branch = ScaleBranch(CONFIG)
    with torch.no_grad():
        for layer, gain in ((branch.first, 4.0), (branch.second, 2.0), (branch.third, 0.6)):
            layer.weight.mul_(gain)
            layer.bias.normal_(0, 2)
        branch.third.bias.add_(20)
        branch.bias.normal_(0, 5)
    return branch


def random_symbols(seed: int, rows: int, columns: int, spread: float = 12.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.rint(random.normal(0, spread, (CONFIG.z_channels, rows, columns))).astype(np.int64)


def by_integers(weights: dict[str, Tensor], symbols: np.ndarray, quality: int) -> np.ndarray:
    """The same branch, written again with Python's integers only."""
    lists = {name: tensor.tolist() for name, tensor in weights.items()}
    channels, rows, columns = symbols.shape
    z = symbols.tolist()
    width = len(lists["quality.bias"][0])
    result = np.zeros((width, rows * 4, columns * 4), dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            values = [
                256 * max(-127, min(127, z[channel][row + dy][column + dx]))
                if 0 <= row + dy < rows and 0 <= column + dx < columns
                else 0
                for channel in range(channels)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            for name in ("first", "second"):
                sums = [
                    bias + sum(weight * value for weight, value in zip(line, values, strict=True))
                    for line, bias in zip(lists[f"{name}.weight"], lists[f"{name}.bias"], strict=True)
                ]
                # From 2**-20 to 2**-8, halves go up.
                values = [max(0, min(255 * 256, (total + 2**11) >> 12)) for total in sums]
            for index, (line, bias) in enumerate(zip(lists["third.weight"], lists["third.bias"], strict=True)):
                channel, place = divmod(index, 16)
                total = bias + sum(weight * value for weight, value in zip(line, values, strict=True))
                total += lists["quality.bias"][quality - 1][channel]
                step = max(0, min(47, (total + 2**19) >> 20))
                result[channel, row * 4 + place // 4, column * 4 + place % 4] = step
    return result


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.sampled_from([2, 12, 200]))
def test_indices_are_what_integers_give(seed: int, rows: int, columns: int, quality: int, spread: int) -> None:
    weights = export_branch(random_branch(seed))
    symbols = random_symbols(seed, rows, columns, spread)
    assert np.array_equal(ExactScales(weights).indices(symbols, quality), by_integers(weights, symbols, quality))


def test_ties_go_up_everywhere() -> None:
    """Weights of whole halves of a grid step, so that most sums lie exactly between two values."""
    random = np.random.default_rng(0)
    shapes = {name: tensor.shape for name, tensor in export_branch(random_branch(0)).items()}
    weights = {
        # 8 on the weight grid times 256 is half a step of 2**-8; 2**11 and 2**19 are half a step likewise.
        "first.weight": torch.from_numpy(random.integers(-40, 40, shapes["first.weight"]) * 8).int(),
        "first.bias": torch.from_numpy(random.integers(-9, 9, shapes["first.bias"]) * 2**11).int(),
        "second.weight": torch.from_numpy(random.integers(-3, 3, shapes["second.weight"]) * 2**11).int(),
        "second.bias": torch.from_numpy(random.integers(-9, 9, shapes["second.bias"]) * 2**11).int(),
        "third.weight": torch.from_numpy(random.integers(-1, 2, shapes["third.weight"]) * 2**10).int(),
        "third.bias": torch.from_numpy(random.integers(20, 60, shapes["third.bias"]) * 2**19).int(),
        "quality.bias": torch.from_numpy(random.integers(-9, 9, shapes["quality.bias"]) * 2**19).int(),
    }
    symbols = random_symbols(1, 3, 3)
    indices = ExactScales(weights).indices(symbols, 3)
    assert np.array_equal(indices, by_integers(weights, symbols, 3))
    assert len(np.unique(indices)) > 10


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_the_order_of_summation_does_not_matter(seed: int, quality: int) -> None:
    weights = export_branch(random_branch(seed))
    symbols = random_symbols(seed, 4, 5)
    indices = ExactScales(weights).indices(symbols, quality)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(96))
    channels = torch.tensor([2, 0, 1])
    shuffled = dict(weights)
    first = weights["first.weight"].view(96, 3, 9)[:, channels].reshape(96, 27)
    shuffled["first.weight"], shuffled["first.bias"] = first[order], weights["first.bias"][order]
    shuffled["second.weight"] = weights["second.weight"][order][:, order]
    shuffled["second.bias"] = weights["second.bias"][order]
    shuffled["third.weight"] = weights["third.weight"][:, order]
    assert np.array_equal(ExactScales(shuffled).indices(symbols[channels.numpy()], quality), indices)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(3, 9), st.integers(3, 9))
def test_a_cell_sees_its_neighbours_and_nothing_else(seed: int, rows: int, columns: int) -> None:
    """Other picture sizes mean other matrix shapes, and so other kernels: the indices stay."""
    scales = ExactScales(export_branch(random_branch(seed)))
    symbols = random_symbols(seed, rows, columns)
    whole = scales.indices(symbols, 2)
    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            alone = scales.indices(symbols[:, row - 1 : row + 2, column - 1 : column + 2], 2)
            inner = whole[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.array_equal(alone[:, 4:8, 4:8], inner)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_the_exact_branch_is_the_trained_one_within_a_step(seed: int, quality: int) -> None:
    branch = random_branch(seed)
    symbols = random_symbols(seed, 5, 6)
    with torch.no_grad():
        trained = branch(torch.from_numpy(symbols)[None].float(), torch.tensor([quality]))[0].numpy()
    indices = ExactScales(export_branch(branch)).indices(symbols, quality).astype(int)
    # What trains is continuous; half a step is rounding, the rest is what the grid does to weights.
    assert np.quantile(np.abs(indices - trained), 0.99) <= 1
    assert np.abs(indices - trained).mean() <= 0.3
    assert indices.max() - indices.min() > 20


def test_indices_depend_on_the_quality() -> None:
    scales = ExactScales(export_branch(random_branch(1)))
    symbols = random_symbols(1, 2, 2)
    assert len({scales.indices(symbols, quality).tobytes() for quality in range(1, 9)}) == 8


def test_far_symbols_count_as_the_limit() -> None:
    scales = ExactScales(export_branch(random_branch(2)))
    symbols = random_symbols(2, 3, 3, 1000)
    assert np.array_equal(scales.indices(symbols, 1), scales.indices(symbols.clip(-127, 127), 1))


def test_weights_that_could_leave_exact_floats_are_refused() -> None:
    weights = export_branch(random_branch(3))
    fitting = 2**53 // (127 * 256 * 27) // 2
    for name, limit in (("first", fitting), ("second", 2**53 // (255 * 256 * 96) // 2)):
        grown = dict(weights)
        grown[f"{name}.weight"] = torch.full_like(weights[f"{name}.weight"], 2**31 - 1)
        if limit < 2**31 - 1:
            with pytest.raises(ValueError, match="2\\*\\*53"):
                ExactScales(grown)
            grown[f"{name}.weight"] = torch.full_like(weights[f"{name}.weight"], limit)
        ExactScales(grown)


def test_the_largest_sums_of_the_largest_weights_are_exact() -> None:
    """Just below the bound, all symbols at their limit: the integers still agree."""
    weights = export_branch(random_branch(4))
    weights["second.weight"] = torch.full_like(weights["second.weight"], 2**53 // (255 * 256 * 96) - 2**11)
    weights["second.weight"][:, ::2] *= -1
    weights["second.weight"][:, 3] += 1
    weights["first.weight"] = weights["first.weight"].abs() + 2**14
    symbols = np.full((3, 2, 2), 127)
    assert np.array_equal(ExactScales(weights).indices(symbols, 1), by_integers(weights, symbols, 1))


@pytest.mark.parametrize("value", [2.0**20, float("inf"), float("nan")])
def test_weights_that_do_not_fit_their_grid_are_refused(value: float) -> None:
    branch = copy.deepcopy(random_branch(6))
    with torch.no_grad():
        branch.second.weight[3, 4] = value
    with pytest.raises(ValueError, match="32 bits"):
        export_branch(branch)


def test_the_scales_of_the_table_are_geometric() -> None:
    table = np.array(scale_table())
    assert len(table) == SCALE_LEVELS
    assert table[0] == pytest.approx(SCALE_SMALLEST)
    assert table[-1] == pytest.approx(SCALE_LARGEST)
    assert np.allclose(np.diff(np.log(table)), np.log(table[1] / table[0]))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8)),
        min_size=1,
        max_size=4,
    )
)
def test_frames_of_several_cameras_at_once_get_the_indices_of_one_by_one(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    """Also where z is zero in places: such neighbourhoods are computed once for all frames."""
    exact = ExactScales(export_branch(random_branch(4)))
    frames = [random_symbols(seed, rows, columns, (12.0, 0.3, 0.0)[seed % 3]) for seed, rows, columns, _ in drawn]
    qualities = [quality for *_, quality in drawn]
    found = exact.indices_all(frames, qualities)
    for frame, quality, index in zip(frames, qualities, found, strict=True):
        assert np.array_equal(index, by_integers(export_branch(random_branch(4)), frame, quality))
