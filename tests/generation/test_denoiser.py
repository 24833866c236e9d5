import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from discover_stream.generation.denoiser import (
    TRAIN_TIMESTEPS,
    build_denoiser,
    build_scheduler,
    camera_noise,
    denoise,
    predict_clean,
)
from discover_stream.generation.vae import LATENT_CHANNELS


@pytest.fixture(scope="module")
def denoiser() -> UNet2DModel:
    torch.manual_seed(0)
    return build_denoiser().eval()


def received_latent() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(1, LATENT_CHANNELS, 8, 16), torch.ones(1, 1, 8, 16)


def test_noise_depends_on_the_camera_alone() -> None:
    assert torch.equal(camera_noise("a", 8, 16), camera_noise("a", 8, 16))
    assert not torch.equal(camera_noise("a", 8, 16), camera_noise("b", 8, 16))
    noise = camera_noise("a", 64, 64)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_the_schedule_ends_in_pure_noise() -> None:
    """One step starts at the last timestep; it must hold no signal, or training and use would differ."""
    scheduler = build_scheduler()
    clean = torch.full((1, 1, 4, 4), 100.0)
    last = torch.tensor([TRAIN_TIMESTEPS - 1])
    assert float(scheduler.add_noise(clean, torch.zeros_like(clean), last).abs().max()) < 1e-3
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [TRAIN_TIMESTEPS - 1]


@torch.inference_mode()
def test_one_step_is_the_prediction_from_noise(denoiser: UNet2DModel) -> None:
    received, sent = received_latent()
    expected = predict_clean(denoiser, camera_noise("a", 8, 16), torch.tensor(TRAIN_TIMESTEPS - 1), received, sent)
    torch.testing.assert_close(denoise(denoiser, received, sent, "a", 1), expected)


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_same_input_same_output(denoiser: UNet2DModel, steps: int) -> None:
    received, sent = received_latent()
    first = denoise(denoiser, received, sent, "a", steps)
    assert torch.equal(first, denoise(denoiser, received, sent, "a", steps))
    assert torch.isfinite(first).all()


@torch.inference_mode()
def test_mask_and_received_latent_matter(denoiser: UNet2DModel) -> None:
    received, sent = received_latent()
    base = denoise(denoiser, received, sent, "a", 1)
    assert not torch.allclose(base, denoise(denoiser, received, 1 - sent, "a", 1))
    assert not torch.allclose(base, denoise(denoiser, received + 1, sent, "a", 1))
