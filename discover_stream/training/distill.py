"""One step that does what many do. `discover train distill`.

The simplest distillation there is (Luhman & Luhman, "Knowledge Distillation in Iterative Generative Models for Improved
Sampling Speed", 2021): the teacher samples a clean latent in many deterministic steps from some noise; the student, a
copy of its control module on the same frozen prior, is to say the same latent from the same noise in one step at the
last timestep. A second term pulls it towards z_c itself, which the teacher only guesses where nothing was sent.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.generation.diffusion import Diffusion, clean_of, condition_of
from discover_stream.generation.sampling import SamplePlan, sample
from discover_stream.training.compute import Autocast, bf16_on_cpu
from discover_stream.training.config_stages import DistillStage
from discover_stream.training.control import Drawn, finished_models, received_source
from discover_stream.training.joint_stage import write_models
from discover_stream.training.prior import dropped
from discover_stream.training.stable import move
from discover_stream.training.stage import Job


def one_step(diffusion: Diffusion, condition: Tensor, noise: Tensor, words: Tensor) -> Tensor:
    """The clean latent (B, L, h, w) that a model says at the last timestep.

    Args:
        diffusion: the model.
        condition: (B, L + 1, h, w), see `condition_of`.
        noise: (B, L, h, w), standard normal.
        words: (B, tokens, width).
    """
    last = diffusion.schedule.config["num_train_timesteps"] - 1
    timestep = torch.full((len(noise),), last, dtype=torch.long, device=noise.device)
    predicted = diffusion.predict(noise, timestep, words, condition).float()
    return clean_of(diffusion.schedule, predicted, noise, timestep)


def distillation_loss(said: Tensor, taught: Tensor, clean: Tensor, clean_weight: float) -> Tensor:
    """Mean squared distance of what the student says to what the teacher does, and to z_c; all (B, L, h, w)."""
    return functional.mse_loss(said, taught) + clean_weight * functional.mse_loss(said, clean)


class Distillation:
    """The loss of batches.

    Args:
        student: its control module learns.
        stage: of the teacher's sampling, and weights.
        random: draws which tags are left out.
        autocast: of forward passes.
    """

    def __init__(
        self,
        student: Diffusion,
        stage: DistillStage,
        random: np.random.Generator,
        autocast: Autocast = bf16_on_cpu,
    ) -> None:
        control = copy.deepcopy(student.control).requires_grad_(False).eval()
        self.teacher = dataclasses.replace(student, control=control)
        self._student, self._stage, self._random, self._autocast = student, stage, random, autocast
        self._plan = SamplePlan(stage.teacher_steps, guidance=stage.guidance)

    def __call__(self, drawn: Drawn) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (see `control.Received.draw`), and what to record of it."""
        _, clean, kept, sent, texts = drawn
        texts = dropped(self._random, texts, self._stage.tag_drop)
        noise = torch.randn_like(clean)
        with self._autocast(), clean.device:
            # A copy, since what is made in inference mode cannot take part in a gradient.
            taught = sample(self.teacher, kept, sent, noise, texts, self._plan).float().clone()
        with torch.no_grad(), clean.device:
            words = self._student.text.encode(texts)
        with self._autocast():
            said = one_step(self._student, condition_of(kept, sent), noise, words)
        loss = distillation_loss(said, taught, clean, self._stage.clean_weight)
        figures = {
            "to_teacher": float(functional.mse_loss(said, taught).detach()),
            "to_clean": float(functional.mse_loss(said, clean).detach()),
            "teacher_to_clean": float(functional.mse_loss(taught, clean)),
        }
        return loss, figures


def run(job: Job) -> tuple[Path, ...]:
    """Train and write the control module of one step; see `stage.run_stage`."""
    stage: DistillStage = job.stage
    vae, codec, diffusion = finished_models(job)
    examples = received_source(job, vae, codec)
    move(diffusion, job.compute.device)
    loss_of = Distillation(diffusion, stage, job.random, job.compute.autocast)

    def step(_: int, __: float) -> tuple[Tensor, dict[str, float]]:
        *tensors, texts = examples.draw(job.random, stage.batch)
        picture, clean, kept, sent = (job.compute.place(tensor) for tensor in tensors)
        return loss_of((picture, clean, kept, sent, texts))

    job.train(nn.ModuleDict({"control": diffusion.control}), step, *examples.generators)
    return write_models(job.out, None, diffusion, vae, job.config.models.size)
