import dataclasses
from pathlib import Path

import pytest
import torch
from test_joint_training import examples, tiny_models
from tiny_training import NANO, SMALL_CODEC, configuration, job_of, joint_section, smooth_pictures

from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.joint import JointLoss
from discover_stream.training.pairs import Examples


def batch_of(kinds: list[int]) -> Examples:
    pictures = smooth_pictures(len(kinds), 1)
    return dataclasses.replace(examples(torch.ones(len(kinds), 1, 4, 4), kinds), pictures=pictures)


@torch.no_grad()
def test_a_z_that_fell_silent_comes_alive() -> None:
    torch.manual_seed(0)
    codec = TrainableConditional(SMALL_CODEC).eval()
    batch, network = batch_of([0] * 4), codec.network
    for layer in (network.h_a[0], network.h_a[2]):
        layer.bias.fill_(-1e3)  # no unit of the hidden layers is ever active
    reference = network.reference_features(network.with_flag(batch.references, batch.kinds))
    assert float(network.analyse(batch.pictures, reference)[1].std(dim=(0, 2, 3)).max()) == 0
    codec.revive_z(batch)
    z = network.analyse(batch.pictures, reference)[1]
    assert z.std(dim=(0, 2, 3)).tolist() == pytest.approx([2.0] * 6, rel=1e-3)


@torch.no_grad()
def test_a_z_that_is_not_sent_costs_nothing_and_says_nothing() -> None:
    torch.manual_seed(1)
    codec = TrainableConditional(SMALL_CODEC).eval()
    one = batch_of([1, 1])
    codec.revive_z(one)
    codec.eval()

    def coded(own_z: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(5)  # of the noise that bits are counted with
        return codec(one, torch.tensor([4, 4]), False, torch.tensor(own_z))

    _, _, sent = coded([1, 1])
    latents, y_bits, z_bits = coded([0, 1])
    assert z_bits.tolist() == [0, pytest.approx(float(sent[1]), rel=1e-5)]
    # What another z would be does not matter then: y and the latent are those of z = 0.
    codec.network.log_z_gain.add_(1.0)
    again, bits_again, _ = coded([0, 1])
    assert torch.allclose(latents[0], again[0], atol=1e-5)
    assert not torch.allclose(latents[1], again[1], atol=1e-5)
    assert float(y_bits[0]) == pytest.approx(float(bits_again[0]), rel=1e-5)
    assert float(y_bits[1]) != pytest.approx(float(bits_again[1]), rel=1e-5)


def test_what_makes_z_can_be_held_while_what_reads_it_learns() -> None:
    torch.manual_seed(2)
    codec = TrainableConditional(SMALL_CODEC)
    batch = batch_of([0, 0])
    codec.revive_z(batch)
    for hold in (True, False):
        codec.zero_grad()
        latents, y_bits, z_bits = codec(batch, torch.tensor([4, 4]), True, hold_z=hold)
        (latents.pow(2).mean() + y_bits.mean() + z_bits.mean()).backward()
        made = [parameter.grad for parameter in codec.network.h_a.parameters()]
        assert all(grad is None or not grad.any() for grad in made) is hold
        read = (codec.network.coarse[0].weight, codec.scales.first.weight, codec.network.g_a[0].weight)
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in read)


def test_a_share_of_keys_has_a_z_of_its_own_and_stills_always_have() -> None:
    section = joint_section(Path("x"), weights={"diffusion": 0, "semantic": 0}, own_z_share=0.25)
    job = job_of(configuration(NANO, codec=section), "codec", Path("x"))
    loss = JointLoss(tiny_models(), job.stage, job.compute, job.random)
    drawn = torch.stack([loss._own_z(torch.tensor([0, 1, 2])) for _ in range(400)])
    assert drawn[:, 0].tolist() == [1.0] * 400
    assert 0.15 < float(drawn[:, 1:].mean()) < 0.35


def test_the_rate_of_z_may_come_later_than_that_of_y() -> None:
    section = joint_section(Path("x"), weights={"diffusion": 0, "semantic": 0}, z_ramp=[0.2, 0.6])
    job = job_of(configuration(NANO, codec=section), "codec", Path("x"))
    batch = dataclasses.replace(batch_of([0, 0]), latents=torch.randn(2, 16, 8, 8))
    found = {}
    for progress in (0.0, 1.0):
        torch.manual_seed(3)
        loss = JointLoss(tiny_models(), job.stage, job.compute, job_of(configuration(NANO), "codec", Path("x")).random)
        found[progress] = loss(batch, torch.tensor([3, 3]), 1, progress)[1]
    early, late = found[0.0], found[1.0]
    assert early["z_bpp"] == late["z_bpp"] > 0
    assert late["bpp"] - early["bpp"] == pytest.approx(0.95 * late["z_bpp"], rel=1e-3)


def test_ramps_end_after_they_start() -> None:
    with pytest.raises(ValueError, match="have to end after they start"):
        configuration(NANO, codec=joint_section(Path("x"), z_ramp=[0.6, 0.5]))
