"""The loop every training stage shares: time budget, checkpoints, resume, moving average, curve."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)

StepFunction = Callable[[int, float], tuple[Tensor, Mapping[str, float]]]
"""Maps a step number and the share of time used (0..1) to (loss, figures to record)."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a stage learns. `minutes` counts all runs of the stage together."""

    out: Path
    minutes: float
    learning_rate: float = 4e-4
    warmup_steps: int = 50
    clip_norm: float = 1.0
    ema: float = 0.998
    save_seconds: float = 120.0
    record_every: int = 100


def rate_at(config: LoopConfig, step: int, elapsed: float) -> float:
    """Learning rate: linear warm-up, then flat, then linear to 2 % over the last 40 % of the time."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    progress = elapsed / (config.minutes * 60)
    cool = 1.0 if progress < 0.6 else max(0.02, (1 - progress) / 0.4)
    return config.learning_rate * warm * cool


class Run:
    """What a checkpoint holds: model, moving average of its weights, optimiser, steps and seconds used."""

    def __init__(self, model: nn.Module, config: LoopConfig) -> None:
        self.model = model
        self.config = config
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.step = 0
        self.used = 0.0
        self._file = config.out / "checkpoint.pt"

    def resume(self) -> None:
        """Continue from the checkpoint, where there is one."""
        if not self._file.exists():
            return
        saved = torch.load(self._file, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average, self.step, self.used = saved["average"], saved["step"], saved["used"]
        log.info("resumed at step %d, %.1f minutes used", self.step, self.used / 60)

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the earlier one."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "used": self.used,
        }
        temporary = self._file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._file)

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser and of the moving average.

        Raises:
            FloatingPointError: the gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.config, self.step, self.used)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
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


def train(model: nn.Module, step_function: StepFunction, config: LoopConfig) -> nn.Module:
    """Train the model's parameters that require gradients until the time budget is spent.

    Resumes from `out/checkpoint.pt` where one exists and writes it every `save_seconds`. The curve
    goes to `out/curve.csv`: step, seconds used, figures averaged since the line before.

    Returns:
        The model holding its moving-average weights.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    run = Run(model, config)
    run.resume()
    last_save = clock = time.monotonic()
    sums: dict[str, list[float]] = {}
    with (config.out / "curve.csv").open("a", newline="") as curve:
        writer = csv.writer(curve)
        while run.used < config.minutes * 60:
            loss, figures = step_function(run.step, run.used / (config.minutes * 60))
            run.update(loss)
            now = time.monotonic()
            run.used, clock = run.used + now - clock, now
            for key, number in figures.items():
                sums.setdefault(key, []).append(number)
            if run.step % config.record_every == 0:
                means = [f"{key}={sum(numbers) / len(numbers):.5g}" for key, numbers in sums.items()]
                sums = {}
                writer.writerow([run.step, f"{run.used:.0f}", *means])
                curve.flush()
                log.info("step %d  %.1f min left  %s", run.step, config.minutes - run.used / 60, "  ".join(means))
            if now - last_save > config.save_seconds:
                run.save()
                last_save = now
    run.save()
    model.load_state_dict(run.average)
    return model


def write_half(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model's weights as safetensors in half precision, which is what ships."""
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path, metadata=dict(metadata or {}))
