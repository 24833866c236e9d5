"""The loop every training stage shares: budget, checkpoints, exact resume, moving average, curves.

A budget is a number of steps, or minutes of wall time where the machine decides how far a run gets. A run of so
many steps that is killed and resumed ends with the same weights as one that never stopped: checkpoints hold the
optimiser, the moving average and the state of every source of random numbers.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from discover_stream.training.compute import Compute
from discover_stream.types import InputError

log = logging.getLogger(__name__)

StepFunction = Callable[[int, float], tuple[Tensor, Mapping[str, float]]]
"""Maps a step number and the share of the budget used (0..1) to (loss, figures to record)."""

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Status:
    """How far a run is: steps made, share of the budget used, and what is left of it, for people."""

    step: int
    progress: float
    left: str


Report = Callable[[Status], None]
"""Called after every step."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a stage learns.

    Attributes:
        out: folder of checkpoints and curves.
        minutes: of wall time, all runs of the stage together; or
        steps: of the optimiser. One of the two is given.
        learning_rate: after the warm-up.
        warmup_steps: over which it rises.
        clip_norm: bound of the gradient's norm.
        ema: decay of the moving average of the weights.
        save_seconds: between checkpoints.
        record_every: steps between lines of the curves.

    Raises:
        InputError: both or none of minutes and steps are given.
    """

    out: Path
    minutes: float | None = None
    steps: int | None = None
    learning_rate: float = 4e-4
    warmup_steps: int = 50
    clip_norm: float = 1.0
    ema: float = 0.998
    save_seconds: float = 120.0
    record_every: int = 100

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise InputError("a training stage has a budget of minutes or of steps; give one of the two")

    def progress(self, step: int, used: float) -> float:
        """Share of the budget that is used, 0..1, after `step` steps in `used` seconds."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, used / (self.minutes * 60))

    def left(self, step: int, used: float) -> str:
        """What is left of the budget, for people."""
        progress = self.progress(step, used)
        if self.minutes is not None:
            return f"{self.minutes - used / 60:.1f} min left"
        ahead = used / 60 * (1 - progress) / progress if progress else 0.0
        return f"{step}/{self.steps} steps, about {ahead:.1f} min left"


def rate_at(config: LoopConfig, step: int, progress: float) -> float:
    """Learning rate: linear warm-up, then flat, then linear to 2 % over the last 40 % of the budget."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    cool = 1.0 if progress < 0.6 else max(0.02, (1 - progress) / 0.4)
    return config.learning_rate * warm * cool


class Run:
    """What a checkpoint holds: model, moving average, optimiser, random numbers, steps and seconds used.

    Args:
        model: what learns; on the device of `compute`.
        config: of the loop.
        compute: where it runs.
        generators: whose numbers the step function draws, beside torch's own.
    """

    def __init__(
        self,
        model: nn.Module,
        config: LoopConfig,
        compute: Compute | None = None,
        generators: Sequence[np.random.Generator] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.compute = compute or Compute("fp32", cpu=True)
        self.generators = tuple(generators)
        self.compute.spread(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.optimizer = self.compute.optimizer(optimizer)
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.step = 0
        self.used = 0.0
        self._file = config.out / CHECKPOINT
        # Processes after the first keep their own random numbers; what else they hold is the first one's.
        self._own_random = config.out / f"random-{self.compute.rank}.pt"

    @property
    def progress(self) -> float:
        """Share of the budget that is used."""
        return self.config.progress(self.step, self.used)

    def resume(self) -> None:
        """Continue from the checkpoint, where there is one.

        Raises:
            InputError: it is damaged or of another stage.
        """
        if not self._file.exists():
            return
        try:
            saved = torch.load(self._file, weights_only=True, map_location="cpu")
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average = {key: saved["average"][key].to(own.device) for key, own in self.average.items()}
            self.step, self.used = saved["step"], saved["used"]
            self._restore(saved.get("random") if self.compute.leads else self._of_this_process())
        except (RuntimeError, KeyError, ValueError, EOFError, OSError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self._file}: not a checkpoint of this stage ({reason}); move it away to start anew"
            ) from None
        log.info("resumed at step %d, %.1f minutes used", self.step, self.used / 60)

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the earlier one."""
        if not self.compute.leads:
            _replace(self._own_random, {"step": self.step, "random": self._random()})
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "used": self.used,
            "random": self._random(),
        }
        _replace(self._file, state)

    def _of_this_process(self) -> Mapping[str, Any] | None:
        if not self._own_random.exists():
            return None
        saved = torch.load(self._own_random, weights_only=True)
        if saved["step"] != self.step:
            log.warning(
                "process %d: its random numbers are of step %d, not %d", self.compute.rank, saved["step"], self.step
            )
            return None
        random: Mapping[str, Any] = saved["random"]
        return random

    def _random(self) -> dict[str, Any]:
        # numpy's states hold integers of 128 bits: as text they survive any reader.
        states = [json.dumps(generator.bit_generator.state) for generator in self.generators]
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": states}

    def _restore(self, random: Mapping[str, Any] | None) -> None:
        if random is None:
            return  # an older checkpoint
        torch.set_rng_state(random["torch"].cpu())
        if random["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in random["cuda"]])
        for generator, state in zip(self.generators, random["numpy"], strict=True):
            generator.bit_generator.state = json.loads(state)

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser and of the moving average.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.config, self.step, self.progress)
        self.optimizer.zero_grad(set_to_none=True)
        self.compute.backward(loss, self.parameters)
        norm = self.compute.clip(self.parameters, self.config.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"step {self.step}: the gradient is not finite; lower the learning rate")
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key] = value.clone()


def _replace(path: Path, state: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


class Curves:
    """Figures of a run, averaged between its lines: `curve.csv`, and the same for TensorBoard."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._sums: dict[str, list[float]] = {}
        self._file = (out / "curve.csv").open("a", newline="")
        self._writer = csv.writer(self._file)
        self._board = SummaryWriter(str(out / "tensorboard"))

    def add(self, figures: Mapping[str, float]) -> None:
        """Figures of one step."""
        for key, number in figures.items():
            self._sums.setdefault(key, []).append(number)

    def line(self, step: int, used: float, left: str) -> None:
        """Write what was added since the line before: after `step` steps, `used` seconds, with `left` to go."""
        means = {key: sum(numbers) / len(numbers) for key, numbers in self._sums.items()}
        self._sums = {}
        words = [f"{key}={value:.5g}" for key, value in means.items()]
        self._writer.writerow([step, f"{used:.0f}", *words])
        self._file.flush()
        for key, value in means.items():
            self._board.add_scalar(key, value, step)
        log.info("step %d  %s  %s", step, left, "  ".join(words))

    def close(self) -> None:
        """No more lines."""
        self._file.close()
        self._board.close()


def train(
    model: nn.Module,
    step_function: StepFunction,
    config: LoopConfig,
    *,
    compute: Compute | None = None,
    generators: Sequence[np.random.Generator] = (),
    report: Report | None = None,
) -> nn.Module:
    """Train the model's parameters that require gradients until the budget is spent.

    Resumes from `out/checkpoint.pt` where one exists and writes it every `save_seconds`. Curves go to `out/curve.csv`
    (step, seconds used, figures averaged since the line before) and `out/tensorboard`.

    Args:
        model: on the device of `compute`.
        step_function: see `StepFunction`.
        config: of the loop.
        compute: where it runs; None for float32 on the CPU.
        generators: see `Run`.
        report: told how far the run is; in the first process alone.

    Returns:
        The model holding its moving-average weights.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    run = Run(model, config, compute, generators)
    run.resume()
    curves = Curves(config.out) if run.compute.leads else None
    last_save = clock = time.monotonic()
    try:
        while run.progress < 1:
            loss, figures = step_function(run.step, run.progress)
            run.update(loss)
            now = time.monotonic()
            # Clocks differ between processes: what depends on time, the first one decides for all.
            run.used, due = run.compute.agreed(run.used + now - clock, now - last_save > config.save_seconds)
            clock = now
            if curves is not None:
                curves.add(figures)
                left = config.left(run.step, run.used)
                if run.step % config.record_every == 0:
                    curves.line(run.step, run.used, left)
                if report is not None:
                    report(Status(run.step, run.progress, left))
            if due:
                run.save()
                last_save = now
    finally:
        if curves is not None:
            curves.close()
    run.save()
    model.load_state_dict(run.average)
    return model


def write_half(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model's weights as safetensors in half precision, which is what ships."""
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path, metadata=dict(metadata or {}))
