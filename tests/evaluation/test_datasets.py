from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.datasets import (
    ItemSpec,
    chosen,
    digest_of,
    judge_finder,
    load_item,
    picture_items,
    street,
    video_items,
    without_whole,
)
from discover_stream.training.data import clip_first_half
from discover_stream.types import Box, Image, InputError, Region
from discover_stream.video.simulate import SimulatedCamera

SMALL = "sim://road?seed=3&width=160&height=96"


def nothing(image: Image) -> tuple[Region, ...]:
    return ()


def write_clip(path: Path, frames: int, fps: int = 10) -> None:
    """Frame i is grey of level 4 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.full((48, 64, 3), 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_streets_have_exact_truth_and_tracked_regions() -> None:
    spec = street(SMALL, 1.0, 10.0, "exact")
    item = load_item(spec, {})
    assert len(item.frames) == 10
    assert item.truth is not None
    assert item.truth[4]
    (clip,) = item.clips
    seen = {region.track for regions in clip.regions for region in regions}
    assert seen
    assert 0 not in seen
    _, objects = SimulatedCamera("s", seed=3, width=160, height=96).render(4)
    assert {region.box for region in clip.regions[4]} == {thing.box for thing in objects if thing.visible >= 0.25}
    np.testing.assert_array_equal(load_item(spec, {}).frames[7], item.frames[7])


def test_clips_that_shaped_weights_give_their_second_half_only(tmp_path: Path) -> None:
    folder = tmp_path / "video"
    folder.mkdir()
    write_clip(folder / "suburb.mp4", 40)
    write_clip(folder / "crossing.mp4", 40)
    specs = {spec.name: spec for spec in video_items(tmp_path, 100.0, 10.0, "grounder")}
    simulated = {"street seed 3", "street seed 8", "turn seed 4", "tunnel seed 4", "clouds seed 4"}
    assert set(specs) == {"suburb", "crossing", *simulated}
    assert specs["suburb"].group == "second half of a training clip"
    assert specs["crossing"].group == "never seen"
    later = load_item(specs["suburb"], {"grounder": nothing})
    trained = clip_first_half(folder / "suburb.mp4", 1)
    assert min(frame.mean() for frame in later.frames) > max(frame.mean() for frame in trained)
    assert len(later.frames) + len(trained) >= 38
    assert later.truth is None
    assert len(load_item(specs["crossing"], {"grounder": nothing}).frames) == 40


def test_a_digest_follows_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = digest_of(tmp_path)
    assert before == digest_of(tmp_path)
    (tmp_path / "a").write_bytes(b"2")
    assert digest_of(tmp_path) != before
    with pytest.raises(InputError, match="no data here"):
        digest_of(tmp_path / "b")


def test_identity_does_not_know_the_place(tmp_path: Path) -> None:
    here = ItemSpec("a", "x/a.mp4", "video", "never seen", "12")
    there = ItemSpec("a", "y/a.mp4", "video", "never seen", "12")
    other = ItemSpec("a", "y/a.mp4", "video", "never seen", "13")
    assert here.identity() == there.identity() != other.identity()


def test_picture_sets_with_and_without_labels(tmp_path: Path) -> None:
    for folder in ("kodak", "vehicles/images", "vehicles/labels", "coco/images"):
        (tmp_path / folder).mkdir(parents=True)
    for index in range(4):
        picture = PillowImage.fromarray(np.full((40 + index, 60, 3), 10 * index, np.uint8))
        picture.save(tmp_path / "kodak" / f"{index}.png")
        picture.save(tmp_path / "vehicles" / "images" / f"{index}.jpg")
        (tmp_path / "vehicles" / "labels" / f"{index}.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    PillowImage.new("RGB", (30, 20)).save(tmp_path / "coco" / "images" / "a.png")
    instances = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": kind, "bbox": [1, 2, 3, 4]} for kind in (1, 2)],
    }
    (tmp_path / "coco" / "instances.json").write_text(json.dumps(instances))
    specs = picture_items(tmp_path, 2, "grounder")
    assert [spec.name for spec in specs] == ["kodak", "coco", "vehicles", "streets"]
    kodak, coco, vehicles, streets = (load_item(spec, {"grounder": nothing}) for spec in specs)
    assert [frame.mean() for frame in kodak.frames] == [0, 20]
    assert kodak.truth is None
    assert vehicles.truth is not None
    assert [one.label for one in vehicles.truth[0]] == ["car"]
    assert "person" not in vehicles.classes
    assert coco.truth is not None
    assert [[one.label for one in truth] for truth in coco.truth] == [["car"]], "dogs are no road users"
    assert len(streets.frames) == 2
    assert streets.truth is not None
    assert not np.array_equal(*streets.frames)


def test_items_are_chosen_by_name() -> None:
    specs = video_items(None, 2.0, 10.0, "exact")
    assert [spec.name for spec in chosen(specs, ["street seed 8"])] == ["street seed 8"]
    assert chosen(specs, []) == specs
    with pytest.raises(InputError, match="there is no 'kodak'"):
        chosen(specs, ["kodak"])


class Fixed:
    name, classes = "fixed", ("car", "dog")

    def detect(self, image: Image) -> tuple[Detection, ...]:
        box = Box(1.0, 1.0, 9.0, 9.0)
        return (Detection("car", 0.9, box), Detection("car", 0.2, box), Detection("dog", 0.9, box))


def test_a_judges_boxes_are_sure_road_users() -> None:
    assert judge_finder(Fixed())(np.zeros((16, 16, 3), np.uint8)) == (Region(0, 0.9, Box(1.0, 1.0, 9.0, 9.0)),)


def test_a_scene_is_no_object() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    car, scene = Region(0, 0.5, Box(1, 1, 5, 5)), Region(0, 1.0, Box(0.0, 0.0, 30.0, 20.0))
    assert without_whole((car, scene), image) == (car,)
