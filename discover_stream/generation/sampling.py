"""Sampling: from z_c^ to the latent of a finished picture, with diffusers' samplers.

The same noise always belongs to the same place of the same camera, so that what stands still looks the same in
every frame; sampling itself adds none (DDIM, eta 0).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from discover_stream.generation.diffusion import Diffusion, condition_of
from discover_stream.generation.graphs import Calls, direct
from discover_stream.types import InputError, Provenance

MAX_STEPS = 1000


@dataclass(frozen=True)
class SamplePlan:
    """How to sample.

    Attributes:
        steps: of the sampler, 1..1000.
        start: share of the noise that sampling starts from. 1 is pure noise, the papers' way; below 1 it starts
            from z_c^ with that much of the noise schedule applied, as image-to-image pipelines do.
        guidance: of classifier-free guidance by the tags; 1 leaves it out (and saves half of the work).
        control: factor of the control module; 0 shows what the prior does alone.

    Raises:
        InputError: a value is out of range.
    """

    steps: int = 1
    start: float = 1.0
    guidance: float = 1.0
    control: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise InputError(f"steps {self.steps} is not in 1..{MAX_STEPS}")
        if not 0 < self.start <= 1:
            raise InputError(f"a start at {self.start} of the noise is not in (0, 1]")
        if not 1 <= self.guidance <= 50 or not 0 <= self.control <= 10:
            raise InputError(f"guidance {self.guidance} is not in 1..50, or control {self.control} not in 0..10")


def timesteps_of(schedule: DDIMScheduler, plan: SamplePlan) -> tuple[DDIMScheduler, Tensor]:
    """A sampler for a plan, and the timesteps it visits, noisiest first."""
    sampler = copy.copy(schedule)  # setting timesteps replaces them and changes nothing else
    sampler.set_timesteps(max(plan.steps, math.ceil(plan.steps / plan.start)))
    return sampler, sampler.timesteps[-plan.steps :]


def walk(
    schedule: DDIMScheduler,
    predict: Callable[[Tensor, Tensor], Tensor],
    received: Tensor,
    noise: Tensor,
    plan: SamplePlan,
) -> Tensor:
    """Sample clean latents, step by step (deterministic DDIM, eta 0).

    Args:
        schedule: of the noise.
        predict: (z_t, timestep) -> what the schedule's `prediction_type` says.
        received: (B, L, h, w) z_c^.
        noise: (B, L, h, w), standard normal.
        plan: number of steps, and where to start.

    Returns:
        (B, L, h, w).
    """
    sampler, timesteps = timesteps_of(schedule, plan)
    latent = noise if plan.start == 1 else sampler.add_noise(received, noise, timesteps[:1])
    for timestep in timesteps:
        latent = sampler.step(predict(latent, timestep), timestep, latent, eta=0.0).prev_sample
    return latent


@torch.inference_mode()
def sample(
    diffusion: Diffusion,
    received: Tensor,
    sent: Tensor,
    noise: Tensor,
    text: str | Sequence[str],
    plan: SamplePlan,
    *,
    calls: Calls = direct,
) -> Tensor:
    """Sample clean latents with a prior and its control module.

    Args:
        diffusion: the models, of any precision.
        received: (B, L, h, w) z_c^, float32.
        sent: (B, 1, h, w) 1 where the cell was sent.
        noise: (B, L, h, w), standard normal.
        text: tags of every picture, or of all.
        plan: see `SamplePlan`.
        calls: how the networks are called.

    Returns:
        (B, L, h, w) float32.
    """
    texts = [text] * len(received) if isinstance(text, str) else list(text)
    guided = plan.guidance > 1 and any(texts)
    words = diffusion.text.encode(texts)
    if guided:
        words = torch.cat([diffusion.text.encode([""] * len(texts)), words])
    dtype = words.dtype  # of all the networks: they are moved together
    conditions = [condition_of(received, sent).to(dtype)] if plan.control else []
    if guided:
        conditions = [torch.cat([condition, condition]) for condition in conditions]

    def work(latent: Tensor, at: Tensor, words: Tensor, *condition: Tensor) -> Tensor:
        seen = latent.to(dtype)
        if guided:
            seen = torch.cat([seen, seen])
        both = diffusion.predict(seen, at, words, *(condition or (None,)), strength=plan.control).float()
        if not guided:
            return both
        without, with_tags = both.chunk(2)
        return without + plan.guidance * (with_tags - without)

    def predict(latent: Tensor, timestep: Tensor) -> Tensor:
        if diffusion.clock is not None:
            diffusion.clock.timestep = int(timestep)
        key = ("sample", int(timestep), plan.guidance, plan.control)
        return calls(key, work, latent, timestep.to(latent.device), words, *conditions)

    return walk(diffusion.schedule, predict, received, noise, plan)


@dataclass(frozen=True)
class ChangeBounds:
    """By how much sampling may change the latent of a cell, per provenance, in units of the latent.

    What was generated is free: nothing was received there. What was sent stays as it came: with the shipped weights a
    step takes 0.2 to 0.7 dB from it and brings the features of a picture no closer (docs/decoding.md).
    """

    sent: float = 0.0
    plate: float = 1.0
    propagated: float = 1.5

    def of(self, provenance: Tensor) -> Tensor:
        """(..., h, w) values of `Provenance` -> bounds of the same shape."""
        bounds = torch.full(provenance.shape, math.inf, device=provenance.device)
        for kind, bound in (
            (Provenance.SENT, self.sent),
            (Provenance.PLATE, self.plate),
            (Provenance.PROPAGATED, self.propagated),
        ):
            bounds = bounds.masked_fill(provenance == int(kind), bound)
        return bounds


def bounded(sampled: Tensor, received: Tensor, provenance: Tensor, bounds: ChangeBounds) -> Tensor:
    """Keep a sampling within its bounds.

    Args:
        sampled: (B, L, h, w).
        received: (B, L, h, w) z_c^.
        provenance: (B, 1, h, w) values of `Provenance`.
        bounds: per provenance.

    Returns:
        (B, L, h, w), no channel of it farther from `received` than its cell's bound.
    """
    most = bounds.of(provenance)
    return received + torch.minimum(torch.maximum(sampled - received, -most), most)


class ChangeReport:
    """What sampling changed, by provenance, summed over the windows of a picture."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, latent: Tensor, received: Tensor, provenance: Tensor) -> None:
        """Count a window: the latent (L, h, w) after bounding, z_c^ (L, h, w), values of `Provenance` (1, h, w).

        What is missing (around the picture) does not count.
        """
        mean = (latent - received).abs().mean(dim=0)
        for kind in (kind for kind in Provenance if kind != Provenance.MISSING):
            here = provenance[0] == int(kind)
            count = int(here.sum())
            if count:
                total, number = self._sums.get(kind.name.lower(), (0.0, 0))
                self._sums[kind.name.lower()] = total + float(mean[here].sum()), number + count

    def means(self) -> dict[str, float]:
        """Provenance in lower case -> mean absolute change of a latent's channels."""
        return {name: total / number for name, (total, number) in self._sums.items()}
