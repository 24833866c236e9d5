"""AP, precision, recall and F1: by hand, against pycocotools run from files, and against a plain matcher."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from discover_stream.evaluation.average_precision import coco_dataset, score_detections
from discover_stream.evaluation.boxes import Detection
from discover_stream.types import Box, InputError

Pictures = list[list[Detection]]


def at(x: float, score: float = 1.0, label: str = "car", *, crowd: bool = False) -> Detection:
    """A 10x10 box at x."""
    return Detection(label, score, Box(x, 0, x + 10, 10), crowd)


def test_the_textbook_curve() -> None:
    # Found in order: right, wrong, right; so precision 1 up to recall 1/2 and 2/3 up to recall 1.
    scores = score_detections([[at(0), at(100)]], [[at(0, 0.9), at(50, 0.8), at(100, 0.7)]])
    assert scores.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.ap == pytest.approx(scores.ap50)
    car = scores.classes["car"]
    assert (car.hits, car.false, car.missed) == (2, 1, 0)
    assert (car.precision, car.recall, car.f1) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))


def test_a_box_that_is_off_counts_at_low_overlaps_only() -> None:
    # Moved by 2 of 10 pixels: IoU 8/12, so it counts at 0.50, 0.55, 0.60, 0.65.
    scores = score_detections([[at(0)]], [[at(2, 0.9)]])
    assert (scores.ap, scores.ap50, scores.ap75) == (pytest.approx(0.4), pytest.approx(1.0), 0.0)


def test_ap75_is_at_075() -> None:
    scores = score_detections([[at(0)]], [[at(1.2, 0.9)]])  # IoU 8.8 / 11.2: between 0.75 and 0.80
    assert (scores.ap, scores.ap75) == (pytest.approx(0.6), pytest.approx(1.0))
    assert scores.classes["car"].ap75 == pytest.approx(1.0)


def test_classes_are_averaged_and_those_without_truth_only_count_as_false() -> None:
    truth = [[at(0), at(100, label="bus")]]
    found = [[at(0, 0.9), at(50, 0.9, "truck")]]
    scores = score_detections(truth, found)
    assert scores.ap50 == pytest.approx(0.5)
    assert scores.classes["bus"].ap50 == 0
    assert math.isnan(scores.classes["truck"].ap50)
    assert scores.total == (1, 1, 1)
    assert scores.f1 == pytest.approx(0.5)
    assert set(score_detections(truth, found, classes=["car", "bus"]).classes) == {"bus", "car"}
    assert score_detections(truth, found, classes=["car"]).f1 == 1.0


def test_crowds_may_be_found_and_missed() -> None:
    crowd = at(100, crowd=True)
    for found in ([at(0, 0.9)], [at(0, 0.9), at(100, 0.8), at(101, 0.8)]):
        scores = score_detections([[at(0), crowd]], [found])
        assert (scores.ap50, scores.f1, scores.total) == (pytest.approx(1.0), 1.0, (1, 0, 0))
    assert score_detections([[at(0), crowd]], [[at(0, 0.9), at(300, 0.8)]]).total == (1, 1, 0)


def test_the_threshold_moves_f1_and_not_ap() -> None:
    truth, found = [[at(0), at(100)]], [[at(0, 0.9), at(100, 0.2), at(200, 0.1)]]
    low, high = score_detections(truth, found, threshold=0.05), score_detections(truth, found, threshold=0.5)
    assert low.ap50 == high.ap50 == pytest.approx(1.0)
    assert (low.total, high.total) == ((2, 1, 0), (1, 0, 1))
    assert high.threshold == 0.5


def test_nothing_at_all() -> None:
    assert score_detections([[at(0)]], [[]]).ap50 == 0.0
    assert score_detections([[at(0)]], [[]]).total == (0, 0, 1)
    assert math.isnan(score_detections([[]], [[]]).ap50)
    assert score_detections([[]], [[at(0, 0.9)]]).total == (0, 1, 0)
    assert math.isnan(score_detections([], []).ap)
    with pytest.raises(InputError, match="2 pictures of truth but 1"):
        score_detections([[], []], [[]])


coordinates = st.integers(0, 60)
scores_ = st.sampled_from([0.05, 0.15, 0.25, 0.31, 0.42, 0.55, 0.68, 0.77, 0.86, 0.95])


def pictures(true: bool) -> st.SearchStrategy[Pictures]:
    one = st.builds(
        lambda x, y, w, h, label, score, crowd: Detection(
            label, 1.0 if true else score, Box(x, y, x + w, y + h), crowd and true
        ),
        coordinates, coordinates, st.integers(4, 30), st.integers(4, 30), st.sampled_from(["bus", "car"]), scores_,
        st.sampled_from([False, False, False, True]),
    )  # fmt: skip
    return st.lists(st.lists(one, max_size=6), min_size=3, max_size=3)


@settings(max_examples=40)
@given(pictures(true=True), pictures(true=False))
def test_it_is_what_pycocotools_says_of_files(
    tmp_path_factory: pytest.TempPathFactory, truth: Pictures, found: Pictures
) -> None:
    """The usual way: two JSON files, all defaults, and the summary's first numbers."""
    folder: Path = tmp_path_factory.mktemp("coco")
    (folder / "truth.json").write_text(json.dumps(coco_dataset(truth, ["bus", "car"])))
    rows = [
        {
            "image_id": number,
            "category_id": {"bus": 1, "car": 2}[one.label],
            "bbox": [one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0],
            "score": one.score,
        }
        for number, picture in enumerate(found, 1)
        for one in picture
    ]
    if not rows:
        return  # pycocotools cannot read an empty file of results
    (folder / "found.json").write_text(json.dumps(rows))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(reference, reference.loadRes(str(folder / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = score_detections(truth, found)
    for value, expected in zip((ours.ap, ours.ap50, ours.ap75), evaluation.stats[:3], strict=True):
        assert math.isnan(value) if expected == -1 else value == pytest.approx(expected, abs=1e-12)


def matched(truth: list[Detection], found: list[Detection], threshold: float) -> tuple[int, int, int]:
    """The best-scored first, each takes the free true box it overlaps most, from IoU 0.5 on."""
    free, hits, false = list(truth), 0, 0
    for one in sorted((f for f in found if f.score >= threshold), key=lambda f: -f.score):
        best = max(free, key=lambda t: t.box.iou(one.box), default=None)
        if best is not None and best.box.iou(one.box) >= 0.5:
            free.remove(best)
            hits += 1
        else:
            false += 1
    return hits, false, len(free)


@settings(max_examples=60)
@given(pictures(true=True), pictures(true=False), st.sampled_from([0.1, 0.3, 0.5]))
def test_counts_are_those_of_a_plain_matcher(truth: Pictures, found: Pictures, threshold: float) -> None:
    plain = [[one for one in picture if not one.crowd] for picture in truth]
    scores = score_detections(plain, found, threshold=threshold)
    for label, counted in scores.classes.items():
        expected = np.zeros(3, dtype=int)
        for true, seen in zip(plain, found, strict=True):
            expected += matched([t for t in true if t.label == label], [f for f in seen if f.label == label], threshold)
        assert (counted.hits, counted.false, counted.missed) == tuple(expected)


@settings(max_examples=25)
@given(pictures(true=True))
def test_finding_everything_scores_one(truth: Pictures) -> None:
    plain = [[one for one in picture if not one.crowd] for picture in truth]
    if any(plain):
        scores = score_detections(plain, plain)
        assert (scores.ap, scores.f1) == (pytest.approx(1.0), 1.0)
