"""Stage 0: the `nano` autoencoder. `discover train vae`."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from discover_stream.generation.vae import build_vae, decode_latent, encode_picture
from discover_stream.training.compute import Autocast, bf16_on_cpu
from discover_stream.training.config_stages import VaeStage
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.loop import write_half
from discover_stream.training.stage import Job


def gradient_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients of two (B, 3, H, W) batches."""
    dx = (output.diff(dim=3) - target.diff(dim=3)).abs().mean()
    dy = (output.diff(dim=2) - target.diff(dim=2)).abs().mean()
    return dx + dy


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """Absolute, gradient and squared error of two (B, 3, H, W) batches in 0..1; the weights are empirical."""
    squared = functional.mse_loss(output, target)
    return functional.l1_loss(output, target) + 0.5 * gradient_loss(output, target) + 20 * squared


def vae_loss(
    vae: AutoencoderTiny, picture: Tensor, stage: VaeStage, autocast: Autocast = bf16_on_cpu
) -> tuple[Tensor, dict[str, float]]:
    """The loss of pictures (B, 3, H, W) in 0..1, and what to record of it."""
    with autocast():
        latent = encode_picture(vae, picture)
        noisy = latent + stage.latent_noise * torch.randn_like(latent)
        output = decode_latent(vae, noisy)
    latent, output = latent.float(), output.float()
    size = size_penalty(latent)
    loss = picture_loss(output, picture) + stage.size_weight * size
    psnr = -10 * math.log10(max(functional.mse_loss(output.detach(), picture).item(), 1e-9))
    return loss, {"loss": float(loss.detach()), "psnr": psnr, "size": float(size.detach())}


def size_penalty(latent: Tensor) -> Tensor:
    """How far the channels of latents (B, L, h, w) are from unit size, which keeps them from collapsing under the noise
    and from running off: the mean of (mean square - 1)^2."""
    return (latent.pow(2).mean(dim=(0, 2, 3)) - 1).pow(2).mean()


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `vae.safetensors`; see `stage.run_stage`."""
    stage: VaeStage = job.stage
    compute, shape = job.compute, job.nano.vae.shape
    sampler = CropSampler(*load_pictures(job.pictures), crop=stage.crop, seed=stage.seed + compute.rank)
    vae = build_vae(shape).to(compute.device).to(memory_format=torch.channels_last)

    def step(_: int, __: float) -> tuple[Tensor, dict[str, float]]:
        picture = compute.place(sampler.batch(stage.batch)).to(memory_format=torch.channels_last)
        return vae_loss(vae, picture, stage, compute.autocast)

    job.train(vae, step, sampler.random)
    path = job.out / "vae.safetensors"
    write_half(vae, path, shape.metadata())
    return (path,)
