import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.exact_scales import ExactContextScales, export_scales, neighbour_sums
from discover_stream.codec.scales import ContextScales, neighbours, pass_name
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


def test_weights_that_could_leave_the_exact_range_are_refused() -> None:
    weights = export_scales(random_scales(0))
    weights["1b.out.weight"] = torch.full_like(weights["1b.out.weight"], 2**31 - 1)
    ExactContextScales(weights, CONFIG.groups)  # large, but far from 2**53
    scales = random_scales(0)
    with torch.no_grad():
        scales.third.weight.fill_(1e9)
    with pytest.raises(ValueError, match="does not fit"):
        export_scales(scales)


def test_biases_of_another_shape_are_refused() -> None:
    weights = export_scales(random_scales(0))
    with pytest.raises(ValueError, match="kinds"):
        ExactContextScales(weights, (2, 4))
