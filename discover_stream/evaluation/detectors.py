"""Detectors that judge decoded pictures: ONNX files, torchvision's, and the shipped grounder.

Nothing is fetched and nothing is random: a detector whose weights are not there is refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import torch

from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.onnx_detectors import detections, load_onnx_detector, short_hash
from discover_stream.semantics.detector import CLASSES, DetectOptions, detect
from discover_stream.semantics.grounder import NANO_WEIGHTS, NanoGrounder
from discover_stream.types import Image, InputError

FLOOR = 0.05
"""Detectors leave out what scores less: AP hardly notices, time does. torchvision's own default."""

KINDS = "onnx:PATH, torchvision:NAME[:WEIGHTS] or nano[:WEIGHTS]"


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
            folder); `nano[:WEIGHTS]`, the shipped grounder.
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

    def __init__(self, model: str, weights: Path | None = None, *, floor: float = FLOOR, device: str = "cpu") -> None:
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
        path = weights or _hub_file(published.url)
        if not path.is_file():
            raise InputError(
                f"detector {model}: no weights at {path}; put {Path(urlsplit(published.url).path).name} (torchvision's,"
                f" COCO) there, or name a file: torchvision:{model}:WEIGHTS"
            )
        categories = tuple(published.meta["categories"])
        network = get_model(model, weights=None, weights_backbone=None, num_classes=len(categories))
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except Exception as error:  # unpicklers and networks fail in many ways, all of them the file's fault
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"detector {model}: {path} does not hold its weights ({reason}); fetch them anew"
            ) from error
        self.name = f"{model} {short_hash(path)}"
        self.classes = tuple(name for name in categories if name not in ("__background__", "N/A"))
        self._categories, self._floor, self._device = categories, floor, torch.device(device)
        self._network: Any = network.eval().requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def detect(self, image: Image) -> tuple[Detection, ...]:
        """See `Detector.detect`."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self._device).float() / 255
        (found,) = self._network([pixels])
        boxes, scores, labels = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
        named = np.array([name not in ("__background__", "N/A") for name in self._categories])
        keep = (scores >= self._floor) & named[labels]
        return detections(boxes[keep], scores[keep], labels[keep], self._categories, image, nms=False)


def _hub_file(url: str) -> Path:
    """Where torch's hub keeps a file that it has fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
