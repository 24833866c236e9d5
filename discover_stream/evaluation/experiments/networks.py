"""The task networks of the experiments: segmenters and classifiers; detectors are `evaluation.detectors`.

As there, nothing is fetched, what is absent is refused by name, and weights are random only where that is asked for.
Two stand-ins need no published weights: `grabcut:DETECTOR`, which cuts out what a detector found, and
`nearest:WEIGHTS`, which calls a picture what the nearest of the originals is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt
import torch

from discover_stream.evaluation.boxes import Detection, Mask
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.detectors import (
    RANDOM_SEED,
    Detector,
    TorchvisionDetector,
    fill,
    hub_file,
    load_detector,
)
from discover_stream.evaluation.experiments.data import network_classes
from discover_stream.evaluation.onnx_detectors import open_session, short_hash
from discover_stream.types import Image, InputError

SEGMENTERS = "torchvision:NAME[:WEIGHTS], random:NAME (of torchvision) or grabcut:DETECTOR"
CLASSIFIERS = "torchvision:NAME[:WEIGHTS], random:NAME (of torchvision), onnx:FILE or nearest:WEIGHTS"
SURE = 0.3
"""Detections from which `grabcut` cuts objects: it takes too long for the many doubtful ones."""
ROUNDS = 3
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which classifiers from ONNX files are given pictures by."""


class Segmenter(Protocol):
    """Finds objects and their pixels. The same picture gives the same answer."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def segment(self, image: Image) -> list[tuple[Detection, Mask]]:
        """Objects of an (H, W, 3) uint8 RGB picture, and an (H, W) mask each."""
        ...


class Classifier(Protocol):
    """Says what a picture shows. The same picture gives the same answer."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def classify(self, image: Image) -> int:
        """The class of an (H, W, 3) uint8 RGB picture, as a position in the set's classes; -1 for none of them."""
        ...


def load_segmenter(spec: str, *, device: str = "cpu") -> Segmenter:
    """Open a segmenter.

    Args:
        spec: see `SEGMENTERS`; torchvision's is `maskrcnn_resnet50_fpn`.
        device: of torchvision's.

    Raises:
        InputError: the spec is none, or its weights are not there or do not fit.
    """
    kind, _, rest = spec.partition(":")
    if kind == "grabcut" and rest:
        return CutOut(load_detector(rest, device=device))
    if kind in ("torchvision", "random") and "maskrcnn" in rest:
        name, _, weights = rest.partition(":")
        found = TorchvisionDetector(name, Path(weights) if weights else None, device=device, random=kind == "random")
        return MaskNetwork(found)
    raise InputError(f"segmenter {spec!r} is unknown; give {SEGMENTERS}")


@dataclass(frozen=True)
class MaskNetwork:
    """One of torchvision's Mask R-CNNs; a pixel belongs to an object from a probability of 0.5 on."""

    detector: TorchvisionDetector

    @property
    def name(self) -> str:
        """See `Segmenter`."""
        return self.detector.name

    def segment(self, image: Image) -> list[tuple[Detection, Mask]]:
        """See `Segmenter`."""
        return self.detector.segment(image)


@dataclass(frozen=True)
class CutOut:
    """GrabCut (Rother et al., 2004; OpenCV's) inside each box that a detector is sure of: a stand-in."""

    detector: Detector

    @property
    def name(self) -> str:
        """See `Segmenter`."""
        return f"GrabCut in boxes of {self.detector.name}"

    def segment(self, image: Image) -> list[tuple[Detection, Mask]]:
        """See `Segmenter`."""
        found = [one for one in self.detector.detect(image) if one.score >= SURE]
        return [(one, cut_out(image, one)) for one in found]


def cut_out(image: Image, one: Detection) -> Mask:
    """The pixels of a box that look like its middle and not like its surroundings; the whole box where none do."""
    height, width = image.shape[:2]
    x0, y0 = max(0, int(one.box.x0)), max(0, int(one.box.y0))
    x1, y1 = min(width, int(np.ceil(one.box.x1))), min(height, int(np.ceil(one.box.y1)))
    whole = np.zeros((height, width), dtype=bool)
    whole[y0:y1, x0:x1] = True
    margin = max(8, (x1 - x0) // 4, (y1 - y0) // 4)
    top, left = max(0, y0 - margin), max(0, x0 - margin)
    part = np.ascontiguousarray(image[top : y1 + margin, left : x1 + margin, ::-1])
    marks = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    marks[y0 - top : y1 - top, x0 - left : x1 - left] = cv2.GC_PR_FGD
    if x1 - x0 < 4 or y1 - y0 < 4 or not (marks == cv2.GC_BGD).any():
        return whole
    cv2.setRNGSeed(RANDOM_SEED)  # its colour models start from random means
    rect = (x0 - left, y0 - top, x1 - x0, y1 - y0)
    cv2.grabCut(part, marks, rect, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    return mask if mask.any() else whole


def load_classifier(
    spec: str, folders: Sequence[str], originals: Mapping[int, Image], *, device: str = "cpu"
) -> Classifier:
    """Open a classifier.

    Args:
        spec: see `CLASSIFIERS`; torchvision's is `resnet50`.
        folders: the set's classes, see `data.network_classes`.
        originals: position of a class -> a picture of it, which `nearest` compares with; others do not look at them.
        device: of torchvision's.

    Raises:
        InputError: the spec is none, its weights are not there or do not fit, or it does not know a class.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("torchvision", "random") and rest:
        name, _, weights = rest.partition(":")
        return TorchvisionClassifier(name, Path(weights) if weights else None, folders, device, kind == "random")
    if kind == "onnx" and rest:
        return OnnxClassifier(Path(rest), folders)
    if kind == "nearest" and rest:
        return NearestOriginal(DeepFeatures.load(Path(rest), device=device), originals)
    raise InputError(f"classifier {spec!r} is unknown; give {CLASSIFIERS}")


class TorchvisionClassifier:
    """One of torchvision's networks for ImageNet's 1000 classes (its first published weights, as papers use them)."""

    def __init__(self, model: str, weights: Path | None, folders: Sequence[str], device: str, random: bool) -> None:
        from torchvision import models  # type: ignore[import-untyped]

        if model not in models.list_models(module=models):
            raise InputError(f"torchvision has no classifier {model!r}; the papers use resnet50")
        published = next(iter(models.get_model_weights(model)))
        path = weights or hub_file(published.url)
        if not random and not path.is_file():
            raise InputError(
                f"classifier {model}: no weights at {path}; put {Path(urlsplit(published.url).path).name}"
                f" (torchvision's, ImageNet) there, or name a file: torchvision:{model}:WEIGHTS"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            network = models.get_model(model, weights=None)
        if not random:
            fill(network, path, f"classifier {model}")
        self.name = f"{model} with random weights" if random else f"{model} {short_hash(path)}"
        own = network_classes(folders, published.meta["categories"])
        self._position = {index: place for place, index in enumerate(own)}
        self._prepare, self._device = published.transforms(), torch.device(device)
        self._network: Any = network.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def classify(self, image: Image) -> int:
        """See `Classifier`."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        scores = self._network(self._prepare(pixels)[None].to(self._device))[0]
        return self._position.get(int(scores.argmax()), -1)


class OnnxClassifier:
    """A classifier from an ONNX file: (1, 3, S, S), RGB by ImageNet's mean and deviation, to (1, classes).

    The middle of the picture is taken, its side 7/8 of the shorter one (224 of 256). Classes are named by the metadata
    `names` (a JSON list), else they are ImageNet's.
    """

    def __init__(self, path: Path, folders: Sequence[str]) -> None:
        import json

        from torchvision.models import ResNet50_Weights  # type: ignore[import-untyped]

        self._session = open_session(path)
        node, out = self._session.get_inputs()[0], self._session.get_outputs()[0].shape
        shape = node.shape
        if len(shape) != 4 or shape[2] != shape[3] or not isinstance(shape[2], int) or len(out) != 2:
            raise InputError(f"classifier {path}: input {shape} or output {out} is no classifier's; export it so")
        names = self._session.get_modelmeta().custom_metadata_map.get("names")
        categories = json.loads(names) if names else ResNet50_Weights.DEFAULT.meta["categories"]
        own = network_classes(folders, categories)
        self._position = {index: place for place, index in enumerate(own)}
        self._input, self._side = node.name, int(shape[2])
        self.name = f"{path.stem} {short_hash(path)}"

    def classify(self, image: Image) -> int:
        """See `Classifier`."""
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * 7 / 8))
        top, left = (height - side) // 2, (width - side) // 2
        middle = image[top : top + side, left : left + side]
        small = np.asarray(cv2.resize(middle, (self._side, self._side), interpolation=cv2.INTER_AREA), np.float32)
        pixels = (small / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        scores = self._session.run(None, {self._input: pixels.transpose(2, 0, 1)[None]})[0]
        return self._position.get(int(np.argmax(scores[0])), -1)


class NearestOriginal:
    """Calls a picture what the nearest original is, by the means of SqueezeNet's deepest features: a stand-in.

    It tells whether a decode still looks like its own original and no other: easier than to name what is in it.
    """

    def __init__(self, features: DeepFeatures, originals: Mapping[int, Image]) -> None:
        if not originals:
            raise InputError("classifier nearest: there are no originals to compare with; give a set with classes")
        self._features = features
        self._kinds = sorted(originals)
        self._known = np.stack([self._seen(originals[kind]) for kind in self._kinds])
        self.name = f"nearest of {len(originals)} originals by {features.name}"

    def _seen(self, image: Image) -> npt.NDArray[np.float32]:
        deepest = self._features.features(image)[-1].mean(dim=(0, 2, 3)).cpu().numpy()
        return np.asarray(deepest / np.linalg.norm(deepest), dtype=np.float32)

    def classify(self, image: Image) -> int:
        """See `Classifier`."""
        return self._kinds[int(np.argmax(self._known @ self._seen(image)))]
