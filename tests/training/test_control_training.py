import numpy as np
import pytest
import torch
from tiny_training import SMALL_CODEC

from discover_stream.generation.diffusion import Diffusion, DiffusionShape, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import LATENT_CHANNELS, VaeShape, build_vae
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.control import control_step, received
from discover_stream.training.data import CropSampler
from discover_stream.training.pairs import PairBank, Scene, Sources, median_plate
from discover_stream.video.simulate import SimulatedCamera

TINY = DiffusionShape(widths=(16, 24), text_width=8, heads=2, groups=8)


@pytest.fixture(scope="module")
def bank() -> PairBank:
    torch.manual_seed(0)
    camera = SimulatedCamera("control", seed=1004, fps=5, width=352, height=224)
    frames = tuple(camera.render(index)[0].image for index in range(20))
    crops = CropSampler(list(frames), [1.0] * len(frames), crop=192, seed=0)
    return PairBank(Sources((Scene(frames, median_plate(frames)),), crops), build_vae(VaeShape(8)), 12, seed=0)


def test_a_bank_is_coded_once_and_drawn_as_it_was_coded(bank: PairBank) -> None:
    torch.manual_seed(0)
    codec = TrainableConditional(SMALL_CODEC).eval()
    coded = received(bank, codec, np.random.default_rng(0))
    assert coded.latents.shape == bank.latents.shape
    assert len(coded.texts) == 12
    pictures, clean, kept, sent, texts = coded.draw(np.random.default_rng(1), 5)
    assert pictures.shape == (5, 3, 192, 192)
    assert clean.shape == kept.shape == (5, LATENT_CHANNELS, 24, 24)
    assert sent.shape == (5, 1, 24, 24)
    assert len(texts) == 5
    index = int((bank.latents.float() - clean[0]).abs().sum(dim=(1, 2, 3)).argmin())
    assert torch.equal(kept[0], coded.latents[index].float())
    assert texts[0] == coded.texts[index]


def test_control_learns_what_was_received_and_the_prior_stays() -> None:
    torch.manual_seed(0)
    prior = build_prior(TINY).eval().requires_grad_(False)
    diffusion = Diffusion(prior, build_control(prior), build_schedule(), TagEmbedding(8).requires_grad_(False))
    vae = build_vae(VaeShape(8)).requires_grad_(False)
    before = {key: value.clone() for key, value in prior.state_dict().items()}
    optimizer = torch.optim.Adam(diffusion.control.parameters(), lr=1e-2)
    random = np.random.default_rng(0)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        signs = torch.randint(0, 2, (count, 1, 1, 1)) * 2.0 - 1
        clean = signs.expand(-1, LATENT_CHANNELS, 8, 8).contiguous()
        return torch.rand(count, 3, 64, 64), clean, clean.clone(), torch.ones(count, 1, 8, 8), [""] * count

    def one_step() -> float:
        with torch.no_grad():
            torch.manual_seed(5)
            return float(control_step(diffusion, vae, batch(24), np.random.default_rng(3), 1)[1]["one_step"])

    untrained = one_step()
    for number in range(60):
        optimizer.zero_grad()
        control_step(diffusion, vae, batch(8), random, number)[0].backward()
        optimizer.step()
    assert one_step() < 0.85 * untrained
    assert all(torch.equal(value, before[key]) for key, value in prior.state_dict().items())
