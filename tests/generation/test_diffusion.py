import pytest
import torch
from diffusers import DDIMScheduler
from tiny_diffusion import tiny_diffusion

from discover_stream.generation.diffusion import (
    Diffusion,
    build_schedule,
    clean_of,
    condition_of,
    target_of,
)


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    return tiny_diffusion()


def inputs(rows: int = 9, columns: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, rows, columns), torch.randn(2, 4, rows, columns), torch.ones(2, 1, rows, columns)


@torch.no_grad()
def test_a_fresh_control_module_changes_nothing_and_a_trained_one_does(diffusion: Diffusion) -> None:
    noisy, received, sent = inputs()
    text = diffusion.text.encode(["car", ""])
    timestep = torch.tensor(500)
    alone = diffusion.predict(noisy, timestep, text, None)
    fresh = diffusion.predict(noisy, timestep, text, condition_of(received, sent))
    assert alone.shape == noisy.shape
    assert torch.allclose(alone, fresh, atol=1e-6)
    with torch.no_grad():
        for module in diffusion.control.controlnet_down_blocks:
            module.weight.add_(0.1)
        diffusion.control.controlnet_cond_embedding.conv_out.weight.normal_()
    trained = diffusion.predict(noisy, timestep, text, condition_of(received, sent))
    silenced = diffusion.predict(noisy, timestep, text, condition_of(received, sent), strength=0.0)
    other = diffusion.predict(noisy, timestep, text, condition_of(received + 1, sent))
    assert not torch.allclose(alone, trained, atol=1e-3)
    assert torch.allclose(alone, silenced, atol=1e-6)
    assert not torch.allclose(trained, other, atol=1e-4)


@torch.no_grad()
def test_tags_reach_the_prior(diffusion: Diffusion) -> None:
    noisy, _, _ = inputs()
    one = diffusion.predict(noisy, torch.tensor(500), diffusion.text.encode(["car", "car"]), None)
    two = diffusion.predict(noisy, torch.tensor(500), diffusion.text.encode(["bus", "bus"]), None)
    assert not torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_targets_and_clean_latents_belong_together(kind: str) -> None:
    schedule = DDIMScheduler.from_config(build_schedule().config, prediction_type=kind, rescale_betas_zero_snr=False)
    torch.manual_seed(2)
    clean, noise = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    timestep = torch.tensor([1, 400, 990])
    noisy = schedule.add_noise(clean, noise, timestep)
    target = target_of(schedule, clean, noise, timestep)
    assert torch.allclose(clean_of(schedule, target, noisy, timestep), clean, atol=1e-3)
    # And they are what the sampler makes of the same prediction.
    schedule.set_timesteps(1000)
    for index, step in enumerate(timestep):
        found = schedule.step(target[index : index + 1], step, noisy[index : index + 1]).pred_original_sample
        assert torch.allclose(found, clean[index : index + 1], atol=1e-3)


def test_the_schedule_ends_without_signal() -> None:
    assert float(build_schedule().alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-7)
