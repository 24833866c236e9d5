"""Stage 0: train the `nano` autoencoder. `python -m discover_stream.training.vae --help`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from discover_stream.generation.vae import SMALL, WIDE, build_vae, decode_latent, encode_picture
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.loop import LoopConfig, train, write_half
from discover_stream.training.stage import begin_anywhere, stage_parser

LATENT_NOISE = 0.08
"""Noise added to latents in training, so that the decoder forgives what the codec leaves."""


def gradient_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients of two (B, 3, H, W) batches."""
    dx = (output.diff(dim=3) - target.diff(dim=3)).abs().mean()
    dy = (output.diff(dim=2) - target.diff(dim=2)).abs().mean()
    return dx + dy


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """Absolute, gradient and squared error of two (B, 3, H, W) batches in 0..1; the weights are empirical."""
    squared = functional.mse_loss(output, target)
    return functional.l1_loss(output, target) + 0.5 * gradient_loss(output, target) + 20 * squared


def main() -> None:
    """Train and write `vae.safetensors`."""
    parser = stage_parser(__doc__, "runs/vae", 30)
    parser.add_argument("--wide", action="store_true", help="three times the weights, twice the time of a picture")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    compute, _ = begin_anywhere(arguments.threads, seed=0)
    sampler = CropSampler(*load_pictures(arguments.data), crop=96, seed=compute.rank)
    shape = WIDE if arguments.wide else SMALL
    vae = build_vae(shape).to(compute.device).to(memory_format=torch.channels_last)

    def step(_: int, __: float) -> tuple[Tensor, Mapping[str, float]]:
        picture = compute.place(sampler.batch(8)).to(memory_format=torch.channels_last)
        with compute.autocast():
            latent = encode_picture(vae, picture)
            noisy = latent + LATENT_NOISE * torch.randn_like(latent)
            output = decode_latent(vae, noisy)
        latent, output = latent.float(), output.float()
        # The penalty keeps latents near unit size: neither collapsing under the noise nor running off.
        size = (latent.pow(2).mean(dim=(0, 2, 3)) - 1).pow(2).mean()
        loss = picture_loss(output, picture) + 0.02 * size
        psnr = -10 * math.log10(functional.mse_loss(output.detach(), picture).item())
        return loss, {"loss": float(loss.detach()), "psnr": psnr, "size": float(size.detach())}

    loop = LoopConfig(out=arguments.out, minutes=arguments.minutes, learning_rate=arguments.learning_rate)
    train(vae, step, loop, compute=compute, generators=[sampler.random])
    write_half(vae, arguments.out / "vae.safetensors", shape.metadata())


if __name__ == "__main__":
    main()
