"""The decoder that ships, on a finished codec. `discover train denoiser`; on a CPU.

Each example is a crop's z_c, what the codec leaves of it at a random quality with a random mask, and
that mask. The denoiser learns x0 at random noise levels; four draws in ten are at pure noise, since
one step from there is what the `machine` profile does. With `train_decoder`, the VAE's decoder learns along, from
denoised and from merely received latents in turn; its encoder stays, so the codec stays valid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.scales import STILL
from discover_stream.generation.denoiser import TRAIN_TIMESTEPS, build_denoiser, build_scheduler, predict_clean
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import LATENT_CHANNELS, decode_latent, shape_of
from discover_stream.training.compute import bf16_on_cpu
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.config_stages import DenoiserStage
from discover_stream.training.crops import CropBank
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.export import load_trained
from discover_stream.training.loop import write_half
from discover_stream.training.masks import random_mask
from discover_stream.training.pairs import CELLS, CROP, Examples
from discover_stream.training.stage import Job
from discover_stream.training.vae import picture_loss
from discover_stream.types import InputError

PURE_NOISE_SHARE = 0.4


class PairBank:
    """Clean latents beside what the codec leaves of them, computed once."""

    def __init__(
        self, bank: CropBank, codec: TrainableConditional, random: np.random.Generator, batch: int = 8
    ) -> None:
        count = len(bank.pictures)
        self.bank = bank
        self.received = torch.empty_like(bank.latents)
        self.masks = torch.empty(count, 1, CELLS, CELLS, dtype=torch.bool)
        for start in range(0, count, batch):
            chosen = slice(start, min(start + batch, count))
            picture = bank.pictures[chosen].float().div(255)
            mask = torch.from_numpy(np.stack([random_mask(random, CELLS) for _ in range(len(picture))]))[:, None]
            quality = torch.from_numpy(random.integers(1, codec.network.config.qualities + 1, len(picture)))
            latents = bank.latents[chosen].float()
            kinds = torch.full((len(picture),), STILL)
            with torch.no_grad():
                examples = Examples(picture, latents, torch.zeros_like(latents), mask, kinds)
                self.received[chosen] = codec(examples, quality)[0].to(torch.bfloat16)
            self.masks[chosen] = mask.bool()

    def draw(self, random: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures (B, 3, H, W), z_c and z_c^ (B, 16, h, w), sent (B, 1, h, w) of `count` crops."""
        chosen = torch.from_numpy(random.integers(0, len(self.masks), count))
        sent = functional.interpolate(self.masks[chosen].float(), scale_factor=2)
        return (
            self.bank.pictures[chosen].float().div_(255),
            self.bank.latents[chosen].float(),
            self.received[chosen].float(),
            sent,
        )


def denoiser_step(
    denoiser: UNet2DModel,
    vae: AutoencoderTiny,
    drawn: tuple[Tensor, Tensor, Tensor, Tensor],
    random: np.random.Generator,
    number: int,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch (see `PairBank.draw`) and what to record of it; `number` counts the steps."""
    picture, clean, received, sent = drawn
    count = len(clean)
    levels = random.integers(0, TRAIN_TIMESTEPS, count)
    levels[random.random(count) < PURE_NOISE_SHARE] = TRAIN_TIMESTEPS - 1
    timestep = torch.from_numpy(levels)
    noisy = build_scheduler().add_noise(clean, torch.randn_like(clean), timestep)
    with bf16_on_cpu():
        output = predict_clean(denoiser, noisy, timestep, received, sent)
    output = output.float()
    error = functional.mse_loss(output, clean)
    before = functional.mse_loss(received, clean)
    figures = {"latent": float(error.detach()), "received": float(before)}
    few = slice(0, max(1, count // 3))
    # What was merely received teaches the decoder alone.
    denoised = number % 2 == 1 or not any(parameter.requires_grad for parameter in vae.decoder.parameters())
    with bf16_on_cpu():
        decoded = decode_latent(vae, (output if denoised else received)[few])
    shown = picture_loss(decoded.float(), picture[few])
    figures["denoised_picture" if denoised else "received_picture"] = float(shown.detach())
    return error + shown, figures


def new_denoiser(start: Path | None) -> UNet2DModel:
    """A denoiser to train: one that was trained before, or a fresh one, whose output is what was received.

    Raises:
        InputError: the weights to start from are missing or of another structure.
    """
    denoiser = build_denoiser().to(memory_format=torch.channels_last)
    torch.nn.init.zeros_(denoiser.conv_out.weight)
    torch.nn.init.zeros_(denoiser.conv_out.bias)
    if start is not None:
        try:
            denoiser.load_state_dict({key: value.float() for key, value in load_file(start).items()})
        except (FileNotFoundError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{start}: not a denoiser to start from ({reason}); name another file") from None
    return denoiser


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `denoiser.safetensors` and `vae.safetensors`; see `stage.run_stage`."""
    stage: DenoiserStage = job.stage
    random, batch = job.random, stage.batch
    vae = load_vae(stage.vae).to(memory_format=torch.channels_last)
    codec = TrainableConditional(job.nano.codec.shape(LATENT_CHANNELS))
    load_trained(codec, load_file(stage.codec))
    crops = CropSampler(*load_pictures(job.pictures), crop=CROP, seed=stage.seed)
    pairs = PairBank(CropBank(crops, vae, stage.examples), codec.eval(), random)
    denoiser = new_denoiser(stage.start)
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(stage.train_decoder)

    def step(number: int, _: float) -> tuple[Tensor, dict[str, float]]:
        return denoiser_step(denoiser, vae, pairs.draw(random, batch), random, number)

    job.train(
        nn.ModuleDict({"denoiser": denoiser, "vae": vae} if stage.train_decoder else {"denoiser": denoiser}), step
    )
    files = job.out / "denoiser.safetensors", job.out / "vae.safetensors"
    write_half(denoiser, files[0])
    write_half(vae, files[1], shape_of(vae).metadata())
    return files
