import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import (
    NANO,
    RATES,
    STABLE,
    SmoothCrops,
    configuration,
    job_of,
    joint_section,
    smooth_pictures,
    write_pictures,
)
from torch import Tensor

from discover_stream.codec.model import load_codec
from discover_stream.generation.diffusion import Diffusion, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import build_vae
from discover_stream.training.autoencoders import encode
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.config_models import NanoModels, StableModels
from discover_stream.training.joint import (
    CLEAN_SHARE,
    Coded,
    JointLoss,
    JointModels,
    freeze_encoder,
    picture_error,
    rate_of,
    rate_weight,
    weight_of,
    weighted_latent_error,
)
from discover_stream.training.joint_stage import load_control, train_joint
from discover_stream.training.loop import Status
from discover_stream.training.pairs import Examples
from discover_stream.training.sources import FreshSource
from discover_stream.training.stable import random_diffusion
from discover_stream.training.stage import Job, prepare, run_stage
from discover_stream.types import InputError


def examples(masks: Tensor, kinds: list[int], side: int = 64) -> Examples:
    count, latent = len(kinds), torch.zeros(len(kinds), 16, side // 8, side // 8)
    return Examples(torch.zeros(count, 3, side, side), latent, latent, masks, torch.tensor(kinds), ("car",) * count)


def tiny_models(seed: int = 0) -> JointModels:
    """Everything of the nano size with random weights; the prior's are frozen, as if it were trained."""
    torch.manual_seed(seed)
    models = configuration(NANO).models
    assert isinstance(models, NanoModels)
    prior = build_prior(models.prior.shape).eval().requires_grad_(False)
    text = TagEmbedding(models.prior.text_width).requires_grad_(False)
    diffusion = Diffusion(prior, build_control(prior), build_schedule(), text)
    vae = build_vae(models.vae.shape).requires_grad_(False)
    codec = TrainableConditional(models.codec.shape(16), job_of(configuration(NANO), "codec", Path()).compute.autocast)
    return JointModels(codec, vae, diffusion)


def test_the_rate_weighs_little_until_the_codec_has_found_its_symbols() -> None:
    for start, end in ((0.35, 0.6), (0.0, 0.3)):
        ramp = (start, end)
        assert rate_weight(0.0, ramp) == rate_weight(start, ramp) == pytest.approx(0.05)
        assert rate_weight((start + end) / 2, ramp) == pytest.approx(0.05**0.5)
        assert rate_weight(end, ramp) == rate_weight(1.0, ramp) == pytest.approx(1.0)


def test_bits_count_per_pixel_of_the_picture_or_of_what_was_sent() -> None:
    masks = torch.zeros(2, 1, 4, 4)
    masks[:, :, :2, :2] = 1
    coded = Coded(torch.zeros(2, 16, 8, 8), torch.tensor([1024.0, 2048.0]), torch.tensor([512.0, 512.0]))
    batch = examples(masks, [0, 1])
    # By hand: 64 x 64 pixels; four cells of 256 pixels were sent; a still frame's z serves the whole picture.
    assert rate_of(coded, batch, "picture").tolist() == [1536 / 4096, 2560 / 4096]
    assert rate_of(coded, batch, "sent").tolist() == [1024 / 1024 + 512 / 4096, 2048 / 1024 + 512 / 1024]


def test_errors_are_averaged_by_what_was_sent() -> None:
    mask = torch.zeros(1, 1, 1, 2)
    mask[..., 0] = 1
    weight = weight_of(mask, 0.5)
    assert weight[0, 0].tolist() == [[1, 1, 0.5, 0.5]] * 2
    received, clean = torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 4)
    received[..., :2], received[..., 2:] = 1.0, 2.0
    # By hand: (1 * 1 + 0.5 * 4) / (1 + 0.5)
    assert float(weighted_latent_error(received, clean, weight)) == pytest.approx(2.0)
    assert float(weighted_latent_error(received, clean, torch.ones_like(weight))) == pytest.approx(2.5)
    shown, picture = torch.zeros(1, 3, 16, 32), torch.zeros(1, 3, 16, 32)
    shown[..., :16], shown[..., 16:] = 1.0, 2.0
    assert float(picture_error(shown, picture, weight)) == pytest.approx(2.0)


@pytest.mark.parametrize("factors", [{"diffusion": 2, "semantic": 2}, {"latent": 3, "diffusion": 0, "semantic": 0.5}])
def test_the_joint_loss_is_its_weighted_terms(factors: dict[str, float]) -> None:
    config = configuration(NANO, codec=joint_section(Path("x"), weights=factors, tag_drop=0))
    job, models = job_of(config, "codec", Path("x")), tiny_models()
    batch = dataclasses.replace(
        examples(torch.ones(2, 1, 4, 4), [0, 0]), pictures=smooth_pictures(2, 1), latents=torch.randn(2, 16, 8, 8)
    )
    loss, figures = JointLoss(models, job.stage, job.compute, job.random)(batch, torch.tensor([3, 3]), 1, 1.0)
    by_hand = RATES[2] * figures["bpp"] + factors.get("latent", 1) * figures["latent"]
    by_hand += factors["diffusion"] * figures.get("diffusion", 0) + factors["semantic"] * figures["semantic"]
    assert ("diffusion" in figures) == bool(factors["diffusion"])
    assert float(loss) == pytest.approx(by_hand + float(models.codec.prior.loss()), rel=1e-5)


def test_a_decoder_that_learns_answers_for_coded_and_for_clean_latents() -> None:
    weights = {"latent": 0, "diffusion": 0, "semantic": 0, "picture": 10}
    config = configuration(NANO, codec=joint_section(Path("x"), weights=weights, train_decoder=True, picture_every=1))
    job, models = job_of(config, "codec", Path("x")), dataclasses.replace(tiny_models(), decoder_learns=True)
    models.vae.decoder.requires_grad_(True)
    batch = dataclasses.replace(
        examples(torch.ones(4, 1, 4, 4), [0] * 4), pictures=smooth_pictures(4, 1), latents=torch.randn(4, 16, 8, 8)
    )
    loss, figures = JointLoss(models, job.stage, job.compute, job.random)(batch, torch.tensor([3] * 4), 1, 1.0)
    coded, clean = (10 ** (-figures[name] / 10) for name in ("psnr", "clean_psnr"))
    by_hand = RATES[2] * figures["bpp"] + 10 * coded + CLEAN_SHARE * 10 * clean
    assert float(loss) == pytest.approx(by_hand + float(models.codec.prior.loss()), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in models.vae.decoder.parameters())
    assert all(parameter.grad is None for parameter in models.vae.encoder.parameters())


def test_each_quality_has_its_own_weight_of_the_rate() -> None:
    weights = {"latent": 0, "diffusion": 0, "semantic": 0}
    config = configuration(NANO, codec=joint_section(Path("x"), weights=weights))
    models = tiny_models()
    with torch.no_grad():  # the same gains, so that the same bits are counted
        models.codec.network.log_gain.zero_()
        models.codec.scales.bias.zero_()
    batch = dataclasses.replace(examples(torch.ones(1, 1, 4, 4), [0]), pictures=smooth_pictures(1, 1))

    def loss(quality: int) -> float:
        job = job_of(config, "codec", Path("x"))
        found, _ = JointLoss(models, job.stage, job.compute, job.random)(batch, torch.tensor([quality]), 1, 1.0)
        return float(found) - float(models.codec.prior.loss())

    assert loss(1) / loss(8) == pytest.approx(RATES[0] / RATES[7], rel=1e-4)


def unseen_loss(job: Job, models: JointModels) -> Callable[[], float]:
    """The loss on pictures of their own, always with the same random numbers."""
    source = FreshSource(SmoothCrops(999), models.vae, job.stage.masks, job.compute, look=False)
    batch = source.draw(np.random.default_rng(9), 64, 16)

    def loss() -> float:
        torch.manual_seed(3)
        with torch.no_grad():
            of_batch = JointLoss(models, job.stage, job.compute, np.random.default_rng(3))
            found, _ = of_batch(batch, torch.arange(16) % 8 + 1, 1, 1.0)
            tails = models.codec.prior.loss() if models.codec.prior.quantiles.requires_grad else 0.0
            return float(found - tails)  # those of z's tables, which have nothing to do with pictures

    return loss


def test_both_stages_improve_on_unseen_data_and_the_second_leaves_the_encoder(tmp_path: Path) -> None:
    weights = {"latent": 4, "diffusion": 2, "semantic": 2}
    common = {"learning_rate": 3e-3, "warmup_steps": 1, "ema": 0.8, "weights": weights, "sizes": [[64, 4]]}
    config = configuration(
        NANO,
        codec=joint_section(tmp_path, **common | {"steps": 30}),
        task=joint_section(tmp_path, **common | {"steps": 20}, masks="ours", freeze_encoder=True, start="x"),
    )
    models = tiny_models()
    for name in ("codec", "task"):
        job = job_of(config, name, tmp_path / name)
        source = FreshSource(SmoothCrops(1), models.vae, job.stage.masks, job.compute, look=False)
        loss = unseen_loss(job, models)
        if name == "task":
            freeze_encoder(models.codec)
        kept = {key: value.clone() for key, value in models.codec.state_dict().items()}
        before = loss()
        train_joint(job, models, source)
        assert loss() < (0.8 if name == "codec" else 0.97) * before, name
        moved = {key for key, value in models.codec.state_dict().items() if not torch.equal(value, kept[key])}
        parts = {".".join(key.split(".")[:2]) for key in moved}
        learns = {"network.g_s", "network.head", "network.coarse", "network.context", "network.log_ungain"}
        assert learns <= parts
        encoder = {"network.g_a", "network.h_a", "network.h_s", "network.log_gain", "scales.first", "scales.third"}
        assert encoder <= parts if name == "codec" else not encoder & parts
        assert name == "codec" or not any(key.startswith("prior.") for key in moved)


def test_the_papers_size_builds_learns_saves_and_loads_strictly(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    config = configuration(
        STABLE,
        codec=joint_section(tmp_path / "one", steps=1),
        task=joint_section(tmp_path / "two", steps=1, masks="paper", freeze_encoder=True, start=str(tmp_path / "one")),
    )
    written = [run_stage(prepare(config, name, pictures, cpu=True)) for name in ("codec", "task")]
    assert [path.name for path in written[0]] == ["codec-float.safetensors", "codec.safetensors", "controlnet"]
    one, two = (load_file(folder / "codec-float.safetensors") for folder in (tmp_path / "one", tmp_path / "two"))
    assert torch.equal(one["network.g_a.0.weight"], two["network.g_a.0.weight"])
    assert not torch.equal(one["network.g_s.0.weight"], two["network.g_s.0.weight"])
    assert load_codec(tmp_path / "two" / "codec.safetensors").network.config.elic
    assert isinstance(config.models, StableModels)
    fresh = random_diffusion(config.models.widths)
    assert load_control(fresh, tmp_path / "two")
    file = tmp_path / "two" / "controlnet" / "diffusion_pytorch_model.safetensors"
    stored = load_file(file)
    assert all(torch.equal(value, stored[key]) for key, value in fresh.control.state_dict().items())
    assert any(key.startswith("controlnet_down_blocks") and value.abs().sum() > 0 for key, value in stored.items())
    stored.pop("conv_in.weight")
    save_file(stored, file)
    with pytest.raises(InputError, match="conv_in"):
        load_control(fresh, tmp_path / "two")
    one.pop("network.g_a.0.weight")
    save_file(one, tmp_path / "one" / "codec-float.safetensors")
    with pytest.raises(InputError, match=r"network\.g_a\.0\.weight"):
        run_stage(prepare(config, "task", pictures, out=tmp_path / "again", cpu=True))


class Stopped(Exception):
    """The run was stopped."""


def test_a_joint_stage_stopped_on_its_way_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    config = configuration(STABLE, codec=joint_section(tmp_path / "a", steps=5, save_seconds=0))

    def stop(status: Status) -> None:
        if status.step == 3:
            raise Stopped

    run_stage(prepare(config, "codec", pictures, cpu=True))
    with pytest.raises(Stopped):
        run_stage(prepare(config, "codec", pictures, out=tmp_path / "b", cpu=True, report=stop))
    saved = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 2
    run_stage(prepare(config, "codec", pictures, out=tmp_path / "b", cpu=True))
    for name in ("codec-float.safetensors", "controlnet/diffusion_pytorch_model.safetensors"):
        ends = [load_file(tmp_path / folder / name) for folder in "ab"]
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items()), name


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    def complain(match: str, **more: object) -> None:
        config = configuration(NANO, codec=joint_section(tmp_path, **more))
        with pytest.raises(InputError, match=match):
            run_stage(prepare(config, "codec", tmp_path, cpu=True))

    complain("names no vae")
    vae = tmp_path / "vae.safetensors"
    save_file({"a": torch.zeros(1)}, vae)
    complain("names no prior", vae=str(vae))
    complain("not usable as weights", vae=str(vae), prior=str(tmp_path))
    stable = configuration(STABLE, codec=joint_section(tmp_path, rate_weights=[1, 2]))
    with pytest.raises(InputError, match="2 rate weights for 8 qualities"):
        run_stage(prepare(stable, "codec", tmp_path, cpu=True))
    with pytest.raises(InputError, match="name their folder with --data"):
        run_stage(prepare(configuration(STABLE, codec=joint_section(tmp_path)), "codec", None, cpu=True))


def test_the_stable_autoencoder_scales_its_latents() -> None:
    from discover_stream.training.autoencoders import decode
    from discover_stream.training.stable import random_vae

    models = configuration(STABLE).models
    assert isinstance(models, StableModels)
    torch.manual_seed(0)
    vae, picture = random_vae(models.widths).eval(), smooth_pictures(1, 1)
    with torch.no_grad():
        latent = encode(vae, picture)
        assert torch.allclose(latent, 0.18215 * vae.encode(2 * picture - 1).latent_dist.mean)
        assert torch.allclose(decode(vae, latent), vae.decode(latent / 0.18215).sample / 2 + 0.5, atol=1e-6)
