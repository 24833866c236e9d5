"""Labels of other kinds as COCO instances: YOLO's boxes, and pictures whose pixels are class numbers.

What comes out is the JSON of a COCO instances file; pictures stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from discover_stream.evaluation.boxes import relabelled
from discover_stream.evaluation.truth import SUFFIXES, read_yolo
from discover_stream.types import InputError

LEAST_PIXELS = 64
"""Connected parts of a class that are smaller are crowds: nobody has to find them."""

INSTANCES, IMAGES = "instances.json", "images"
"""What a set in COCO's format consists of here: the file, and the folder of its pictures."""


def yolo_as_coco(
    images: Path, labels: Path, classes: Sequence[str], names: Mapping[str, str | tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Boxes in YOLO's text files as COCO instances.

    Args:
        images: the folder with the pictures.
        labels: the folder with their text files.
        classes: the names of classes 0, 1, ...
        names: other names for some classes, see `boxes.relabelled`; what maps to several is a crowd under each.

    Raises:
        InputError: see `truth.read_yolo`.
    """
    builder = _Builder()
    for picture in read_yolo(images, labels, classes):
        with PillowImage.open(picture.path) as opened:
            number = builder.picture(picture.name, opened.size)
        for one in relabelled(picture.truth, names or {}):
            box = [one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0]
            builder.note(number, one.label, box, one.box.area, crowd=one.crowd)
    return builder.data()


def maps_as_coco(images: Path, maps: Path, classes: Mapping[int, str]) -> dict[str, Any]:
    """Connected parts of some classes of label maps as COCO instances with masks.

    Two objects of a class that touch are one part: truth of this kind is rough where things stand close.

    Args:
        images: the folder with the pictures.
        maps: the folder with label maps (PNG, a class number a pixel) of the same names.
        classes: class number -> name, of those that become instances.

    Raises:
        InputError: a map is missing or of another size.
    """
    from pycocotools import mask as rle

    builder = _Builder()
    for path in sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES):
        values = _label_map(maps / f"{path.stem}.png", path)
        number = builder.picture(path.name, (values.shape[1], values.shape[0]))
        for kind, name in classes.items():
            count, parts, stats, _ = cv2.connectedComponentsWithStats((values == kind).astype(np.uint8))
            for part in range(1, count):
                x, y, width, height, area = (int(value) for value in stats[part])
                coded = rle.encode(np.asfortranarray((parts == part).astype(np.uint8)))
                coded["counts"] = coded["counts"].decode()
                box = [float(x), float(y), float(width), float(height)]
                builder.note(number, name, box, float(area), crowd=area < LEAST_PIXELS, segmentation=coded)
    return builder.data()


def write_coco_set(folder: Path, data: Mapping[str, Any], images: Path) -> Path:
    """Write a set in COCO's format: `instances.json`, and `images`, a link to where the pictures are.

    Raises:
        InputError: the folder cannot be written, or its `images` is another folder.
    """
    link, file = folder / IMAGES, folder / INSTANCES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(images.resolve(), target_is_directory=True)
        file.write_text(json.dumps(data), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    if link.resolve() != images.resolve():
        raise InputError(f"{link}: is not {images}; choose another folder or remove it")
    return file


class _Builder:
    """Collects pictures, categories and annotations; ids count from 1."""

    def __init__(self) -> None:
        self._pictures: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []
        self._classes: dict[str, int] = {}

    def picture(self, name: str, size: tuple[int, int]) -> int:
        number = len(self._pictures) + 1
        self._pictures.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        return number

    def note(
        self,
        picture: int,
        name: str,
        box: list[float],
        area: float,
        *,
        crowd: bool,
        segmentation: dict[str, Any] | None = None,
    ) -> None:
        note = {
            "id": len(self._notes) + 1,
            "image_id": picture,
            "category_id": self._classes.setdefault(name, len(self._classes) + 1),
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        self._notes.append(note if segmentation is None else note | {"segmentation": segmentation})

    def data(self) -> dict[str, Any]:
        categories = [{"id": number, "name": name} for name, number in self._classes.items()]
        return {"images": self._pictures, "annotations": self._notes, "categories": categories}


def _label_map(path: Path, picture: Path) -> npt.NDArray[np.uint8]:
    try:
        with PillowImage.open(path) as opened, PillowImage.open(picture) as image:
            if opened.size != image.size:
                raise InputError(f"{path}: its size is not that of {picture.name}; give the maps of these pictures")
            return np.asarray(opened.convert("L") if opened.mode not in ("L", "P") else opened, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: no label map for {picture.name} ({error}); add it or remove the picture") from error
