"""Stage 0: the `nano` diffusion prior with its tag embeddings. `discover train prior`.

The prior learns what streets look like in the latent space of a finished VAE, with the tags of each picture as its
text, a tenth of the time without (classifier-free guidance). It is frozen for all later stages, as Stable Diffusion
is in both papers: an untrained one would make their losses void.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from discover_stream.generation.diffusion import Diffusion, build_control, build_prior, build_schedule
from discover_stream.generation.render import load_vae
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.weights import PRIOR_FILE, write_prior
from discover_stream.training.compute import Compute
from discover_stream.training.config_stages import PriorStage
from discover_stream.training.crops import CropBank
from discover_stream.training.data import CropSampler, load_pictures
from discover_stream.training.losses import diffusion_error
from discover_stream.training.sources import Looker
from discover_stream.training.stage import Job

TAG_DROP = 0.1
"""Share of examples whose tags are left out, as in Diff-ICMH."""
FULL_NOISE_SHARE = 0.25
"""Share of examples at the last timestep, from which one-step sampling starts."""


def tags_of_crops(pictures: Tensor) -> list[str]:
    """The tags of crops (n, 3, H, W) uint8: the classes the shipped grounder finds, in the order of its classes."""
    return [seen.text for seen in Looker().look(pictures)]


def dropped(random: np.random.Generator, texts: Sequence[str], share: float = TAG_DROP) -> list[str]:
    """The texts, each emptied with the given probability."""
    return ["" if random.random() < share else text for text in texts]


def timesteps(random: np.random.Generator, count: int, most: int, last: float = FULL_NOISE_SHARE) -> Tensor:
    """`count` timesteps: uniform over 0..most-1, a share `last` of them the last."""
    drawn = random.integers(0, most, count)
    drawn[random.random(count) < last] = most - 1
    return torch.from_numpy(drawn)


class PriorLoss:
    """The loss of a prior and its tags on clean latents.

    Args:
        diffusion: prior and text learn.
        stage: how much is noise, and how many tags are left out.
        compute: where it runs.
        random: what is drawn.
    """

    def __init__(self, diffusion: Diffusion, stage: PriorStage, compute: Compute, random: np.random.Generator) -> None:
        self._diffusion, self._stage, self._compute, self._random = diffusion, stage, compute, random

    def __call__(self, clean: Tensor, texts: Sequence[str]) -> tuple[Tensor, dict[str, float]]:
        """The loss of z_c (B, L, h, w) with their tags, and what to record of it."""
        diffusion, most = self._diffusion, self._diffusion.schedule.config["num_train_timesteps"]
        with self._compute.device:
            words = diffusion.text.encode(dropped(self._random, texts, self._stage.tag_drop))
        timestep = self._compute.place(timesteps(self._random, len(clean), most, self._stage.full_noise_share))
        noise = torch.randn_like(clean)
        with self._compute.autocast():
            errors = diffusion_error(diffusion, clean, noise, timestep, words, None)
        last = timestep == most - 1
        figures = {"error": float(errors.mean().detach())}
        if bool(last.any()):
            figures["last"] = float(errors[last].mean().detach())
        return errors.mean(), figures


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `prior.safetensors`; see `stage.run_stage`."""
    stage: PriorStage = job.stage
    compute, random, shape = job.compute, job.random, job.nano.prior.shape
    vae = load_vae(stage.vae).to(memory_format=torch.channels_last)
    crops = CropSampler(*load_pictures(job.pictures), crop=stage.crop, seed=stage.seed + compute.rank)
    bank = CropBank(crops, vae, stage.examples)
    texts = tags_of_crops(bank.pictures)
    prior, text = build_prior(shape).to(compute.device), TagEmbedding(shape.text_width).to(compute.device)
    loss_of = PriorLoss(Diffusion(prior, build_control(prior), build_schedule(), text), stage, compute, random)

    def step(_: int, __: float) -> tuple[Tensor, dict[str, float]]:
        chosen = random.integers(0, len(bank.latents), stage.batch)
        clean = compute.place(bank.latents[torch.from_numpy(chosen)].float())
        return loss_of(clean, [texts[int(index)] for index in chosen])

    # Both learn, and their moving average is what is written.
    job.train(nn.ModuleDict({"prior": prior, "text": text}), step)
    path = job.out / PRIOR_FILE
    write_prior(path, prior, text, shape)
    return (path,)
