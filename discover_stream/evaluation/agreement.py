"""Class agreement: whether what stands in a place is still taken for the same kind of thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from discover_stream.evaluation.boxes import Detection
from discover_stream.types import Box, Image

SAME_PLACE = 0.5
"""IoU from which two boxes are of the same place."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects of the originals whose class in the decoded picture is the same, another, or not to be told.

    `absent` counts objects where the decoded picture shows nothing of any class.
    """

    same: int
    other: int
    absent: int

    @property
    def rate(self) -> float:
        """Of the objects that were found again, the share with the same class; `nan` where none was."""
        seen = self.same + self.other
        return self.same / seen if seen else float("nan")

    @property
    def strict_rate(self) -> float:
        """Of all objects, the share that was found again with the same class; `nan` where there are none."""
        objects = self.same + self.other + self.absent
        return self.same / objects if objects else float("nan")


def class_agreement(
    original: Sequence[Sequence[Detection]],
    decoded: Sequence[Sequence[Detection]],
    *,
    iou: float = SAME_PLACE,
    threshold: float = 0.3,
) -> Agreement:
    """What a detector calls the objects of the originals, and what it calls the same places decoded.

    Args:
        original: per picture, its objects; crowds and those below `threshold` are left out.
        decoded: per picture, what the detector finds in the decode; only scores of at least `threshold` count.
            Of several boxes at one place the best score speaks.
        iou: from which a box is at an object's place.
        threshold: the score from which a detection counts.
    """
    same = other = absent = 0
    for objects, found in zip(original, decoded, strict=True):
        sure = [one for one in found if one.score >= threshold]
        for thing in objects:
            if thing.crowd or thing.score < threshold:
                continue
            there = [one for one in sure if one.box.iou(thing.box) >= iou]
            if not there:
                absent += 1
                continue
            best = max(there, key=lambda one: (one.score, one.box.iou(thing.box), one.label))
            same, other = (same + 1, other) if best.label == thing.label else (same, other + 1)
    return Agreement(same, other, absent)


def crop_agreement(
    classify: Callable[[Image], str],
    originals: Sequence[Image],
    decoded: Sequence[Image],
    boxes: Sequence[Sequence[Box]],
    *,
    margin: float = 0.1,
) -> Agreement:
    """What a classifier calls the cut-out objects, original against decoded.

    Args:
        classify: (h, w, 3) uint8 RGB -> the name of its class.
        originals: pictures (H, W, 3) uint8 RGB.
        decoded: the same pictures, decoded.
        boxes: per picture, its objects; boxes outside the picture are left out.
        margin: share of a box's sides that is added around it.
    """
    same = other = 0
    for first, second, places in zip(originals, decoded, boxes, strict=True):
        height, width = first.shape[:2]
        for box in places:
            dx, dy = margin * (box.x1 - box.x0), margin * (box.y1 - box.y0)
            wide = Box(box.x0 - dx, box.y0 - dy, box.x1 + dx, box.y1 + dy).clipped(width, height)
            x0, y0 = int(np.floor(wide.x0)), int(np.floor(wide.y0))
            x1, y1 = int(np.ceil(wide.x1)), int(np.ceil(wide.y1))
            if x1 <= x0 or y1 <= y0:
                continue
            agree = classify(first[y0:y1, x0:x1]) == classify(second[y0:y1, x0:x1])
            same, other = (same + 1, other) if agree else (same, other + 1)
    return Agreement(same, other, 0)
