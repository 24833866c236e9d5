"""Train the `nano` diffusion decoder on a finished codec. `python -m discover_stream.training.denoiser --help`.

Each example is a crop's z_c, what the codec leaves of it at a random quality with a random mask, and
that mask. The denoiser learns x0 at random noise levels; four draws in ten are at pure noise, since
one step from there is what the `machine` profile does. The VAE's decoder learns along, from denoised and
from merely received latents in turn; its encoder stays, so the codec stays valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.network import CodecConfig
from discover_stream.generation.denoiser import TRAIN_TIMESTEPS, build_denoiser, build_scheduler, predict_clean
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import decode_latent, shape_of
from discover_stream.training.codec import CELLS, CROP, CropBank, TrainableCodec, random_mask
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.export import load_trained
from discover_stream.training.loop import LoopConfig, train, write_half
from discover_stream.training.stage import begin, stage_parser
from discover_stream.training.vae import picture_loss

PURE_NOISE_SHARE = 0.4


class PairBank:
    """Clean latents beside what the codec leaves of them, computed once."""

    def __init__(self, bank: CropBank, codec: TrainableCodec, random: np.random.Generator, batch: int = 8) -> None:
        count = len(bank.pictures)
        self.bank = bank
        self.received = torch.empty_like(bank.latents)
        self.masks = torch.empty(count, 1, CELLS, CELLS, dtype=torch.bool)
        for start in range(0, count, batch):
            chosen = slice(start, min(start + batch, count))
            picture = bank.pictures[chosen].float().div(255)
            mask = torch.from_numpy(np.stack([random_mask(random, CELLS) for _ in range(len(picture))]))[:, None]
            quality = torch.from_numpy(random.integers(1, codec.network.config.qualities + 1, len(picture)))
            with torch.no_grad():
                self.received[chosen] = codec(picture, mask, quality)[0].to(torch.bfloat16)
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


def main() -> None:
    """Train and write `denoiser.safetensors`."""
    parser = stage_parser(__doc__, "runs/denoiser", 20, batch=12, crops=1200)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/vae.safetensors"))
    parser.add_argument("--codec", type=Path, default=Path("runs/codec/codec-float.safetensors"))
    arguments = parser.parse_args()
    random = begin(arguments.threads, seed=2)
    vae = load_vae(arguments.vae).to(memory_format=torch.channels_last)
    codec = TrainableCodec(CodecConfig())
    load_trained(codec, load_file(arguments.codec))
    crops = CropSampler(*load_pictures(arguments.data), crop=CROP, seed=2)
    pairs = PairBank(CropBank(crops, vae, arguments.crops), codec.eval(), random)
    denoiser = build_denoiser().to(memory_format=torch.channels_last)
    # The correction starts at zero: before training, the output is what was received.
    torch.nn.init.zeros_(denoiser.conv_out.weight)
    torch.nn.init.zeros_(denoiser.conv_out.bias)
    vae.decoder.requires_grad_(True)
    scheduler = build_scheduler()

    def step(number: int, _: float) -> tuple[Tensor, Mapping[str, float]]:
        picture, clean, received, sent = pairs.draw(random, arguments.batch)
        levels = random.integers(0, TRAIN_TIMESTEPS, arguments.batch)
        levels[random.random(arguments.batch) < PURE_NOISE_SHARE] = TRAIN_TIMESTEPS - 1
        timestep = torch.from_numpy(levels)
        noisy = scheduler.add_noise(clean, torch.randn_like(clean), timestep)
        with torch.autocast("cpu", torch.bfloat16):
            output = predict_clean(denoiser, noisy, timestep, received, sent)
        output = output.float()
        error = functional.mse_loss(output, clean)
        before = functional.mse_loss(received, clean)
        figures = {"latent": float(error.detach()), "received": float(before)}
        few = slice(0, max(1, arguments.batch // 3))
        source = output if number % 2 else received
        with torch.autocast("cpu", torch.bfloat16):
            decoded = decode_latent(vae, source[few])
        shown = picture_loss(decoded.float(), picture[few])
        figures["denoised_picture" if number % 2 else "received_picture"] = float(shown.detach())
        return error + shown, figures

    loop = LoopConfig(out=arguments.out, minutes=arguments.minutes, learning_rate=6e-4)
    train(nn.ModuleDict({"denoiser": denoiser, "vae": vae}), step, loop)
    write_half(denoiser, arguments.out / "denoiser.safetensors")
    write_half(vae, arguments.out / "vae.safetensors", shape_of(vae).metadata())


if __name__ == "__main__":
    main()
