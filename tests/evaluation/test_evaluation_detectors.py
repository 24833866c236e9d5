"""Detectors: both ONNX layouts on files made here, torchvision's, the shipped one; and on real photographs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import FLOAT, INT64, UINT8, Node, model
from torchvision.models import get_model, get_model_weights

from discover_stream.evaluation.average_precision import score_detections
from discover_stream.evaluation.boxes import relabelled
from discover_stream.evaluation.detectors import load_detector
from discover_stream.evaluation.onnx_detectors import YoloxNetwork, coco_classes
from discover_stream.evaluation.truth import VEHICLES_AS_COCO, read_yolo
from discover_stream.types import Image, InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"


def picture(height: int, width: int, colour: tuple[int, int, int]) -> Image:
    return np.full((height, width, 3), colour, np.uint8)


def boxes_file(path: Path, shape: Sequence[int | str], kind: int = FLOAT, names: object = None) -> Path:
    """Answers one fixed box of class 1, sure in proportion to the brightest red of the input."""
    axis = len(shape) - 3
    constants: dict[str, np.ndarray] = {
        "one_box": np.array([[10, 20, 30, 60]], np.float32),
        "one_label": np.array([1], np.int64),
        "red": np.array([0], np.int64),
        "scale": np.array([1.0 if kind == FLOAT else 1 / 255], np.float32),
    }
    nodes = [
        Node("Identity", ("one_box",), "boxes"),
        Node("Identity", ("one_label",), "labels"),
        Node("Cast", ("picture",), "floats", (("to", FLOAT),)),
        Node("Gather", ("floats", "red"), "reds", (("axis", axis),)),
        Node("ReduceMax", ("reds",), "brightest", (("keepdims", 0),)),
        Node("Mul", ("brightest", "scale"), "scores"),
    ]
    outputs = {"scores": (FLOAT, [1]), "labels": (INT64, [1]), "boxes": (FLOAT, [1, 4])}
    metadata = None if names is None else {"names": names if isinstance(names, str) else json.dumps(names)}
    path.write_bytes(model({"picture": (kind, shape)}, constants, nodes, outputs, metadata))
    return path


@pytest.mark.parametrize(
    ("shape", "kind", "scale"),
    [
        ([1, 3, 64, 64], FLOAT, 2.0),
        ([1, 3, "h", "w"], FLOAT, 1.0),
        ([3, "h", "w"], FLOAT, 1.0),
        ([1, 3, 64, 32], UINT8, 4.0),
    ],
)
def test_boxes_labels_scores(tmp_path: Path, shape: list[int | str], kind: int, scale: float) -> None:
    path = boxes_file(tmp_path / "d.onnx", shape, kind, ["person", "car"])
    detector = load_detector(f"onnx:{path}")
    (found,) = detector.detect(picture(128, 128, (153, 40, 9)))
    assert (found.label, found.score) == ("car", pytest.approx(0.6))
    box = found.box
    assert (box.x0, box.y0, box.x1, box.y1) == (10 * scale, 20 * scale, 30 * scale, min(128, 60 * scale))
    assert load_detector(f"onnx:{path}", floor=0.7).detect(picture(128, 128, (153, 40, 9))) == ()
    assert detector.name.startswith("d ")
    other = boxes_file(tmp_path / "e.onnx", shape, kind, ["person", "bus"])
    assert load_detector(f"onnx:{other}").name.split()[1] != detector.name.split()[1]


def test_names_of_classes(tmp_path: Path) -> None:
    path = boxes_file(tmp_path / "d.onnx", [1, 3, "h", "w"])
    with pytest.raises(InputError, match=r"no names; .*\.names"):
        load_detector(f"onnx:{path}")
    path.with_suffix(".names").write_text("walker\nlorry\n")
    assert load_detector(f"onnx:{path}").detect(picture(99, 99, (255, 0, 0)))[0].label == "lorry"
    numbered = boxes_file(tmp_path / "n.onnx", [1, 3, "h", "w"], names={"1": "b", "0": "a"})
    assert load_detector(f"onnx:{numbered}").classes == ("a", "b")
    for bad in ("{", {"1": "b"}, [1, 2], "3"):
        with pytest.raises(InputError, match="metadata"):
            load_detector(f"onnx:{boxes_file(tmp_path / 'b.onnx', [1, 3, 'h', 'w'], names=bad)}")
    short = boxes_file(tmp_path / "s.onnx", [1, 3, "h", "w"], names=["only"])
    with pytest.raises(InputError, match="label 1 has no name"):
        load_detector(f"onnx:{short}").detect(picture(99, 99, (255, 0, 0)))


def yolox_file(path: Path, names: Sequence[str] | None = ("person", "car"), classes: int = 2) -> Path:
    """A YOLOX of 32 pixels: three boxes, the objectness of the first that of the input's brightest blue."""
    raw = np.zeros((1, 21, 5 + classes), np.float32)
    raw[0, 6] = [0.5, 0.25, math.log(2), math.log(3), 0, 0.1, 0.8][: 5 + classes]  # stride 8, row 1, column 2
    raw[0, 18] = [0.25, 0.625, math.log(1), math.log(1.5), 0.9, 0, 0.5]  # stride 16, row 1, column 0
    raw[0, 7] = [-0.5, 0.25, math.log(2), math.log(3), 0.5, 0.1, 0.7]  # the place of the first again
    sure = np.zeros_like(raw)
    sure[0, 6, 4] = 1 / 255
    nodes = [
        Node("Gather", ("images", "first"), "blues", (("axis", 1),)),
        Node("ReduceMax", ("blues",), "bluest", (("keepdims", 0),)),
        Node("Mul", ("bluest", "sure"), "extra"),
        Node("Add", ("raw", "extra"), "output"),
    ]
    constants: dict[str, np.ndarray] = {"first": np.array(0, np.int64), "raw": raw, "sure": sure}
    metadata = None if names is None else {"names": json.dumps(names)}
    path.write_bytes(
        model({"images": (FLOAT, [1, 3, 32, 32])}, constants, nodes, {"output": (FLOAT, raw.shape)}, metadata)
    )
    return path


def test_yolox_boxes_are_decoded_scaled_and_clipped(tmp_path: Path) -> None:
    detector = load_detector(f"onnx:{yolox_file(tmp_path / 'y.onnx')}")
    first, second = detector.detect(picture(64, 64, (0, 0, 255)))  # blue comes first in BGR; the third is suppressed
    assert (first.label, first.score) == ("car", pytest.approx(0.8))
    # Centre (2.5, 1.25) strides of 8, sides 16 x 24, in a picture twice as large, cut off at its top.
    assert [first.box.x0, first.box.y0, first.box.x1, first.box.y1] == pytest.approx([24, 0, 56, 44])
    assert second.score == pytest.approx(0.45)
    assert [second.box.x0, second.box.y0, second.box.x1, second.box.y1] == pytest.approx([0, 28, 24, 76 - 12])
    # Without blue the second box at that place is what is left of it (the padding is grey 114 at most).
    rest = detector.detect(picture(64, 64, (255, 0, 0)))
    assert [round(one.score, 3) for one in rest] == [0.45, 0.35]


def test_a_wide_picture_is_padded_below(tmp_path: Path) -> None:
    network = YoloxNetwork(yolox_file(tmp_path / "y.onnx"))
    boxes, scores = network.raw(picture(32, 64, (0, 0, 0)))
    assert boxes[6].tolist() == pytest.approx([24, -4, 56, 44])  # scaled by width alone, from the top left
    assert scores[6, 1] == pytest.approx(0.8 * 114 / 255)  # and the padding is seen


def test_yolox_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 classes have no names"):
        load_detector(f"onnx:{yolox_file(tmp_path / 'y.onnx', names=None)}")
    with pytest.raises(InputError, match="3 names for 2 classes"):
        load_detector(f"onnx:{yolox_file(tmp_path / 'z.onnx', names=['a', 'b', 'c'])}")
    nodes = [Node("Identity", ("picture",), "out")]
    for shape, words in (([1, 3, 32, 48], "not square"), ([1, 3, 32, 32], "not that of a YOLOX of 32 pixels")):
        (tmp_path / "p.onnx").write_bytes(model({"picture": (FLOAT, shape)}, {}, nodes, {"out": (FLOAT, shape)}))
        with pytest.raises(InputError, match=words):
            load_detector(f"onnx:{tmp_path / 'p.onnx'}")
    (tmp_path / "t.onnx").write_bytes(
        model({"picture": (FLOAT, [1])}, {}, [*nodes, Node("Identity", ("picture",), "more")],
              {"out": (FLOAT, [1]), "more": (FLOAT, [1])})
    )  # fmt: skip
    with pytest.raises(InputError, match=r"outputs \(out, more\) are unknown"):
        load_detector(f"onnx:{tmp_path / 't.onnx'}")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be opened"):
        load_detector(f"onnx:{tmp_path / 'x.onnx'}")


@pytest.mark.parametrize("spec", ["", "yolo", "onnx:", "torchvision:", "cv:face"])
def test_unknown_specs(spec: str) -> None:
    with pytest.raises(InputError, match="is unknown; give onnx:PATH"):
        load_detector(spec)


def test_weights_that_are_not_there_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"):
        with pytest.raises(InputError, match=rf"{name}.*{tmp_path}.*put {name}_coco-.*pth"):
            load_detector(f"torchvision:{name}")
    with pytest.raises(InputError, match="no such file"):
        load_detector("onnx:nowhere.onnx")
    with pytest.raises(InputError, match=r"no detector 'resnet18'; it has .*maskrcnn"):
        load_detector("torchvision:resnet18")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="does not hold its weights"):
        load_detector(f"torchvision:ssdlite320_mobilenet_v3_large:{tmp_path / 'bad.pth'}")


def test_torchvision_from_a_file_and_from_the_hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    torch.manual_seed(5)
    network = get_model(name, weights=None, weights_backbone=None)
    file = tmp_path / "hub" / "checkpoints" / f"{name}_coco-a79551df.pth"
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
    given = load_detector(f"torchvision:{name}:{file}", floor=0.0)
    found = given.detect(image)
    assert found == load_detector(f"torchvision:{name}", floor=0.0).detect(image)
    (expected,) = network.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])
    listed = get_model_weights(name).DEFAULT.meta["categories"]
    wanted = sorted(
        (-score, listed[label], [round(side, 3) for side in box])
        for score, label, box in zip(
            *(expected[key].tolist() for key in ("scores", "labels", "boxes")), strict=True
        )
        if listed[label] in coco_classes() and box[2] > box[0] and box[3] > box[1]
    )  # fmt: skip
    corners = [[round(side, 3) for side in (o.box.x0, o.box.y0, o.box.x1, o.box.y1)] for o in found]
    assert sorted((-one.score, one.label, box) for one, box in zip(found, corners, strict=True)) == wanted
    assert wanted


def test_the_shipped_one_is_the_grounder_with_a_lower_floor() -> None:
    from discover_stream.semantics.detector import CLASSES
    from discover_stream.semantics.grounder import NanoGrounder
    from discover_stream.semantics.labels import builtin_tasks
    from discover_stream.video.simulate import SimulatedCamera

    frame, _ = SimulatedCamera("street", width=320, height=176, seed=4).render(50)
    detector = load_detector("nano", floor=0.3)
    assert detector.classes == CLASSES
    task = builtin_tasks()["vehicles"]
    (regions,) = NanoGrounder.load().ground([frame.image], [task.label_set])
    known = {region.box for region in regions["vehicles"]}
    found = {one.box for one in detector.detect(frame.image)}
    assert known
    assert known <= found
    assert len(load_detector("nano").detect(frame.image)) > len(found)


def test_real_vehicles_are_found_and_colour_order_matters(shared: Path) -> None:
    weights = SHARED / "weights" / "yolox_nano.onnx"
    if not weights.is_file():
        pytest.skip("needs ../shared/weights/yolox_nano.onnx, which is not there")
    names = ("ambulance", "bus", "car", "motorcycle", "truck")
    cases = read_yolo(shared / "vehicles" / "images", shared / "vehicles" / "labels", names)[::15]
    detector = load_detector(f"onnx:{weights}")
    assert detector.classes == coco_classes()
    truth = [relabelled(case.truth, VEHICLES_AS_COCO) for case in cases]
    images = [case.image() for case in cases]
    right = score_detections(truth, [detector.detect(image) for image in images])
    swapped = score_detections(truth, [detector.detect(np.ascontiguousarray(i[..., ::-1])) for i in images])
    assert right.ap50 > 0.5
    assert right.ap > swapped.ap
