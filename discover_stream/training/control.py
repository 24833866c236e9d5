"""The control module on a finished codec. `discover train control`.

DISCOVER's Eq. 4 in its diffusion term, the prior frozen: what the codec leaves of a picture, and which cells were
sent, steer the prior back to the picture. A share of the examples is all noise, and there the clean latent that one
step gives is compared as a picture too: that teaches one step before `training.distill` does. The `nano` VAE's decoder
learns along, from what was received and from what was sampled in turn; its encoder, and so the latent space, stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.generation.diffusion import Diffusion, clean_of, condition_of, target_of
from discover_stream.generation.vae import shape_of
from discover_stream.training.autoencoders import Autoencoder, decode
from discover_stream.training.compute import Autocast, bf16_on_cpu
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.config_stages import ControlStage, Finished
from discover_stream.training.joint_stage import crops_of, frozen_models, load_control, new_codec, write_models
from discover_stream.training.loop import write_half
from discover_stream.training.losses import steered
from discover_stream.training.masks import random_mask
from discover_stream.training.pairs import CELLS, Examples, PairBank, load_scenes
from discover_stream.training.prior import FULL_NOISE_SHARE, TAG_DROP, dropped, tags_of_crops, timesteps
from discover_stream.training.sources import FreshSource
from discover_stream.training.stable import move
from discover_stream.training.stage import Job
from discover_stream.training.vae import picture_loss
from discover_stream.types import InputError

Drawn = tuple[Tensor, Tensor, Tensor, Tensor, list[str]]
"""Pictures (B, 3, H, W), z_c and z_c^ (B, L, h, w), sent (B, 1, h, w), texts."""

PICTURE_SHARE = 3
"""One in so many examples of a batch is decoded to a picture for the loss."""


@dataclass(frozen=True)
class Received:
    """A bank of examples beside what the codec leaves of them.

    Attributes:
        examples: (n, ...) of all kinds.
        latents: (n, L, h, w) z_c^.
        texts: the tags of each.
    """

    examples: Examples
    latents: Tensor
    texts: list[str]
    generators: Sequence[np.random.Generator] = ()

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """Pictures (B, 3, H, W), z_c and z_c^ (B, L, h, w), sent (B, 1, h, w), texts of `count` examples."""
        chosen = random.integers(0, len(self.texts), count)
        index = torch.from_numpy(chosen)
        sent = functional.interpolate(self.examples.masks[index], scale_factor=2)
        return (
            self.examples.pictures[index].float().div_(255),
            self.examples.latents[index].float(),
            self.latents[index].float(),
            sent,
            [self.texts[int(one)] for one in chosen],
        )


@torch.no_grad()
def received(bank: PairBank, codec: TrainableConditional, random: np.random.Generator, batch: int = 8) -> Received:
    """Everything in a bank, coded once at random qualities; three in ten still pictures are sent whole."""
    latents = torch.empty_like(bank.latents)
    for start in range(0, len(latents), batch):
        part = slice(start, min(start + batch, len(latents)))
        masks = bank.masks[part].clone()
        for row, kind in enumerate(bank.kinds[part]):
            if int(kind) == 0:
                masks[row] = torch.from_numpy(random_mask(random, CELLS))
        bank.masks[part] = masks
        examples = Examples(
            bank.pictures[part].float().div(255),
            bank.latents[part].float(),
            bank.references[part].float(),
            masks[:, None],
            bank.kinds[part],
        )
        quality = torch.from_numpy(random.integers(1, codec.network.config.qualities + 1, len(masks)))
        latents[part] = codec(examples, quality)[0].to(torch.bfloat16)
    whole = Examples(bank.pictures, bank.latents, bank.references, bank.masks[:, None], bank.kinds)
    return Received(whole, latents, tags_of_crops(bank.pictures))


class FreshReceived:
    """What a finished codec leaves of crops drawn afresh; draws as `Received` does.

    Args:
        source: of still pictures.
        codec: finished, on the run's device.
        side: of the crops.
    """

    def __init__(self, source: FreshSource, codec: TrainableConditional, side: int) -> None:
        self._source, self._codec, self._side = source, codec, side
        self.generators = source.generators

    @torch.no_grad()
    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """See `Received.draw`."""
        batch = self._source.draw(random, self._side, count)
        quality = torch.from_numpy(random.integers(1, self._codec.network.config.qualities + 1, count))
        kept = self._codec(batch, quality.to(batch.pictures.device))[0]
        sent = functional.interpolate(batch.masks, scale_factor=2)
        return batch.pictures, batch.latents, kept, sent, list(batch.texts) or [""] * count


def finished_models(job: Job) -> tuple[Autoencoder, TrainableConditional, Diffusion]:
    """Autoencoder, finished codec, and the diffusion model with the control module to go on with, on the CPU.

    Raises:
        InputError: weights are missing or do not fit.
    """
    stage: Finished = job.stage
    vae, diffusion = frozen_models(job, stage, prior=True)
    assert diffusion is not None
    if stage.codec is None:
        raise InputError(f"stage {job.name}: it needs a finished codec; name the folder of one as 'codec'")
    codec = new_codec(job, vae, stage.codec).eval().requires_grad_(False)
    if not load_control(diffusion, stage.start or stage.codec) and stage.start is not None:
        raise InputError(f"{stage.start}: no control module here; train the stage that writes it, or leave 'start' out")
    return vae, codec, diffusion


def received_source(job: Job, vae: Autoencoder, codec: TrainableConditional) -> Received | FreshReceived:
    """Where a stage on a finished codec has its examples from; both networks go to the run's device."""
    stage: Finished = job.stage
    if stage.references:
        bank = PairBank(load_scenes(job.pictures), vae, stage.examples, seed=stage.seed + job.compute.rank)
        return received(bank, codec, job.random)
    for network in (vae, codec):
        network.to(job.compute.device)
    crops = crops_of(job, stage)
    return FreshReceived(FreshSource(crops, vae, "ours", job.compute, look=True), codec, stage.crop)


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `control.safetensors`, and `vae.safetensors` where its decoder learns; see `stage.run_stage`."""
    stage: ControlStage = job.stage
    vae, codec, diffusion = finished_models(job)
    examples = received_source(job, vae, codec)
    shown = stage.train_decoder and isinstance(vae, AutoencoderTiny) and bool(stage.picture_share)
    vae.decoder.requires_grad_(shown)
    vae.to(job.compute.device)
    move(diffusion, job.compute.device)
    pictured = vae if stage.picture_share else None

    def step(number: int, _: float) -> tuple[Tensor, Mapping[str, float]]:
        *tensors, texts = examples.draw(job.random, stage.batch)
        picture, clean, kept, sent = (job.compute.place(tensor) for tensor in tensors)
        drawn = picture, clean, kept, sent, texts
        return control_step(diffusion, pictured, drawn, job.random, number, autocast=job.compute.autocast, stage=stage)

    parts: dict[str, nn.Module] = {"control": diffusion.control}
    if shown:
        parts["vae"] = vae
    job.train(nn.ModuleDict(parts), step, *examples.generators)
    written = write_models(job.out, None, diffusion, vae, job.config.models.size)
    if not shown:
        return written
    path = job.out / "vae.safetensors"
    write_half(vae, path, shape_of(vae).metadata())
    return (*written, path)


def control_step(
    diffusion: Diffusion,
    vae: Autoencoder | None,
    drawn: Drawn,
    random: np.random.Generator,
    number: int,
    *,
    autocast: Autocast = bf16_on_cpu,
    stage: ControlStage | None = None,
) -> tuple[Tensor, Mapping[str, float]]:
    """The loss of a batch (see `Received.draw`) and what to record of it.

    Args:
        diffusion: its control module learns.
        vae: decodes pictures for the loss; None for a loss of latents alone.
        drawn: the batch.
        random: draws timesteps and dropped tags.
        number: of the step.
        autocast: of forward passes.
        stage: shares of noise, tags and pictures; None for the usual ones.
    """
    picture, clean, kept, sent, texts = drawn
    most = diffusion.schedule.config["num_train_timesteps"]
    drop, last = (TAG_DROP, FULL_NOISE_SHARE) if stage is None else (stage.tag_drop, stage.full_noise_share)
    share = PICTURE_SHARE if stage is None else stage.picture_share
    timestep = timesteps(random, len(clean), most, last).to(clean.device)
    if vae is not None:
        timestep[: len(clean) // share] = most - 1
    noise = torch.randn_like(clean)
    with torch.no_grad(), clean.device:
        words = diffusion.text.encode(dropped(random, texts, drop))
    with autocast():
        noisy, predicted = steered(diffusion, clean, noise, timestep, words, condition_of(kept, sent))
    error = functional.mse_loss(predicted, target_of(diffusion.schedule, clean, noise, timestep))
    sampled = clean_of(diffusion.schedule, predicted, noisy, timestep)
    few = slice(0, max(1, len(clean) // share)) if vae is not None else slice(0, len(clean))
    figures = {
        "error": float(error.detach()),
        "one_step": float(functional.mse_loss(sampled[few], clean[few]).detach()),
        "received": float(functional.mse_loss(kept[few], clean[few])),
    }
    if vae is None:
        return error, figures
    source = sampled if number % 2 else kept
    with autocast():
        decoded = decode(vae, source[few])
    shown = picture_loss(decoded.float(), picture[few])
    figures["sampled_picture" if number % 2 else "received_picture"] = float(shown.detach())
    return error + shown, figures
