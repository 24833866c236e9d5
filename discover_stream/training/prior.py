"""Train the `nano` diffusion prior with its tag embeddings. `python -m discover_stream.training.prior --help`.

The prior learns what streets look like in the latent space of a finished VAE, with the tags of each picture as its
text, a tenth of the time without (classifier-free guidance). It is frozen for all later stages, as Stable Diffusion
is in both papers: an untrained one would make their losses void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from discover_stream.generation.diffusion import (
    Diffusion,
    DiffusionShape,
    build_control,
    build_prior,
    build_schedule,
)
from discover_stream.generation.render import load_vae
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.weights import write_prior
from discover_stream.semantics.detector import CLASSES, DetectOptions, detect
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.training.codec import CropBank
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.loop import LoopConfig, train
from discover_stream.training.losses import diffusion_error
from discover_stream.training.stage import begin_anywhere, stage_parser

CROP = 256
TAG_DROP = 0.1
"""Share of examples whose tags are left out, as in Diff-ICMH."""
FULL_NOISE_SHARE = 0.25
"""Share of examples at the last timestep, from which one-step sampling starts."""


def tags_of_crops(pictures: Tensor) -> list[str]:
    """The tags of crops (n, 3, H, W) uint8: the classes the shipped grounder finds, in the order of its classes."""
    network, options = NanoGrounder.load().network, DetectOptions()
    texts = []
    for picture in pictures:
        (found,) = detect(network, [picture.permute(1, 2, 0).contiguous().numpy()], options)
        present = set(found.classes.tolist())
        texts.append(", ".join(name for index, name in enumerate(CLASSES) if index in present))
    return texts


def dropped(random: np.random.Generator, texts: Sequence[str], share: float = TAG_DROP) -> list[str]:
    """The texts, each emptied with the given probability."""
    return ["" if random.random() < share else text for text in texts]


def timesteps(random: np.random.Generator, count: int, most: int) -> Tensor:
    """`count` timesteps: uniform over 0..most-1, a fixed share of them the last."""
    drawn = random.integers(0, most, count)
    drawn[random.random(count) < FULL_NOISE_SHARE] = most - 1
    return torch.from_numpy(drawn)


def main() -> None:
    """Train and write `prior.safetensors`."""
    parser = stage_parser(__doc__, "runs/prior", 60, batch=8, crops=3000)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/vae.safetensors"))
    arguments = parser.parse_args()
    compute, random = begin_anywhere(arguments.threads, seed=3)
    vae = load_vae(arguments.vae).to(memory_format=torch.channels_last)
    bank = CropBank(CropSampler(*load_pictures(arguments.data), crop=CROP, seed=3), vae, arguments.crops)
    texts = tags_of_crops(bank.pictures)
    shape = DiffusionShape()
    prior, text = build_prior(shape).to(compute.device), TagEmbedding(shape.text_width).to(compute.device)
    diffusion = Diffusion(prior, build_control(prior), build_schedule(), text)
    most = diffusion.schedule.config["num_train_timesteps"]

    def step(_: int, __: float) -> tuple[Tensor, Mapping[str, float]]:
        chosen = random.integers(0, len(bank.latents), arguments.batch)
        clean = compute.place(bank.latents[torch.from_numpy(chosen)].float())
        words = text.encode(dropped(random, [texts[int(index)] for index in chosen]))
        timestep = compute.place(timesteps(random, arguments.batch, most))
        noise = torch.randn_like(clean)
        with compute.autocast():
            errors = diffusion_error(diffusion, clean, noise, timestep, words, None)
        loss = errors.mean()
        last = timestep == most - 1
        figures = {"error": float(loss.detach())}
        if bool(last.any()):
            figures["last"] = float(errors[last].mean().detach())
        return loss, figures

    # Both learn, and their moving average is what is written.
    both = nn.ModuleDict({"prior": prior, "text": text})
    loop = LoopConfig(out=arguments.out, minutes=arguments.minutes, learning_rate=5e-4, ema=0.9995)
    train(both, step, loop, compute=compute, generators=[random])
    write_prior(arguments.out / "prior.safetensors", prior, text, shape)


if __name__ == "__main__":
    main()
