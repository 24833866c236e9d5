"""AP of boxes and of masks: exactly what pycocotools says of the same files."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from discover_stream.evaluation.boxes import Detection, Mask
from discover_stream.evaluation.experiments.coco_scores import Kind, coco_scores
from discover_stream.evaluation.experiments.data import Picture, PictureSet
from discover_stream.evaluation.experiments.measuring import (
    ClassificationMeasurer,
    DetectionMeasurer,
    SegmentationMeasurer,
)
from discover_stream.types import Box, Image, InputError

SIDE = 96
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "person"}]


def disc(x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def coded(mask: Mask) -> dict[str, Any]:
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def box_of(mask: Mask) -> list[float]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return [float(columns[0]), float(rows[0]), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)]


def random_set(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations of six pictures, and answers that are near them, wrong, double or absent."""
    rng = np.random.default_rng(seed)
    notes, answers = [], []
    for picture in range(1, 7):
        for _ in range(int(rng.integers(0, 6))):
            x, y, radius = (float(value) for value in rng.uniform((15, 15, 3), (80, 80, 14)))
            kind, truth = int(rng.choice([3, 7])), disc(x, y, radius)
            note = {"id": len(notes) + 1, "image_id": picture, "category_id": kind, "iscrowd": int(rng.random() < 0.2)}
            notes.append(note | {"bbox": box_of(truth), "area": float(truth.sum()), "segmentation": coded(truth)})
            for _ in range(int(rng.integers(0, 3))):
                dx, dy, dr = rng.normal(0, 2, 3)
                found = disc(x + dx, y + dy, max(2.0, radius + dr))
                answers.append(
                    {
                        "image_id": picture,
                        "category_id": kind if rng.random() < 0.8 else 10 - kind,
                        "score": float(rng.random()),
                        "bbox": box_of(found),
                        "segmentation": coded(found),
                    }
                )
    images = [{"id": number, "width": SIDE, "height": SIDE, "file_name": f"{number}.png"} for number in range(1, 7)]
    return {"images": images, "annotations": notes, "categories": CATEGORIES}, answers


def from_files(folder: Path, data: dict[str, Any], answers: list[dict[str, Any]], kind: str) -> list[float]:
    """What pycocotools says of files, the way everybody runs it."""
    truth, found = folder / "instances.json", folder / "answers.json"
    truth.write_text(json.dumps(data))
    found.write_text(json.dumps(answers))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(truth))
        evaluation = COCOeval(reference, reference.loadRes(str(found)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_are_those_of_pycocotools(tmp_path: Path, seed: int, kind: Kind) -> None:
    data, answers = random_set(seed)
    if kind == "segm":  # else pycocotools takes the areas of the boxes
        answers = [{key: value for key, value in one.items() if key != "bbox"} for one in answers]
    else:
        answers = [{key: value for key, value in one.items() if key != "segmentation"} for one in answers]
    ours = coco_scores(data, range(1, 7), answers, kind)
    assert [ours.ap, ours.ap50, ours.ap75] == from_files(tmp_path, data, answers, kind)
    assert 0 < ours.ap < 1
    assert ours.objects == sum(not note["iscrowd"] for note in data["annotations"])


def test_pictures_that_were_not_looked_at_do_not_count() -> None:
    data, answers = random_set(1)
    part = [one for one in answers if one["image_id"] <= 3]
    few = {**data, "annotations": [note for note in data["annotations"] if note["image_id"] <= 3]}
    assert coco_scores(data, [1, 2, 3], part, "bbox") == coco_scores(few, [1, 2, 3], part, "bbox")
    assert coco_scores(data, [1, 2, 3], part, "bbox").ap != coco_scores(data, range(1, 7), part, "bbox").ap


def test_masks_are_needed_for_mask_ap() -> None:
    data, _ = random_set(0)
    for note in data["annotations"]:
        del note["segmentation"]
    with pytest.raises(InputError, match="boxes only"):
        coco_scores(data, range(1, 7), [], "segm")


def test_nothing_found_scores_nothing() -> None:
    data, _ = random_set(0)
    assert coco_scores(data, range(1, 7), [], "bbox").ap == 0


class Seer:
    """Finds what it was told to, in any picture: the arithmetic after it is what is tested."""

    name, classes = "seer", ("car", "person", "dog")

    def __init__(self, found: list[tuple[Detection, Mask]]) -> None:
        self.found = found

    def detect(self, image: Image) -> tuple[Detection, ...]:
        return tuple(one for one, _ in self.found)

    def segment(self, image: Image) -> list[tuple[Detection, Mask]]:
        return self.found

    def classify(self, image: Image) -> int:
        return int(image[0, 0, 0])


def test_answers_of_networks_become_scores() -> None:
    truth = disc(40, 40, 10)
    note = {"id": 1, "image_id": 5, "category_id": 3, "iscrowd": 0, "area": float(truth.sum())}
    notes = [note | {"bbox": box_of(truth), "segmentation": coded(truth)}]
    data = {"images": [{"id": 5, "width": SIDE, "height": SIDE}], "annotations": notes, "categories": CATEGORIES}
    picture = Picture("a", Path("a.png"), 5)
    pictures = PictureSet("one", (picture,), "coco", ("car", "person"), data)
    box = Box(30, 30, 51, 51)
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    seer = Seer([(Detection("dog", 0.95, box), truth), (Detection("car", 0.9, box), truth)])
    for measurer, name in (
        (DetectionMeasurer(seer, pictures), "AP"),
        (SegmentationMeasurer(seer, pictures), "mask AP"),
    ):
        kept, features = measurer.note(picture, blank, blank)
        assert len(kept["answers"]) == 1  # the set has no dogs
        assert json.loads(json.dumps(kept)) == kept
        assert measurer.scores([kept], features, features)[name] == pytest.approx(100)
    off = Seer([(Detection("car", 0.9, box), disc(60, 60, 10))])
    kept, features = SegmentationMeasurer(off, pictures).note(picture, blank, blank)
    assert SegmentationMeasurer(off, pictures).scores([kept], features, features)["mask AP"] == 0


def test_top_1_is_the_share_of_right_answers() -> None:
    measurer = ClassificationMeasurer(Seer([]))
    notes = []
    for kind, seen in ((0, 0), (1, 1), (2, 1), (3, 3)):
        image = np.full((8, 8, 3), seen, np.uint8)
        notes.append(measurer.note(Picture("a", Path("a"), 1, kind=kind), image, image)[0])
    assert measurer.scores(notes, np.zeros((0, 0)), np.zeros((0, 0)))["top-1"] == pytest.approx(75)
