"""Faithfulness: objects that the decoder made up, and objects it lost although they were sent.

A *false* detection is one in the decoded picture, of at least `Rules.score`, that the original lacks: the boxes
found in (or known of) the original, from `Rules.faint` on, cover less than `Rules.cover` of it. The lower bar for
the original keeps a detector's wavering from counting as the decoder's deed; covering, not IoU, lets a part of
an object, or two that are merged, pass for what is there. Of any class (`inventions`), or only of its own
(`class_inventions`: a walker in front of a real car, a car that became a bus).

An **invention** is a false detection at least half (`Rules.share`) in generated cells. The other false ones are
`phantoms`: the coder's artefacts rather than the generator's.
A **miss** is an object of the original, of at least `Rules.score` and at least `Rules.sent` in cells that were
sent, without a detection of at least `Rules.faint` at its place (IoU `Rules.iou`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from discover_stream.evaluation.boxes import Detection, above, covered_share
from discover_stream.generation.canvas import ProvenanceMap
from discover_stream.generation.invention import cell_share
from discover_stream.types import Provenance


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds; see the module. All are in 0..1."""

    score: float = 0.3
    faint: float = 0.1
    cover: float = 0.5
    share: float = 0.5
    sent: float = 0.9
    iou: float = 0.5


DEFAULT_RULES = Rules()


@dataclass(frozen=True, slots=True)
class FrameFaithfulness:
    """What one decoded picture shows too much or too little.

    Attributes:
        inventions: false detections of any class in generated cells.
        class_inventions: the same where only the original's boxes of the same class excuse a detection.
        phantoms: false detections of any class elsewhere.
        misses: objects in sent cells that are not found, as whatever class.
        class_misses: not found as their own class.
        objects: objects of the original in sent cells, that could have been missed.
    """

    inventions: tuple[Detection, ...]
    class_inventions: tuple[Detection, ...]
    phantoms: tuple[Detection, ...]
    misses: tuple[Detection, ...]
    class_misses: tuple[Detection, ...]
    objects: int

    @property
    def score(self) -> float:
        """Invention score, 0..1: how sure the detector is that at least one thing was made up, 1 - prod(1 - s)."""
        return 1.0 - math.prod(1.0 - min(1.0, one.score) for one in self.inventions)


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Sums over frames."""

    frames: int
    frames_with_inventions: int
    inventions: int
    class_inventions: int
    phantoms: int
    misses: int
    class_misses: int
    objects: int
    score: float

    @property
    def invention_rate(self) -> float:
        """The share of frames with at least one invention; `nan` without frames."""
        return self.frames_with_inventions / self.frames if self.frames else math.nan

    @property
    def inventions_per_frame(self) -> float:
        """Inventions per frame; `nan` without frames."""
        return self.inventions / self.frames if self.frames else math.nan

    @property
    def miss_rate(self) -> float:
        """The share of sent objects that are not found; `nan` without such objects."""
        return self.misses / self.objects if self.objects else math.nan


def judge_frame(
    original: Sequence[Detection],
    decoded: Sequence[Detection],
    provenance: ProvenanceMap,
    rules: Rules = DEFAULT_RULES,
) -> FrameFaithfulness:
    """Compare what a detector finds in a decoded picture with what is in the original.

    Args:
        original: true objects, or a detector's on the original down to `rules.faint`; crowds excuse detections
            of any class and cannot be missed.
        decoded: the same detector's on the decoded picture, down to `rules.faint`.
        provenance: (rows, columns) of the picture's cells, values of `Provenance`.
        rules: the thresholds.
    """
    return FrameFaithfulness(
        inventions=inventions(original, decoded, provenance, rules),
        class_inventions=inventions(original, decoded, provenance, rules, by_class=True),
        phantoms=tuple(
            one
            for one in _false(original, decoded, rules, by_class=False)
            if cell_share(one.box, provenance, Provenance.GENERATED) < rules.share
        ),
        misses=misses(original, decoded, provenance, rules),
        class_misses=misses(original, decoded, provenance, rules, by_class=True),
        objects=len(_sent_objects(original, provenance, rules)),
    )


def summarise(frames: Sequence[FrameFaithfulness]) -> Faithfulness:
    """Sums over the frames of a clip; `score` is the mean of theirs (0 without frames)."""
    return Faithfulness(
        frames=len(frames),
        frames_with_inventions=sum(bool(frame.inventions) for frame in frames),
        inventions=sum(len(frame.inventions) for frame in frames),
        class_inventions=sum(len(frame.class_inventions) for frame in frames),
        phantoms=sum(len(frame.phantoms) for frame in frames),
        misses=sum(len(frame.misses) for frame in frames),
        class_misses=sum(len(frame.class_misses) for frame in frames),
        objects=sum(frame.objects for frame in frames),
        score=sum(frame.score for frame in frames) / len(frames) if frames else 0.0,
    )


def inventions(
    original: Sequence[Detection],
    decoded: Sequence[Detection],
    provenance: ProvenanceMap,
    rules: Rules = DEFAULT_RULES,
    *,
    by_class: bool = False,
) -> tuple[Detection, ...]:
    """What the decoder made up; see the module and `judge_frame`.

    Raises:
        InputError: the provenance map is not one.
    """
    return tuple(
        one
        for one in _false(original, decoded, rules, by_class=by_class)
        if cell_share(one.box, provenance, Provenance.GENERATED) >= rules.share
    )


def misses(
    original: Sequence[Detection],
    decoded: Sequence[Detection],
    provenance: ProvenanceMap,
    rules: Rules = DEFAULT_RULES,
    *,
    by_class: bool = False,
) -> tuple[Detection, ...]:
    """Objects of the original that were sent and are not found; see the module and `judge_frame`.

    Raises:
        InputError: the provenance map is not one.
    """
    found = above(decoded, rules.faint)
    return tuple(
        thing
        for thing in _sent_objects(original, provenance, rules)
        if not any(one.box.iou(thing.box) >= rules.iou and (not by_class or one.label == thing.label) for one in found)
    )


def _false(
    original: Sequence[Detection], decoded: Sequence[Detection], rules: Rules, *, by_class: bool
) -> tuple[Detection, ...]:
    """Detections that the original does not excuse."""
    there = above(original, rules.faint)
    result = []
    for one in above(decoded, rules.score):
        excuses = [thing.box for thing in there if not by_class or thing.crowd or thing.label == one.label]
        if covered_share(one.box, excuses) < rules.cover:
            result.append(one)
    return tuple(result)


def _sent_objects(original: Sequence[Detection], provenance: ProvenanceMap, rules: Rules) -> tuple[Detection, ...]:
    """Objects that are sure enough and lie in cells that were sent, now or earlier."""
    kinds = (Provenance.SENT, Provenance.PROPAGATED)
    return tuple(
        thing
        for thing in above(original, rules.score)
        if not thing.crowd and cell_share(thing.box, provenance, *kinds) >= rules.sent
    )
