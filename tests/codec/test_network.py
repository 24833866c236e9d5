from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from codec_cases import SMALL, noise_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import GainUnits, checkerboard
from discover_stream.codec.still import analyse_still, picture_tensor, synthesise_still
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.pairs import Examples


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
    features = config.hyper_channels + config.reference_channels
    return {
        "psi": torch.randn(1, features, height, width, generator=generator) * 2,
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


def test_means_do_see_the_atom_the_mask_the_features_and_the_pass(codec: CodecModel) -> None:
    drawn = random_inputs(codec, 11)
    mask = torch.ones_like(drawn["mask"])
    means = codec.network.context.means
    config = codec.network.config
    known = drawn["known"]
    first = means(1, drawn["psi"], known, mask, second=False)
    assert not torch.equal(first, means(1, drawn["psi"], known, mask, second=True))
    assert not torch.equal(first, means(1, drawn["psi"], known + 1, mask, second=False))
    assert not torch.equal(first, means(1, drawn["psi"], known, 0 * mask, second=False))
    earlier_changed = known.clone()
    earlier_changed[:, : config.groups[0]] += 1
    assert not torch.equal(first, means(1, drawn["psi"], earlier_changed, mask, second=False))
    for part in (slice(config.hyper_channels), slice(config.hyper_channels, None)):
        features = drawn["psi"].clone()
        features[:, part] += 1
        assert not torch.equal(first, means(1, features, known, mask, second=False))


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_synthesis_sees_nothing_that_was_not_sent(codec: CodecModel, seed: int, quality: int) -> None:
    config = codec.network.config
    generator = torch.Generator().manual_seed(seed)
    z_hat = torch.randn(1, config.z_channels, 2, 1, generator=generator)
    mask = (torch.rand(1, 1, 8, 4, generator=generator) < 0.5).float()
    inside, outside = (torch.randn(1, config.y_channels, 8, 4, generator=generator) * 9 for _ in range(2))
    ungain = codec.network.ungain(torch.tensor([quality]))
    latents = [
        synthesise_still(codec, values * ungain, mask, z_hat)
        for values in (inside * mask, inside * mask + outside * (1 - mask))
    ]
    assert latents[0].shape == (1, config.latent_channels, 16, 8)
    assert torch.equal(*latents)


def test_a_zero_that_was_sent_is_not_a_hole(codec: CodecModel) -> None:
    config = codec.network.config
    nothing = torch.zeros(1, config.y_channels, 4, 4)
    z_hat = torch.zeros(1, config.z_channels, 1, 1)
    sent = synthesise_still(codec, nothing, torch.ones(1, 1, 4, 4), z_hat)
    assert not torch.equal(sent, synthesise_still(codec, nothing, torch.zeros(1, 1, 4, 4), z_hat))


def test_what_was_not_sent_is_drawn_from_z(codec: CodecModel) -> None:
    config = codec.network.config
    nothing, hole = torch.zeros(1, config.y_channels, 4, 4), torch.zeros(1, 1, 4, 4)
    one, two = (torch.full((1, config.z_channels, 1, 1), value) for value in (0.0, 5.0))
    assert not torch.equal(synthesise_still(codec, nothing, hole, one), synthesise_still(codec, nothing, hole, two))


def test_gains_are_positive_and_start_as_each_others_inverse() -> None:
    units = GainUnits(8, 12)
    levels = torch.arange(1, 9)
    gain, ungain = units.gain(levels), units.ungain(levels)
    assert gain.shape == ungain.shape == (8, 12, 1, 1)
    assert bool((gain > 0).all())
    assert torch.allclose(gain * ungain, torch.ones_like(gain))
    assert bool((gain[1:] > gain[:-1]).all())


@torch.no_grad()
def test_a_still_picture_is_analysed_as_one_without_a_reference(codec: CodecModel) -> None:
    picture = picture_tensor(noise_picture(60, 100, 1))
    y, symbols = analyse_still(codec, picture)
    absent = codec.network.with_flag(torch.randn(1, SMALL.latent_channels, 8, 16), torch.tensor([0]))
    y_absent, z = codec.network.analyse(picture, codec.network.reference_features(absent))
    assert y.shape == (1, SMALL.y_channels, 4, 8)
    assert symbols.shape == (SMALL.z_channels, 1, 2)
    assert torch.equal(y, y_absent)
    assert np.array_equal(symbols, (z[0] - codec.medians).round().numpy())
    assert float(y.std()) > 1
    assert np.unique(symbols).size > 5


@torch.no_grad()
def test_each_picture_of_a_batch_has_its_own_quality(codec: CodecModel, float_codec: TrainableConditional) -> None:
    """And its own kind: gains, scale indices, symbols and latents are those that it has alone."""
    picture = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32))
    alike, levels, kinds = picture.repeat(3, 1, 1, 1), torch.tensor([2, 7, 7]), torch.tensor([0, 0, 2])
    assert codec.network.gain(levels).shape == (3, codec.network.config.y_channels, 1, 1)
    trained = TrainableConditional(SMALL, contextlib.nullcontext).eval()
    trained.load_state_dict(float_codec.state_dict())
    references = torch.randn(1, SMALL.latent_channels, 8, 8).repeat(3, 1, 1, 1)
    masks = torch.ones(3, 1, 4, 4)
    batch = Examples(alike, torch.zeros_like(references), references, masks, kinds)
    flagged = trained.network.with_flag(references, kinds > 0)
    y, z = trained.network.analyse(alike, trained.network.reference_features(flagged))
    base = trained.scales.base(z.round(), levels, kinds)
    noise = torch.rand(3, SMALL.y_channels, 4, 4) - 0.5
    features = torch.randn(3, SMALL.hyper_channels + SMALL.reference_channels, 4, 4)
    hat, bits = trained.passes(y * trained.network.gain(levels), features, base, masks, noise, True)
    latents, _, z_bits = trained(batch, levels)
    for index in range(3):
        own = slice(index, index + 1)
        level, kind = levels[own], kinds[own]
        alone = trained.network.with_flag(references[own], kind > 0)
        y_alone, z_alone = trained.network.analyse(picture, trained.network.reference_features(alone))
        assert torch.allclose(y[own], y_alone, rtol=1e-3, atol=1e-3)
        assert torch.allclose(z[own], z_alone, rtol=1e-3, atol=1e-3)
        base_alone = trained.scales.base(z[own].round(), level, kind)
        assert torch.allclose(base[own], base_alone, rtol=1e-3, atol=1e-3)
        scaled = y[own] * trained.network.gain(level)
        hat_alone, bits_alone = trained.passes(scaled, features[own], base_alone, masks[own], noise[own], True)
        assert torch.allclose(hat[own], hat_alone, rtol=1e-3, atol=1e-3)
        assert torch.allclose(bits[own], bits_alone, rtol=1e-2)
        single = Examples(picture, batch.latents[own], references[own], masks[own], kind)
        latent, _, z_bit = trained(single, level)
        assert torch.allclose(latents[own], latent, rtol=1e-2, atol=1e-2)
        assert torch.allclose(z_bits[own], z_bit, rtol=1e-3)
    assert not torch.allclose(bits[0], bits[1], rtol=1e-2)
    assert not torch.allclose(bits[1], bits[2], rtol=1e-2)
    assert y.shape == (3, codec.network.config.y_channels, 4, 4)
    assert z.shape == (3, codec.network.config.z_channels, 1, 1)
