"""Who is in front of whom: the order in which overlapping tracks are to be drawn.

On a street seen from above the road, who stands lower in the picture is nearer: the lower edge decides, and the more
so the further apart both lower edges are. Where they are close, two things can tell: the one behind loses visible
extent where the other one is (`extent_vote`), and what can be seen where both are keeps the appearance of the one in
front (`appearance_vote`). Votes are numbers in -1..1, above 0 for the first of two tracks in front.
Pure functions; boxes are xyxy in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import cv2
import numpy as np

from discover_stream.types import Box, Image

Pair = tuple[int, int]
"""Two tracks, the smaller id first."""

WEIGHT = 0.2
"""A vote of 1 outweighs lower edges that are this share of the smaller height apart. Measured: more does harm."""
LEAST_SIDE = 3
"""Pixels of an overlap, in width and height, from which on it says anything."""
STEP = 0.25
"""Pixels by which a lift puts one lower edge below another: the finest that a stream packet can say."""
CLEAR = 0.05
"""Lead from which an order of drawing that contradicts it is wrong; below it, neither order is."""
ROOM = 0.1
"""Share of its height by which a track is lifted further than it needs, so that it need not be lifted again soon."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A track in a frame: the box that was found, and where the motion model expected it before."""

    track: int
    box: Box
    expected: Box


def overlap(first: Box, second: Box) -> Box | None:
    """What two boxes share, None where it is too small to say anything."""
    shared = Box(max(first.x0, second.x0), max(first.y0, second.y0), min(first.x1, second.x1), min(first.y1, second.y1))
    return shared if min(shared.x1 - shared.x0, shared.y1 - shared.y0) >= LEAST_SIDE else None


def extent_vote(first: Sight, second: Sight) -> float:
    """Who of two lost extent where the other one is: above 0 if that is the second, so that the first is in front."""
    return _lost(second, first.box) - _lost(first, second.box)


def _lost(sight: Sight, other: Box) -> float:
    """The share (0..1) of what should be seen where the other is, and is not within the box that was found."""
    shared = overlap(sight.expected, other)
    if shared is None:
        return 0.0
    kept = Box(
        max(shared.x0, sight.box.x0),
        max(shared.y0, sight.box.y0),
        min(shared.x1, sight.box.x1),
        min(shared.y1, sight.box.y1),
    )
    # A box that shrank evenly says nothing of the other one: only what the overlap lost beyond that counts.
    whole = min(1.0, sight.box.area / sight.expected.area) if sight.expected.area else 1.0
    return max(0.0, whole - kept.area / shared.area)


def appearance_vote(image: Image, first: tuple[Box, Image], second: tuple[Box, Image]) -> float:
    """Whose earlier appearance is seen where both are: above 0 for the first.

    Args:
        image: (H, W, 3) uint8 RGB.
        first: its box now, and a picture of it (h, w, 3) uint8 RGB of when nothing hid it, of its whole box then.
        second: likewise.
    """
    height, width = image.shape[:2]
    shared = overlap(first[0].clipped(width, height), second[0].clipped(width, height))
    if shared is None or 0 in first[1].shape or 0 in second[1].shape:
        return 0.0
    x0, y0, x1, y1 = (round(value) for value in (shared.x0, shared.y0, shared.x1, shared.y1))
    seen = image[y0:y1, x0:x1].astype(np.float32)
    if not seen.size:
        return 0.0
    off = [float(np.abs(seen - _warped(patch, box, (x0, y0, x1, y1))).mean()) for box, patch in (first, second)]
    return (off[1] - off[0]) / (off[0] + off[1] + 4.0)  # a little noise must not look like a difference


def _warped(patch: Image, box: Box, window: tuple[int, int, int, int]) -> Image:
    """The part of a patch that falls into a window of whole pixels when the patch fills the box."""
    x0, y0, x1, y1 = window
    rows, columns = patch.shape[:2]
    wide, high = columns / max(box.x1 - box.x0, 1e-6), rows / max(box.y1 - box.y0, 1e-6)
    across = ((np.arange(x0, x1) + 0.5 - box.x0) * wide - 0.5).astype(np.float32)
    down = ((np.arange(y0, y1) + 0.5 - box.y0) * high - 0.5).astype(np.float32)
    at_x, at_y = np.meshgrid(across, down)
    return np.asarray(cv2.remap(patch, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


@dataclass(frozen=True, slots=True)
class DepthOrder:
    """What votes have told so far: pair -> their fading mean, -1..1, above 0 for the smaller id in front."""

    votes: Mapping[Pair, float] = field(default_factory=dict)

    def after(self, votes: Mapping[Pair, float], boxes: Mapping[int, Box], fade: float = 0.8) -> DepthOrder:
        """With the votes of another frame. Pairs whose boxes have parted are forgotten.

        Args:
            votes: of pairs in the frame.
            boxes: track -> box of everything that is followed in the frame.
            fade: how much of what was told before is left after a frame.
        """
        means = {
            pair: fade * self.votes.get(pair, 0.0) + (1 - fade) * votes.get(pair, 0.0) for pair in overlapping(boxes)
        }
        return DepthOrder({pair: mean for pair, mean in means.items() if mean})


def overlapping(boxes: Mapping[int, Box]) -> list[Pair]:
    """The pairs of tracks whose boxes overlap."""
    return [(a, b) for a, b in combinations(sorted(boxes), 2) if overlap(boxes[a], boxes[b]) is not None]


def extent_votes(sights: Iterable[Sight]) -> dict[Pair, float]:
    """`extent_vote` of every pair that overlaps, or was expected to."""
    ordered = sorted(sights, key=lambda sight: sight.track)
    found = {(one.track, other.track): extent_vote(one, other) for one, other in combinations(ordered, 2)}
    return {pair: vote for pair, vote in found.items() if vote}


def lead(first: int, second: int, boxes: Mapping[int, Box], order: DepthOrder) -> float:
    """How far the first of two tracks is in front of the second; below 0 where it is behind.

    The distance of their lower edges over the smaller of their heights, plus `WEIGHT` times what votes have told.
    """
    one, other = boxes[first], boxes[second]
    height = max(1.0, min(one.y1 - one.y0, other.y1 - other.y0))
    vote = order.votes.get((first, second), 0.0) if first < second else -order.votes.get((second, first), 0.0)
    return (one.y1 - other.y1) / height + WEIGHT * vote


def drawing_order(boxes: Mapping[int, Box], order: DepthOrder | None = None) -> tuple[int, ...]:
    """All tracks from the back to the front.

    Overlapping pairs come as `lead` says, the larger id in front where it says nothing. Where pairs contradict each
    other (three in a ring), the track with the highest lower edge comes first.
    """
    order = order or DepthOrder()
    behind: dict[int, set[int]] = {track: set() for track in boxes}
    for one, other in overlapping(boxes):
        front, back = (one, other) if lead(one, other, boxes, order) > 0 else (other, one)
        behind[front].add(back)
    waiting = sorted(boxes, key=lambda track: (boxes[track].y1, track))
    drawn: list[int] = []
    while waiting:
        track = next((track for track in waiting if behind[track].issubset(drawn)), waiting[0])
        waiting.remove(track)
        drawn.append(track)
    return tuple(drawn)


def lifts(boxes: Mapping[int, Box], order: DepthOrder | None = None) -> dict[int, float]:
    """Pixels to add to lower edges so that they alone give the drawing order of overlapping tracks; only those above 0.

    They are multiples of `STEP` beyond the lower edge that is passed, and at most as long as the order needs.
    """
    lowest: dict[int, float] = {}
    partners: dict[int, set[int]] = {track: set() for track in boxes}
    for one, other in overlapping(boxes):
        partners[one].add(other)
        partners[other].add(one)
    for track in drawing_order(boxes, order):
        passed = [lowest[other] + STEP for other in partners[track] if other in lowest]
        lowest[track] = max([boxes[track].y1, *passed])
    return {track: at - boxes[track].y1 for track, at in lowest.items() if at > boxes[track].y1}


def wrong_pairs(lifted: Mapping[int, float], boxes: Mapping[int, Box], order: DepthOrder) -> int:
    """How many overlapping pairs are drawn in the wrong order with these lifts."""
    wrong = 0
    for one, other in overlapping(boxes):
        ahead = lead(one, other, boxes, order)
        drawn = boxes[one].y1 + lifted.get(one, 0.0) - boxes[other].y1 - lifted.get(other, 0.0)
        wrong += abs(ahead) >= CLEAR and drawn * ahead <= 0
    return wrong


def steady_lifts(lifted: Mapping[int, float], boxes: Mapping[int, Box], order: DepthOrder) -> dict[int, float]:
    """The lifts that decoders have, as long as no others are better; else others, with room for what comes next."""
    known = {track: lift for track, lift in lifted.items() if track in boxes}
    if not wrong_pairs(known, boxes, order):
        return known
    needed = lifts(boxes, order)
    roomy = {track: lift + ROOM * (boxes[track].y1 - boxes[track].y0) for track, lift in needed.items()}
    return min((known, roomy, needed), key=lambda lift: wrong_pairs(lift, boxes, order))


class TrackOrder:
    """Who stands before whom in one camera's stream: a `codec.drawing_order.DrawingOrder`."""

    def __init__(self) -> None:
        self._order = DepthOrder()

    def lifts(
        self,
        frame: Image,
        boxes: Mapping[int, Box],
        expected: Mapping[int, Box],
        pictures: Mapping[int, Image],
        lifted: Mapping[int, float],
    ) -> Mapping[int, float]:
        """Learn from a frame, and say which lifts are to hold in it; see `codec.drawing_order.DrawingOrder`."""
        votes = extent_votes(Sight(track, boxes[track], expected[track]) for track in boxes if track in expected)
        for one, other in overlapping(boxes):
            if one in pictures and other in pictures:
                vote = appearance_vote(frame, (boxes[one], pictures[one]), (boxes[other], pictures[other]))
                votes[one, other] = min(max(votes.get((one, other), 0.0) + vote, -1.0), 1.0)
        self._order = self._order.after(votes, boxes)
        return steady_lifts(lifted, boxes, self._order)
