"""Vehicles cut out of photographs and set down on other pictures: far more of them than any clip shows.

A codec that sees the objects of a few streets only learns those streets. Each cutout gives keys (the plate is known)
and refreshes (an earlier, coarser look at it, moved nearly to where it is now, is known).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.evaluation.datasets import VEHICLE_NAMES
from discover_stream.evaluation.truth import read_yolo
from discover_stream.types import Image

SMALLEST = 56
"""Shorter side of a cutout, in pixels: smaller ones hold nothing that a finer sampling could show."""
MARGIN = 0.06
"""What is taken around a box, as a share of its sides: shadows, and what a loose box leaves out."""
ROUNDNESS = 4
"""Exponent of the outline |x|^n + |y|^n = 1: between an ellipse (2) and the box."""
LIGHT = (0.55, 1.25)
"""Least and largest gain of a cutout's brightness."""

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Placed:
    """A cutout in a picture.

    Attributes:
        picture: (H, W, 3) uint8 RGB, the plate with the object on it.
        remembered: the same with an earlier look at the object.
        where: (H, W) 0..1, how much of a pixel the object covers.
    """

    picture: Image
    remembered: Image
    where: Field


def load_cutouts(data: Path) -> tuple[Image, ...]:
    """The vehicles that `vehicles/labels` names in `vehicles/images`; none where there are no labels.

    Raises:
        InputError: labels and pictures do not fit, see `truth.read_yolo`.
    """
    folder, found = data / "vehicles", []
    if not (folder / "labels").is_dir():
        return ()
    for labelled in read_yolo(folder / "images", folder / "labels", VEHICLE_NAMES):
        picture = labelled.image()
        for box in (one.box for one in labelled.truth):
            across, down = MARGIN * (box.x1 - box.x0), MARGIN * (box.y1 - box.y0)
            rows = slice(max(0, int(box.y0 - down)), math.ceil(box.y1 + down))
            cut = picture[rows, max(0, int(box.x0 - across)) : math.ceil(box.x1 + across)]
            if min(cut.shape[:2]) >= SMALLEST:
                found.append(np.ascontiguousarray(cut))
    return tuple(found)


def outline(height: int, width: int) -> Field:
    """(height, width) 0..1: a box with round corners, feathered over a few pixels."""
    rows = np.abs(np.linspace(-1, 1, height, dtype=np.float32))[:, None] ** ROUNDNESS
    columns = np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None] ** ROUNDNESS
    inside = (1 - (rows + columns) ** (1 / ROUNDNESS)) * min(height, width) / 2
    return np.asarray(np.clip(inside / 3 + 0.2, 0, 1), dtype=np.float32)


def place(random: np.random.Generator, plate: Image, cutouts: Sequence[Image]) -> Placed:
    """Set a random cutout down on a square plate (S, S, 3), at a random size, place, side and light."""
    side = plate.shape[0]
    cutout = cutouts[int(random.integers(len(cutouts)))]
    if random.random() < 0.5:
        cutout = cutout[:, ::-1]
    longest = float(random.uniform(0.25, 0.9)) * side
    scale = min(longest / max(cutout.shape[:2]), 1.0)
    height, width = (max(8, round(edge * scale)) for edge in cutout.shape[:2])
    look = np.asarray(cv2.resize(cutout, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    look = np.clip(look * random.uniform(*LIGHT), 0, 255)
    top, left = (int(random.integers(0, side - edge + 1)) for edge in (height, width))
    picture, where = _set_down(plate, look, (float(left), float(top)))
    shift = random.normal(0, 0.7, 2)
    remembered, _ = _set_down(plate, _earlier(random, look), (left + float(shift[0]), top + float(shift[1])))
    return Placed(picture, remembered, where)


def _earlier(random: np.random.Generator, look: Field) -> Field:
    """The object as it was seen before, farther away, in slightly other light; of the same size (H, W, 3)."""
    height, width = look.shape[:2]
    farther = random.uniform(0.5, 1.0)
    size = max(4, int(width * farther)), max(4, int(height * farther))
    small = cv2.resize(look, size, interpolation=cv2.INTER_AREA)
    grown = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(grown * random.uniform(0.93, 1.07), 0, 255), dtype=np.float32)


def _set_down(plate: Image, look: Field, corner: tuple[float, float]) -> tuple[Image, Field]:
    """A look (h, w, 3) with its upper left corner (x, y) on a plate, and where it covers it."""
    height, width = plate.shape[:2]
    matrix = np.array([[1, 0, corner[0]], [0, 1, corner[1]]], dtype=np.float32)
    moved = cv2.warpAffine(look, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    where = np.asarray(cv2.warpAffine(outline(*look.shape[:2]), matrix, (width, height)), dtype=np.float32)
    mixed = plate * (1 - where[:, :, None]) + moved * where[:, :, None]
    return np.asarray(mixed.round(), dtype=np.uint8), where
