"""Crops of single pictures with their latents, for the stages that look at nothing else. On a CPU."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from discover_stream.generation.vae import LATENT_CHANNELS, encode_picture
from discover_stream.training.compute import bf16_on_cpu
from discover_stream.training.data import CropSampler


class CropBank:
    """Crops with their z_c computed once: the VAE is frozen, so its encoder need not run again."""

    def __init__(self, sampler: CropSampler, vae: AutoencoderTiny, count: int) -> None:
        self.pictures = torch.empty(count, 3, sampler.crop, sampler.crop, dtype=torch.uint8)
        self.latents = torch.empty(count, LATENT_CHANNELS, sampler.crop // 8, sampler.crop // 8, dtype=torch.bfloat16)
        for start in range(0, count, 8):
            batch = sampler.batch(min(8, count - start))
            self.pictures[start : start + 8] = (batch * 255).round().to(torch.uint8)
            with torch.no_grad(), bf16_on_cpu():
                self.latents[start : start + 8] = encode_picture(vae, batch).to(torch.bfloat16)

    def draw(self, random: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """`count` pictures (B, 3, H, W) in 0..1 and their z_c (B, 16, H/8, W/8)."""
        chosen = torch.from_numpy(random.integers(0, len(self.pictures), count))
        return self.pictures[chosen].float().div_(255), self.latents[chosen].float()
