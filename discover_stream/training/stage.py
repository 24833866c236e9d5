"""What a stage is handed when it runs, and which stages there are."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from discover_stream.training.compute import Compute
from discover_stream.training.config import TrainingConfig
from discover_stream.training.config_models import NanoModels
from discover_stream.training.config_stages import Stage
from discover_stream.training.loop import LoopConfig, Report, StepFunction, train
from discover_stream.types import InputError

log = logging.getLogger(__name__)

STAGES = {
    "vae": "vae",
    "prior": "prior",
    "codec": "joint_stage",
    "task": "joint_stage",
    "control": "control",
    "distill": "distill",
    "grounder": "grounder",
    "denoiser": "denoiser",
    "ablation": "ablation",
}
"""Names of stages, and the modules whose `run` trains them."""


class Followed(Exception):
    """This process has followed the first one through the loop; what came of it, that one writes."""


@dataclass(frozen=True)
class Job:
    """A stage that is to run.

    Attributes:
        name: of the stage.
        config: everything that was asked for.
        data: folder of what it learns from; None where none was given.
        out: folder of results.
        compute: where it runs.
        random: numpy's numbers, to be restored with the checkpoint.
        report: told how far it is.
    """

    name: str
    config: TrainingConfig
    data: Path | None
    out: Path
    compute: Compute
    random: np.random.Generator
    report: Report | None = None

    @property
    def stage(self) -> Any:
        """Its section of the configuration."""
        return getattr(self.config.stages, self.name)

    @property
    def pictures(self) -> Path:
        """The folder of data. Raises InputError where none was given."""
        if self.data is None:
            raise InputError(f"stage {self.name}: it learns from pictures; name their folder with --data")
        return self.data

    @property
    def nano(self) -> NanoModels:
        """The models, for stages that only `nano` has. Raises InputError for others."""
        models = self.config.models
        if not isinstance(models, NanoModels):
            raise InputError(f"stage {self.name}: the models of size {models.size} come trained; use --config nano")
        return models

    def train(self, model: nn.Module, step: StepFunction, *more: np.random.Generator) -> nn.Module:
        """Run the loop on a model; `more` are generators beside the job's own. See `loop.train`.

        Raises:
            Followed: in all processes but the first.
        """
        stage = cast(Stage, self.stage)
        loop = LoopConfig(
            out=self.out,
            minutes=stage.minutes,
            steps=stage.steps,
            learning_rate=stage.learning_rate,
            warmup_steps=stage.warmup_steps,
            ema=stage.ema,
            save_seconds=stage.save_seconds,
            record_every=stage.record_every,
        )
        generators = [self.random, *more]
        trained = train(model, step, loop, compute=self.compute, generators=generators, report=self.report)
        if not self.compute.leads:
            raise Followed
        return trained


def prepare(
    config: TrainingConfig,
    name: str,
    data: Path | None,
    *,
    out: Path | None = None,
    cpu: bool = False,
    report: Report | None = None,
) -> Job:
    """Get a stage ready: devices, threads, random numbers.

    Args:
        config: of everything.
        name: of the stage.
        data: folder of pictures.
        out: in place of the configured folder.
        cpu: stay on the CPU where there is a GPU.
        report: told how far it is.

    Raises:
        InputError: there is no such stage in the configuration.
    """
    stage = getattr(config.stages, name, None)
    if stage is None:
        known = ", ".join(config.stages.names)
        raise InputError(f"stage {name!r}: not in the recipe of size {config.models.size}; it has {known}")
    if data is not None and not data.is_dir():
        raise InputError(f"{data}: no such folder; name the one with training pictures (docs/training.md)")
    compute = Compute(config.precision, cpu=cpu)
    # Every process draws numbers of its own.
    torch.manual_seed(stage.seed + compute.rank)
    torch.set_num_threads(config.threads)
    random = np.random.default_rng(stage.seed + compute.rank)
    folder = out or stage.out
    folder.mkdir(parents=True, exist_ok=True)
    return Job(name, config, data, folder, compute, random, report)


def run_stage(job: Job) -> tuple[Path, ...]:
    """Train a stage until its budget is spent; returns the weights it wrote, of several processes in the first.

    Raises:
        InputError: data, weights or a checkpoint are missing or do not fit.
    """
    module = importlib.import_module(f"discover_stream.training.{STAGES[job.name]}")
    try:
        written: tuple[Path, ...] = module.run(job)
    except Followed:
        return ()
    return written
