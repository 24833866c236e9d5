import pytest
import torch
from tiny_diffusion import tiny_diffusion

from discover_stream.generation.diffusion import Diffusion
from discover_stream.training.losses import (
    diffusion_error,
    discover_loss,
    latent_error,
    mid_features,
    semantic_inconsistency,
)


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    return tiny_diffusion()


def test_discovers_loss_is_its_weighted_terms() -> None:
    rate, diffusion, latent = torch.tensor([0.1, 0.3]), torch.tensor([1.0, 0.5]), torch.tensor([0.2, 0.4])
    # By hand: 4 * 0.2 + 2 * 0.75 + 0.3
    assert float(discover_loss(rate, diffusion, latent, rate_weight=4)) == pytest.approx(2.6)


def test_the_latent_error_is_a_mean_per_picture() -> None:
    received, clean = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    received[1, 0, 0, 0] = 2.0
    assert latent_error(received, clean).tolist() == [0.0, 1.0]


def test_the_diffusion_error_is_that_of_the_velocity(diffusion: Diffusion) -> None:
    torch.manual_seed(1)
    clean, noise = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    timestep = torch.tensor([999, 300])
    text = diffusion.text.encode(["", "car"])
    errors = diffusion_error(diffusion, clean, noise, timestep, text, None)
    # At the last step nothing is left of the picture: the input is the noise, the velocity minus the picture.
    said = diffusion.prior(noise[:1], timestep[:1], text[:1]).sample
    assert float(errors[0]) == pytest.approx(float((said + clean[:1]).pow(2).mean()), rel=1e-4)
    alpha = diffusion.schedule.alphas_cumprod[300]
    noisy = alpha.sqrt() * clean[1:] + (1 - alpha).sqrt() * noise[1:]
    said = diffusion.prior(noisy, timestep[1:], text[1:]).sample
    velocity = alpha.sqrt() * noise[1:] - (1 - alpha).sqrt() * clean[1:]
    assert float(errors[1]) == pytest.approx(float((said - velocity).pow(2).mean()), rel=1e-4)


def test_semantic_inconsistency_is_one_less_the_cosine_of_the_middle(diffusion: Diffusion) -> None:
    torch.manual_seed(2)
    clean = torch.randn(2, 4, 8, 8)
    text = diffusion.text.encode(["car", "bus"]).detach()
    assert semantic_inconsistency(diffusion.prior, clean, clean, text).tolist() == pytest.approx([0, 0], abs=1e-5)
    received = (clean + torch.randn_like(clean)).requires_grad_()
    found = semantic_inconsistency(diffusion.prior, received, clean, text)
    with torch.no_grad(), mid_features(diffusion.prior) as seen:
        for latent in (clean, received):
            diffusion.prior(latent, torch.zeros(2, dtype=torch.long), text)
    one, two = (feature.flatten(2) for feature in seen)
    by_hand = 1 - ((one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))).mean(dim=1)
    assert found.tolist() == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert (found > 0).all()
    found.sum().backward()
    assert received.grad is not None
    assert received.grad.abs().sum() > 0
    assert not diffusion.prior.mid_block._forward_hooks
