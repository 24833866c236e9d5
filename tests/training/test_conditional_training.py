import math

import numpy as np
import pytest
import torch

from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional, gaussian_bits, round_through
from discover_stream.training.pairs import Examples

TINY = TransformConfig(
    stem_channels=8,
    analysis_channels=16,
    wide_channels=16,
    y_channels=16,
    z_channels=8,
    groups=(4, 12),
    hyper_channels=16,
    reference_channels=8,
    synthesis_channels=16,
)


def examples(count: int, seed: int) -> Examples:
    """Smooth random pictures; half of them differ from their reference in one quarter only."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    # Stands for a VAE: the mean colours of each position, padded with zeros.
    small = torch.nn.functional.avg_pool2d(pictures, 8)
    latents = torch.cat([small, torch.zeros(count, 13, 8, 8)], dim=1) * 3
    references = latents.clone()
    references[:, :, :4, :4] += torch.randn(count, 16, 1, 1, generator=generator)
    masks = torch.zeros(count, 1, 4, 4)
    masks[:, :, :2, :2] = 1
    kinds = torch.arange(count) % 3
    references *= (kinds > 0).view(-1, 1, 1, 1)
    return Examples(pictures, latents, references, masks, kinds)


def loss_of(codec: TrainableConditional, batch: Examples, noisy: bool) -> torch.Tensor:
    quality = torch.full((len(batch.kinds),), 4)
    output, y_bits, z_bits = codec(batch, quality, noisy=noisy)
    return (output - batch.latents).pow(2).mean() + 1e-4 * (y_bits + z_bits).mean() / 64


@pytest.mark.parametrize(("residual", "scale"), [(0.0, 0.5), (1.3, 0.8), (-2.0, 3.0)])
def test_bits_equal_the_integral_of_the_gaussian(residual: float, scale: float) -> None:
    def cumulative(value: float) -> float:
        return 0.5 * (1 + math.erf(value / scale / math.sqrt(2)))

    expected = -math.log2(cumulative(residual + 0.5) - cumulative(residual - 0.5))
    found = gaussian_bits(torch.tensor([residual], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_rounding_passes_the_gradient() -> None:
    value = torch.tensor([0.2, 1.7], requires_grad=True)
    rounded = round_through(value)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert rounded.tolist() == [0.0, 2.0]
    assert value.grad is not None
    assert value.grad.tolist() == [1.0, 1.0]


def test_the_loss_falls_on_unseen_data() -> None:
    torch.manual_seed(0)
    codec = TrainableConditional(TINY)
    codec.start_alive(examples(12, 0))
    optimizer = torch.optim.Adam(codec.parameters(), lr=2e-3)
    unseen = examples(12, 999)
    with torch.no_grad():
        before = float(loss_of(codec, unseen, noisy=False))
    for step in range(60):
        optimizer.zero_grad()
        loss_of(codec, examples(6, step), noisy=step % 2 == 0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        after = float(loss_of(codec, unseen, noisy=False))
    assert after < 0.7 * before


@torch.no_grad()
def test_symbols_are_alive_when_training_begins() -> None:
    torch.manual_seed(0)
    codec = TrainableConditional(TINY)
    batch = examples(24, 1)
    codec.start_alive(batch)
    network = codec.network
    y, z = network.analyse(
        batch.pictures, network.reference_features(network.with_flag(batch.references, batch.kinds > 0))
    )
    quality = torch.full((24,), 4)
    spread = (y * network.gain(quality)).std(dim=(0, 2, 3))
    assert spread.numpy() == pytest.approx(np.full(16, 2.5 * np.exp(-1.2 / 7)), rel=0.05)
    assert z.std(dim=(0, 2, 3)).numpy() == pytest.approx(np.full(8, 2.0), rel=0.05)


@torch.no_grad()
def test_only_sent_cells_cost_bits() -> None:
    torch.manual_seed(0)
    codec = TrainableConditional(TINY)
    batch = examples(6, 2)
    codec.start_alive(batch)
    quality = torch.full((6,), 4)
    _, some, _ = codec(batch, quality)
    none = Examples(batch.pictures, batch.latents, batch.references, torch.zeros_like(batch.masks), batch.kinds)
    _, nothing, _ = codec(none, quality)
    assert float(some.min()) > 0
    assert nothing.tolist() == [0.0] * 6


@torch.no_grad()
def test_a_cell_that_is_not_sent_cannot_be_told_from_another() -> None:
    """With the same z, what lies outside the mask has no way into bits or latent."""
    torch.manual_seed(0)
    codec = TrainableConditional(TINY).float()
    torch.manual_seed(3)
    scaled, mask = torch.randn(1, 16, 4, 4) * 3, torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    features, base = torch.randn(1, 24, 4, 4), torch.full((1, 16, 4, 4), 20.0)
    noise = torch.zeros_like(scaled)
    one = codec.passes(scaled, features, base, mask, noise, False)
    two = codec.passes(scaled + 30 * (1 - mask), features, base, mask, noise, False)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
