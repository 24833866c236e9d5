"""Fused networks calculate what plain ones do."""

import pytest
import torch

from discover_stream.codec.model import shipped_weights
from discover_stream.generation import straight
from discover_stream.generation.denoiser import build_denoiser
from discover_stream.generation.generators import ConcatGenerator
from discover_stream.generation.picture_decoder import TinyDecoder
from discover_stream.generation.render import Renderer
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.vae import WIDE, build_vae, decode_latent
from discover_stream.generation.windows import Window

pytestmark = pytest.mark.skipif(not straight.can_fuse(), reason="this torch has no fused convolutions")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    torch.set_num_threads(1)
    return Renderer.load(shipped_weights())


@pytest.mark.parametrize("timestep", [999, 437, 0])
@torch.inference_mode()
def test_a_denoiser_in_a_row_says_what_the_network_says(renderer: Renderer, timestep: int) -> None:
    generator = renderer.generator
    assert isinstance(generator, ConcatGenerator)
    assert generator.clock is not None
    network, x = generator.denoiser, torch.randn(2, 33, 12, 16, generator=torch.Generator().manual_seed(1))
    own = straight.StraightDenoisers(network, generator.clock).at(timestep)(x)
    generator.clock.timestep = timestep
    plain = network(x, torch.tensor(timestep)).sample
    assert float(plain.std()) > 1e-3
    assert float((own - plain).abs().max()) < 1e-4


@torch.inference_mode()
def test_samplings_are_the_same_with_and_without(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = torch.Generator().manual_seed(2)
    received, noise = (torch.randn(1, 16, 8, 12, generator=seed) for _ in range(2))
    sent = torch.ones(1, 1, 8, 12)
    fused = renderer.generator.sample(received, sent, noise, [""], SamplePlan(3))
    monkeypatch.setattr("discover_stream.generation.generators.can_fuse", lambda: False)
    plain = renderer.generator.sample(received, sent, noise, [""], SamplePlan(3))
    assert float((fused - received).abs().max()) > 0.01
    assert float((fused - plain).abs().max()) < 1e-3


@torch.inference_mode()
def test_a_fused_decoder_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = build_vae(WIDE).requires_grad_(False).eval()
    latent = torch.randn(2, 16, 9, 7, generator=torch.Generator().manual_seed(3))
    fused = TinyDecoder(vae).decode(latent, Window(0, 0, 9, 7))
    assert float((fused - decode_latent(vae, latent)).abs().max()) < 1e-4
    monkeypatch.setattr("discover_stream.generation.picture_decoder.can_fuse", lambda: False)
    assert float((fused - TinyDecoder(vae).decode(latent, Window(0, 0, 9, 7))).abs().max()) < 1e-4


def test_networks_of_another_kind_go_the_plain_way() -> None:
    assert not straight.is_straight(build_denoiser())  # its norms are not fixed
    assert not straight.is_plain_cpu(build_vae().to(torch.bfloat16))
