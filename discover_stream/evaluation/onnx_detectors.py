"""Detectors from ONNX files: YOLOX exports, and any network that answers boxes, labels and scores.

A YOLOX export leaves box decoding to the caller: input (1, 3, s, s) BGR 0..255, letterboxed at the top left with
grey 114; one output (1, cells, 5 + classes) with the cells of strides 8, 16 and 32 row by row, of each the centre
and log size in strides, objectness and class scores, both already through their sigmoids (Ge et al., "YOLOX:
Exceeding YOLO Series in 2021").

Names of classes are read from the file's metadata (`names`: a JSON list, or an object by index), else from a text
file beside it (`detector.onnx` -> `detector.names`, a name per line); a YOLOX of 80 classes without either has COCO's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms  # type: ignore[import-untyped]

from discover_stream.evaluation.boxes import Detection
from discover_stream.types import Box, Image, InputError

STRIDES = (8, 16, 32)
PAD_VALUE = 114
NMS_IOU = 0.5
"""Of two boxes of one class that overlap more than this, the better one stays."""

MAX_LOG_SIDE = 10.0
"""Largest log side (in strides) that is believed: keeps `exp` finite for any weights."""

Floats = npt.NDArray[np.float32]


def coco_classes() -> tuple[str, ...]:
    """COCO's 80 classes in their usual order, as torchvision lists them."""
    from torchvision.models.detection import (  # type: ignore[import-untyped]
        FasterRCNN_ResNet50_FPN_Weights as weights,
    )

    names = weights.DEFAULT.meta["categories"]
    return tuple(name for name in names if name not in ("__background__", "N/A"))


def short_hash(*paths: Path) -> str:
    """The first 8 hex digits of the SHA-256 of files: which weights measured."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def open_session(path: Path, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        InputError: onnxruntime or the file is missing, or the file is not an ONNX model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("ONNX detectors need onnxruntime: pip install 'discover-stream[eval]'") from error
    if not path.is_file():
        raise InputError(f"detector {path}: no such file; give the path of an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors share no public base class
        reason = " ".join(str(error).split())
        raise InputError(f"detector {path}: cannot be opened ({reason}); give a valid ONNX file") from error


class YoloxNetwork:
    """A YOLOX export: pictures to boxes and class scores of every cell, before any threshold.

    Attributes:
        side: of its square input, in pixels.
        classes: how many it scores.

    Raises:
        InputError: the file is missing or is not such a detector.
    """

    def __init__(self, path: Path, threads: int = 1, session: Any = None) -> None:
        self._session = session if session is not None else open_session(path, threads)
        node = self._session.get_inputs()[0]
        shape = node.shape
        if len(shape) != 4 or shape[2] != shape[3] or not isinstance(shape[2], int):
            raise InputError(f"detector {path}: input {shape} is not square and fixed; export it so")
        self.side: int = shape[2]
        self._grid, self._stride = _cells(self.side)
        output = self._session.get_outputs()[0].shape
        if len(output) != 3 or output[1] != len(self._grid) or not isinstance(output[2], int) or output[2] <= 5:
            raise InputError(
                f"detector {path}: output {output} is not that of a YOLOX of {self.side} pixels"
                f" (1, {len(self._grid)}, 5 + classes); export it without box decoding"
            )
        self.classes: int = output[2] - 5
        self._input: str = node.name

    def raw(self, image: Image) -> tuple[Floats, Floats]:
        """Boxes (cells, 4) xyxy in pixels of an (H, W, 3) RGB picture, unclipped, and scores (cells, classes)."""
        canvas, scale = letterbox(image, self.side, self.side)
        blob = canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        out = self._session.run(None, {self._input: blob})[0][0]
        xy = (out[:, :2] + self._grid) * self._stride
        half = np.exp(np.minimum(out[:, 2:4], MAX_LOG_SIDE)) * self._stride / 2
        boxes = np.concatenate([xy - half, xy + half], 1) / scale
        return boxes.astype(np.float32), out[:, 4:5] * out[:, 5:]


def letterbox(image: Image, width: int, height: int) -> tuple[Image, float]:
    """Scale an RGB picture to fit, at the top left of a grey canvas (height, width, 3); and the scale."""
    rows, columns = image.shape[:2]
    scale = min(height / rows, width / columns)
    w, h = max(1, round(columns * scale)), max(1, round(rows * scale))
    canvas = np.full((height, width, 3), PAD_VALUE, np.uint8)
    canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return canvas, scale


class YoloxDetector:
    """A YOLOX export as a detector; see `Detector`."""

    def __init__(self, path: Path, session: Any, *, floor: float) -> None:
        self._network = YoloxNetwork(path, session=session)
        names = class_names(path, session)
        if names is None:
            names = coco_classes()
            if self._network.classes != len(names):
                raise InputError(f"detector {path}: its {self._network.classes} classes have no names; {_REMEDY}")
        if len(names) != self._network.classes:
            raise InputError(f"detector {path}: {len(names)} names for {self._network.classes} classes; mend the list")
        self.name = f"{path.stem} {short_hash(path)}"
        self.classes = names
        self._floor = floor

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """See `Detector.detect`."""
        boxes, scores = self._network.raw(image)
        best = scores.max(1)
        keep = best >= self._floor
        return detections(boxes[keep], best[keep], scores[keep].argmax(1), self.classes, image, nms=True)


class BoxesDetector:
    """An ONNX detector with outputs `boxes` (n, 4) xyxy in input pixels, `labels` (n,) and `scores` (n,).

    That is how torchvision's detectors export; a leading dimension of 1 is taken off. The one input is RGB, NCHW
    or CHW: 0..255 where it wants uint8, 0..1 where it wants floats. An input of fixed size gets the picture
    letterboxed at the top left with grey 114, others get it as it is.
    """

    def __init__(self, path: Path, session: Any, *, floor: float) -> None:
        names = class_names(path, session)
        if names is None:
            raise InputError(f"detector {path}: its classes have no names; {_REMEDY}")
        (node,) = session.get_inputs()
        if len(node.shape) not in (3, 4) or node.type not in ("tensor(float)", "tensor(uint8)"):
            raise InputError(f"detector {path}: input {node.shape} of {node.type}; give one of RGB, NCHW or CHW")
        self.name = f"{path.stem} {short_hash(path)}"
        self.classes = names
        self._session, self._input, self._floor = session, node, floor

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """See `Detector.detect`. Raises InputError for labels that have no name."""
        height, width = self._input.shape[-2:]
        picture, scale = image, 1.0
        if isinstance(height, int) and isinstance(width, int):
            picture, scale = letterbox(image, width, height)
        blob: npt.NDArray[Any] = np.ascontiguousarray(picture.transpose(2, 0, 1))
        if self._input.type == "tensor(float)":
            blob = blob.astype(np.float32) / np.float32(255)
        blob = blob[None] if len(self._input.shape) == 4 else blob
        boxes, labels, scores = self._session.run(["boxes", "labels", "scores"], {self._input.name: blob})
        boxes, labels, scores = boxes.reshape(-1, 4), labels.reshape(-1).astype(np.int64), scores.reshape(-1)
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self.classes)):
            raise InputError(f"detector {self.name}: label {labels.max()} has no name among {len(self.classes)}")
        keep = scores >= self._floor
        return detections(boxes[keep] / scale, scores[keep], labels[keep], self.classes, image, nms=False)


_REMEDY = "put them, one per line in order, into a text file of the same name that ends in .names"


def load_onnx_detector(path: Path, *, floor: float, threads: int) -> YoloxDetector | BoxesDetector:
    """Open an ONNX detector of either layout.

    Raises:
        InputError: the file cannot be used; says why.
    """
    session = open_session(path, threads)
    outputs = [node.name for node in session.get_outputs()]
    if {"boxes", "labels", "scores"} <= set(outputs) and len(session.get_inputs()) == 1:
        return BoxesDetector(path, session, floor=floor)
    if len(outputs) == 1:
        return YoloxDetector(path, session, floor=floor)
    raise InputError(
        f"detector {path}: its outputs ({', '.join(outputs)}) are unknown; it must have boxes, labels and scores,"
        " or be a YOLOX export"
    )


def class_names(path: Path, session: Any) -> tuple[str, ...] | None:
    """The names of a file's classes in order, or None where neither it nor a file beside it says them.

    Raises:
        InputError: the list is there and is none.
    """
    said = session.get_modelmeta().custom_metadata_map.get("names")
    if said is None:
        beside = path.with_suffix(".names")
        if not beside.is_file():
            return None
        return tuple(line.strip() for line in beside.read_text(encoding="utf-8").splitlines() if line.strip())
    try:
        listed = json.loads(said)
    except ValueError as error:
        raise InputError(f"detector {path}: its metadata `names` is not JSON; write a list of names") from error
    if isinstance(listed, dict) and sorted(listed, key=_number) == [str(n) for n in range(len(listed))]:
        listed = [listed[str(n)] for n in range(len(listed))]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InputError(f"detector {path}: its metadata `names` is no list of names; write one")
    return tuple(listed)


def detections(
    boxes: Floats, scores: Floats, labels: npt.NDArray[Any], names: tuple[str, ...], image: Image, *, nms: bool
) -> tuple[Detection, ...]:
    """Arrays to detections: clipped to the picture, empty ones left out, best first; NMS by class where asked."""
    height, width = image.shape[:2]
    clipped = boxes.astype(np.float32)
    clipped[:, 0::2] = clipped[:, 0::2].clip(0, width)
    clipped[:, 1::2] = clipped[:, 1::2].clip(0, height)
    solid = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    clipped, scores, labels = clipped[solid], scores[solid], labels[solid]
    if nms:
        order = batched_nms(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (clipped, scores, labels)), NMS_IOU)
        kept = order.numpy()
    else:
        kept = np.argsort(-scores, kind="stable")
    return tuple(
        Detection(names[kind], score, Box(*corners))
        for corners, score, kind in zip(
            clipped[kept].tolist(), scores[kept].tolist(), labels[kept].tolist(), strict=True
        )
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _cells(side: int) -> tuple[Floats, Floats]:
    """The corner (cells, 2) of every cell in strides, and its stride (cells, 1)."""
    grids, strides = [], []
    for stride in STRIDES:
        n = side // stride
        y, x = np.mgrid[:n, :n]
        grids.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((n * n, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)
