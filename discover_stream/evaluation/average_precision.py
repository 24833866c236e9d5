"""Average precision through pycocotools, and precision, recall and F1 from the same matches.

A class that no truth has is left out, as COCO does; its detections count against precision only in
`ClassScores.false` of that class and in the totals, never in AP.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discover_stream.evaluation.boxes import Detection
from discover_stream.types import InputError

MAX_DETECTIONS = 100
"""Per picture and class, the best that count; COCO's number."""

SCORE = 0.3
"""Precision, recall and F1 count detections that score at least this, unless told."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one class was found; `nan` where there is nothing to divide.

    Attributes:
        ap: mean over IoU 0.50 to 0.95 in steps of 0.05.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        hits: detections of at least the threshold that match a true object at IoU 0.5.
        false: such detections that match none.
        missed: true objects that none of them matches.
    """

    ap: float
    ap50: float
    ap75: float
    hits: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """The share of what was found that is true."""
        return _ratio(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """The share of what is true that was found."""
        return _ratio(self.hits, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false + self.missed)


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """AP as COCO has it (means over classes that have truth), and F1 at a stated threshold.

    Attributes:
        ap: mean over classes and IoU 0.50 to 0.95; `nan` where there is no truth at all.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        f1: over all objects of all classes together (micro mean) at IoU 0.5.
        threshold: the score from which a detection counts for F1.
        classes: per class with truth or detections.
    """

    ap: float
    ap50: float
    ap75: float
    f1: float
    threshold: float
    classes: dict[str, ClassScores]

    @property
    def total(self) -> tuple[int, int, int]:
        """Hits, false and missed of all classes together."""
        each = self.classes.values()
        return sum(c.hits for c in each), sum(c.false for c in each), sum(c.missed for c in each)


def score_detections(
    truth: Sequence[Sequence[Detection]],
    found: Sequence[Sequence[Detection]],
    *,
    classes: Sequence[str] | None = None,
    threshold: float = SCORE,
) -> DetectionScores:
    """Compare what was found with what is there.

    Args:
        truth: per picture; scores are not looked at, crowds may be found and need not.
        found: per picture, of any score: AP wants the low ones, too.
        classes: only these; None for all that appear.
        threshold: the score from which a detection counts for precision, recall and F1.

    Raises:
        InputError: not as many pictures in both, or pycocotools is missing.
    """
    if len(truth) != len(found):
        raise InputError(f"{len(truth)} pictures of truth but {len(found)} of detections; give one answer per picture")
    names = sorted({one.label for picture in (*truth, *found) for one in picture})
    if classes is not None:
        names = [name for name in names if name in set(classes)]
    if not names or not truth:
        return DetectionScores(np.nan, np.nan, np.nan, np.nan, threshold, {})
    evaluation = _evaluate(truth, found, names)
    precisions = evaluation.eval["precision"][:, :, :, 0, 0]  # IoU thresholds x recalls x classes
    counts = _counts(evaluation, len(names), threshold)
    per_class = {
        name: ClassScores(
            _mean(precisions[:, :, k]), _mean(precisions[0, :, k]), _mean(precisions[5, :, k]), *counts[k]
        )
        for k, name in enumerate(names)
    }
    hits, false, missed = (sum(row[column] for row in counts) for column in range(3))
    return DetectionScores(
        _mean(precisions),
        _mean(precisions[0]),
        _mean(precisions[5]),
        _ratio(2 * hits, 2 * hits + false + missed),
        threshold,
        per_class,
    )


def coco_dataset(truth: Sequence[Sequence[Detection]], names: Sequence[str]) -> dict[str, Any]:
    """Truth as the dictionary of a COCO instances file; ids count from 1 (0 is no match to pycocotools)."""
    ids = {name: index for index, name in enumerate(names, 1)}
    rows = [(picture, one) for picture, boxes in enumerate(truth, 1) for one in boxes if one.label in ids]
    return {
        "images": [{"id": picture} for picture in range(1, len(truth) + 1)],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {
                "id": number,
                "image_id": picture,
                "category_id": ids[one.label],
                "bbox": _xywh(one),
                "area": one.box.area,
                "iscrowd": int(one.crowd),
            }
            for number, (picture, one) in enumerate(rows, 1)
        ],
    }


def _evaluate(truth: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]], names: Sequence[str]) -> Any:
    """A COCOeval of boxes after `accumulate`, all sizes, at most `MAX_DETECTIONS`."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError("average precision needs pycocotools: pip install 'discover-stream[eval]'") from error
    ids = {name: index for index, name in enumerate(names, 1)}
    rows = [
        {"image_id": picture, "category_id": ids[one.label], "bbox": _xywh(one), "score": one.score}
        for picture, boxes in enumerate(found, 1)
        for one in boxes
        if one.label in ids
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        reference = COCO()
        reference.dataset = coco_dataset(truth, names)
        reference.createIndex()
        answers = reference.loadRes(rows) if rows else COCO()
        evaluation = COCOeval(reference, answers, "bbox")
        evaluation.params.imgIds = list(range(1, len(truth) + 1))
        evaluation.params.catIds = list(ids.values())
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _counts(evaluation: Any, classes: int, threshold: float) -> list[tuple[int, int, int]]:
    """Hits, false and missed per class at IoU 0.5, from the matches that AP rests on.

    pycocotools hands out true objects by falling score, so the matches above a threshold do not depend on what
    is below it.
    """
    totals = np.zeros((classes, 3), dtype=int)
    pictures = len(evaluation.params.imgIds)
    for index, entry in enumerate(evaluation.evalImgs):
        if entry is None:
            continue
        sure = np.asarray(entry["dtScores"]) >= threshold
        matched = np.asarray(entry["dtMatches"])[0] > 0
        ignored = np.asarray(entry["dtIgnore"])[0].astype(bool)
        real = int(np.count_nonzero(~np.asarray(entry["gtIgnore"], dtype=bool)))
        hits = int(np.count_nonzero(sure & matched & ~ignored))
        false = int(np.count_nonzero(sure & ~matched & ~ignored))
        totals[index // pictures] += (hits, false, real - hits)
    return [(int(row[0]), int(row[1]), int(row[2])) for row in totals]


def _xywh(one: Detection) -> list[float]:
    return [one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0]


def _mean(values: Any) -> float:
    """Mean over what pycocotools could measure: it marks classes without truth by -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
