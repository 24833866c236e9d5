from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tiny_training import NANO, configuration

from discover_stream.generation.diffusion import Diffusion, build_control, build_prior, build_schedule, condition_of
from discover_stream.generation.sampling import SamplePlan, sample
from discover_stream.generation.text import TagEmbedding
from discover_stream.training.config_models import NanoModels
from discover_stream.training.config_stages import DistillStage
from discover_stream.training.distill import Distillation, distillation_loss, one_step


def steered_diffusion() -> Diffusion:
    """A frozen prior, and a control module that already does something."""
    torch.manual_seed(0)
    models = configuration(NANO).models
    assert isinstance(models, NanoModels)
    prior = build_prior(models.prior.shape).eval().requires_grad_(False)
    control = build_control(prior)
    for block in control.controlnet_down_blocks:
        torch.nn.init.normal_(block.weight, std=0.3)
    return Diffusion(prior, control, build_schedule(), TagEmbedding(8).requires_grad_(False))


def batch(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(count, 16, 1, 1, generator=generator).expand(-1, -1, 8, 8).contiguous()
    sent = torch.ones(count, 1, 8, 8)
    return (
        torch.zeros(count, 3, 64, 64),
        clean,
        clean + 0.1 * torch.randn(clean.shape, generator=generator),
        sent,
        [""] * count,
    )


def test_the_loss_is_the_distance_to_the_teacher_and_to_what_is_true() -> None:
    said, taught, clean = torch.full((1, 1, 1, 2), 1.0), torch.full((1, 1, 1, 2), 3.0), torch.zeros(1, 1, 1, 2)
    clean[..., 0] = 2.0
    # By hand: (1 - 3)^2 + 0.5 * ((1 - 2)^2 + (1 - 0)^2) / 2
    assert float(distillation_loss(said, taught, clean, 0.5)) == pytest.approx(4.5)


@torch.no_grad()
def test_one_step_is_what_the_sampler_does_in_one_step() -> None:
    diffusion = steered_diffusion()
    _, _, kept, sent, texts = batch(2, 1)
    noise = torch.randn(2, 16, 8, 8)
    said = one_step(diffusion, condition_of(kept, sent), noise, diffusion.text.encode(texts))
    assert torch.allclose(said, sample(diffusion, kept, sent, noise, texts, SamplePlan(1)), atol=1e-5)


def test_a_student_comes_closer_to_its_teacher_on_unseen_data_and_the_teacher_stays() -> None:
    diffusion = steered_diffusion()
    stage = DistillStage(out="x", steps=1, teacher_steps=3, clean_weight=0.0, tag_drop=0)  # type: ignore[arg-type]
    loss_of = Distillation(diffusion, stage, np.random.default_rng(0), autocast=nullcontext)
    kept = {key: value.clone() for key, value in loss_of.teacher.control.state_dict().items()}
    optimizer = torch.optim.Adam(diffusion.control.parameters(), lr=6e-3)

    def unseen() -> float:
        torch.manual_seed(7)
        with torch.no_grad():
            return loss_of(batch(8, 999))[1]["to_teacher"]

    before = unseen()
    for number in range(40):
        optimizer.zero_grad()
        loss_of(batch(4, number))[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert unseen() < 0.85 * before
    assert all(torch.equal(value, kept[key]) for key, value in loss_of.teacher.control.state_dict().items())
    assert diffusion.control.controlnet_down_blocks[0].weight.requires_grad
