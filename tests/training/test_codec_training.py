import math

import numpy as np
import pytest
import torch

from discover_stream.codec.network import CodecConfig
from discover_stream.training.codec import (
    TrainableCodec,
    gaussian_bits,
    geometric,
    random_mask,
    round_through,
)

TINY = CodecConfig(
    stem_channels=8,
    analysis_channels=16,
    wide_channels=16,
    y_channels=16,
    z_channels=8,
    groups=(8, 8),
    hyper_channels=16,
    synthesis_channels=16,
)


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
    rounded.sum().backward()
    assert rounded.tolist() == [0.0, 2.0]
    assert value.grad is not None
    assert value.grad.tolist() == [1.0, 1.0]


def test_weights_of_the_qualities_are_geometric() -> None:
    ends = geometric((1.0, 128.0), torch.tensor([1, 2, 8]))
    assert ends.tolist() == pytest.approx([1, 2, 128])


def test_masks_range_from_almost_nothing_to_everything() -> None:
    random = np.random.default_rng(0)
    shares = [float(random_mask(random, 12).mean()) for _ in range(400)]
    assert min(shares) > 0
    assert max(shares) == 1
    assert min(shares) < 0.1
    assert 0.2 < sum(share == 1 for share in shares) / 400 < 0.5


def test_unsent_cells_cost_nothing_and_change_nothing_in_sent_ones() -> None:
    """Bits are counted for sent cells only, and context never looks at a cell outside the mask."""
    torch.manual_seed(0)
    codec = TrainableCodec(TINY).eval()
    picture = torch.rand(1, 3, 128, 128)
    quality = torch.tensor([5])
    whole = torch.ones(1, 1, 8, 8)
    nothing = torch.zeros(1, 1, 8, 8)
    with torch.no_grad():
        _, bits, z_bits = codec(picture, whole, quality)
        _, none, z_again = codec(picture, nothing, quality)
    assert float(none) == 0
    assert float(bits) > 0
    assert float(z_bits) == pytest.approx(float(z_again), rel=0.2)


def test_a_tiny_run_improves_on_unseen_data() -> None:
    torch.manual_seed(0)
    codec = TrainableCodec(TINY)
    target_of = torch.nn.Conv2d(3, 16, 8, stride=8)

    def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        small = torch.rand(4, 3, 4, 4, generator=generator)
        picture = torch.nn.functional.interpolate(small, size=64, mode="bilinear")
        with torch.no_grad():
            return picture, 3 * target_of(picture)

    quality, mask = torch.tensor([8] * 4), torch.ones(4, 1, 4, 4)

    def loss_of(seed: int) -> torch.Tensor:
        picture, target = batch(seed)
        latent, y_bits, z_bits = codec(picture, mask, quality)
        return (latent - target).pow(2).mean() + (y_bits + z_bits).mean() / 64**2

    optimizer = torch.optim.Adam(codec.parameters(), 2e-3)
    with torch.no_grad():
        before = float(loss_of(1000))
    for seed in range(40):
        optimizer.zero_grad()
        loss_of(seed).backward()
        optimizer.step()
    with torch.no_grad():
        after = float(loss_of(1000))
    assert after < 0.8 * before
