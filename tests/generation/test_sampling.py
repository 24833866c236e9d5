import dataclasses

import pytest
import torch
from tiny_diffusion import tiny_diffusion

from discover_stream.generation.diffusion import Diffusion
from discover_stream.generation.sampling import ChangeBounds, ChangeReport, SamplePlan, bounded, sample, timesteps_of
from discover_stream.types import InputError, Provenance


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    models = tiny_diffusion()
    with torch.no_grad():
        for module in models.control.controlnet_down_blocks:
            module.weight.normal_(std=0.3)
        models.control.controlnet_cond_embedding.conv_out.weight.normal_()
    return models


class Oracle:
    """A prior that knows the clean latent, in the terms of its schedule."""

    def __init__(self, clean: torch.Tensor, models: Diffusion) -> None:
        self.clean, self.models = clean, models
        self.config = models.prior.config

    def __call__(self, noisy: torch.Tensor, timestep: torch.Tensor, *_: object, **__: object) -> object:
        alpha = self.models.schedule.alphas_cumprod[timestep]
        noise = (noisy - alpha.sqrt() * self.clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * self.clean
        return type("Output", (), {"sample": velocity})()


def setting() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.randn(1, 4, 8, 12), torch.ones(1, 1, 8, 12), torch.randn(1, 4, 8, 12)


@pytest.mark.parametrize("plan", [SamplePlan(1), SamplePlan(4), SamplePlan(1, start=0.4), SamplePlan(5, start=0.5)])
def test_sampling_ends_at_what_the_prior_expects(diffusion: Diffusion, plan: SamplePlan) -> None:
    received, sent, noise = setting()
    clean = torch.randn(1, 4, 8, 12)
    knowing = dataclasses.replace(diffusion, prior=Oracle(clean, diffusion))  # type: ignore[arg-type]
    # The last step ends at the schedule's first, nearly noiseless, level.
    assert torch.allclose(sample(knowing, received, sent, noise, "", plan), clean, atol=0.15)


def test_the_number_of_steps_and_the_start_decide_the_timesteps(diffusion: Diffusion) -> None:
    assert timesteps_of(diffusion.schedule, SamplePlan(1))[1].tolist() == [999]
    four = timesteps_of(diffusion.schedule, SamplePlan(4))[1].tolist()
    assert four == [999, 749, 499, 249]
    assert timesteps_of(diffusion.schedule, SamplePlan(2, start=0.5))[1].tolist() == [499, 249]


def test_sampling_repeats_to_the_bit_and_depends_on_what_was_received(diffusion: Diffusion) -> None:
    received, sent, noise = setting()
    one = sample(diffusion, received, sent, noise, "car", SamplePlan(2))
    again = sample(diffusion, received, sent, noise, "car", SamplePlan(2))
    other = sample(diffusion, received.roll(3, dims=3), sent, noise, "car", SamplePlan(2))
    unsteered = sample(diffusion, received, sent, noise, "car", SamplePlan(2, control=0))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, unsteered, atol=1e-4)


def test_guidance_pushes_away_from_the_null_condition(diffusion: Diffusion) -> None:
    received, sent, noise = setting()
    plain = sample(diffusion, received, sent, noise, "car", SamplePlan(1))
    null = sample(diffusion, received, sent, noise, "", SamplePlan(1))
    guided = sample(diffusion, received, sent, noise, "car", SamplePlan(1, guidance=3))
    assert torch.allclose(guided, null + 3 * (plain - null), atol=1e-4)
    assert torch.equal(sample(diffusion, received, sent, noise, "", SamplePlan(1, guidance=3)), null)


def test_batches_are_sampled_as_one_by_one(diffusion: Diffusion) -> None:
    received, sent, noise = setting()
    flipped = received.flip(3), sent, noise.flip(3)
    both = [torch.cat(pair) for pair in zip((received, sent, noise), flipped, strict=True)]
    together = sample(diffusion, *both, ["car", "bus"], SamplePlan(2))
    assert torch.allclose(together[:1], sample(diffusion, received, sent, noise, "car", SamplePlan(2)), atol=1e-4)
    assert torch.allclose(together[1:], sample(diffusion, *flipped, "bus", SamplePlan(2)), atol=1e-4)


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"steps": 1001}, {"start": 0.0}, {"guidance": 0.5}, {"control": -1.0}]
)
def test_plans_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="not in"):
        SamplePlan(**values)  # type: ignore[arg-type]


def test_changes_are_bounded_by_provenance_and_reported() -> None:
    received = torch.zeros(1, 2, 1, 3)
    sampled = torch.tensor([[[[3.0, -3.0, 9.0]], [[0.5, 0.1, -9.0]]]])
    provenance = torch.tensor([[[[int(Provenance.SENT), int(Provenance.PROPAGATED), int(Provenance.GENERATED)]]]])
    latent = bounded(sampled, received, provenance, ChangeBounds(sent=1.0, propagated=2.0))
    assert latent[0, 0, 0].tolist() == [1.0, -2.0, 9.0]
    assert latent[0, 1, 0].tolist() == pytest.approx([0.5, 0.1, -9.0])
    # Unless it is told otherwise, it leaves what was sent as it came.
    assert bounded(sampled, received, provenance, ChangeBounds())[0, :, 0, 0].tolist() == [0.0, 0.0]
    report = ChangeReport()
    report.add(latent[0], received[0], provenance[0])
    assert report.means() == pytest.approx({"generated": 9.0, "propagated": 1.05, "sent": 0.75})
    # Windows of a picture count by what they hold.
    report.add(latent[0, :, :, :1] * 0, received[0, :, :, :1], provenance[0, :, :, :1])
    assert report.means()["sent"] == pytest.approx(0.375)
