"""What each part of the recipe is worth: variants of stage II from one start, for equal budgets, in one table.

`discover train ablation`. Each variant is stage II with one change, trained in a folder of its own, and measured on
simulated streets that no training uses: the task is everything in the picture, its boxes are exact, and bytes are those
of the codec's strings. A variant that is finished is not trained again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.evaluation.average_precision import score_detections
from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.detectors import Detector, load_detector
from discover_stream.evaluation.truth import simulated_truth
from discover_stream.generation.diffusion import Diffusion
from discover_stream.generation.sampling import SamplePlan, sample
from discover_stream.training.autoencoders import Autoencoder, decode
from discover_stream.training.coded import code_cells
from discover_stream.training.config_stages import AblationStage, JointStage
from discover_stream.training.joint_stage import CODEC_FILE, frozen_models, load_control
from discover_stream.training.joint_stage import run as run_joint
from discover_stream.training.object_features import ObjectFeatures
from discover_stream.training.stage import Job, prepare
from discover_stream.types import CELL, Image, InputError
from discover_stream.video.simulate import SimulatedCamera

log = logging.getLogger(__name__)

FIRST_SEED = 4000
"""Of the simulated streets; training and other measurements use others."""
WIDTH, HEIGHT = 640, 384
SECONDS_APART = 5
TABLE_FILE, FIGURES_FILE = "ablation.md", "ablation.json"


@dataclass(frozen=True)
class Variant:
    """A recipe with one change.

    Attributes:
        name: for the table.
        changes: of stage II's section.
        compose: whether a decode samples the prior; else it is what g_s gives.
        disentangle: whether only the task's cells are sent; else the whole picture is.
        tags: whether the decode is shown the labels.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    compose: bool = True
    disentangle: bool = True
    tags: bool = True

    @property
    def folder(self) -> str:
        """Where it is trained."""
        return self.name.replace(" ", "_").replace("'", "")


VARIANTS = (
    Variant("ours"),
    Variant("without disentanglement", {"masks": "whole", "references": False}, disentangle=False),
    Variant("without composition", {"weights": {"diffusion": 0.0}}, compose=False),
    Variant("without semantic loss", {"weights": {"semantic": 0.0}}),
    Variant("without tags", {"tags": False}, tags=False),
    Variant("paper masks", {"masks": "paper", "references": False}),
)


@dataclass(frozen=True)
class Street:
    """A picture (H, W, 3) uint8 RGB and what is in it."""

    image: Image
    truth: tuple[Detection, ...]


@dataclass(frozen=True)
class Figures:
    """What a variant gives: AP50, deep-feature distance inside the boxes, bits per pixel of the picture."""

    variant: str
    ap50: float
    distance: float
    bpp: float


def streets(count: int, each: int) -> tuple[Street, ...]:
    """Frames of simulated streets, several seconds apart."""
    found = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        camera = SimulatedCamera(f"ablation-{seed}", seed=seed, width=WIDTH, height=HEIGHT, fps=1.0)
        for index in range(each):
            frame, objects = camera.render(SECONDS_APART * (index + 1))
            found.append(Street(frame.image, simulated_truth(objects)))
    return tuple(found)


def cells_of(street: Street) -> npt.NDArray[np.bool_]:
    """The cells (H/16, W/16) under the boxes of what is there; one cell where nothing is."""
    mask = np.zeros((street.image.shape[0] // CELL, street.image.shape[1] // CELL), dtype=bool)
    for one in street.truth:
        box = one.box
        mask[int(box.y0 // CELL) : int(-(-box.y1 // CELL)), int(box.x0 // CELL) : int(-(-box.x1 // CELL))] = True
    if not mask.any():
        mask[0, 0] = True
    return mask


def variant_stage(stage: JointStage, variant: Variant, budget: AblationStage) -> JointStage:
    """Stage II's section with a variant's change and the common budget; masks are ours unless it says else."""
    content = stage.model_dump() | {"masks": "ours", "steps": budget.steps, "minutes": None}
    changes = dict(variant.changes)
    content["weights"] = content["weights"] | changes.pop("weights", {})
    return JointStage.model_validate(content | changes)


@dataclass(frozen=True)
class Measure:
    """How variants are measured: on which pictures, by which networks, with what settings.

    Attributes:
        streets: the pictures.
        judge: gives AP50.
        features: gives the distance; None for that of the grounder's features.
        quality: of the coding.
        steps: of the sampler.
    """

    streets: tuple[Street, ...]
    judge: Detector
    features: DeepFeatures | None
    quality: int
    steps: int

    @torch.no_grad()
    def of(self, variant: Variant, model: CodecModel, vae: Autoencoder, diffusion: Diffusion | None) -> Figures:
        """A variant's figures; networks are on the CPU."""
        found, bits, distances = [], 0.0, []
        own = None if self.features is not None else ObjectFeatures()
        for number, street in enumerate(self.streets):
            picture = torch.from_numpy(street.image.copy()).permute(2, 0, 1)[None].float().div(255)
            cells = cells_of(street)
            sent = cells if variant.disentangle else np.ones_like(cells)
            coded = code_cells(model, picture, sent, self.quality)
            bits += 8 * coded.bytes / (picture.shape[2] * picture.shape[3])
            latent = coded.latent
            if variant.compose and diffusion is not None:
                text = tags_of(street) if variant.tags else ""
                latent = composed(diffusion, latent, sent, text, steps=self.steps, seed=number)
            shown = decode(vae, latent).clamp(0, 1)
            image = np.ascontiguousarray(shown[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy())
            found.append(self.judge.detect(image))
            if self.features is not None:
                inside = cells.repeat(CELL, 0).repeat(CELL, 1)
                distances.append(self.features.distance(street.image, image, inside))
            elif own is not None:
                weight = torch.from_numpy(cells.repeat(2, 0).repeat(2, 1)).float()[None, None]
                distances.append(float(own(shown, picture, weight)))
        truth = [street.truth for street in self.streets]
        known = sorted({one.label for each in truth for one in each} & set(self.judge.classes))
        scores = score_detections(truth, found, classes=known)
        return Figures(variant.name, scores.ap50, float(np.mean(distances)), bits / len(self.streets))


def tags_of(street: Street) -> str:
    """The labels of what is there, each once."""
    return ", ".join(dict.fromkeys(one.label for one in street.truth))


def composed(
    diffusion: Diffusion, latent: Tensor, sent: npt.NDArray[np.bool_], text: str, *, steps: int, seed: int
) -> Tensor:
    """A sampling (1, L, h, w) from z_c^ (1, L, h, w), the cells (h/2, w/2) that were sent, and tags."""
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    field_ = torch.from_numpy(sent.repeat(2, 0).repeat(2, 1)).float()[None, None]
    return sample(diffusion, latent, field_, noise, text, SamplePlan(steps)).clone()


def run(job: Job) -> tuple[Path, ...]:
    """Train and measure every variant, write the table; see `stage.run_stage`.

    Raises:
        InputError: the configuration has no stage II, or it does without the prior.
    """
    budget: AblationStage = job.stage
    if not job.compute.alone:
        raise InputError("ablation: it trains in one process; start it without accelerate launch")
    stage = job.config.stages.task
    if stage is None or not (stage.weights.diffusion and stage.weights.semantic):
        raise InputError("ablation: it varies stage 'task' with both terms of the prior; configure them")
    features = None if budget.deep_features is None else DeepFeatures.load(budget.deep_features)
    measure = Measure(
        streets(budget.streets, budget.each),
        load_detector(budget.judge),
        features,
        budget.quality,
        budget.sample_steps,
    )
    figures: list[Figures] = []
    written: tuple[Path, ...] = ()
    for variant in VARIANTS:
        own = variant_stage(stage, variant, budget)
        stages = job.config.stages.model_copy(update={"task": own})
        config = job.config.model_copy(update={"stages": stages})
        cpu = job.compute.device.type == "cpu"
        part = prepare(config, "task", job.data, out=job.out / variant.folder, cpu=cpu, report=job.report)
        log.info("variant %s", variant.name)
        run_joint(part)
        vae, diffusion = frozen_models(part, own, prior=variant.compose)
        if diffusion is not None:
            load_control(diffusion, part.out)
            diffusion.control.eval()
        figures.append(measure.of(variant, load_codec(part.out / CODEC_FILE), vae, diffusion))
        written = write_table(job.out, figures, budget)  # so that a run that is stopped has a table of what it did
    return written


def write_table(folder: Path, figures: list[Figures], budget: AblationStage) -> tuple[Path, ...]:
    """The figures as a page and as JSON."""
    distance = "SqueezeNet's" if budget.deep_features else "the grounder's, which training looks at"
    lines = [
        f"Variants of stage II, {budget.steps} steps each from the same start, measured on {budget.streets} simulated"
        f" streets, {budget.each} frames each, quality {budget.quality}, {budget.sample_steps} diffusion steps; judge"
        f" {budget.judge}; distance of features: {distance}, inside the boxes.",
        "",
        "| variant | AP50 | distance | bpp |",
        "|---|---|---|---|",
        *(f"| {one.variant} | {one.ap50:.3f} | {one.distance:.4f} | {one.bpp:.4f} |" for one in figures),
    ]
    page, data = folder / TABLE_FILE, folder / FIGURES_FILE
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data.write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n", encoding="utf-8")
    return page, data
