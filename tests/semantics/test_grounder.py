from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from discover_stream.semantics.detector import CLASSES, Detections, DetectOptions, Detector, detect
from discover_stream.semantics.grounder import NANO_WEIGHTS, NanoGrounder, regions_for
from discover_stream.semantics.labels import load_label_set
from discover_stream.semantics.matching import plan_labels
from discover_stream.training.grounder_report import Counts, as_truth, compare, is_person, is_vehicle
from discover_stream.training.pseudo_labels import Sample, read_clip, simulate_samples
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import Box, InputError, LabelSet, Region

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / ".." / "shared"
WEIGHTS = ROOT.joinpath("discover_stream", *NANO_WEIGHTS)
VEHICLES, PEDESTRIANS, EVERYTHING = (load_label_set(n) for n in ("vehicles", "pedestrians", "everything"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def grounder() -> NanoGrounder:
    return NanoGrounder.load()


@pytest.fixture(scope="module")
def street() -> list[Sample]:
    """Simulated cameras that training does not use."""
    return simulate_samples((200, 201), per_seed=3)


def found(*rows: tuple[list[float], float, str]) -> Detections:
    return Detections(
        np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float32),
        np.array([CLASSES.index(r[2]) for r in rows], np.int64),
    )


def label(label_set: LabelSet, region: Region) -> str:
    return label_set.labels[region.label]


def test_detections_become_regions_of_the_tasks_that_name_them() -> None:
    seen = found(([1, 2, 30, 40], 0.5, "person"), ([50, 60, 90, 80], 0.75, "bus"))
    vehicles = regions_for(plan_labels(VEHICLES), seen, 100, 90)
    assert [(label(VEHICLES, r), r.score, r.box) for r in vehicles] == [("bus", 0.75, Box(50, 60, 90, 80))]
    people = regions_for(plan_labels(PEDESTRIANS), seen, 100, 90)
    assert [(label(PEDESTRIANS, r), r.track) for r in people] == [("person", 0)]
    everything = regions_for(plan_labels(EVERYTHING), seen, 100, 90)
    assert [label(EVERYTHING, r) for r in everything] == ["road", "bus", "person"]
    assert everything[0] == Region(everything[0].label, 1.0, Box(0, 0, 100, 90))
    assert everything[1].box == vehicles[0].box


def test_the_order_of_regions_does_not_depend_on_the_detector() -> None:
    rows = [([9, 0, 20, 20], 0.5, "car"), ([3, 0, 20, 20], 0.5, "car"), ([0, 0, 9, 9], 0.5, "bus")]
    plan = plan_labels(VEHICLES)
    one, two = regions_for(plan, found(*rows), 50, 50), regions_for(plan, found(*rows[::-1]), 50, 50)
    assert one == two


def test_labels_without_a_class_find_nothing() -> None:
    plan = plan_labels(LabelSet("animals", 1, ("dog", "horse")))
    assert regions_for(plan, found(([0, 0, 9, 9], 0.9, "car")), 50, 50) == ()


def test_each_task_of_each_picture_gets_its_answer(grounder: NanoGrounder, street: list[Sample]) -> None:
    pictures = [street[0].image, street[1].image[:100, :77], street[2].image]
    sets = [VEHICLES, PEDESTRIANS, EVERYTHING]
    together = grounder.ground(pictures, sets)
    assert [list(answer) for answer in together] == [["vehicles", "pedestrians", "everything"]] * 3
    for picture, answer in zip(pictures, together, strict=True):
        height, width = picture.shape[:2]
        scene, *things = answer["everything"]
        assert scene.box == Box(0, 0, width, height)
        assert scene.score == 1.0
        # What several tasks get of one detection is the same box, to the bit.
        assert {r.box for r in things} == {r.box for t in ("vehicles", "pedestrians") for r in answer[t]}
        for region in things:
            assert 0 < region.score < 1
            assert region.track == 0
            assert 0 <= region.box.x0 < region.box.x1 <= width
            assert 0 <= region.box.y0 < region.box.y1 <= height
    # A task's answer does not depend on the other tasks.
    assert grounder.ground(pictures, [PEDESTRIANS]) == [{"pedestrians": a["pedestrians"]} for a in together]


def test_the_same_picture_gets_the_same_answer(grounder: NanoGrounder, street: list[Sample]) -> None:
    again = NanoGrounder.load()
    assert again.ground([street[0].image], [EVERYTHING]) == grounder.ground([street[0].image], [EVERYTHING])


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (4096, 2160)])
def test_pictures_of_any_size(grounder: NanoGrounder, size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    (answer,) = grounder.ground([picture], [EVERYTHING])
    assert answer["everything"][0].box == Box(0, 0, *size)


def test_no_pictures_no_answers(grounder: NanoGrounder) -> None:
    assert grounder.ground([], [VEHICLES]) == []


def test_two_versions_of_a_task_are_refused(grounder: NanoGrounder) -> None:
    with pytest.raises(InputError, match="two label sets of one task"):
        grounder.ground([], [VEHICLES, LabelSet("vehicles", 2, VEHICLES.labels)])


def test_labels_that_cannot_be_found_are_named(grounder: NanoGrounder) -> None:
    assert grounder.unsupported(PEDESTRIANS) == ()
    assert {"traffic light", "dog"} <= set(grounder.unsupported(EVERYTHING))


def test_folding_the_norms_changes_nothing(grounder: NanoGrounder) -> None:
    plain = Detector()
    weights = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    weights |= {n: v for n, v in plain.state_dict().items() if n.endswith("num_batches_tracked")}
    plain.load_state_dict(weights)
    plain.eval()
    x = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for (cls, box), (cls_folded, box_folded) in zip(plain(x), grounder.network(x), strict=True):
        torch.testing.assert_close(cls, cls_folded, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(box, box_folded, atol=2e-3, rtol=1e-3)


def test_the_shipped_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size <= 3_000_000


def test_unusable_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(WEIGHTS.read_bytes()[:5000])
    other = tmp_path / "other.safetensors"
    save_file({"stem.0.weight": torch.zeros(3)}, other)
    for path, message in (
        (tmp_path / "gone.safetensors", "cannot be read"),
        (torn, "cannot be read"),
        (other, "another network"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            NanoGrounder.load(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def total(grounder: NanoGrounder, samples: Sequence[Sample]) -> tuple[Counts, Counts]:
    answers = detect(grounder.network, [s.image for s in samples], grounder.options)
    pairs = list(zip(answers, samples, strict=True))
    return (
        sum((compare(a, s, is_vehicle) for a, s in pairs), Counts()),
        sum((compare(a, s, is_person) for a, s in pairs), Counts()),
    )


def test_it_finds_what_the_simulator_shows(grounder: NanoGrounder, street: list[Sample]) -> None:
    vehicles, people = total(grounder, street)
    assert vehicles.hits + vehicles.missed >= 60
    assert vehicles.recall >= 0.8
    assert vehicles.precision >= 0.85
    assert people.recall >= 0.75
    assert people.precision >= 0.75


@pytest.mark.shared
@pytest.mark.parametrize(
    ("clip", "recall", "precision"),
    [("suburb.mp4", 0.75, 0.6), ("topdown.mp4", 0.9, 0.65), ("motorway_trucks.mp4", 0.8, 0.6)],
)
def test_it_finds_vehicles_in_real_streets(grounder: NanoGrounder, clip: str, recall: float, precision: float) -> None:
    path, weights = SHARED / "data" / "video" / clip, SHARED / "weights" / "yolox_nano.onnx"
    if not path.exists() or not weights.exists():
        pytest.skip("the clips and the teacher in ../shared are not here")
    pytest.importorskip("onnxruntime", reason="the teacher needs onnxruntime")
    teacher = YoloxTeacher(weights)
    samples = []
    for frame in read_clip(path, 0.5, 1.0)[10::60]:  # the half that did not shape the weights
        seen = teacher.detect(frame, 0.15)
        doubtful = seen.scores < 0.4
        doubt = Detections(seen.boxes[doubtful], seen.scores[doubtful], seen.classes[doubtful])
        samples.append(as_truth(frame, seen.above(0.4), doubt))
    vehicles, _ = total(grounder, samples)
    assert vehicles.hits + vehicles.missed >= 8
    assert vehicles.recall >= recall
    assert vehicles.precision >= precision


def test_a_higher_threshold_finds_less(grounder: NanoGrounder, street: list[Sample]) -> None:
    strict = NanoGrounder.load(options=DetectOptions(threshold=0.6))
    picture = [street[0].image]
    few, many = (g.ground(picture, [VEHICLES])[0]["vehicles"] for g in (strict, grounder))
    assert 0 < len(few) < len(many)
    assert {r.box for r in few} <= {r.box for r in many}
