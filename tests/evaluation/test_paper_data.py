"""The papers' sets: what is read, what is refused and with which remedy; labels of other kinds as COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from pycocotools import mask as rle

from discover_stream.evaluation.experiments.convert import maps_as_coco, write_coco_set, yolo_as_coco
from discover_stream.evaluation.experiments.data import PUBLISHED, cropped, load_set, network_classes
from discover_stream.types import InputError


def save(path: Path, width: int = 40, height: int = 30, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    save(tmp_path / "images" / "a.png", 100, 50)
    save(tmp_path / "images" / "b.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.1 0.2\n")
    return tmp_path


def test_yolo_boxes_become_coco_instances(yolo: Path) -> None:
    data = yolo_as_coco(yolo / "images", yolo / "labels", ["ambulance", "bus"], {"ambulance": ("car", "truck")})
    file = write_coco_set(yolo / "set", data, yolo / "images")
    assert json.loads(file.read_text()) == data
    found = load_set(str(yolo / "set"), None, "coco")
    assert found.classes == ("bus", "car", "truck")
    assert found.remark == "not the papers' data"
    first, second = found.pictures
    assert (first.name, first.number, first.image().shape) == ("a.png", 1, (50, 100, 3))
    boxes = {(one.label, one.crowd): one.box for one in first.boxes}
    assert boxes["bus", False].x0 == pytest.approx(40)
    assert boxes["bus", False].y1 == pytest.approx(35)
    assert {key for key in boxes if key[1]} == {("car", True), ("truck", True)}
    assert second.boxes == ()
    assert write_coco_set(yolo / "set", data, yolo / "images") == file
    with pytest.raises(InputError, match="is not"):
        write_coco_set(yolo / "set", data, yolo / "labels")


def test_label_maps_become_masks(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", 60, 40)
    kinds = np.zeros((40, 60), np.uint8)
    kinds[5:15, 5:25] = 8
    kinds[20:30, 30:50] = 8
    kinds[35, 0] = 9
    (tmp_path / "maps").mkdir()
    PillowImage.fromarray(kinds).save(tmp_path / "maps" / "a.png")
    notes = maps_as_coco(tmp_path / "images", tmp_path / "maps", {8: "car", 9: "person"})["annotations"]
    assert [(note["bbox"], note["iscrowd"]) for note in notes] == [
        ([5, 5, 20, 10], 0),
        ([30, 20, 20, 10], 0),
        ([0, 35, 1, 1], 1),
    ]
    np.testing.assert_array_equal(rle.decode(notes[1]["segmentation"]), (kinds == 8) & (np.arange(60) >= 30))
    save(tmp_path / "images" / "b.png")
    with pytest.raises(InputError, match=r"no label map for b\.png"):
        maps_as_coco(tmp_path / "images", tmp_path / "maps", {8: "car"})


def test_absent_sets_say_what_to_get_and_where_to_put_it(tmp_path: Path) -> None:
    for name, known in PUBLISHED.items():
        with pytest.raises(InputError) as caught:
            load_set(name, tmp_path, known.layout)
        assert known.get in str(caught.value)
        with pytest.raises(InputError, match="any --data"):
            load_set(name, None, known.layout)
    with pytest.raises(InputError, match="no such set or folder"):
        load_set("cocoa", tmp_path, "coco")
    save(tmp_path / "coco" / "other" / "a.png")
    with pytest.raises(InputError, match=r"no COCO instances.*val2017\.zip"):
        load_set("coco", tmp_path, "coco")


def test_a_coco_set_with_holes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    image = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
    note = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 4, 4], "area": 16}
    data = {"images": [image], "annotations": [note], "categories": [{"id": 2, "name": "car"}]}
    (folder / "images").mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"1 of 1 pictures are missing \(a.png\)"):
        load_set(str(folder), None, "coco")
    save(folder / "images" / "a.png")
    assert load_set(str(folder), None, "coco").pictures[0].boxes[0].label == "car"
    (folder / "instances.json").write_text(json.dumps(data | {"categories": []}))
    with pytest.raises(InputError, match="not a COCO instances file"):
        load_set(str(folder), None, "coco")


def test_the_official_layout_of_coco_is_read(tmp_path: Path) -> None:
    save(tmp_path / "coco" / "val2017" / "000000000009.jpg")
    annotations = tmp_path / "coco" / "annotations"
    annotations.mkdir()
    image = {"id": 9, "file_name": "000000000009.jpg", "width": 40, "height": 30}
    (annotations / "instances_val2017.json").write_text(
        json.dumps({"images": [image], "annotations": [], "categories": [{"id": 1, "name": "person"}]})
    )
    found = load_set("coco", tmp_path, "coco")
    assert found.pictures[0].number == 9
    assert found.remark == "1 of 5000 pictures"


def test_class_folders_and_names(tmp_path: Path) -> None:
    for wordnet in ("n02", "n01"):
        save(tmp_path / "imagenet" / "val" / wordnet / "x.png")
    found = load_set("imagenet", tmp_path, "classes")
    assert found.classes == ("n01", "n02")
    assert [(picture.name, picture.kind) for picture in found.pictures] == [("n01/x.png", 0), ("n02/x.png", 1)]
    for name in ("n01494475_hammerhead", "n01601694_water_ouzel"):
        save(tmp_path / "flat" / f"{name}.jpg")
    flat = load_set(str(tmp_path / "flat"), None, "classes")
    assert flat.classes == ("n01494475_hammerhead", "n01601694_water_ouzel")
    with pytest.raises(InputError, match="no pictures in class folders"):
        load_set(str(tmp_path / "imagenet" / "val" / "n01"), None, "classes")


def test_folders_are_found_among_a_networks_classes() -> None:
    categories = ("hammerhead", "crane", "water ouzel", "crane", "car")
    assert network_classes(("a", "b", "c", "d", "e"), categories) == (0, 1, 2, 3, 4)
    cranes = ("n01494475_hammerhead", "n02012849_crane", "n03126707_crane", "n09999999_Water_Ouzel")
    assert network_classes(cranes, categories) == (0, 1, 3, 2)
    with pytest.raises(InputError, match="none of the network's 5"):
        network_classes(("n1_hammer",), categories)
    with pytest.raises(InputError, match="one of several of a name"):
        network_classes(("n02012849_crane",), categories)


def test_pictures_are_brought_to_size(tmp_path: Path) -> None:
    image = np.zeros((60, 120, 3), np.uint8)
    image[:, 30:90] = 255
    found = cropped(image, 30)
    assert found.shape == (30, 30, 3)
    assert found.min() == 255  # the middle 60 of 120 columns
    assert cropped(image, 0) is image
    assert cropped(image[:20, :20], 30).shape == (30, 30, 3)
    save(tmp_path / "clic2020" / "a.png", 900, 800)
    clic = load_set("clic2020", tmp_path, "pictures")
    assert clic.pictures[0].image().shape == (768, 768, 3)
    assert clic.remark == "1 of 428 pictures"


def test_a_part_of_a_set_says_so(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / "set" / f"{number}.png")
    found = load_set(str(tmp_path / "set"), None, "pictures")
    assert [picture.name for picture in found.first(3).pictures] == ["0.png", "3.png", "6.png"]
    assert found.first(3).remark == "not the papers' data; 3 of 10 pictures were measured"
    assert found.first(0) is found
