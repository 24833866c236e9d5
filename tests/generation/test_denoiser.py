import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from discover_stream.generation.denoiser import (
    TRAIN_TIMESTEPS,
    build_denoiser,
    build_scheduler,
    predict_clean,
)
from discover_stream.generation.generators import ConcatGenerator
from discover_stream.generation.noise import cell_noise
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.vae import LATENT_CHANNELS


@pytest.fixture(scope="module")
def denoiser() -> UNet2DModel:
    torch.manual_seed(0)
    return build_denoiser().eval()


def received_latent() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(1, LATENT_CHANNELS, 8, 16), torch.ones(1, 1, 8, 16)


def test_noise_belongs_to_the_camera_the_plate_and_the_place() -> None:
    noise = cell_noise("a", 1, 16, 64, 64)
    assert not torch.equal(noise, cell_noise("b", 1, 16, 64, 64))
    assert not torch.equal(noise, cell_noise("a", 2, 16, 64, 64))
    # The same place has the same noise in a picture of another size, other places have other noise.
    assert torch.equal(noise[:, :, :8, :16], cell_noise("a", 1, 16, 8, 16))
    assert not torch.equal(noise[:, :, 1:9, :16], cell_noise("a", 1, 16, 8, 16))
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.02
    assert abs(float((noise[..., 1:, :] * noise[..., :-1, :]).mean())) < 0.02


def test_the_schedule_ends_in_pure_noise() -> None:
    """One step starts at the last timestep; it must hold no signal, or training and use would differ."""
    scheduler = build_scheduler()
    clean = torch.full((1, 1, 4, 4), 100.0)
    last = torch.tensor([TRAIN_TIMESTEPS - 1])
    assert float(scheduler.add_noise(clean, torch.zeros_like(clean), last).abs().max()) < 1e-3
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [TRAIN_TIMESTEPS - 1]


def sampled(denoiser: UNet2DModel, received: Tensor, sent: Tensor, plan: SamplePlan) -> Tensor:
    noise = cell_noise("a", 0, LATENT_CHANNELS, received.shape[2], received.shape[3])
    return ConcatGenerator(denoiser).sample(received, sent, noise, [""], plan)


@torch.inference_mode()
def test_one_step_is_the_prediction_from_noise(denoiser: UNet2DModel) -> None:
    received, sent = received_latent()
    noise = cell_noise("a", 0, LATENT_CHANNELS, 8, 16)
    expected = predict_clean(denoiser, noise, torch.tensor(TRAIN_TIMESTEPS - 1), received, sent)
    torch.testing.assert_close(sampled(denoiser, received, sent, SamplePlan(1)), expected)


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_same_input_same_output(denoiser: UNet2DModel, steps: int) -> None:
    received, sent = received_latent()
    first = sampled(denoiser, received, sent, SamplePlan(steps))
    assert torch.equal(first, sampled(denoiser, received, sent, SamplePlan(steps)))
    assert torch.isfinite(first).all()


@torch.inference_mode()
def test_mask_and_received_latent_matter(denoiser: UNet2DModel) -> None:
    received, sent = received_latent()
    base = sampled(denoiser, received, sent, SamplePlan(1))
    assert not torch.allclose(base, sampled(denoiser, received, 1 - sent, SamplePlan(1)))
    assert not torch.allclose(base, sampled(denoiser, received + 1, sent, SamplePlan(1)))


@torch.inference_mode()
def test_control_scales_what_the_denoiser_adds(denoiser: UNet2DModel) -> None:
    received, sent = received_latent()
    whole = sampled(denoiser, received, sent, SamplePlan(1))
    torch.testing.assert_close(sampled(denoiser, received, sent, SamplePlan(1, control=0)), received)
    half = sampled(denoiser, received, sent, SamplePlan(1, control=0.5))
    torch.testing.assert_close(half, (whole + received) / 2)
