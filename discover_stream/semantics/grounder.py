"""Grounding: which parts of a picture a task's labels name.

`Grounder` is what the rest of the system knows; `NanoGrounder` is the one that comes with the package,
a small detector plus a reading of the labels. Boxes are xyxy in pixels of the picture given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from discover_stream.semantics.detector import (
    CLASSES,
    ConvBlock,
    Detections,
    DetectOptions,
    Detector,
    detect,
)
from discover_stream.semantics.matching import SCENE, GroundingPlan, plan_labels
from discover_stream.types import Box, Image, InputError, LabelSet, Region

NANO_WEIGHTS = ("weights", "nano", "grounder.safetensors")
"""Where the shipped weights are, inside the package."""


class Grounder(Protocol):
    """Finds the regions that label sets name. Stateless: a picture's answer depends on nothing else."""

    def ground(self, images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
        """Ground every label set in every picture.

        Args:
            images: (H, W, 3) uint8 RGB each, any sizes.
            label_sets: one per task.

        Returns:
            per picture, task name -> regions, best score first, all with track 0. What one detection gives
            to several tasks has exactly the same box in each.

        Raises:
            InputError: two label sets of one task.
        """
        ...

    def unsupported(self, label_set: LabelSet) -> tuple[str, ...]:
        """The labels of a set that this grounder cannot find, in their order."""
        ...


def regions_for(plan: GroundingPlan, found: Detections, width: int, height: int) -> tuple[Region, ...]:
    """What a task gets from the detections in one picture of `width` x `height` pixels.

    A detection counts if the plan has a label for its class. A label set that names the scene itself gets the
    whole picture as one region, as sure as can be.
    """
    regions = []
    if SCENE in plan.best:
        regions.append(Region(plan.best[SCENE], 1.0, Box(0.0, 0.0, float(width), float(height))))
    for box, score, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
        label = plan.best.get(CLASSES[kind])
        if label is not None:
            regions.append(Region(label, score, Box(*box)))
    # The order must not depend on how the detector happened to list ties.
    regions.sort(key=lambda r: (-r.score, r.label, r.box.x0, r.box.y0, r.box.x1, r.box.y1))
    return tuple(regions)


@dataclass(frozen=True)
class NanoGrounder:
    """The shipped grounder: six classes of road users, plus the scene. Runs on a CPU.

    `network` is a `Detector` in eval mode; use `load` to get one.
    """

    network: nn.Module
    options: DetectOptions = field(default_factory=DetectOptions)

    @classmethod
    def load(cls, path: Path | None = None, options: DetectOptions | None = None) -> NanoGrounder:
        """Load weights and make them ready for inference.

        Args:
            path: safetensors written by the training; None for the weights that come with the package.
            options: input size and thresholds.

        Raises:
            InputError: the file is missing, damaged or of another network.
        """
        if path is None:
            with resources.as_file(resources.files("discover_stream").joinpath(*NANO_WEIGHTS)) as shipped:
                return cls.load(shipped, options)
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"grounder weights {path}: cannot be read ({reason}); train or fetch them") from error
        network = Detector()
        own = network.state_dict()
        # The counters of batch norm are of no use after training and are not in the file.
        counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
        weights = {name: value.float() for name, value in tensors.items()}
        try:
            network.load_state_dict(weights | counters)
        except RuntimeError as error:
            raise InputError(
                f"grounder weights {path}: made for another network; use weights of this version"
            ) from error
        return cls(_for_inference(network), options or DetectOptions())

    def ground(self, images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
        """Ground every label set in every picture; see `Grounder.ground`."""
        plans = {label_set.task: plan_labels(label_set) for label_set in label_sets}
        if len(plans) != len(label_sets):
            raise InputError("two label sets of one task; ground one version of a task at a time")
        results = []
        for image, found in zip(images, detect(self.network, images, self.options), strict=True):
            height, width = image.shape[:2]
            results.append({task: regions_for(plan, found, width, height) for task, plan in plans.items()})
        return results

    def unsupported(self, label_set: LabelSet) -> tuple[str, ...]:
        """The labels of a set that this grounder cannot find; see `Grounder.unsupported`."""
        return plan_labels(label_set).unsupported


def _for_inference(network: Detector) -> nn.Module:
    """Fold the batch norms into the convolutions: the same function in fewer passes over memory."""
    network.eval()
    for block in [module for module in network.modules() if isinstance(module, ConvBlock)]:
        conv, norm = block[0], block[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        block[0], block[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    network.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)
