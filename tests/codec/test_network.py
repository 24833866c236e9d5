from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import CodecConfig, checkerboard


def test_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        CodecConfig(y_channels=96, groups=(32, 32))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 50), st.integers(0, 50))
def test_the_checkerboard_belongs_to_the_frame(height: int, width: int, top: int, left: int) -> None:
    whole = checkerboard(60, 60, 0, 0)
    part = checkerboard(height, width, top, left)
    assert part.shape == (1, 1, height, width)
    assert torch.equal(part, whole[:, :, top : top + height, left : left + width])
    assert whole[0, 0, 0, 0] == whole[0, 0, 1, 1] == 1
    assert whole[0, 0, 0, 1] == 0


def random_inputs(codec: CodecModel, seed: int) -> dict[str, Any]:
    config = codec.network.config
    generator = torch.Generator().manual_seed(seed)
    height, width = (int(size) for size in torch.randint(1, 9, (2,), generator=generator))
    return {
        "psi": torch.randn(1, config.hyper_channels, height, width, generator=generator) * 2,
        "known": torch.randn(1, config.y_channels, height, width, generator=generator) * 5,
        "other": torch.randn(1, config.y_channels, height, width, generator=generator) * 500,
        "mask": (torch.rand(1, 1, height, width, generator=generator) < 0.5).float(),
    }


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.booleans())
def test_means_see_nothing_outside_the_atom(codec: CodecModel, seed: int, second: bool) -> None:
    drawn = random_inputs(codec, seed)
    mask, known = drawn["mask"], drawn["known"]
    elsewhere = known * mask + drawn["other"] * (1 - mask)
    groups = codec.network.config.groups
    for group in range(len(groups)):
        seen = sum(groups[: group + 1])
        means = [
            codec.network.context.means(group, drawn["psi"], values[:, :seen], mask, second=second)
            for values in (known, elsewhere)
        ]
        assert means[0].shape == (1, groups[group], *mask.shape[2:])
        assert torch.equal(*means)


def test_means_do_see_the_atom_the_mask_and_the_pass(codec: CodecModel) -> None:
    drawn = random_inputs(codec, 11)
    mask = torch.ones_like(drawn["mask"])
    means = codec.network.context.means
    groups = codec.network.config.groups
    known = drawn["known"]
    first = means(1, drawn["psi"], known, mask, second=False)
    assert not torch.equal(first, means(1, drawn["psi"], known, mask, second=True))
    assert not torch.equal(first, means(1, drawn["psi"], known + 1, mask, second=False))
    assert not torch.equal(first, means(1, drawn["psi"], known, 0 * mask, second=False))
    earlier_changed = known.clone()
    earlier_changed[:, : groups[0]] += 1
    assert not torch.equal(first, means(1, drawn["psi"], earlier_changed, mask, second=False))


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_synthesis_sees_nothing_that_was_not_sent(codec: CodecModel, seed: int, quality: int) -> None:
    config = codec.network.config
    generator = torch.Generator().manual_seed(seed)
    z_hat = torch.randn(1, config.z_channels, 2, 1, generator=generator)
    mask = (torch.rand(1, 1, 8, 4, generator=generator) < 0.5).float()
    inside, outside = (torch.randn(1, config.y_channels, 8, 4, generator=generator) * 9 for _ in range(2))
    level = torch.tensor([quality])
    latents = [
        codec.network.synthesise(values, mask, z_hat, level)
        for values in (inside * mask, inside * mask + outside * (1 - mask))
    ]
    assert latents[0].shape == (1, config.latent_channels, 16, 8)
    assert torch.equal(*latents)


def test_a_zero_that_was_sent_is_not_a_hole(codec: CodecModel) -> None:
    config = codec.network.config
    nothing = torch.zeros(1, config.y_channels, 4, 4)
    z_hat, level = torch.zeros(1, config.z_channels, 1, 1), torch.tensor([3])
    sent = codec.network.synthesise(nothing, torch.ones(1, 1, 4, 4), z_hat, level)
    assert not torch.equal(sent, codec.network.synthesise(nothing, torch.zeros(1, 1, 4, 4), z_hat, level))


def test_gains_are_positive_and_start_as_each_others_inverse() -> None:
    from discover_stream.codec.network import CodecNetwork

    network = CodecNetwork(CodecConfig(y_channels=12, groups=(4, 8)))
    levels = torch.arange(1, 9)
    gain, ungain = network.gain(levels), network.ungain(levels)
    assert gain.shape == ungain.shape == (8, 12, 1, 1)
    assert bool((gain > 0).all())
    assert torch.allclose(gain * ungain, torch.ones_like(gain))
    assert bool((gain[1:] > gain[:-1]).all())


def test_each_picture_of_a_batch_has_its_own_quality(codec: CodecModel) -> None:
    picture = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32))
    both = picture.repeat(2, 1, 1, 1)
    y, z = codec.network.analyse(both, torch.tensor([2, 7]))
    for index, quality in enumerate((2, 7)):
        y_alone, z_alone = codec.network.analyse(picture, torch.tensor([quality]))
        assert torch.allclose(y[index], y_alone[0], rtol=1e-3, atol=1e-3)
        assert torch.allclose(z[index], z_alone[0], rtol=1e-3, atol=1e-3)
    assert y.shape == (2, codec.network.config.y_channels, 4, 4)
    assert z.shape == (2, codec.network.config.z_channels, 1, 1)
