from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.exact_scales import ExactContextScales, export_scales, neighbour_sums
from discover_stream.codec.scales import KINDS, ContextScales, neighbours, pass_name
from discover_stream.codec.transforms import TransformConfig

CONFIG = TransformConfig(y_channels=5, groups=(2, 3), z_channels=3, qualities=2)


def random_scales(seed: int) -> ContextScales:
    """A branch whose hidden units and indices take all values, clamps included."""
    torch.manual_seed(seed)
    scales = ContextScales(CONFIG)
    with torch.no_grad():
        for layer, gain in ((scales.first, 4.0), (scales.second, 2.0), (scales.third, 0.6)):
            layer.weight.mul_(gain)
            layer.bias.normal_(0, 2)
        scales.third.bias.add_(20)
        scales.bias.normal_(0, 5)
        for pair in scales.context.values():
            pair["hidden"].weight.mul_(3)  # type: ignore[index]
            pair["out"].weight.normal_(0, 0.4)  # type: ignore[index]
            pair["out"].bias.normal_(0, 2)  # type: ignore[index]
    return scales


def by_integers(
    weights: dict[str, torch.Tensor], base: list[int], group: int, second: bool, own: list[int], around: list[int]
) -> list[int]:
    """Indices of one cell, written again with Python's integers only; `base` in 2**-20 per channel of the group."""
    lists = {name: tensor.tolist() for name, tensor in weights.items()}
    sums = list(base)
    if own:
        name = pass_name(group, second)
        features = [256 * min(15, value) for value in own] + [256 * value for value in around]
        hidden = [
            max(0, min(255 * 256, (bias + sum(w * v for w, v in zip(line, features, strict=True)) + 2**11) >> 12))
            for line, bias in zip(lists[f"{name}.hidden.weight"], lists[f"{name}.hidden.bias"], strict=True)
        ]
        for channel, (line, bias) in enumerate(
            zip(lists[f"{name}.out.weight"], lists[f"{name}.out.bias"], strict=True)
        ):
            sums[channel] += bias + sum(w * v for w, v in zip(line, hidden, strict=True))
    return [max(0, min(SCALE_LEVELS - 1, (total + 2**19) >> 20)) for total in sums]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(0, False), (0, True), (1, False), (1, True)]), st.sampled_from([2, 40]))
def test_indices_are_what_integers_give(seed: int, which: tuple[int, bool], spread: int) -> None:
    group, second = which
    weights = export_scales(random_scales(seed))
    exact = ExactContextScales(weights, CONFIG.groups)
    random = np.random.default_rng(seed)
    z = random.integers(-spread, spread + 1, (3, 1, 2))
    base = exact.base(z, 1 + seed % 2, seed % 3)
    assert np.array_equal(base, np.floor(base))
    known = sum(CONFIG.groups[: group + second])
    sizes = random.integers(0, spread + 1, (known, 4, 8))
    found = exact.indices(base, group, second, sizes)
    start = sum(CONFIG.groups[:group])
    limited = np.minimum(sizes, 15)
    for row, column in ((0, 0), (2, 3), (3, 7)):
        around = [
            sum(
                int(limited[channel, row + dy, column + dx])
                for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
                if 0 <= row + dy < 4 and 0 <= column + dx < 8
            )
            for channel in range(known)
        ]
        cell = [int(value) for value in base[start : start + CONFIG.groups[group], row, column]]
        own = [int(value) for value in sizes[:, row, column]]
        assert found[:, row, column].tolist() == by_integers(weights, cell, group, second, own, around)


def base_by_integers(weights: dict[str, torch.Tensor], z: np.ndarray, quality: int, kind: int) -> np.ndarray:
    """`ExactContextScales.base`, written again with Python's integers only."""
    lists = {name: tensor.tolist() for name, tensor in weights.items()}
    channels, rows, columns = z.shape
    symbols, biases = z.tolist(), lists["bias"][quality - 1][kind]
    result = np.zeros((len(biases), rows * 4, columns * 4), dtype=np.int64)
    for row in range(rows):
        for column in range(columns):
            values = [
                256 * max(-127, min(127, symbols[channel][row + dy][column + dx]))
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
                result[channel, row * 4 + place // 4, column * 4 + place % 4] = total + biases[channel]
    return result


def random_z(seed: int, rows: int, columns: int, spread: float = 12.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.rint(random.normal(0, spread, (CONFIG.z_channels, rows, columns))).astype(np.int64)


def first_pass(exact: ExactContextScales, base: np.ndarray) -> np.ndarray:
    """Indices of the first pass: what follows from z alone."""
    return exact.indices(base, 0, False, np.zeros((0, *base.shape[1:]), dtype=np.int64))


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from([2, 12, 200]),
)
def test_what_z_says_is_what_integers_give(
    seed: int, rows: int, columns: int, quality: int, kind: int, spread: int
) -> None:
    weights = export_scales(random_scales(seed))
    z = random_z(seed, rows, columns, spread)
    base = ExactContextScales(weights, CONFIG.groups).base(z, quality, kind)
    assert np.array_equal(base, base_by_integers(weights, z, quality, kind))


def test_ties_go_up_everywhere() -> None:
    """Weights of whole halves of a grid step, so that most sums lie exactly between two values."""
    random = np.random.default_rng(0)
    weights = export_scales(random_scales(0))
    # 8 on the weight grid times 256 is half a step of 2**-8; 2**11 and 2**19 are half a step likewise.
    halves = {
        "first.weight": (-40, 40, 8),
        "first.bias": (-9, 9, 2**11),
        "second.weight": (-3, 3, 2**11),
        "second.bias": (-9, 9, 2**11),
        "third.weight": (-1, 2, 2**10),
        "third.bias": (20, 60, 2**19),
        "bias": (-9, 9, 2**19),
        "1b.hidden.weight": (-9, 9, 8),
        "1b.hidden.bias": (-9, 9, 2**11),
        "1b.out.weight": (-1, 2, 2**10),
        "1b.out.bias": (-9, 9, 2**19),
        # Whole hidden units, so that it is the index that is halved.
        "0b.hidden.weight": (-1, 2, 2**12),
        "0b.hidden.bias": (-9, 9, 2**20),
        "0b.out.weight": (-1, 2, 2**11),
        "0b.out.bias": (-9, 9, 2**19),
    }
    for name, (least, most, unit) in halves.items():
        weights[name] = torch.from_numpy(random.integers(least, most, weights[name].shape) * unit).int()
    exact, z = ExactContextScales(weights, CONFIG.groups), random_z(1, 3, 3)
    base = exact.base(z, 2, 1)
    assert np.array_equal(base, base_by_integers(weights, z, 2, 1))
    assert len(np.unique(first_pass(exact, base))) > 10
    for group, size, known in ((0, 2, 2), (1, 3, 5)):
        features = random.integers(0, 16, (80, 2 * known))
        cells = np.floor(random.integers(0, 90, (80, size)) * 2.0**19)
        found = exact.indices_of_rows(cells, group, True, features.astype(np.float64))
        for index, own, row in zip(found.tolist(), cells.astype(int).tolist(), features.tolist(), strict=True):
            assert index == by_integers(weights, own, group, True, row[:known], row[known:])
        if group == 0:
            assert (exact.indices_of_rows(cells - 1, group, True, features.astype(np.float64)) != found).mean() > 0.2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(0, False), (0, True), (1, False), (1, True)]))
def test_the_order_of_summation_does_not_matter(seed: int, which: tuple[int, bool]) -> None:
    group, second = which
    weights = export_scales(random_scales(seed))
    random = np.random.default_rng(seed)
    shuffled = dict(weights)
    z_order = torch.from_numpy(random.permutation(CONFIG.z_channels))
    hidden = len(weights["first.bias"])
    shuffled["first.weight"] = weights["first.weight"].view(hidden, -1, 9)[:, z_order].reshape(hidden, -1)

    def shuffle(one: str, two: str) -> None:
        """The units between two layers."""
        order = torch.from_numpy(random.permutation(len(weights[f"{one}.bias"])))
        shuffled[f"{one}.weight"] = shuffled[f"{one}.weight"][order]
        shuffled[f"{one}.bias"] = weights[f"{one}.bias"][order]
        shuffled[f"{two}.weight"] = shuffled[f"{two}.weight"][:, order]

    shuffle("first", "second")
    shuffle("second", "third")
    if group or second:
        shuffle(f"{pass_name(group, second)}.hidden", f"{pass_name(group, second)}.out")
    exact, other = ExactContextScales(weights, CONFIG.groups), ExactContextScales(shuffled, CONFIG.groups)
    z = random_z(seed, 4, 5)
    base = exact.base(z, 1, 2)
    assert np.array_equal(other.base(z[z_order.numpy()], 1, 2), base)
    sizes = random.integers(0, 20, (sum(CONFIG.groups[: group + second]), 16, 20))
    assert np.array_equal(other.indices(base, group, second, sizes), exact.indices(base, group, second, sizes))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 9), st.integers(3, 9))
def test_a_position_of_z_sees_its_neighbours_and_nothing_else(seed: int, rows: int, columns: int) -> None:
    """Other picture sizes mean other matrix shapes, and so other kernels: what is said stays."""
    exact = ExactContextScales(export_scales(random_scales(seed)), CONFIG.groups)
    z = random_z(seed, rows, columns)
    whole = exact.base(z, 2, 0)
    for row in range(1, rows - 1):
        for column in range(1, columns - 1):
            alone = exact.base(z[:, row - 1 : row + 2, column - 1 : column + 2], 2, 0)
            inner = whole[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.array_equal(alone[:, 4:8, 4:8], inner)


def test_indices_depend_on_quality_and_kind() -> None:
    exact = ExactContextScales(export_scales(random_scales(1)), CONFIG.groups)
    z = random_z(1, 2, 2)
    found = {first_pass(exact, exact.base(z, quality, kind)).tobytes() for quality in (1, 2) for kind in range(KINDS)}
    assert len(found) == 2 * KINDS


def test_far_symbols_count_as_the_limit() -> None:
    exact = ExactContextScales(export_scales(random_scales(2)), CONFIG.groups)
    z = random_z(2, 3, 3, 1000)
    base = exact.base(z, 1, 0)
    assert np.array_equal(base, exact.base(z.clip(-127, 127), 1, 0))
    sizes = np.abs(random_z(3, 12, 12, 1000))[:2]
    assert np.array_equal(exact.indices(base, 0, True, sizes), exact.indices(base, 0, True, sizes.clip(max=15)))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31))
def test_z_of_several_atoms_say_the_same_together(seed: int) -> None:
    exact = ExactContextScales(export_scales(random_scales(seed)), CONFIG.groups)
    random = np.random.default_rng(seed)
    zs = [np.rint(random.normal(0, spread, (3, *random.integers(1, 4, 2)))).astype(np.int64) for spread in (9, 0, 0.3)]
    rows, own = exact.base_rows(zs)
    start = 0
    for z in zs:
        count = z.shape[1] * z.shape[2]
        cells = rows[own[start : start + count]].reshape(*z.shape[1:], 4, 4, 5) + exact.bias(2, 1)
        start += count
        assert np.array_equal(cells.transpose(4, 0, 2, 1, 3).reshape(5, z.shape[1] * 4, -1), exact.base(z, 2, 1))


def test_own_symbols_that_are_yet_to_come_may_be_left_out() -> None:
    exact = ExactContextScales(export_scales(random_scales(1)), CONFIG.groups)
    random = np.random.default_rng(1)
    base = np.floor(random.normal(20, 8, (50, 3)) * 2.0**20)
    features = random.integers(0, 16, (50, 10)).astype(np.float64)
    features[:, 2:5] = 0
    full = exact.indices_of_rows(base, 1, True, features)
    assert np.array_equal(exact.indices_of_rows(base, 1, True, np.delete(features, np.s_[2:5], axis=1)), full)


@torch.no_grad()
def test_the_float_branch_agrees_but_for_rounding() -> None:
    """What is trained is what is used: indices differ by a step here and there, never by more."""
    scales = random_scales(3)
    exact = ExactContextScales(export_scales(scales), CONFIG.groups)
    random = np.random.default_rng(3)
    z = random.integers(-3, 4, (3, 2, 3))
    sizes = random.integers(0, 20, (5, 8, 12))
    quality, kind = torch.tensor([2]), torch.tensor([1])
    smooth = scales.base(torch.from_numpy(z).float()[None], quality, kind)
    index = scales.indices(smooth, 1, True, torch.from_numpy(sizes).float()[None])[0].round().numpy()
    found = exact.indices(exact.base(z, 2, 1), 1, True, sizes)
    assert np.abs(index - found).max() <= 1
    assert (index != found).mean() < 0.1


def test_neighbour_sums_are_those_of_training() -> None:
    values = torch.randint(0, 9, (1, 2, 4, 5)).float()
    assert np.array_equal(neighbour_sums(values[0].numpy().astype(np.float64)), neighbours(values)[0].numpy())


def test_weights_that_could_leave_exact_floats_are_refused() -> None:
    """The largest weights there are fit where sums have few terms; with many terms, those below the bound do."""
    weights = export_scales(random_scales(3))
    largest = 2**31 - 1
    for name, units, limit in (
        ("first", 27, 127 * 256),
        ("second", 96, 255 * 256),
        ("third", 96, 255 * 256),
        ("1b.hidden", 10, 60 * 256),
        ("1b.out", 64, 255 * 256),
    ):
        grown = dict(weights)
        grown[f"{name}.weight"] = torch.full_like(weights[f"{name}.weight"], largest)
        if units * limit * largest >= 2**53:
            with pytest.raises(ValueError, match=r"2\*\*53"):
                ExactContextScales(grown, CONFIG.groups)
            fitting = 2**53 // (units * limit) - 2**13
            grown[f"{name}.weight"] = torch.full_like(weights[f"{name}.weight"], fitting)
        ExactContextScales(grown, CONFIG.groups)


def test_z_biases_and_context_may_not_leave_exact_floats_together() -> None:
    weights = export_scales(random_scales(3))
    for name in ("1b.out.weight", "third.weight"):
        weights[name] = torch.full_like(weights[name], 2**30)
    with pytest.raises(ValueError, match=r"2\*\*53"):
        ExactContextScales(weights, CONFIG.groups)
    for name in ("1b.out.weight", "third.weight"):
        ExactContextScales({**weights, name: weights[name] // 2**10}, CONFIG.groups)


def test_the_largest_sums_of_the_largest_weights_are_exact() -> None:
    """Just below the bound, all symbols at their limit: the integers still agree."""
    weights = export_scales(random_scales(4))
    weights["second.weight"] = torch.full_like(weights["second.weight"], 2**53 // (255 * 256 * 96) - 2**11)
    weights["second.weight"][:, ::2] *= -1
    weights["second.weight"][:, 3] += 1
    weights["first.weight"] = weights["first.weight"].abs() + 2**14
    z = np.full((3, 2, 2), 127)
    exact = ExactContextScales(weights, CONFIG.groups)
    assert np.array_equal(exact.base(z, 1, 0), base_by_integers(weights, z, 1, 0))
    weights = export_scales(random_scales(4))
    weights["1b.out.weight"] = torch.full_like(weights["1b.out.weight"], 2**31 - 2**12)
    weights["1b.out.weight"][:, ::2] *= -1
    weights["1b.hidden.weight"] = weights["1b.hidden.weight"].abs() + 2**14
    exact, base = ExactContextScales(weights, CONFIG.groups), np.full((1, 3), 20 * 2.0**20)
    found = exact.indices_of_rows(base, 1, True, np.array([[15.0] * 5 + [60.0] * 5]))
    assert found[0].tolist() == by_integers(weights, [20 * 2**20] * 3, 1, True, [15] * 5, [60] * 5)


@pytest.mark.parametrize("value", [2.0**20, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["second.weight", "bias", "context.1b.out.weight", "context.0b.hidden.bias"])
def test_weights_that_do_not_fit_their_grid_are_refused(name: str, value: float) -> None:
    scales = random_scales(6)
    with torch.no_grad():
        scales.get_parameter(name).view(-1)[3] = value
    with pytest.raises(ValueError, match="32 bits"):
        export_scales(scales)


def test_biases_of_another_shape_are_refused() -> None:
    weights = export_scales(random_scales(0))
    with pytest.raises(ValueError, match="kinds"):
        ExactContextScales(weights, (2, 4))
