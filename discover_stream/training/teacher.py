"""A teacher for the nano grounder: YOLOX run through onnxruntime, on whole pictures and on tiles.

The teacher's file is not part of the project: training takes its path. It must be a YOLOX export with
COCO's classes, as `YoloxNetwork` reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms  # type: ignore[import-untyped]

from discover_stream.evaluation.onnx_detectors import YoloxNetwork
from discover_stream.semantics.detector import CLASSES, Detections
from discover_stream.types import Image, InputError

COCO_CLASSES: dict[int, str] = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 7: "truck"}
"""Columns of the teacher's class scores that the grounder learns, by our names."""
COCO_SIZE = 80

MIN_TILE = 64
"""Tiles smaller than this many pixels show nothing more than the whole picture does."""

FloatArray = npt.NDArray[np.float32]


class YoloxTeacher:
    """A YOLOX detector with COCO's classes, restricted to `CLASSES`.

    Args:
        path: the ONNX file.
        threads: CPU threads of the runtime.

    Raises:
        InputError: the file is missing or is not such a detector.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._network = YoloxNetwork(path, threads)
        if self._network.classes != COCO_SIZE:
            raise InputError(
                f"teacher {path}: {self._network.classes} classes, not COCO's {COCO_SIZE}; give a YOLOX for COCO"
            )

    def _raw(self, image: Image) -> tuple[FloatArray, FloatArray]:
        """Boxes (cells, 4) in picture pixels and class scores (cells, classes) for one picture."""
        boxes, scores = self._network.raw(image)
        return boxes, scores[:, list(COCO_CLASSES)]

    def detect(self, image: Image, threshold: float = 0.3, iou: float = 0.5) -> Detections:
        """What the teacher sees in one look at the whole (H, W, 3) RGB picture."""
        boxes, scores = self._raw(image)
        return _merge(boxes, scores, image, threshold, iou)

    def detect_tiled(self, image: Image, threshold: float = 0.3, iou: float = 0.5) -> Detections:
        """What the teacher sees in the picture and in its four overlapping quarters.

        The quarters show small objects at twice the size. Boxes that touch an inner edge of a quarter are cut
        objects and are left out; large objects are the business of the whole view.
        """
        height, width = image.shape[:2]
        boxes, scores = self._raw(image)
        all_boxes, all_scores = [boxes], [scores]
        th, tw = round(height * 0.6), round(width * 0.6)
        for y in (0, height - th):
            for x in (0, width - tw):
                if min(th, tw) < MIN_TILE:
                    continue
                boxes, scores = self._raw(image[y : y + th, x : x + tw])
                margin = max(3.0, 0.03 * max(th, tw))  # boxes of cut objects end near the edge, not on it
                cut = (boxes[:, 0] < margin) & (x > 0)
                cut |= (boxes[:, 1] < margin) & (y > 0)
                cut |= (boxes[:, 2] > tw - margin) & (x + tw < width)
                cut |= (boxes[:, 3] > th - margin) & (y + th < height)
                all_boxes.append(boxes[~cut] + np.array([x, y, x, y], np.float32))
                all_scores.append(scores[~cut])
        return _merge(np.concatenate(all_boxes), np.concatenate(all_scores), image, threshold, iou)


def _merge(boxes: FloatArray, scores: FloatArray, image: Image, threshold: float, iou: float) -> Detections:
    height, width = image.shape[:2]
    names = list(COCO_CLASSES.values())
    to_ours = np.array([CLASSES.index(name) for name in names])
    best = scores.max(1)
    keep = best >= threshold
    clipped = boxes[keep].copy()
    clipped[:, 0::2] = clipped[:, 0::2].clip(0, width)
    clipped[:, 1::2] = clipped[:, 1::2].clip(0, height)
    classes = to_ours[scores[keep].argmax(1)]
    # One vehicle often scores as car and as truck: suppress across the vehicle kinds, but let a
    # rider stand beside the bicycle.
    groups = np.where(classes >= CLASSES.index("car"), 99, classes)
    groups[classes == CLASSES.index("motorcycle")] = CLASSES.index("motorcycle")
    order = batched_nms(torch.from_numpy(clipped), torch.from_numpy(best[keep]), torch.from_numpy(groups), iou).numpy()
    return Detections(clipped[order], best[keep][order], classes[order].astype(np.int64))
