"""The harness: resumable, and the same figures every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1

from discover_stream.app.evaluate_run import EVERY
from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.datasets import Item, ItemSpec, load_item, street
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.harness import Case, plan_cases, run_cases
from discover_stream.evaluation.measures import Judges, Originals, lower_is_better, measure
from discover_stream.evaluation.registry import BUILDERS, build_system, image_grid, video_grid
from discover_stream.evaluation.store import CaseStore, Record
from discover_stream.evaluation.systems import Decoded, SystemSpec
from discover_stream.types import Box, Image, InputError, Provenance

STREET = street("sim://road?seed=3&width=176&height=176", 0.6, 10.0, "exact")
SYSTEMS = tuple(
    map(
        SystemSpec.parse,
        (
            "original",
            "svt-av1:crf=30,preset=10",
            "svt-av1:crf=60,preset=10",
            "jpeg:quality=20",
            "crops:crf=45,preset=10",
        ),
    )
)


class Memory:
    """Finds the true objects of a street where the picture still has their contrast: a judge without weights."""

    name, classes = "memory", ("person", "bicycle", "car", "motorcycle", "bus", "truck")

    def __init__(self, item: Item) -> None:
        assert item.truth is not None
        self._known = list(zip(item.frames, item.truth, strict=True))

    def detect(self, image: Image) -> tuple[Detection, ...]:
        frame, truth = min(self._known, key=lambda pair: abs(pair[0].astype(int) - image).mean())
        return tuple(one for one in truth if self._alike(frame, image, one) < 20)

    def _alike(self, frame: Image, image: Image, one: Detection) -> float:
        box = one.box
        rows, columns = slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1))
        return float(abs(frame[rows, columns].astype(int) - image[rows, columns]).mean())


@pytest.fixture(scope="module")
def item() -> Item:
    return load_item(STREET, {})


@pytest.fixture(scope="module")
def judges(item: Item) -> Judges:
    return Judges({"memory": Memory(item)}, None, every=2)


def without_times(records: list[Record]) -> list[Record]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_finished_cases_are_not_run_again_and_figures_repeat(tmp_path: Path, item: Item, judges: Judges) -> None:
    cases, loads, fresh = plan_cases(SYSTEMS, [STREET]), [], []

    def load(spec: ItemSpec) -> Item:
        loads.append(spec)
        return item

    def advance(case: Case, new: bool) -> None:
        fresh.append(new)

    store = CaseStore(tmp_path / "one")
    begun = run_cases(cases[:2], store, judges, load, advance)
    records = run_cases(cases, store, judges, load, advance)
    assert records[:2] == begun
    assert fresh == [True, True, False, False, True, True, True]
    assert run_cases(cases, store, judges, load, advance) == records
    assert len(loads) == 2
    (store.folder / str(records[1]["picture"])).unlink()
    assert without_times(run_cases(cases[:2], store, judges, load, advance)) == without_times(records[:2])
    assert fresh[-2:] == [False, True], "a case without its picture is not finished"
    again = run_cases(cases, CaseStore(tmp_path / "two"), judges, load)
    assert without_times(again) == without_times(records)


def test_figures_make_sense(tmp_path: Path, item: Item, judges: Judges) -> None:
    records = run_cases(plan_cases(SYSTEMS, [STREET]), CaseStore(tmp_path), judges, lambda spec: item)
    by_name = {record["system"]: record for record in records}
    whole = by_name["original"]["measures"]
    assert whole["PSNR"] == whole["PSNR inside"] == 100
    assert whole["AP50 [memory]"] == 1
    assert by_name["original"]["bytes"] == 6 * 176 * 176 * 3
    fine, coarse = by_name["svt-av1:crf=30,preset=10"], by_name["svt-av1:crf=60,preset=10"]
    assert fine["bytes"] > 2 * coarse["bytes"]
    for name in ("PSNR", "PSNR inside", "MS-SSIM", "AP50 [memory]"):
        assert fine["measures"][name] >= coarse["measures"][name]
    assert fine["kbps"] == pytest.approx(fine["bytes"] * 8 / 0.6 / 1000, abs=1e-3)
    crops = by_name["crops:crf=45,preset=10"]
    assert crops["steady_kbps"] == pytest.approx((crops["bytes"] - crops["setup_bytes"]) * 8 / 600, abs=1e-3)
    assert crops["setup_bytes"] > 100
    assert (tmp_path / fine["picture"]).exists()


def test_a_key_changes_with_all_that_matters(judges: Judges, item: Item) -> None:
    case = Case(SYSTEMS[1], STREET)
    others = [
        Case(SYSTEMS[2], STREET),
        Case(SYSTEMS[1], street("sim://road?seed=4", 0.6, 10.0, "exact")),
        Case(SYSTEMS[1], street(STREET.uri, 0.6, 10.0, "grounder")),
    ]
    keys = {case.key(judges), *(other.key(judges) for other in others)}
    keys.add(case.key(Judges(judges.detectors, None, every=1)))
    keys.add(case.key(Judges({"other": Memory(item)}, None, every=2)))
    assert len(keys) == 6
    assert case.key(judges) == Case(SYSTEMS[1], STREET).key(judges)


def test_ours_is_measured_like_the_peers(tmp_path: Path, item: Item, judges: Judges) -> None:
    specs = [SystemSpec.parse(f"ours-still:quality=6,sends={sends}") for sends in ("task", "picture")]
    task, picture = run_cases(plan_cases(specs, [STREET]), CaseStore(tmp_path), judges, lambda spec: item)
    assert task["bytes"] > 0
    assert task["setup_bytes"] == picture["setup_bytes"] == 0
    assert "inventions [memory]" in task["measures"]
    assert task["name"] != picture["name"]
    assert picture["measures"]["PSNR"] > task["measures"]["PSNR"]


def test_a_decode_answers_for_what_the_judge_finds_in_the_original(item: Item) -> None:
    """Not for what the judge overlooks there, and not for what it wrongly sees there."""
    wrong = Detection("person", 0.9, Box(0.0, 0.0, 16.0, 16.0))

    class Odd(Memory):
        def detect(self, image: Image) -> tuple[Detection, ...]:
            return (wrong, *super().detect(image)[1:])

    originals = Originals(item, Judges({"odd": Odd(item)}, None, every=3))
    generated = np.full((11, 11), int(Provenance.GENERATED), np.uint8)
    sent = np.full((11, 11), int(Provenance.SENT), np.uint8)
    for cells in (generated, sent):
        figures = measure(originals, Decoded(item.frames, (cells,) * len(item.frames)))
        assert figures["inventions [odd]"] == 0
        assert figures.get("misses [odd]", 0.0) == 0


def test_classes_that_labels_do_not_cover_are_not_looked_at(item: Item) -> None:
    class Person(Memory):
        def detect(self, image: Image) -> tuple[Detection, ...]:
            return (Detection("person", 0.9, Box(0.0, 0.0, 20.0, 20.0)), *super().detect(image))

    assert item.truth is not None
    truth = tuple(tuple(one for one in boxes if one.label == "car") for boxes in item.truth)
    cars = replace(item, classes=("car",), truth=truth)
    figures = measure(
        Originals(cars, Judges({"all": Person(item)}, None, every=3)), Decoded(item.frames, (None,) * len(item.frames))
    )
    assert "F1 person [all]" not in figures
    assert figures["F1 car [all]"] == figures["F1 [all]"] == 1
    assert figures["objects [all]"] == sum(not one.crowd for boxes in truth[::3] for one in boxes)


def test_measures_of_the_originals_are_looked_for_once(item: Item) -> None:
    class Counting(Memory):
        calls = 0

        def detect(self, image: Image) -> tuple[Detection, ...]:
            self.calls += 1
            return super().detect(image)

    judge = Counting(item)
    originals = Originals(item, Judges({"counting": judge}, None, every=3))
    decoded = build_system(SystemSpec.of("original"))
    coded = decoded.decode(decoded.encode(item.clips[0]))
    measure(originals, coded)
    first = judge.calls
    measure(originals, coded)
    assert judge.calls - first <= first
    assert originals.looked_at == [0, 3]


def test_distances_are_better_when_lower() -> None:
    assert lower_is_better("distance inside")
    assert lower_is_better("flicker")
    assert not lower_is_better("PSNR")


def test_judges_see_every_layer_of_a_codecs_pyramid() -> None:
    """Every second, fourth and eighth frame is coded better than those between."""
    assert all(every % 2 == 1 for every in EVERY.values())


ELSEWHERE = {"vvc-intra"}
"""Systems of no grid: they need a program that few have."""


@pytest.mark.parametrize("size", ["tiny", "quick", "full"])
def test_every_setting_of_the_grids_can_be_built(size: str) -> None:
    for specs in (image_grid(size), video_grid(size)):  # type: ignore[arg-type]
        assert len(set(specs)) == len(specs)
        assert specs[0].name == "original"
        for spec in specs:
            assert build_system(spec).command()
    assert {spec.name for spec in (*image_grid("full"), *video_grid("full"))} == set(BUILDERS) - ELSEWHERE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x266:crf=3", "no such system"),
        ("x265:preset=slow", "'crf' is missing"),
        ("x265:crf=high", "correct the setting"),
        ("x265:crf=30,prset=slow", "no setting prset"),
        ("frozen:crf=30,fill=plates", "none of last, plate"),
    ],
)
def test_systems_that_cannot_be_built(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_system(SystemSpec.parse(text))


def test_kept_features_give_the_same_distances(tmp_path: Path, item: Item) -> None:
    torch.manual_seed(1)
    torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    network = DeepFeatures.load(tmp_path / "squeezenet.pth")
    originals = Originals(item, Judges({}, network, every=4))
    blurred = tuple(cv2.blur(frame, (5, 5)) for frame in item.frames)
    mask = np.zeros(item.frames[0].shape[:2], bool)
    mask[40:90, 60:120] = True
    for _ in range(2):
        found = originals.distances(4, blurred[4], mask)
        assert found["distance"] == pytest.approx(network.distance(item.frames[4], blurred[4]))
        assert found["distance inside"] == pytest.approx(network.distance(item.frames[4], blurred[4], mask))
    assert set(originals.features) == {4}
    figures = measure(originals, Decoded(blurred, (None,) * len(blurred)))
    assert figures["distance"] > 0
    assert figures["distance inside"] > 0
    assert measure(originals, Decoded(item.frames, (None,) * len(blurred)))["distance"] == 0
