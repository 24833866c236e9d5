"""What `discover eval convert` does: other people's labels as a set in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from discover_stream.evaluation.experiments.convert import maps_as_coco, write_coco_set, yolo_as_coco
from discover_stream.types import InputError


def convert_set(
    kind: Literal["yolo", "maps"], images: Path, labels: Path, classes: str, rename: Sequence[str], out: Path
) -> Path:
    """Convert labels; the JSON file's path.

    Args:
        kind: boxes in YOLO's text files, or label maps.
        images: the folder with the pictures.
        labels: the folder with the labels.
        classes: names in order, or `number=name` of those that count, with commas between.
        rename: `old=new`, or `old=one+another`, which makes crowds of both.
        out: where the set goes.

    Raises:
        InputError: a word is not as described, or the labels cannot be read.
    """
    if not images.is_dir():
        raise InputError(f"{images}: no such folder; give --images the folder with the pictures")
    if kind == "yolo":
        names: dict[str, str | tuple[str, ...]] = {}
        for word in rename:
            old, new = _pair(word, "--rename", "ambulance=car+truck")
            names[old] = tuple(new.split("+")) if "+" in new else new
        return write_coco_set(out, yolo_as_coco(images, labels, classes.split(","), names), images)
    if rename:
        raise InputError("--rename: label maps name their classes in --classes; leave it out")
    numbers = dict(_pair(word, "--classes", "8=car,9=person") for word in classes.split(","))
    if not all(number.isdigit() and int(number) < 256 for number in numbers):
        raise InputError(f"--classes {classes!r}: numbers are 0 to 255; write 8=car,9=person")
    return write_coco_set(out, maps_as_coco(images, labels, {int(n): name for n, name in numbers.items()}), images)


def _pair(word: str, option: str, example: str) -> tuple[str, str]:
    first, equals, second = word.partition("=")
    if not (first and equals and second):
        raise InputError(f"{option} {word!r}: write it as {example}")
    return first, second
