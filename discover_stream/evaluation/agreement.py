"""Class agreement: whether what stands in a place is still taken for the same kind of thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discover_stream.evaluation.boxes import Detection

SAME_PLACE = 0.5
"""IoU from which two boxes are of the same place."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects of the originals whose class in the decoded picture is the same, another, or not to be told.

    `absent` counts objects where the decoded picture shows nothing of any class.
    """

    same: int
    other: int
    absent: int

    @property
    def rate(self) -> float:
        """Of all objects, the share that was found again with the same class; `nan` where there are none.

        A decoder that loses objects gains nothing by it.
        """
        objects = self.same + self.other + self.absent
        return self.same / objects if objects else float("nan")


def class_agreement(
    original: Sequence[Sequence[Detection]],
    decoded: Sequence[Sequence[Detection]],
    *,
    iou: float = SAME_PLACE,
    threshold: float = 0.3,
) -> Agreement:
    """What a detector calls the objects of the originals, and what it calls the same places decoded.

    Args:
        original: per picture, its objects; crowds and those below `threshold` are left out.
        decoded: per picture, what the detector finds in the decode; only scores of at least `threshold` count.
            Of several boxes at one place the best score speaks.
        iou: from which a box is at an object's place.
        threshold: the score from which a detection counts.
    """
    same = other = absent = 0
    for objects, found in zip(original, decoded, strict=True):
        sure = [one for one in found if one.score >= threshold]
        for thing in objects:
            if thing.crowd or thing.score < threshold:
                continue
            there = [one for one in sure if one.box.iou(thing.box) >= iou]
            if not there:
                absent += 1
                continue
            best = max(there, key=lambda one: (one.score, one.box.iou(thing.box), one.label))
            same, other = (same + 1, other) if best.label == thing.label else (same, other + 1)
    return Agreement(same, other, absent)
