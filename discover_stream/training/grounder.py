"""The nano grounder: `discover train grounder --data DIR --set teacher=YOLOX.onnx`.

Labels are made once and kept in the run's folder; checkpoints are written every few minutes, so that a run may be
stopped and goes on, with the same random numbers, when it is started again. What is shipped is the moving average of
the weights.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from discover_stream.semantics.detector import CLASSES, Detector, to_input
from discover_stream.training.config_stages import GrounderStage
from discover_stream.training.grounder_data import (
    AugmentOptions,
    SampleMixer,
    assign,
    make_example,
)
from discover_stream.training.grounder_loss import train_step
from discover_stream.training.loop import Curves, Report, Status
from discover_stream.training.pseudo_labels import (
    NO_LABELS,
    SURE,
    ClipPlan,
    Sample,
    label_clip,
    label_photo,
    read_clip,
    read_photos,
    read_pictures,
    simulate_samples,
)
from discover_stream.training.stage import Job
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import InputError

CLIPS: Mapping[str, ClipPlan] = {
    "carpark": ClipPlan(2, movers="car"),  # from straight above, which the teacher hardly knows
    "suburb": ClipPlan(4),
    "topdown": ClipPlan(3),
    "motorway_fog": ClipPlan(3),
}
"""Clips that may shape the weights. Only their first halves are used."""

SOURCE_WEIGHTS: Mapping[str, float] = {
    "photos": 1.5,
    "photos of people": 3.0,  # else the class is learnt from simulated people, who look like nobody
    "simulated": 4.0,
    "suburb": 1.5,
}
"""Share of the draws per source; 1 for the others."""

SIMULATED: Mapping[str, tuple[range, int]] = {
    "simulated": (range(5000, 5030), 12),
    "simulated more": (range(5030, 5090), 8),
}
"""Simulated cameras (seeds) to train on and frames of each, far from the seeds that demos and tests use."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. `minutes` counts training time over all resumed parts of a run; `steps`, where given, counts
    instead."""

    minutes: float = 40.0
    steps: int | None = None
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    bf16: bool = True
    seed: int = 0
    checkpoint_seconds: float = 120.0
    record_every: int = 50

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the budget that is used, 0..1."""
        return min(1.0, seconds / (60 * self.minutes) if self.steps is None else steps / self.steps)

    def left(self, steps: int, seconds: float) -> str:
        """What is left of the budget, for people."""
        if self.steps is None:
            return f"{self.minutes - seconds / 60:.1f} min left"
        ahead = seconds / 60 * (self.steps - steps) / max(1, steps)
        return f"{steps}/{self.steps} steps, about {ahead:.1f} min left"


def batch_of(
    mixer: SampleMixer, rng: np.random.Generator, options: AugmentOptions, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of examples: inputs (B, 3, side, side), kinds (B, cells), target boxes (B, cells, 4)."""
    examples = [make_example(mixer, rng, options) for _ in range(size)]
    targets = [assign(example, options.side) for example in examples]
    return (
        to_input(np.stack([example.image for example in examples])),
        torch.from_numpy(np.stack([t.classes for t in targets])),
        torch.from_numpy(np.stack([t.boxes for t in targets])),
    )


def learning_rate_at(progress: float, peak: float, warmup: float = 0.02) -> float:
    """Learning rate at a progress of 0..1: a linear warm-up, then a cosine down to 2 % of the peak."""
    if progress < warmup:
        return peak * (0.05 + 0.95 * progress / warmup)
    part = min(1.0, (progress - warmup) / (1 - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))


class TrainState:
    """Everything that a checkpoint holds: network, its moving average, optimizer, random numbers, time and steps."""

    def __init__(self, options: TrainOptions) -> None:
        torch.manual_seed(options.seed)
        self.network = Detector().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.random = np.random.default_rng(options.seed)
        self.seconds = 0.0
        self.steps = 0

    def update_average(self, decay: float) -> None:
        """Move the average towards the network, faster in the first steps."""
        decay = min(decay, (1 + self.steps) / (10 + self.steps))
        ours = self.average.state_dict()
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                ours[name].lerp_(value, 1 - decay)
            else:
                ours[name].copy_(value)

    def save(self, folder: Path) -> None:
        """Write the checkpoint and the shippable weights, each replaced in one step."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": json.dumps(self.random.bit_generator.state),
            "torch": torch.get_rng_state(),
            "seconds": self.seconds,
            "steps": self.steps,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        export(self.average, folder / "grounder.tmp")
        (folder / "grounder.tmp").replace(folder / "grounder.safetensors")

    def load(self, path: Path) -> None:
        """Continue from a checkpoint written by `save`.

        Raises:
            InputError: it is damaged or of something else.
        """
        try:
            state = torch.load(path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.seconds, self.steps = state["seconds"], state["steps"]
        except (RuntimeError, KeyError, ValueError, EOFError, OSError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: not a checkpoint of the grounder ({reason}); move it away to start anew"
            ) from None
        if "random" in state:  # earlier versions kept none
            self.random.bit_generator.state = json.loads(state["random"])
            torch.set_rng_state(state["torch"])

    def start_from(self, path: Path) -> None:
        """Begin a new run, with a schedule and an optimizer of its own, at the weights of another run's checkpoint."""
        average = torch.load(path, weights_only=True)["average"]
        self.network.load_state_dict(average)
        self.average.load_state_dict(average)


def export(network: Detector, path: Path) -> None:
    """Write the weights to ship: fp16 safetensors without the counters of batch norm."""
    tensors = {
        name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, path)
    path.chmod(0o644)  # the library writes files that only their owner can read


def gather(data: Path, teacher: Path, cache: Path) -> dict[str, list[Sample]]:
    """Labelled pictures by source, made by the teacher where the cache does not hold them yet."""
    cache.mkdir(parents=True, exist_ok=True)
    names = [*CLIPS, "photos", "natural"]
    if any(not (cache / f"{name}.npz").exists() for name in names):
        model = YoloxTeacher(teacher)
        for name, plan in CLIPS.items():
            if not (cache / f"{name}.npz").exists():
                frames = read_clip(data / "video" / f"{name}.mp4", 0.0, 0.5)
                store(label_clip(model, frames, plan), cache / f"{name}.npz")
        if not (cache / "photos.npz").exists():
            photos = read_photos(data / "vehicles")
            store([label_photo(model, image, rows) for image, rows in photos], cache / "photos.npz")
        if not (cache / "natural.npz").exists():
            samples = (label_photo(model, image, NO_LABELS, SURE) for image in read_pictures(data / "natural"))
            store([sample for sample in samples if shows_people(sample)], cache / "natural.npz")
    for name, (seeds, per_seed) in SIMULATED.items():
        if not (cache / f"{name}.npz").exists():
            store(simulate_samples(seeds, per_seed), cache / f"{name}.npz")
    sources = {name: restore(cache / f"{name}.npz") for name in names}
    sources["photos of people"] = [sample for sample in sources["photos"] if shows_people(sample)]
    sources["photos of people"] += sources.pop("natural")
    sources["simulated"] = [sample for name in SIMULATED for sample in restore(cache / f"{name}.npz")]
    return sources


def shows_people(sample: Sample) -> bool:
    """Whether a person is among what the sample teaches."""
    return bool((sample.classes[~sample.ignored] == CLASSES.index("person")).any())


def store(samples: Sequence[Sample], path: Path) -> None:
    """Keep samples in one .npz file."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for n, sample in enumerate(samples):
        arrays[f"{n}.image"] = sample.image
        arrays[f"{n}.boxes"] = sample.boxes
        arrays[f"{n}.classes"] = sample.classes
        arrays[f"{n}.ignored"] = sample.ignored
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def restore(path: Path) -> list[Sample]:
    """Samples kept by `store`, in their order."""
    with np.load(path) as kept:
        count = sum(name.endswith(".image") for name in kept.files)
        return [
            Sample(*(kept[f"{n}.{part}"] for part in ("image", "boxes", "classes", "ignored"))) for n in range(count)
        ]


def train(
    sources: Mapping[str, Sequence[Sample]],
    state: TrainState,
    options: TrainOptions,
    folder: Path,
    augment: AugmentOptions | None = None,
    report: Report | None = None,
) -> list[float]:
    """Train until the run's budget is used up, with checkpoints and curves in `folder`; returns the losses."""
    augment = augment or AugmentOptions()
    folder.mkdir(parents=True, exist_ok=True)
    mixer = SampleMixer(sources, SOURCE_WEIGHTS)
    losses: list[float] = []
    curves = Curves(folder)
    mark = saved = time.monotonic()
    try:
        while (progress := options.progress(state.steps, state.seconds)) < 1:
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate_at(progress, options.learning_rate)
            inputs, kinds, targets = batch_of(mixer, state.random, augment, options.batch)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            state.network.train()
            losses.append(train_step(state.network, state.optimizer, inputs, kinds, targets, bf16=options.bf16))
            state.steps += 1
            state.update_average(options.ema)
            now = time.monotonic()
            state.seconds += now - mark
            mark = now
            left = options.left(state.steps, state.seconds)
            curves.add({"loss": losses[-1]})
            if state.steps % options.record_every == 0:
                curves.line(state.steps, state.seconds, left)
            if report is not None:
                report(Status(state.steps, options.progress(state.steps, state.seconds), left))
            if now - saved > options.checkpoint_seconds:
                state.save(folder)
                saved = mark = time.monotonic()
    finally:
        curves.close()
    state.save(folder)
    return losses


def run(job: Job) -> tuple[Path, ...]:
    """Train and write `grounder.safetensors`; see `stage.run_stage`. Runs on a CPU."""
    stage: GrounderStage = job.stage
    if not job.compute.alone:
        raise InputError("stage grounder: it trains in one process; start it without accelerate launch")
    if stage.teacher is None:
        raise InputError("stage grounder: it learns from a teacher; name a YOLOX export with --set teacher=FILE.onnx")
    sources = gather(job.pictures, stage.teacher, job.out / "cache")
    options = TrainOptions(
        minutes=stage.minutes or TrainOptions().minutes,
        steps=stage.steps,
        batch=stage.batch,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        ema=stage.ema,
        bf16=job.config.precision == "bf16",
        seed=stage.seed,
        checkpoint_seconds=stage.save_seconds,
        record_every=stage.record_every,
    )
    state = TrainState(options)
    checkpoint = job.out / "checkpoint.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    elif stage.start is not None:
        state.start_from(stage.start)
    train(sources, state, options, job.out, report=job.report)
    return (job.out / "grounder.safetensors",)
