"""How well tracks follow what is really there: CLEAR MOT and identity F1, counted with scipy's assignment.

MOTA and identity switches after Bernardin and Stiefelhagen (2008): a true object keeps the track it was matched
with for as long as both overlap enough, the rest is matched anew, frame by frame. IDF1 after Ristani et al. (2016):
whole tracks are matched with whole true objects, so that as many frames as possible agree. Class names do not count.
(py-motmetrics was last released in 2022, and TrackEval needs a newer NumPy than CompressAI allows.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from discover_stream.types import Box

Boxes = Mapping[int, Box]
"""Id -> box of one frame."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrueFrame:
    """What is really there in a frame: objects to be followed, and those that nobody is blamed for, found or not."""

    objects: Boxes
    excused: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class TrackQuality:
    """Counts over frames, which add up over cameras whose ids differ.

    Attributes:
        objects: true boxes.
        hits: true boxes that a track covers.
        extra: boxes of tracks where nothing is, or that double another.
        switches: how often a true object was covered by another track than the last time.
        kept: boxes whose track is that of their object in the best matching of whole tracks.
        overlap: sum of the IoU of hits.
    """

    objects: int = 0
    hits: int = 0
    extra: int = 0
    switches: int = 0
    kept: int = 0
    overlap: float = 0.0

    def __add__(self, other: TrackQuality) -> TrackQuality:
        return TrackQuality(
            self.objects + other.objects,
            self.hits + other.hits,
            self.extra + other.extra,
            self.switches + other.switches,
            self.kept + other.kept,
            self.overlap + other.overlap,
        )

    @property
    def missed(self) -> int:
        """True boxes that no track covers."""
        return self.objects - self.hits

    @property
    def mota(self) -> float:
        """1 - (missed + extra + switches) / objects, at most 1; nan without objects."""
        return 1 - (self.missed + self.extra + self.switches) / self.objects if self.objects else float("nan")

    @property
    def idf1(self) -> float:
        """Share (0..1) of all boxes, true and tracked, that agree in identity; nan without any."""
        total = self.objects + self.hits + self.extra
        return 2 * self.kept / total if total else float("nan")

    @property
    def iou(self) -> float:
        """Mean IoU of hits; nan without any."""
        return self.overlap / self.hits if self.hits else float("nan")


@dataclass(slots=True)
class _Count:
    """What has been seen so far: true id -> the track it was last matched with, pairs of overlapping ids -> frames."""

    last: dict[int, int] = field(default_factory=dict)
    together: Counter[tuple[int, int]] = field(default_factory=Counter)
    total: TrackQuality = TrackQuality()


def track_quality(frames: Iterable[tuple[TrueFrame, Boxes]], least_iou: float = 0.5) -> TrackQuality:
    """Compare tracks with the truth of one camera.

    Args:
        frames: what is there and what was tracked (track id -> box), frame by frame.
        least_iou: from which IoU on a box covers an object.
    """
    count = _Count()
    for truth, tracked in frames:
        wanted = _without_excused(truth, tracked, least_iou)
        _add_frame(count, truth.objects, {track: tracked[track] for track in wanted}, least_iou)
    pairs = list(count.together)
    total = count.total
    return TrackQuality(
        total.objects, total.hits, total.extra, total.switches, _best_identities(pairs, count.together), total.overlap
    )


def _add_frame(count: _Count, objects: Boxes, tracked: Boxes, least_iou: float) -> None:
    matched = {
        true: track
        for true, track in count.last.items()
        if true in objects and track in tracked and objects[true].iou(tracked[track]) >= least_iou
    }
    # Two objects may remember one track; it stays with the one it covers better.
    for track, rivals in _rivals(matched).items():
        for loser in sorted(rivals, key=lambda true: objects[true].iou(tracked[track]))[:-1]:
            del matched[loser]
    free = [true for true in objects if true not in matched]
    spare = [track for track in tracked if track not in set(matched.values())]
    fresh = _pairs([objects[true] for true in free], [tracked[track] for track in spare], least_iou)
    for row, column in fresh:
        matched[free[row]] = spare[column]
    switches = sum(count.last.get(true, track) != track for true, track in matched.items())
    overlap = sum(objects[true].iou(tracked[track]) for true, track in matched.items())
    for true, box in objects.items():
        count.together.update((true, track) for track, other in tracked.items() if box.iou(other) >= least_iou)
    count.last.update(matched)
    hits = len(matched)
    count.total += TrackQuality(len(objects), hits, len(tracked) - hits, switches, 0, overlap)


def _rivals(matched: Mapping[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for true, track in matched.items():
        found.setdefault(track, []).append(true)
    return found


def _without_excused(truth: TrueFrame, tracked: Boxes, least_iou: float) -> list[int]:
    """The tracks that count: not those that cover, or lie to half in, what is excused, and cover nothing else."""
    names = list(tracked)
    boxes = [tracked[name] for name in names]
    covering = {column for _, column in _pairs(list(truth.objects.values()), boxes, least_iou)}
    return [
        name
        for column, (name, box) in enumerate(zip(names, boxes, strict=True))
        if column in covering or not any(_inside(box, one) or box.iou(one) >= least_iou for one in truth.excused)
    ]


def _inside(box: Box, other: Box) -> bool:
    wide = min(box.x1, other.x1) - max(box.x0, other.x0)
    high = min(box.y1, other.y1) - max(box.y0, other.y0)
    return wide > 0 and high > 0 and 2 * wide * high >= box.area


def _pairs(first: Sequence[Box], second: Sequence[Box], least_iou: float) -> list[tuple[int, int]]:
    """The matching of most pairs that overlap enough, and among those of the largest overlap."""
    if not first or not second:
        return []
    overlap: Matrix = np.array([[one.iou(other) for other in second] for one in first])
    gain = np.where(overlap >= least_iou, 1e3 + overlap, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= least_iou]


def _best_identities(pairs: Sequence[tuple[int, int]], together: Mapping[tuple[int, int], int]) -> int:
    """Frames in which the pairs of the best one-to-one matching of ids overlap."""
    true = {name: index for index, name in enumerate(sorted({pair[0] for pair in pairs}))}
    tracks = {name: index for index, name in enumerate(sorted({pair[1] for pair in pairs}))}
    gain: Matrix = np.zeros((len(true), len(tracks)))
    for (one, other), frames in together.items():
        gain[true[one], tracks[other]] = frames
    if not gain.size:
        return 0
    return int(gain[linear_sum_assignment(gain, maximize=True)].sum())
