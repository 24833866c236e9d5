"""Labelled boxes: what a detector found, or what is really there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from discover_stream.types import Box

Mask = npt.NDArray[np.bool_]
"""Which pixels count, (H, W)."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object: found by a detector, or true.

    Attributes:
        label: the name of its class.
        score: 0..1; 1 for what is known to be there.
        box: xyxy in pixels.
        crowd: only in truth. The object may be found, any number of times, but need not be: COCO's crowds,
            and whatever nobody can be blamed for missing.
    """

    label: str
    score: float
    box: Box
    crowd: bool = False


def above(found: Iterable[Detection], score: float) -> tuple[Detection, ...]:
    """Those that score at least `score`, in their order."""
    return tuple(one for one in found if one.score >= score)


def relabelled(found: Iterable[Detection], names: Mapping[str, str | tuple[str, ...]]) -> tuple[Detection, ...]:
    """Rename classes, so that two vocabularies meet.

    Args:
        found: boxes of one picture.
        names: old name -> new name. What is not in it keeps its name; what maps to several names becomes a crowd
            under each of them (AP is counted class by class): no fault to find as any of them, none to miss.

    >>> relabelled([Detection("van", 1.0, Box(0, 0, 4, 4))], {"van": "car"})[0].label
    'car'
    """
    result = []
    for one in found:
        name = names.get(one.label, one.label)
        if isinstance(name, str):
            result.append(replace(one, label=name))
        else:
            result += [replace(one, label=each, crowd=True) for each in name]
    return tuple(result)


def mask_of(boxes: Iterable[Box], width: int, height: int) -> Mask:
    """The pixels that any of the boxes touches, (height, width)."""
    mask = np.zeros((height, width), dtype=bool)
    for box in boxes:
        inside = box.clipped(width, height)
        if inside.area > 0:
            mask[math.floor(inside.y0) : math.ceil(inside.y1), math.floor(inside.x0) : math.ceil(inside.x1)] = True
    return mask


def covered_share(box: Box, by: Sequence[Box]) -> float:
    """The share (0..1) of a box's area that the union of other boxes covers, exactly; 0 for an empty box."""
    if box.area <= 0:
        return 0.0
    parts = [part for part in (_overlap(box, other) for other in by) if part.area > 0]
    columns = sorted({edge for part in parts for edge in (part.x0, part.x1)})
    total = 0.0
    for left, right in pairwise(columns):
        spans = sorted((part.y0, part.y1) for part in parts if part.x0 <= left and part.x1 >= right)
        reached = -math.inf
        for top, bottom in spans:
            total += (right - left) * max(0.0, bottom - max(top, reached))
            reached = max(reached, bottom)
    return min(1.0, total / box.area)


def _overlap(first: Box, second: Box) -> Box:
    return Box(max(first.x0, second.x0), max(first.y0, second.y0), min(first.x1, second.x1), min(first.y1, second.y1))
