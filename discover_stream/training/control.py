"""Train the control module of the `nano` decoder on a finished codec. `python -m discover_stream.training.control`.

DISCOVER's Eq. 4 in its diffusion term, the prior frozen: what the codec leaves of a picture, and which cells were
sent, steer the prior back to the picture. A share of the examples is all noise, and there the clean latent that one
step gives is compared as a picture too: that is the distillation to one step. The VAE's decoder learns along, from
what was received and from what was sampled in turn; its encoder, and so the latent space, stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.transforms import TransformConfig
from discover_stream.generation.diffusion import Diffusion, DiffusionShape, clean_of, condition_of, target_of
from discover_stream.generation.render import load_vae
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import decode_latent, shape_of
from discover_stream.generation.weights import CONTROL_FILE, load_nano, write_control
from discover_stream.training.codec import random_mask
from discover_stream.training.compute import Autocast, bf16_on_cpu
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import load_trained
from discover_stream.training.loop import LoopConfig, train, write_half
from discover_stream.training.losses import steered
from discover_stream.training.pairs import CELLS, Examples, PairBank, load_scenes
from discover_stream.training.prior import dropped, tags_of_crops, timesteps
from discover_stream.training.stage import begin_anywhere, stage_parser
from discover_stream.training.vae import picture_loss

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

    def draw(self, random: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str]]:
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


def main() -> None:
    """Train and write `control.safetensors` and `vae.safetensors`."""
    parser = stage_parser(__doc__, "runs/control", 60, batch=8, crops=1500)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae_wide/vae.safetensors"))
    parser.add_argument("--codec", type=Path, default=Path("runs/conditional/codec-float.safetensors"))
    parser.add_argument("--prior", type=Path, default=Path("runs/prior"), help="folder of prior.safetensors")
    arguments = parser.parse_args()
    compute, random = begin_anywhere(arguments.threads, seed=4)
    vae = load_vae(arguments.vae).to(memory_format=torch.channels_last)
    codec = TrainableConditional(TransformConfig())
    load_trained(codec, load_file(arguments.codec))
    examples = received(PairBank(load_scenes(arguments.data), vae, arguments.crops, seed=4), codec.eval(), random)
    diffusion = load_nano(arguments.prior, control=False)
    diffusion.control.requires_grad_(True).train()
    vae.decoder.requires_grad_(True)
    for network in (diffusion.prior, diffusion.control, cast(TagEmbedding, diffusion.text), vae):
        network.to(compute.device)

    def step(number: int, _: float) -> tuple[Tensor, Mapping[str, float]]:
        *tensors, texts = examples.draw(random, arguments.batch)
        picture, clean, kept, sent = (compute.place(tensor) for tensor in tensors)
        return control_step(diffusion, vae, (picture, clean, kept, sent, texts), random, number, compute.autocast)

    both = nn.ModuleDict({"control": diffusion.control, "vae": vae})
    loop = LoopConfig(out=arguments.out, minutes=arguments.minutes, learning_rate=5e-4)
    train(both, step, loop, compute=compute, generators=[random])
    write_control(arguments.out / CONTROL_FILE, diffusion.control, DiffusionShape())
    write_half(vae, arguments.out / "vae.safetensors", shape_of(vae).metadata())


def control_step(
    diffusion: Diffusion,
    vae: nn.Module,
    drawn: tuple[Tensor, Tensor, Tensor, Tensor, list[str]],
    random: np.random.Generator,
    number: int,
    autocast: Autocast = bf16_on_cpu,
) -> tuple[Tensor, Mapping[str, float]]:
    """The loss of a batch (see `Received.draw`) and what to record of it; `number` counts the steps."""
    picture, clean, kept, sent, texts = drawn
    timestep = timesteps(random, len(clean), diffusion.schedule.config["num_train_timesteps"]).to(clean.device)
    timestep[: len(clean) // PICTURE_SHARE] = diffusion.schedule.config["num_train_timesteps"] - 1
    noise = torch.randn_like(clean)
    with torch.no_grad():
        words = diffusion.text.encode(dropped(random, texts))
    with autocast():
        noisy, predicted = steered(diffusion, clean, noise, timestep, words, condition_of(kept, sent))
    error = functional.mse_loss(predicted, target_of(diffusion.schedule, clean, noise, timestep))
    sampled = clean_of(diffusion.schedule, predicted, noisy, timestep)
    few = slice(0, max(1, len(clean) // PICTURE_SHARE))
    source = sampled if number % 2 else kept
    with autocast():
        decoded = decode_latent(vae, source[few])
    shown = picture_loss(decoded.float(), picture[few])
    figures = {
        "error": float(error.detach()),
        "one_step": float(functional.mse_loss(sampled[few], clean[few]).detach()),
        "received": float(functional.mse_loss(kept[few], clean[few])),
        "sampled_picture" if number % 2 else "received_picture": float(shown.detach()),
    }
    return error + shown, figures


if __name__ == "__main__":
    main()
