from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from discover_stream.generation.norms import (
    Clock,
    FixedNorm,
    digest_of,
    fix_norms,
    group_norms,
    measure_norms,
    read_norms,
    write_norms,
)
from discover_stream.types import InputError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.SiLU(), nn.Sequential(nn.GroupNorm(4, 8)))


def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 12, 16) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)


@torch.inference_mode()
def test_on_the_picture_it_was_measured_on_a_fixed_norm_is_a_group_norm() -> None:
    plain, picture = network(), pictures()[:1]
    expected = plain(picture)
    tables = measure_norms({"net": plain}, lambda timestep: plain(picture * (1 + timestep)), (1, 0))
    clock = fix_norms({"net": plain}, tables)
    assert not group_norms({"net": plain})
    clock.timestep = 0
    torch.testing.assert_close(plain(picture), expected, rtol=1e-4, atol=1e-4)
    clock.timestep = 1
    torch.testing.assert_close(plain(picture * 2)[:, :4].std(), expected[:, :4].std(), rtol=0.2, atol=0.1)
    assert not torch.allclose(plain(picture), expected, atol=0.05)


@torch.inference_mode()
def test_a_window_comes_out_as_in_the_whole_picture() -> None:
    plain, picture = network(), pictures()[1:]
    window = picture[:, :, 3:9, 4:12]
    assert not torch.allclose(plain(picture)[:, :, 4:8, 5:11], plain(window)[:, :, 1:-1, 1:-1], atol=1e-2)
    fix_norms({"net": plain}, measure_norms({"net": plain}, lambda _: plain(pictures()), (0,)))
    torch.testing.assert_close(plain(picture)[:, :, 4:8, 5:11], plain(window)[:, :, 1:-1, 1:-1])


def test_statistics_between_two_timesteps_are_between_them() -> None:
    norm = nn.GroupNorm(1, 1, eps=0)
    table = torch.tensor([[[10.0], [104.0]], [[0.0], [1.0]]])  # mean 10, variance 4; mean 0, variance 1
    clock = Clock()
    fixed = FixedNorm(norm, table, (100, 0), clock)
    for timestep, mean, squares in ((100, 10, 104), (999, 10, 104), (0, 0, 1), (25, 2.5, 26.75)):
        clock.timestep = timestep
        expected = (7 - mean) / (squares - mean**2) ** 0.5
        assert float(fixed(torch.full((1, 1, 1, 1), 7.0)).detach()) == pytest.approx(expected, rel=1e-5)


def test_statistics_are_stored_and_refused_with_other_weights(tmp_path: Path) -> None:
    plain = network()
    tables = measure_norms({"net": plain}, lambda _: plain(pictures()), (5, 0))
    write_norms(tmp_path / "norms.safetensors", tables)
    again = read_norms(tmp_path / "norms.safetensors")
    assert (again.timesteps, again.weights) == ((5, 0), digest_of({"net": plain}))
    assert all(torch.equal(again.tables[name], table) for name, table in tables.tables.items())
    other = network()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(InputError, match="other weights"):
        fix_norms({"net": other}, again)
    (tmp_path / "norms.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"norms\.safetensors: not usable"):
        read_norms(tmp_path / "norms.safetensors")
    with pytest.raises(InputError, match="not usable"):
        read_norms(tmp_path / "absent.safetensors")
