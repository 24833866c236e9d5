"""Where truth comes from: COCO-format folders, YOLO-format labels, a detector's own boxes, the simulator."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from discover_stream.evaluation.boxes import Detection, relabelled
from discover_stream.types import Box, Image, InputError
from discover_stream.video.simulate import TrueObject

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

SIMULATED_AS_COCO: Mapping[str, str | tuple[str, ...]] = {"van": "car"}
"""The simulator's kinds under COCO's names: COCO calls a delivery van a car, more often than not."""

VEHICLES_AS_COCO: Mapping[str, str | tuple[str, ...]] = {"ambulance": ("bus", "car", "truck")}
"""Classes of the OpenImages vehicles under COCO's names: ambulances are now cars, now trucks, now buses."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture file and what is in it.

    Attributes:
        name: unique in its set.
        path: of the picture.
        truth: its objects, in pixels of the picture as stored.
    """

    name: str
    path: Path
    truth: tuple[Detection, ...]

    def image(self) -> Image:
        """The picture, (H, W, 3) uint8 RGB. Raises InputError where it cannot be read."""
        return read_picture(self.path)


def read_picture(path: Path) -> Image:
    """A picture file as (H, W, 3) uint8 RGB, as stored: an EXIF turn is not applied, labels do not know it.

    Raises:
        InputError: it is missing or not a picture.
    """
    try:
        with PillowImage.open(path) as picture:
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"picture {path}: cannot be read ({reason}); mend or remove it") from error


def read_coco(instances: Path, images: Path) -> tuple[LabelledPicture, ...]:
    """A set in COCO's format, in the order of its `images`.

    Args:
        instances: the JSON file (`images`, `annotations` with `bbox` x, y, width, height, `categories`).
        images: the folder with the pictures.

    Raises:
        InputError: the JSON is none or is inconsistent, or a picture is missing.
    """
    try:
        data = json.loads(instances.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{instances}: cannot be read as JSON ({reason}); give a COCO instances file") from error
    try:
        names = {int(one["id"]): str(one["name"]) for one in data["categories"]}
        files = {int(one["id"]): str(one["file_name"]) for one in data["images"]}
        truth: dict[int, list[Detection]] = {number: [] for number in files}
        for note in data["annotations"]:
            label, crowd = names[int(note["category_id"])], bool(note.get("iscrowd", 0))
            truth[int(note["image_id"])].append(Detection(label, 1.0, _from_xywh(note["bbox"]), crowd))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{instances}: not a COCO instances file ({type(error).__name__}: {error}); it needs images, annotations"
            " and categories that fit together"
        ) from error
    missing = [name for name in files.values() if not (images / name).is_file()]
    if missing:
        raise InputError(f"{images}: {len(missing)} of {len(files)} pictures of {instances} are missing ({missing[0]})")
    return tuple(LabelledPicture(name, images / name, tuple(truth[number])) for number, name in files.items())


def read_yolo(images: Path, labels: Path, classes: Sequence[str]) -> tuple[LabelledPicture, ...]:
    """A set with YOLO's labels, sorted by name: a text file per picture, `class cx cy w h` per line, in 0..1.

    A picture without a file, or with an empty one, has no objects.

    Args:
        images: the folder with the pictures.
        labels: the folder with the text files.
        classes: the names of classes 0, 1, ...

    Raises:
        InputError: there are no pictures or no labels, or a line is not as described.
    """
    paths = sorted(path for path in _listed(images) if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{images}: no pictures there ({', '.join(SUFFIXES)})")
    files = {path.stem: path for path in _listed(labels) if path.suffix == ".txt"}
    if not any(path.stem in files for path in paths):
        raise InputError(f"{labels}: no labels for the pictures of {images}; give the folder with their .txt files")
    result = []
    for path in paths:
        truth: tuple[Detection, ...] = ()
        if path.stem in files:
            with PillowImage.open(path) as picture:
                size = picture.size
            truth = _yolo_file(files[path.stem], size, classes)
        result.append(LabelledPicture(path.name, path, truth))
    return tuple(result)


def as_truth(found: Sequence[Detection], *, score: float = 0.3, faint: float | None = None) -> tuple[Detection, ...]:
    """A detector's own boxes on an original as truth: what a decode should let it find again.

    Args:
        found: what the judge found.
        score: from which a detection is taken for truth.
        faint: those from this score up to `score` become crowds: finding them is no fault. None leaves them out.
    """
    lowest = score if faint is None else min(faint, score)
    return tuple(replace(one, crowd=one.score < score) for one in found if one.score >= lowest)


def simulated_truth(
    objects: Iterable[TrueObject], *, least_side: float = 8.0, least_visible: float = 0.25
) -> tuple[Detection, ...]:
    """The simulator's exact boxes, under COCO's names.

    Args:
        objects: of one frame.
        least_side: objects of which the shorter side is smaller, in pixels, become crowds.
        least_visible: objects of which less is visible (0..1) become crowds: nobody could tell what they are.
    """
    boxes = []
    for thing in objects:
        box = thing.box
        hard = min(box.x1 - box.x0, box.y1 - box.y0) < least_side or thing.visible < least_visible
        boxes.append(Detection(thing.kind, 1.0, box, crowd=hard))
    return relabelled(boxes, SIMULATED_AS_COCO)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); give a folder") from error


def _from_xywh(values: Any) -> Box:
    x, y, width, height = (float(value) for value in values)
    if not all(math.isfinite(value) for value in (x, y, width, height)) or width < 0 or height < 0:
        raise ValueError(f"bbox {values} is not a box")
    return Box(x, y, x + width, y + height)


def _yolo_file(path: Path, size: tuple[int, int], classes: Sequence[str]) -> tuple[Detection, ...]:
    """The objects that one label file lists, for a picture of (width, height) pixels."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, cx, cy, w, h = (float(word) for word in line.split())
            label = classes[int(kind)] if kind >= 0 and kind == int(kind) else None
        except (ValueError, IndexError, OverflowError):
            label = None
        if label is None or not all(-0.01 <= value <= 1.01 for value in (cx, cy, w, h)):
            raise InputError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not `class cx cy w h` with a class below"
                f" {len(classes)} and shares in 0..1; mend the line or name the classes"
            )
        width, height = size
        box = Box((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        found.append(Detection(label, 1.0, box.clipped(width, height)))
    return tuple(found)
