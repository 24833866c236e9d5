"""The losses of the stages that have no tests of their own: autoencoder, prior, and the decoder that ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import NANO, configuration, job_of, smooth_pictures
from torch import Tensor

from discover_stream.generation.denoiser import build_denoiser
from discover_stream.generation.diffusion import Diffusion, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import VaeShape, build_vae
from discover_stream.training.config_models import NanoModels
from discover_stream.training.config_stages import VaeStage
from discover_stream.training.denoiser import denoiser_step
from discover_stream.training.prior import PriorLoss
from discover_stream.training.vae import gradient_loss, picture_loss, size_penalty, vae_loss


def test_the_terms_of_the_picture_loss_are_as_computed_by_hand() -> None:
    target, output = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 0.2], [0.0, 0.4]]]])
    # Horizontal gradients differ by 0.2 and 0.4, vertical ones by 0 and 0.2.
    assert float(gradient_loss(output, target)) == pytest.approx(0.3 + 0.1)
    assert float(picture_loss(output, target)) == pytest.approx(0.15 + 0.5 * 0.4 + 20 * (0.04 + 0.16) / 4)


def test_latents_of_unit_size_cost_nothing() -> None:
    latent = torch.ones(2, 2, 1, 1)
    latent[:, 1] = torch.tensor([2.0, 0.0]).view(2, 1, 1)
    # The first channel's mean square is 1, the second's 2.
    assert float(size_penalty(latent)) == pytest.approx(0.5)


def test_an_autoencoder_improves_on_unseen_data() -> None:
    torch.manual_seed(0)
    vae = build_vae(VaeShape(8, (1, 1, 1), (1, 1, 1)))
    stage = VaeStage(out=Path("x"), steps=1)
    optimizer = torch.optim.Adam(vae.parameters(), lr=4e-3)

    def unseen() -> float:
        with torch.no_grad():
            return float(vae_loss(vae, smooth_pictures(8, 999), stage)[0])

    before = unseen()
    for number in range(25):
        optimizer.zero_grad()
        loss, figures = vae_loss(vae, smooth_pictures(4, number), stage)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert unseen() < 0.7 * before
    assert set(figures) == {"loss", "psnr", "size"}


def test_a_prior_improves_on_unseen_data_and_tags_come_and_go() -> None:
    models = configuration(NANO).models
    assert isinstance(models, NanoModels)
    stage = {"out": "x", "steps": 1, "vae": "x", "full_noise_share": 0.5}
    job = job_of(configuration(NANO, prior=stage), "prior", Path())
    prior, text = build_prior(models.prior.shape), TagEmbedding(8)
    diffusion = Diffusion(prior, build_control(prior), build_schedule(), text)
    optimizer = torch.optim.Adam([*prior.parameters(), *text.parameters()], lr=6e-3)

    def loss(count: int, seed: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(seed)
        signs = torch.randint(0, 2, (count,)) * 2.0 - 1
        clean = signs.view(-1, 1, 1, 1).expand(-1, 16, 8, 8) + 0.1 * torch.randn(count, 16, 8, 8)
        words = ["car" if sign > 0 else "bus" for sign in signs]
        return PriorLoss(diffusion, job.stage, job.compute, np.random.default_rng(seed))(clean, words)

    with torch.no_grad():
        before = float(loss(32, 999)[0])
    for number in range(30):
        optimizer.zero_grad()
        loss(8, number)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        after, figures = loss(32, 999)
    assert float(after) < 0.85 * before
    assert set(figures) == {"error", "last"}


def test_the_decoder_that_ships_improves_on_unseen_data() -> None:
    torch.manual_seed(0)
    vae, denoiser = build_vae(VaeShape(8, (1, 1, 1), (1, 1, 1))).requires_grad_(False), build_denoiser()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=2e-3)

    def loss(count: int, seed: int) -> tuple[Tensor, dict[str, float]]:
        """Flat latents; what was received of them is half of what they are."""
        torch.manual_seed(seed)
        clean = torch.randn(count, 16, 1, 1).expand(-1, -1, 8, 8).contiguous()
        drawn = smooth_pictures(count, seed), clean, 0.5 * clean, torch.ones(count, 1, 8, 8)
        return denoiser_step(denoiser, vae, drawn, np.random.default_rng(seed), number=0)

    def unseen() -> float:
        with torch.no_grad():
            return loss(16, 999)[1]["latent"]

    before = unseen()
    for number in range(20):
        optimizer.zero_grad()
        loss(6, number)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert unseen() < 0.8 * before
