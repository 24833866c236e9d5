"""The papers' data: COCO, Kodak, CLIC2020, ImageNet, and any set laid out like one of them.

Nothing is fetched. A set that is not there, or not whole, is refused or remarked on with what belongs where.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.experiments.convert import IMAGES, INSTANCES
from discover_stream.evaluation.truth import SUFFIXES, read_picture
from discover_stream.types import Box, Image, InputError

Layout = Literal["coco", "classes", "pictures"]
"""COCO's format; pictures with a class each; pictures alone."""


@dataclass(frozen=True)
class Published:
    """A set that the papers use.

    Attributes:
        layout: how it is laid out.
        pictures: how many it has.
        crop: side of the square that pictures are brought to, 0 for as they are.
        get: what to download and where to put it, below the data folder.
    """

    layout: Layout
    pictures: int
    crop: int
    get: str


PUBLISHED: Mapping[str, Published] = {
    "coco": Published(
        "coco",
        5000,
        0,
        "COCO 2017: put val2017.zip's folder at coco/val2017 and instances_val2017.json of annotations_trainval2017.zip"
        " at coco/annotations (cocodataset.org)",
    ),
    "kodak": Published("pictures", 24, 0, "the 24 Kodak PNGs, kodim01.png to kodim24.png, in kodak (r0k.us)"),
    "clic2020": Published(
        "pictures",
        428,
        768,
        "CLIC 2020's test pictures, professional and mobile, 428 PNGs, in clic2020 (compression.cc)",
    ),
    "imagenet": Published(
        "classes",
        50_000,
        0,
        "ILSVRC2012's validation pictures, a folder for each of the 1000 classes (n01440764, ...), in imagenet/val"
        " (image-net.org)",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture of a set.

    Attributes:
        name: unique in its set.
        path: of the file.
        number: its id in COCO's file; else its place in the set, from 1 on.
        crop: see `Published`.
        kind: position of its class in the set's classes; -1 where there is none.
        boxes: its objects where the set knows them.
    """

    name: str
    path: Path
    number: int
    crop: int = 0
    kind: int = -1
    boxes: tuple[Detection, ...] = ()

    def image(self) -> Image:
        """(H, W, 3) uint8 RGB, brought to size. Raises InputError where it cannot be read."""
        return cropped(read_picture(self.path), self.crop)


@dataclass(frozen=True)
class PictureSet:
    """Pictures to measure on, in a fixed order.

    Attributes:
        name: for tables.
        pictures: in order.
        layout: see `Layout`.
        classes: of COCO's categories or of the class folders.
        annotations: the content of COCO's file; empty otherwise.
        remark: in what the set differs from the published one; empty where in nothing.
    """

    name: str
    pictures: tuple[Picture, ...]
    layout: Layout
    classes: tuple[str, ...] = ()
    annotations: Mapping[str, Any] = field(default_factory=dict, repr=False)
    remark: str = ""

    def first(self, count: int) -> PictureSet:
        """`count` pictures, evenly spread; all where there are fewer or `count` is 0."""
        whole = len(self.pictures)
        if not count or count >= whole:
            return self
        kept = tuple(self.pictures[index * whole // count] for index in range(count))
        remark = "; ".join(filter(None, [self.remark, f"{count} of {whole} pictures were measured"]))
        return PictureSet(self.name, kept, self.layout, self.classes, self.annotations, remark)


def cropped(image: Image, side: int) -> Image:
    """The middle `side` x `side` pixels after the shorter side was brought to `side`; 0 leaves it as it is."""
    if not side:
        return image
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    if size != (width, height):
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, size, interpolation=way), dtype=np.uint8)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side].copy()


def load_set(name: str, data: Path | None, layout: Layout) -> PictureSet:
    """A set by its name below the data folder, or by its folder.

    Args:
        name: `coco`, `kodak`, `clic2020`, `imagenet`, or the path of a folder.
        data: the data folder.
        layout: what is needed of it.

    Raises:
        InputError: it is not there, not laid out as needed, or damaged; the message says what belongs where.
    """
    known = PUBLISHED.get(name)
    folder = (data or Path()) / name if known is not None else Path(name)
    if known is not None and (data is None or not folder.is_dir()):
        raise InputError(f"{name}: not at {folder if data else 'any --data'}; get {known.get}")
    if not folder.is_dir():
        raise InputError(f"{name}: no such set or folder; use {', '.join(PUBLISHED)} or a folder of one's own")
    crop = known.crop if known is not None else 0
    readers = {"coco": _coco, "classes": _classes, "pictures": _pictures}
    try:
        found = readers[layout](folder, crop)
    except InputError as error:
        if known is None or known.layout != layout:
            raise
        raise InputError(f"{error}; {name} is {known.get}") from None
    remark = ""
    if known is None:
        remark = "not the papers' data"
    elif len(found.pictures) != known.pictures:
        remark = f"{len(found.pictures)} of {known.pictures} pictures"
    return PictureSet(folder.name, found.pictures, layout, found.classes, found.annotations, remark)


def _coco(folder: Path, crop: int) -> PictureSet:
    official = folder / "annotations" / "instances_val2017.json"
    file, images = (official, folder / "val2017") if official.exists() else (folder / INSTANCES, folder / IMAGES)
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: no COCO instances there ({reason}); it needs {INSTANCES} and {IMAGES}") from error
    try:
        names = {int(one["id"]): str(one["name"]) for one in data["categories"]}
        boxes: dict[int, list[Detection]] = {int(one["id"]): [] for one in data["images"]}
        for note in data["annotations"]:
            x, y, width, height = (float(value) for value in note["bbox"])
            crowd = bool(note.get("iscrowd", 0))
            found = Detection(names[int(note["category_id"])], 1.0, Box(x, y, x + width, y + height), crowd)
            boxes[int(note["image_id"])].append(found)
        pictures = tuple(
            Picture(
                str(one["file_name"]), images / str(one["file_name"]), int(one["id"]), crop, -1, tuple(boxes[one["id"]])
            )
            for one in data["images"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: not a COCO instances file ({type(error).__name__}: {error}); fetch it again"
        ) from error
    missing = [picture.name for picture in pictures if not picture.path.is_file()]
    if missing or not pictures:
        shown = missing[0] if missing else "none is listed"
        raise InputError(
            f"{images}: {len(missing)} of {len(pictures)} pictures are missing ({shown}); fetch them again"
        )
    return PictureSet(folder.name, pictures, "coco", tuple(names[key] for key in sorted(names)), data)


def _classes(folder: Path, crop: int) -> PictureSet:
    """A folder per class, or files named after their class: `n01494475_hammerhead.jpg`."""
    root = folder / "val" if (folder / "val").is_dir() else folder
    named: list[tuple[str, Path]] = [
        (path.parent.name, path) for path in root.glob("*/*") if path.suffix.lower() in SUFFIXES
    ]
    if not named:
        files = [path for path in root.iterdir() if path.suffix.lower() in SUFFIXES]
        named = [(path.stem, path) for path in files if re.match(r"n\d{8}_.", path.stem)]
    if not named:
        raise InputError(f"{root}: no pictures in class folders there")
    order = sorted({kind for kind, _ in named})
    pictures = tuple(
        Picture(path.relative_to(root).as_posix(), path, number, crop, order.index(kind))
        for number, (kind, path) in enumerate(sorted(named, key=lambda pair: pair[1]), 1)
    )
    return PictureSet(folder.name, pictures, "classes", tuple(order))


def _pictures(folder: Path, crop: int) -> PictureSet:
    if (folder / INSTANCES).exists() or (folder / "annotations").is_dir():
        found = _coco(folder, crop)
        return PictureSet(found.name, found.pictures, "pictures", found.classes, found.annotations)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder}: no pictures there ({', '.join(SUFFIXES)})")
    pictures = (Picture(path.relative_to(folder).as_posix(), path, n, crop) for n, path in enumerate(files, 1))
    return PictureSet(folder.name, tuple(pictures), "pictures")


def network_classes(folders: Sequence[str], categories: Sequence[str]) -> tuple[int, ...]:
    """Which class of a network each class folder is.

    As many folders as categories are in the network's order, as ImageNet's are. Fewer are found by their names
    (`n01494475_hammerhead`, `water ouzel`); names that two categories share, by the order of their WordNet ids.

    Raises:
        InputError: a folder is none of the categories.
    """
    if len(folders) == len(categories):
        return tuple(range(len(folders)))
    places: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        places.setdefault(_plain(category), []).append(index)
    names = [_plain(re.sub(r"^n\d{8}_", "", folder)) for folder in folders]
    seen: Counter[str] = Counter()
    found = []
    for folder, name in zip(folders, names, strict=True):
        indices = places.get(name, [])
        if len(indices) != (1 if len(indices) < 2 else names.count(name)):
            what = "none" if not indices else "one of several of a name"
            raise InputError(f"class {folder!r} is {what} of the network's {len(categories)}; name it after its own")
        # Folders are sorted: of two of one name the smaller id comes first, as in the network's order.
        found.append(indices[seen[name]])
        seen[name] += 1
    return tuple(found)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
