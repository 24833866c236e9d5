"""Stages I and II in one for the codec without references, which ships. `discover train plain_codec`; on a CPU.

Loss per picture, after DISCOVER Eq. 4 with masks as they are used (boxes, 0-99 % of cells missing):

    (bits of sent y / sent pixels + bits of z / pixels) / lambda_q + distortion

where the distortion is the squared error of z_c, weighted by whether a cell was sent, and, on every
third step, the squared error of the picture that the VAE decodes from it. The diffusion term is not
trained here: the decoder of this version conditions on finished latents (`training.denoiser`).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from compressai.entropy_models import EntropyBottleneck
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.exact import SCALE_LARGEST, SCALE_LEVELS, SCALE_SMALLEST, ScaleBranch
from discover_stream.codec.network import CodecConfig, CodecNetwork, checkerboard
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import LATENT_CHANNELS, decode_latent, encode_picture, latent_space
from discover_stream.training.compute import bf16_on_cpu
from discover_stream.training.config_stages import PlainCodecStage
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.stage import Job

CROP = 192
CELLS = CROP // 16
LAMBDAS = (0.3, 8.0)
"""What a unit of distortion is worth at quality 1 and 8, geometric between, in bits per pixel."""
PICTURE_WEIGHT = 190.0
"""Weight of the picture's squared error (0..1 scale) beside the latent's."""
NOISE_SHARE = 0.7
"""Share of steps that add uniform noise where the codec rounds. Rounding, with the gradient of the
identity, hides from the gradient what a finer scale would gain; noise hides what rounding does."""
UNSENT_WEIGHT = 0.15
"""How much an error in a cell that was not sent counts, beside 1 in a sent one."""


def random_mask(random: np.random.Generator, cells: int) -> npt.NDArray[np.float32]:
    """A mask as subscribers see them: everything, or the union of a few boxes, or its complement.

    Up to 99 % of the cells are missing.
    """
    mask = np.zeros((cells, cells), dtype=np.float32)
    draw = random.random()
    if draw < 0.3:
        return np.ones_like(mask)
    for _ in range(int(random.integers(1, 6))):
        height, width = random.integers(1, cells * 2 // 3, size=2)
        top = int(random.integers(0, cells - height + 1))
        left = int(random.integers(0, cells - width + 1))
        mask[top : top + height, left : left + width] = 1
    return 1 - mask if draw > 0.8 and mask.mean() < 0.95 else mask


def gaussian_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of integers around `residual` under a zero-mean Gaussian of standard deviation `scale`."""
    size = residual.abs()
    upper = torch.special.ndtr((0.5 - size) / scale)
    lower = torch.special.ndtr((-0.5 - size) / scale)
    bits: Tensor = -(upper - lower).clamp_min(1e-9).log2()
    return bits


RATE_RAMP = (0.35, 0.6)
"""Shares of the training time between which the weight of the rate rises, unless a configuration says otherwise."""


def rate_weight(progress: float, ramp: tuple[float, float] = RATE_RAMP) -> float:
    """Weight of the rate at a share of the training time: 0.05 up to the ramp, 1 from its end on, geometric between.

    A codec that pays for bits from its first step learns to send nothing in most channels, and such a
    channel gets no gradient that would bring it back.
    """
    start, end = ramp
    return float(0.05 ** (1 - min(max((progress - start) / (end - start), 0.0), 1.0)))


def round_through(value: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return value + (value.round() - value).detach()


class TrainableCodec(nn.Module):
    """Everything of the codec that learns: networks, exact branch in float, prior of z."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.network = CodecNetwork(config)
        self.scales = ScaleBranch(config)
        self.prior = EntropyBottleneck(config.z_channels)

    def forward(
        self, picture: Tensor, mask: Tensor, quality: Tensor, noisy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass in training mode.

        Args:
            picture: (B, 3, H, W) RGB 0..1.
            mask: (B, 1, H/16, W/16) cells that are sent.
            quality: (B,) in 1..8.
            noisy: add uniform noise to y' and z where the codec rounds.

        Returns:
            z_c^ (B, 16, H/8, W/8), bits of sent y (B,), bits of z (B,).
        """
        network = self.network
        with bf16_on_cpu():
            y = network.g_a(picture)
        scaled = y.float() * network.gain(quality)
        with bf16_on_cpu():
            z = network.h_a(scaled)
        z = z.float()
        _, likelihood = self.prior(z)
        z_bits = -likelihood.clamp_min(1e-9).log2().sum(dim=(1, 2, 3))
        medians = self.prior.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)
        centred = z - medians
        symbols = centred + torch.empty_like(z).uniform_(-0.5, 0.5) if noisy else round_through(centred)
        scale = SCALE_SMALLEST * torch.exp(
            self.scales(symbols, quality) * (math.log(SCALE_LARGEST / SCALE_SMALLEST) / (SCALE_LEVELS - 1))
        )
        z_hat = symbols + medians
        with bf16_on_cpu():
            psi = network.h_s(z_hat)
        noise = torch.empty_like(scaled).uniform_(-0.5, 0.5)
        scaled_hat, residual = self.quantise(scaled, psi, mask, noise if noisy else None)
        y_bits = (gaussian_bits(residual + noise, scale) * mask).sum(dim=(1, 2, 3))
        with bf16_on_cpu():
            latent = network.synthesise(scaled_hat, mask, z_hat, quality)
        return latent.float(), y_bits, z_bits

    def quantise(self, scaled: Tensor, psi: Tensor, mask: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y'^ (masked) and the residuals y' - mean, pass by pass as the decoder sees them.

        With `noise`, y'^ is y' plus that noise instead of the rounded residual plus its mean.
        """
        if noise is not None:
            noisy = torch.split((scaled + noise) * mask, list(self.network.config.groups), dim=1)
        anchors = checkerboard(scaled.shape[2], scaled.shape[3], 0, 0)
        known: list[Tensor] = []
        residuals: list[Tensor] = []
        for group, part in enumerate(torch.split(scaled, list(self.network.config.groups), dim=1)):
            with bf16_on_cpu():
                before = torch.cat([*known, torch.zeros_like(part)], dim=1)
                first = self.network.context.means(group, psi, before, mask, second=False).float()
                if noise is None:
                    anchored = (round_through(part - first) + first) * anchors * mask
                else:
                    anchored = noisy[group] * anchors
                before = torch.cat([*known, anchored], dim=1)
                second = self.network.context.means(group, psi, before, mask, second=True).float()
            mean = first * anchors + second * (1 - anchors)
            residual = part - mean
            residuals.append(residual)
            known.append((round_through(residual) + mean) * mask if noise is None else noisy[group])
        return torch.cat(known, dim=1), torch.cat(residuals, dim=1)


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


def geometric(ends: tuple[float, float], quality: Tensor) -> Tensor:
    """Value at each quality 1..8 on a geometric scale between two ends; (B,) -> (B,)."""
    low, high = ends
    return low * (high / low) ** ((quality.float() - 1) / 7)


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `codec-float.safetensors` and `codec.safetensors`; see `stage.run_stage`."""
    from discover_stream.training.export import export_codec  # which imports this module

    stage: PlainCodecStage = job.stage
    random, batch = job.random, stage.batch
    vae = load_vae(stage.vae).to(memory_format=torch.channels_last)
    bank = CropBank(CropSampler(*load_pictures(job.pictures), crop=CROP, seed=stage.seed), vae, stage.examples)
    config = CodecConfig()
    codec = TrainableCodec(config).to(memory_format=torch.channels_last)

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        picture, latent = bank.draw(random, batch)
        quality = torch.from_numpy(random.integers(1, config.qualities + 1, batch))
        mask = torch.from_numpy(np.stack([random_mask(random, CELLS) for _ in range(batch)]))[:, None]
        picture = picture.to(memory_format=torch.channels_last)
        output, y_bits, z_bits = codec(picture, mask, quality, noisy=bool(random.random() < NOISE_SHARE))
        weight = functional.interpolate(mask, scale_factor=2) * (1 - UNSENT_WEIGHT) + UNSENT_WEIGHT
        # Errors are averaged over what was sent, as the bits of y are: rate and distortion of a small
        # object weigh as much as those of a whole picture.
        share = weight.mean(dim=(1, 2, 3))
        error = ((output - latent).pow(2) * weight).mean(dim=(1, 2, 3)) / share
        sent_pixels = mask.sum(dim=(1, 2, 3)).clamp_min(1) * 256
        rate = y_bits / sent_pixels + z_bits / CROP**2
        # Divided by lambda, so that no quality drowns the gradients of the others.
        loss = (rate_weight(progress) * rate / geometric(LAMBDAS, quality) + error).mean()
        figures = {
            "bpp_sent": float((y_bits / sent_pixels).mean().detach()),
            "bpp_z": float(z_bits.mean().detach()) / CROP**2,
            "latent": float(error.mean().detach()),
        }
        if number % 3 == 0:
            few = slice(0, max(1, batch // 2))
            with bf16_on_cpu():
                decoded = decode_latent(vae, output[few])
            fine = functional.interpolate(weight[few], scale_factor=8)
            squared = ((decoded.float() - picture[few]).pow(2) * fine).mean(dim=(1, 2, 3)) / share[few]
            loss = loss + PICTURE_WEIGHT * squared.mean()
            figures["psnr3"] = -10 * math.log10(float(squared.mean().detach()))
        return loss + codec.prior.loss(), figures

    job.train(codec, step)
    kept, shipped = job.out / "codec-float.safetensors", job.out / "codec.safetensors"
    save_file({k: v.contiguous() for k, v in codec.state_dict().items()}, kept)
    with torch.no_grad():
        export_codec(codec, shipped, latent_space=latent_space(vae))
    return kept, shipped
