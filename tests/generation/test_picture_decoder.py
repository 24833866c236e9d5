from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_diffusion import stable_folder, tiny_diffusion, tiny_kl

from discover_stream.generation.canvas import Canvas
from discover_stream.generation.diffusion import build_control
from discover_stream.generation.generators import ControlGenerator
from discover_stream.generation.norms import measure_norms, write_norms
from discover_stream.generation.picture_decoder import KlDecoder, TinyDecoder
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.vae import LATENT_CHANNELS, WIDE, build_vae, decode_latent
from discover_stream.generation.weights import load_stable
from discover_stream.generation.windows import Window
from discover_stream.types import InputError, Provenance


@torch.inference_mode()
def test_all_of_a_latent_decodes_as_the_autoencoder_does() -> None:
    torch.manual_seed(0)
    vae = build_vae(WIDE).eval()
    latent = torch.randn(2, LATENT_CHANNELS, 8, 12)
    expected = decode_latent(vae, latent)
    torch.testing.assert_close(TinyDecoder(vae).decode(latent, Window(0, 0, 8, 12)), expected)
    stable = tiny_kl()
    latent = torch.randn(1, 4, 6, 8)
    expected = stable.decode(latent / stable.config["scaling_factor"]).sample.add(1).div(2)
    torch.testing.assert_close(KlDecoder(stable).decode(latent, Window(0, 0, 6, 8)), expected)


@torch.inference_mode()
def test_with_margins_as_wide_as_layers_look_a_window_decodes_exactly() -> None:
    torch.manual_seed(0)
    vae = build_vae().eval()
    latent = torch.randn(1, LATENT_CHANNELS, 32, 40)
    whole = decode_latent(vae, latent)
    inner = Window(14, 16, 4, 6)
    outer = inner.grown(14, (32, 40))
    rows, columns = inner.slices(8)
    for margins, same in (((5, 2), True), ((0, 0), False)):
        part = TinyDecoder(vae, margins).decode(latent[:, :, *outer.slices()], inner.within(outer))
        assert part.shape == (1, 3, 32, 48)
        assert torch.allclose(part, whole[:, :, rows, columns], atol=1e-4) == same


@torch.inference_mode()
def test_stable_diffusion_renders_from_a_folder(tmp_path: Path) -> None:
    folder = stable_folder(tmp_path)
    with pytest.raises(InputError, match="control module cannot be loaded"):
        Renderer.load(folder)
    control = build_control(load_stable(folder).prior)
    with torch.no_grad():
        for block in control.controlnet_down_blocks:
            block.weight.add_(0.5)
    control.save_pretrained(folder / "controlnet")
    plain = Renderer.load(folder)
    assert not plain.local
    latent = torch.randn(1, 4, 16, 24)
    provenance = np.full((7, 12), Provenance.SENT, np.uint8)
    job = RenderJob(latent, provenance, 190, 110, "a", tags="car")
    (one,) = plain.render_many([job], SamplePlan(2, guidance=2))
    assert one.image.shape == (110, 190, 3)
    # Measured on this latent, the fixed norms decode it as the plain ones do, and windows nearly so.
    networks = {**plain.generator.networks, **plain.decoder.networks}

    def run(timestep: int) -> None:
        plain.generator.probe(latent, torch.ones(1, 1, 16, 24), torch.randn(latent.shape), timestep)
        plain.decoder.decode(latent, Window(0, 0, 16, 24))

    write_norms(folder / "norms.safetensors", measure_norms(networks, run, (999, 0)))
    fixed = Renderer.load(folder)
    assert fixed.local
    (same,) = fixed.render_many([job], SamplePlan(1), generate=False)
    (expected,) = plain.render_many([job], SamplePlan(1), generate=False)
    assert int(np.abs(same.image.astype(int) - expected.image).max()) <= 1
    active = np.zeros((7, 12), bool)
    active[3:5, 5:7] = True
    canvas = Canvas(np.zeros_like(same.image), np.zeros((7, 12), np.uint8), active)
    (region,) = fixed.render_many([RenderJob(latent, provenance, 190, 110, "a", canvas=canvas)], SamplePlan(1))
    assert region.image[56:72, 88:104].any()
    assert not region.image[:, :32].any()


def test_parts_of_different_latents_are_refused() -> None:
    with pytest.raises(InputError, match="channels"):
        Renderer.of(ControlGenerator(tiny_diffusion()), TinyDecoder(build_vae()))
    assert Renderer.of(ControlGenerator(tiny_diffusion()), KlDecoder(tiny_kl())).windows.reach == 8
