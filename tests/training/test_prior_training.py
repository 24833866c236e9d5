import numpy as np
import torch

from discover_stream.generation.diffusion import Diffusion, DiffusionShape, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding
from discover_stream.training.losses import diffusion_error
from discover_stream.training.prior import dropped, tags_of_crops, timesteps
from discover_stream.video.simulate import SimulatedCamera

TINY = DiffusionShape(latent_channels=4, widths=(16, 32), text_width=16, heads=2, groups=4)


def test_tags_name_what_the_grounder_sees() -> None:
    picture = SimulatedCamera("prior", seed=1003).render(60)[0].image
    grey = np.full_like(picture, 114)
    found = tags_of_crops(torch.from_numpy(np.stack([picture, grey])).permute(0, 3, 1, 2))
    assert "car" in found[0]
    assert found[1] == ""


def test_a_tenth_of_the_tags_are_dropped_and_some_examples_are_all_noise() -> None:
    random = np.random.default_rng(0)
    left = dropped(random, ["car"] * 5000)
    assert 0.08 < left.count("") / 5000 < 0.12
    drawn = timesteps(random, 5000, 1000)
    assert 0.22 < float((drawn == 999).float().mean()) < 0.28
    assert int(drawn.min()) < 20


def test_a_prior_learns_structure_it_has_not_seen_this_very_sample_of() -> None:
    torch.manual_seed(0)
    prior, text = build_prior(TINY), TagEmbedding(16)
    diffusion = Diffusion(prior, build_control(prior), build_schedule(), text)
    optimizer = torch.optim.Adam([*prior.parameters(), *text.parameters()], lr=3e-3)

    def examples(count: int) -> tuple[torch.Tensor, list[str]]:
        """Flat latents whose sign the tag tells."""
        signs = torch.randint(0, 2, (count,)) * 2.0 - 1
        words = ["car" if sign > 0 else "bus" for sign in signs]
        return signs.view(-1, 1, 1, 1) + 0.1 * torch.randn(count, 4, 8, 8), words

    def error(count: int, wrong: bool = False) -> torch.Tensor:
        clean, words = examples(count)
        if wrong:
            words = ["bus" if word == "car" else "car" for word in words]
        last = torch.full((count,), 999)
        return diffusion_error(diffusion, clean, torch.randn_like(clean), last, text.encode(words), None).mean()

    for _ in range(60):
        optimizer.zero_grad()
        error(8).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(error(64)) < 0.5
        assert float(error(64, wrong=True)) > 1.0
