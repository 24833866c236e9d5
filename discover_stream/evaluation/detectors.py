"""Detectors that judge decoded pictures: ONNX files, torchvision's, and the shipped grounder.

Nothing is fetched: a detector whose weights are not there is refused by name. Weights are random only where that is
asked for by name (`random:NAME`): such a judge sees nothing, and shows only that everything runs.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import torch

from discover_stream.evaluation.boxes import Detection, Mask
from discover_stream.evaluation.onnx_detectors import detections, load_onnx_detector, short_hash
from discover_stream.semantics.detector import CLASSES, DetectOptions, detect
from discover_stream.semantics.grounder import NANO_WEIGHTS, NanoGrounder
from discover_stream.types import Box, Image, InputError

FLOOR = 0.05
"""Detectors leave out what scores less: AP hardly notices, time does. torchvision's own default."""

KINDS = "onnx:PATH, torchvision:NAME[:WEIGHTS], random:NAME (of torchvision) or nano[:WEIGHTS]"
WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
MASK_FROM = 0.5
RANDOM_SEED = 0
"""Random weights, which only come where somebody asks for them by name, are always the same."""


class Detector(Protocol):
    """Finds objects in a picture. The same picture gives the same answer."""

    @property
    def name(self) -> str:
        """What reports call it: its kind and the first hex digits of the hash of its weights."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what it can find."""
        ...

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """Objects in an (H, W, 3) uint8 RGB picture, best score first, clipped to it, from its floor score on."""
        ...


def load_detector(spec: str, *, floor: float = FLOOR, threads: int = 1, device: str = "cpu") -> Detector:
    """Open a detector.

    Args:
        spec: `onnx:PATH` (YOLOX's layout, or outputs boxes, labels and scores); `torchvision:NAME[:WEIGHTS]`
            (`fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn`, ..., weights from a file or from torch's hub
            folder); `random:NAME`, the same without weights; `nano[:WEIGHTS]`, the shipped grounder.
        floor: detections with smaller scores are left out.
        threads: of ONNX detectors; the others use torch's.
        device: of torchvision's detectors.

    Raises:
        InputError: the spec is none, or its weights are not there or do not fit.
    """
    kind, _, rest = spec.partition(":")
    if kind == "onnx" and rest:
        return load_onnx_detector(Path(rest), floor=floor, threads=threads)
    if kind == "torchvision" and rest:
        name, _, weights = rest.partition(":")
        return TorchvisionDetector(name, Path(weights) if weights else None, floor=floor, device=device)
    if kind == "random" and rest:
        return TorchvisionDetector(rest, floor=floor, device=device, random=True)
    if kind == "nano":
        return NanoDetector(Path(rest) if rest else None, floor=floor)
    raise InputError(f"detector {spec!r} is unknown; give {KINDS}")


class NanoDetector:
    """The shipped grounder's network, below its usual threshold; see `Detector`."""

    def __init__(self, weights: Path | None = None, *, floor: float = FLOOR) -> None:
        grounder = NanoGrounder.load(weights)
        self._network = grounder.network
        self._options = replace(DetectOptions(), threshold=floor)
        self.classes = CLASSES
        with resources.as_file(resources.files("discover_stream").joinpath(*NANO_WEIGHTS)) as shipped:
            self.name = f"nano {short_hash(weights or shipped)}"

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """See `Detector.detect`."""
        (found,) = detect(self._network, [image], self._options)
        return detections(found.boxes, found.scores, found.classes, self.classes, image, nms=False)


class TorchvisionDetector:
    """One of torchvision's detectors with COCO's 91 categories; see `Detector`.

    Raises:
        InputError: torchvision has no such detector, or the weights are not there or are another network's.
    """

    def __init__(
        self,
        model: str,
        weights: Path | None = None,
        *,
        floor: float = FLOOR,
        device: str = "cpu",
        random: bool = False,
    ) -> None:
        from torchvision.models import (  # type: ignore[import-untyped]
            detection,
            get_model,
            get_model_weights,
            list_models,
        )

        known = [name for name in list_models(module=detection) if "keypoint" not in name]
        if model not in known:
            raise InputError(f"torchvision has no detector {model!r}; it has {', '.join(known)}")
        published = get_model_weights(model).DEFAULT
        path = weights or hub_file(published.url)
        if not random and not path.is_file():
            raise InputError(
                f"detector {model}: no weights at {path}; put {Path(urlsplit(published.url).path).name} (torchvision's,"
                f" COCO) there, or name a file: torchvision:{model}:WEIGHTS"
            )
        categories = tuple(published.meta["categories"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            network = get_model(model, weights=None, weights_backbone=None, num_classes=len(categories))
        if not random:
            fill(network, path, f"detector {model}")
        self.name = f"{model} with random weights" if random else f"{model} {short_hash(path)}"
        self.classes = tuple(name for name in categories if name not in ("__background__", "N/A"))
        self._categories, self._floor, self._device = categories, floor, torch.device(device)
        self._network: Any = _as_published(network, model).eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def _found(self, image: Image) -> dict[str, npt.NDArray[Any]]:
        """The network's answer from the floor score on, by torchvision's names."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self._device).float() / 255
        (found,) = self._network([pixels])
        answer = {key: value.cpu().numpy() for key, value in found.items()}
        named = np.array([name not in ("__background__", "N/A") for name in self._categories])
        keep = (answer["scores"] >= self._floor) & named[answer["labels"]]
        return {key: value[keep] for key, value in answer.items()}

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """See `Detector.detect`."""
        found = self._found(image)
        return detections(found["boxes"], found["scores"], found["labels"], self._categories, image, nms=False)

    def segment(self, image: Image) -> list[tuple[Detection, Mask]]:
        """Objects, best score first, and their masks (H, W): probabilities from 0.5 on.

        Raises:
            InputError: the network finds boxes only.
        """
        found = self._found(image)
        if "masks" not in found:
            raise InputError(f"{self.name}: it finds boxes and no masks; use maskrcnn_resnet50_fpn")
        height, width = image.shape[:2]
        objects = []
        parts = (found[key] for key in ("boxes", "scores", "labels", "masks"))
        for box, score, label, mask in zip(*parts, strict=True):
            one = Detection(self._categories[label], float(score), Box(*map(float, box)).clipped(width, height))
            objects.append((one, np.asarray(mask[0] >= MASK_FROM)))
        return objects


def _as_published(network: torch.nn.Module, model: str) -> torch.nn.Module:
    """torchvision's first COCO weights were trained without the constant in batch norms; it sets it to 0."""
    if model in WITHOUT_EPSILON:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0
    return network


def fill(network: torch.nn.Module, path: Path, what: str) -> None:
    """Load a state dict strictly. Raises InputError, naming `what`, where the file does not hold it."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # unpicklers and networks fail in many ways, all of them the file's fault
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{what}: {path} does not hold its weights ({reason}); fetch them anew") from error


def hub_file(url: str) -> Path:
    """Where torch's hub keeps a file that it has fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
