"""AP of boxes and of masks on COCO's own annotations: pycocotools, with nothing between."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from discover_stream.types import InputError

Kind = Literal["bbox", "segm"]

Answer = dict[str, Any]
"""A line of COCO's results: image_id, category_id, score, bbox, and for masks segmentation (run lengths)."""


@dataclass(frozen=True)
class CocoScores:
    """The first three lines of COCO's summary; -1 where the pictures have no objects.

    Attributes:
        ap: mean over classes and IoU 0.50 to 0.95, at most 100 detections a picture.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        objects: true ones that are not crowds.
    """

    ap: float
    ap50: float
    ap75: float
    objects: int


def coco_scores(
    annotations: Mapping[str, Any], pictures: Sequence[int], answers: Sequence[Answer], kind: Kind
) -> CocoScores:
    """Compare answers with annotations.

    Args:
        annotations: the content of an instances file.
        pictures: ids of the pictures that were looked at; the others do not count.
        answers: of these pictures.
        kind: boxes or masks.

    Raises:
        InputError: masks are asked for where an annotation has none, or pycocotools is missing.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError("average precision needs pycocotools: pip install 'discover-stream[eval]'") from error
    wanted = set(pictures)
    notes = [note for note in annotations["annotations"] if note["image_id"] in wanted]
    if kind == "segm" and not all("segmentation" in note for note in notes):
        raise InputError("mask AP needs annotations with masks; this set has boxes only")
    objects = sum(not note.get("iscrowd", 0) for note in notes)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        reference = COCO()
        reference.dataset = {**annotations, "annotations": [dict(note) for note in notes]}
        reference.createIndex()
        found = reference.loadRes([dict(one) for one in answers]) if answers else COCO()
        evaluation = COCOeval(reference, found, kind)
        evaluation.params.imgIds = sorted(wanted)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = (float(value) for value in evaluation.stats[:3])
    return CocoScores(ap, ap50, ap75, objects)
