"""Stages I (`codec`) and II (`task`): get models and examples, train them together, write what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from discover_stream.generation.diffusion import Diffusion, DiffusionShape
from discover_stream.generation.render import VAE_FILE, load_vae
from discover_stream.generation.vae import latent_space
from discover_stream.generation.vae import shape_of as vae_shape
from discover_stream.generation.weights import CONTROL_FILE, load_nano, write_control
from discover_stream.training.autoencoders import Autoencoder, latent_channels
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.config_models import NanoModels
from discover_stream.training.config_stages import Finished, JointStage
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.export import export_codec, load_trained
from discover_stream.training.joint import JointLoss, JointModels, freeze_encoder
from discover_stream.training.loop import write_half
from discover_stream.training.object_features import ObjectFeatures
from discover_stream.training.pairs import PairBank, load_scenes
from discover_stream.training.sources import BankSource, Crops, FolderSampler, FreshSource, Source
from discover_stream.training.stable import move, stable_models
from discover_stream.training.stage import Job
from discover_stream.types import InputError

FLOAT_FILE, CODEC_FILE = "codec-float.safetensors", "codec.safetensors"
STABLE_CONTROL = "controlnet"
ALIVE_EXAMPLES, ALIVE_PIXELS = 32, 2_000_000
"""Examples that gains are set from before the first step: so many, and not more pixels in all."""


def frozen_models(job: Job, stage: JointStage | Finished, *, prior: bool) -> tuple[Autoencoder, Diffusion | None]:
    """The autoencoder, and the prior with a fresh control module where it is needed, on the CPU.

    Raises:
        InputError: weights are not named, missing, or of another structure.
    """
    if not isinstance(job.config.models, NanoModels):
        vae, diffusion = stable_models(job.config.models)
        return vae, diffusion if prior else None
    if stage.vae is None or (prior and stage.prior is None):
        missing = "vae" if stage.vae is None else "prior"
        raise InputError(f"stage {job.name}: the configuration names no {missing}; train one and name its weights")
    vae = load_vae(stage.vae).to(memory_format=torch.channels_last)
    if not prior:
        return vae, None
    assert stage.prior is not None
    diffusion = load_nano(stage.prior, control=False)
    diffusion.control.requires_grad_(True).train()
    return vae, diffusion


def new_codec(job: Job, vae: Autoencoder, start: Path | None) -> TrainableConditional:
    """The codec of the configuration's widths, with the weights in a folder where one is named.

    Raises:
        InputError: the weights are missing or of another structure.
    """
    codec = TrainableConditional(job.config.models.codec.shape(latent_channels(vae)), job.compute.autocast)
    if start is not None:
        try:
            load_trained(codec, load_file(start / FLOAT_FILE))
        except (FileNotFoundError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{start / FLOAT_FILE}: not a codec to start from ({reason}); train stage I first"
            ) from None
    return codec


def load_control(diffusion: Diffusion, folder: Path) -> bool:
    """Fill the control module from a folder where there is one, strictly; says whether there was.

    Raises:
        InputError: it is of another structure.
    """
    files = folder / STABLE_CONTROL / "diffusion_pytorch_model.safetensors", folder / CONTROL_FILE
    file = next((path for path in files if path.exists()), None)
    if file is None:
        return False
    try:
        state = {key.removeprefix("control."): value.float() for key, value in load_file(file).items()}
        diffusion.control.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: does not fit the prior ({reason}); use those of one training") from None
    diffusion.control.requires_grad_(True).train()
    return True


def write_models(
    folder: Path, codec: TrainableConditional | None, diffusion: Diffusion | None, vae: Autoencoder, size: str
) -> tuple[Path, ...]:
    """Write a codec (to go on with, and to ship) and a control module; returns the files and folders."""
    written = []
    if codec is not None:
        codec.cpu()
        save_file({k: v.contiguous() for k, v in codec.state_dict().items()}, folder / FLOAT_FILE)
        with torch.no_grad():
            export_codec(codec, folder / CODEC_FILE, latent_space=latent_space(vae.cpu()))
        written += [folder / FLOAT_FILE, folder / CODEC_FILE]
    if diffusion is not None and size == "nano":
        write_control(folder / CONTROL_FILE, diffusion.control, shape_of(diffusion))
        written.append(folder / CONTROL_FILE)
    elif diffusion is not None:
        diffusion.control.save_pretrained(folder / STABLE_CONTROL)
        written.append(folder / STABLE_CONTROL)
    return tuple(written)


def shape_of(diffusion: Diffusion) -> DiffusionShape:
    """The sizes of a `nano` prior, as files name them."""
    config = diffusion.prior.config
    return DiffusionShape(
        latent_channels=config["in_channels"],
        widths=tuple(config["block_out_channels"]),
        layers=config["layers_per_block"],
        text_width=config["cross_attention_dim"],
        heads=config["attention_head_dim"],
        groups=config["norm_num_groups"],
    )


def crops_of(job: Job, stage: JointStage | Finished) -> Crops:
    """The sampler of single pictures. Raises InputError where the folder holds none."""
    seed = stage.seed + job.compute.rank
    if stage.pictures == "folder":
        return FolderSampler(job.pictures, stage.crop, seed)
    return CropSampler(*load_pictures(job.pictures, longest=max(512, stage.crop)), crop=stage.crop, seed=seed)


def source_of(job: Job, stage: JointStage, vae: Autoencoder) -> Source:
    """Where a stage's examples come from; the autoencoder is on the CPU, and goes to the run's device."""
    look = stage.weights.need_prior and stage.tags
    if stage.references:
        seed = stage.seed + job.compute.rank
        bank = PairBank(load_scenes(job.pictures), vae, stage.examples, seed, stage.kinds)
        source: Source = BankSource(bank, stage.masks, np.random.default_rng(stage.seed), job.compute, look=look)
        vae.to(job.compute.device)
        return source
    vae.to(job.compute.device)
    return FreshSource(crops_of(job, stage), vae, stage.masks, job.compute, look=look)


def joint_models(job: Job) -> JointModels:
    """Everything that takes part in a stage, on the CPU. Raises InputError where weights do not fit."""
    stage: JointStage = job.stage
    vae, diffusion = frozen_models(job, stage, prior=stage.weights.need_prior)
    codec = new_codec(job, vae, stage.start)
    if len(stage.rate_weights) != codec.network.config.qualities:
        raise InputError(
            f"stage {job.name}: {len(stage.rate_weights)} rate weights for {codec.network.config.qualities} qualities;"
            " give one for each"
        )
    if diffusion is not None and stage.start is not None:
        load_control(diffusion, stage.start)
    if stage.freeze_encoder:
        freeze_encoder(codec)
    vae.requires_grad_(False).eval()
    if stage.train_decoder and not isinstance(vae, AutoencoderTiny):
        raise InputError(f"stage {job.name}: the decoder of Stable Diffusion stays as it is; leave 'train_decoder' out")
    vae.decoder.requires_grad_(stage.train_decoder)
    features = ObjectFeatures() if stage.weights.features else None
    return JointModels(codec, vae, diffusion, features, stage.train_decoder)


def run(job: Job) -> tuple[Path, ...]:
    """Train a joint stage; see `stage.run_stage`."""
    stage: JointStage = job.stage
    models = joint_models(job)
    source = source_of(job, stage, models.vae)
    train_joint(job, models, source)
    written = write_models(job.out, models.codec, models.diffusion, models.vae, job.config.models.size)
    if not isinstance(models.vae, AutoencoderTiny) or not models.decoder_learns:
        return written
    path = job.out / VAE_FILE
    write_half(models.vae, path, vae_shape(models.vae).metadata())
    return (*written, path)


def train_joint(job: Job, models: JointModels, source: Source) -> nn.Module:
    """The loop of a joint stage, on models and examples that are ready."""
    stage: JointStage = job.stage
    codec, device = models.codec, job.compute.device
    if stage.start is None or stage.fresh_z:
        count = max(1, min(ALIVE_EXAMPLES, ALIVE_PIXELS // stage.crop**2))
        seen = source.draw(job.random, stage.crop, count).on(torch.device("cpu"))
        (codec.start_alive if stage.start is None else codec.revive_z)(seen)
    codec.to(device).to(memory_format=torch.channels_last)
    if models.diffusion is not None:
        move(models.diffusion, device)
    if models.features is not None:
        models.features.to(device).to(memory_format=torch.channels_last)
    loss_of = JointLoss(models, stage, job.compute, job.random)
    qualities = codec.network.config.qualities

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        side, count = stage.sizes[number % len(stage.sizes)]
        batch = source.draw(job.random, side, count)
        quality = job.compute.place(torch.from_numpy(job.random.integers(1, qualities + 1, count)))
        loss, figures = loss_of(batch, quality, number, progress)
        return loss, {f"{name}{side}": value for name, value in figures.items()}

    return job.train(models.learning(), step, *source.generators)
