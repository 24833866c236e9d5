from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from discover_stream.generation.denoiser import build_denoiser
from discover_stream.generation.diffusion import DiffusionShape, build_control, build_prior
from discover_stream.generation.generators import ControlGenerator
from discover_stream.generation.render import DEFAULT_STEPS, Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import LATENT_CHANNELS, build_vae
from discover_stream.generation.weights import write_control, write_prior
from discover_stream.training.loop import write_half
from discover_stream.types import InputError, Provenance


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    write_half(build_vae(), folder / "vae.safetensors")
    write_half(build_denoiser(), folder / "denoiser.safetensors")
    return folder


@pytest.fixture(scope="module")
def renderer(weights: Path) -> Renderer:
    return Renderer.load(weights)


def latent_and_mask(width: int, height: int) -> tuple[torch.Tensor, np.ndarray]:
    torch.manual_seed(1)
    rows, columns = -(-height // 64) * 8, -(-width // 64) * 8
    sent = np.zeros((-(-height // 16), -(-width // 16)), dtype=bool)
    sent[: max(1, len(sent) // 2)] = True
    return torch.randn(1, LATENT_CHANNELS, rows, columns), sent


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (64, 64), (130, 70)])
@pytest.mark.parametrize("generate", [True, False])
def test_any_size_and_provenance(renderer: Renderer, width: int, height: int, generate: bool) -> None:
    latent, sent = latent_and_mask(width, height)
    result = renderer.render(latent, sent, width=width, height=height, camera="a", steps=1, generate=generate)
    assert result.image.shape == (height, width, 3)
    assert result.image.dtype == np.uint8
    unsent = Provenance.GENERATED if generate else Provenance.MISSING
    assert (result.provenance == np.where(sent, Provenance.SENT, unsent)).all()


def test_without_generation_the_denoiser_is_not_used(renderer: Renderer) -> None:
    latent, sent = latent_and_mask(64, 64)
    plain = renderer.render(latent, sent, width=64, height=64, camera="a", steps=1, generate=False)
    other = renderer.render(latent, sent, width=64, height=64, camera="b", steps=9, generate=False)
    assert (plain.image == other.image).all()
    generated = renderer.render(latent, sent, width=64, height=64, camera="a", steps=1)
    assert (plain.image != generated.image).any()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range_are_refused(renderer: Renderer, steps: int) -> None:
    latent, sent = latent_and_mask(64, 64)
    with pytest.raises(InputError, match=f"steps {steps} "):
        renderer.render(latent, sent, width=64, height=64, camera="a", steps=steps)


def test_machines_never_get_more_steps_than_people() -> None:
    assert 1 <= DEFAULT_STEPS["machine"] <= DEFAULT_STEPS["human"]


def test_missing_and_damaged_weights_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vae\.safetensors"):
        Renderer.load(tmp_path)
    (tmp_path / "vae.safetensors").write_bytes((weights / "vae.safetensors").read_bytes()[:-10])
    with pytest.raises(InputError, match=r"vae\.safetensors"):
        Renderer.load(tmp_path)
    (tmp_path / "vae.safetensors").write_bytes((weights / "denoiser.safetensors").read_bytes())
    with pytest.raises(InputError, match="not usable"):
        Renderer.load(tmp_path)


def test_a_control_module_beside_the_vae_is_what_renders(weights: Path, tmp_path: Path) -> None:
    shape = DiffusionShape(widths=(8, 16), text_width=8, heads=2, groups=4)
    torch.manual_seed(2)
    prior = build_prior(shape)
    control = build_control(prior)
    with torch.no_grad():
        for block in control.controlnet_down_blocks:
            block.weight.add_(0.5)
    write_prior(tmp_path / "prior.safetensors", prior, TagEmbedding(8), shape)
    write_control(tmp_path / "control.safetensors", control, shape)
    (tmp_path / "vae.safetensors").write_bytes((weights / "vae.safetensors").read_bytes())
    steered = Renderer.load(tmp_path)
    assert isinstance(steered.generator, ControlGenerator)
    latent, sent = latent_and_mask(64, 64)
    job = RenderJob(latent, np.where(sent, 4, 0).astype(np.uint8), 64, 64, "a", tags="car, bus")
    plans = [SamplePlan(2), SamplePlan(2, control=0), SamplePlan(2, guidance=5)]
    pictures = [steered.render_many([job], plan)[0].image for plan in plans]
    assert all((one != other).any() for one, other in combinations(pictures, 2))
    (tmp_path / "prior.safetensors").unlink()
    with pytest.raises(InputError, match=r"prior\.safetensors: no weights here"):
        Renderer.load(tmp_path)
