"""Truth from COCO's format, YOLO's labels, a detector and the simulator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.evaluation.average_precision import coco_dataset
from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.truth import (
    as_truth,
    read_coco,
    read_picture,
    read_yolo,
    simulated_truth,
)
from discover_stream.types import Box, InputError
from discover_stream.video.simulate import SimulatedCamera, TrueObject


def save(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(exist_ok=True)
    PillowImage.fromarray(np.full((height, width, 3), (9, 80, 200), np.uint8)).save(path)
    return path


def coco(folder: Path) -> dict[str, list[dict[str, object]]]:
    save(folder / "images" / "b.png")
    save(folder / "images" / "a.png")
    return {
        "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": 3, "category_id": 18, "bbox": [1, 2, 10, 5]},
            {"image_id": 3, "category_id": 1, "bbox": [0, 0, 4.5, 4], "iscrowd": 1},
        ],
    }


def test_coco(tmp_path: Path) -> None:
    data = coco(tmp_path)
    (tmp_path / "i.json").write_text(json.dumps(data))
    first, second = read_coco(tmp_path / "i.json", tmp_path / "images")
    assert (first.name, first.truth) == ("b.png", ())
    assert second.truth == (
        Detection("dog", 1.0, Box(1, 2, 11, 7)),
        Detection("person", 1.0, Box(0, 0, 4.5, 4), crowd=True),
    )
    assert second.image().shape == (20, 40, 3)
    assert second.image()[0, 0].tolist() == [9, 80, 200]
    # What we write for pycocotools says the same.
    written = coco_dataset([case.truth for case in (first, second)], ["dog", "person"])
    assert [(a["image_id"], a["category_id"], a["bbox"], a["iscrowd"]) for a in written["annotations"]] == [
        (2, 1, [1, 2, 10, 5], 0),
        (2, 2, [0, 0, 4.5, 4], 1),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": []}, "KeyError"),
        ({"annotations": [{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "KeyError"),
        ({"annotations": [{"image_id": 3, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "is not a box"),
        ({"annotations": [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1]}]}, "ValueError"),
        ({"images": [{"id": 3, "file_name": "c.png"}], "annotations": []}, r"1 of 1 pictures .* are missing \(c.png\)"),
    ],
)
def test_bad_coco_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    (tmp_path / "i.json").write_text(json.dumps(coco(tmp_path) | change))
    with pytest.raises(InputError, match=words):
        read_coco(tmp_path / "i.json", tmp_path / "images")
    (tmp_path / "i.json").write_text("[")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_coco(tmp_path / "i.json", tmp_path / "images")


def test_yolo(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        save(tmp_path / "images" / f"{name}.png")
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n\n0 0.0 0.5 0.5 1.0\n")
    (labels / "b.txt").write_text("")
    cases = read_yolo(tmp_path / "images", labels, ("car", "bus"))
    assert [case.name for case in cases] == ["a.png", "b.png", "c.png"]
    assert cases[0].truth == (Detection("bus", 1.0, Box(15, 5, 25, 15)), Detection("car", 1.0, Box(0, 0, 10, 20)))
    assert not cases[1].truth
    assert not cases[2].truth


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.1 0.1", "0 50 50 10 10", "0 0.5 0.5 0.1", "-1 0 0 0 0", "car 0 0 0 0"])
def test_bad_yolo_lines_are_refused(tmp_path: Path, line: str) -> None:
    save(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n" + line)
    with pytest.raises(InputError, match=r"a\.txt, line 2"):
        read_yolo(tmp_path / "images", tmp_path / "labels", ("car", "bus"))


def test_folders_without_anything_are_refused(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match="no pictures there"):
        read_yolo(tmp_path / "images", tmp_path / "labels", ("car",))
    save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="no labels for the pictures"):
        read_yolo(tmp_path / "images", tmp_path / "labels", ("car",))
    with pytest.raises(InputError, match="cannot be listed"):
        read_yolo(tmp_path / "none", tmp_path / "labels", ("car",))
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path / "images" / "a.png")


def test_a_detectors_boxes_as_truth() -> None:
    found = tuple(Detection("car", score, Box(0, 0, 1, 1)) for score in (0.9, 0.3, 0.2, 0.05))
    assert [one.score for one in as_truth(found)] == [0.9, 0.3]
    assert [one.crowd for one in as_truth(found, score=0.3, faint=0.1)] == [False, False, True]


def test_the_simulators_truth() -> None:
    things = [
        TrueObject(1, "van", Box(0, 0, 20, 20), 1.0),
        TrueObject(2, "person", Box(0, 0, 7, 20), 1.0),
        TrueObject(3, "bus", Box(0, 0, 20, 20), 0.2),
    ]
    assert [(one.label, one.crowd) for one in simulated_truth(things)] == [
        ("car", False),
        ("person", True),
        ("bus", True),
    ]
    _, objects = SimulatedCamera("street", seed=3).render(60)
    truth = simulated_truth(objects)
    assert len(truth) == len(objects)
    assert {one.label for one in truth} <= {"car", "person", "bicycle", "motorcycle", "bus", "truck"}
    assert [one.box for one in truth] == [thing.box for thing in objects]


def test_the_vehicle_photographs(shared: Path) -> None:
    names = ("ambulance", "bus", "car", "motorcycle", "truck")
    cases = read_yolo(shared / "vehicles" / "images", shared / "vehicles" / "labels", names)
    assert len(cases) == 439
    assert {one.label for case in cases for one in case.truth} == set(names)
