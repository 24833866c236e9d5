"""Tracking: stable ids for what the grounder finds frame after frame, on top of norfair.

One tracker per camera. It sees boxes only, each once, whatever tasks name them, so a physical object has
one id in all tasks. Frames that are not grounded are *carried*: what was found last moves on as the motion
model (norfair's Kalman filter, one constant velocity per corner) expects it to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import norfair
import numpy as np
import numpy.typing as npt

from discover_stream.types import Box, Region, Track, TrackEvent

Corners = npt.NDArray[np.float64]
"""A box as norfair wants it: (2, 2), upper left and lower right corner, x and y in pixels."""


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """How boxes are linked.

    Boxes are widened before they are compared, so that small fast objects still overlap from frame to frame:
    on each side by `margin` of their size, and at least by `least` of the picture's longer side.
    `max_distance` is the largest 1 - IoU of widened boxes that links; `patience` is for how many grounded frames a
    well-established track may go unseen (a fresh one for as many as it was seen), and `longest` for how many frames
    any may; `confirm` sightings confirm a track.
    """

    margin: float = 0.25
    least: float = 0.0075
    max_distance: float = 0.8
    patience: int = 20
    longest: int = 30
    confirm: int = 3


@dataclass(slots=True)
class _Life:
    """What is remembered of a track: `anchor` is what the motion model said when it was last found, in `box`."""

    first: int
    last: int
    sightings: int
    hidden: bool
    box: Box
    anchor: Corners
    now: Box = field(init=False)

    def __post_init__(self) -> None:
        self.now = self.box


class Tracker:
    """Keeps stable positive track ids. Deterministic: ids depend only on what this tracker has seen.

    Args:
        next_track: the id that the next new object gets, >= 1. Give a new tracker the `next_track` of
            the one it replaces, so that ids are never used twice.
        options: how boxes are linked.
    """

    def __init__(self, next_track: int = 1, options: TrackOptions | None = None) -> None:
        if next_track < 1:
            raise ValueError(f"next_track is {next_track}; track ids are positive")
        self._options = options or TrackOptions()
        self._first = next_track
        self._norfair = norfair.Tracker(
            distance_function="iou",
            distance_threshold=self._options.max_distance,
            hit_counter_max=self._options.patience,
            initialization_delay=0,
            past_detections_length=0,
            # norfair's faster filter takes every update for one step after the one before.
            filter_factory=norfair.filter.FilterPyKalmanFilterFactory(),
        )
        self._seq = -1
        self._lives: dict[int, _Life] = {}
        self._found: dict[str, tuple[Region, ...]] = {}
        self.events: tuple[TrackEvent, ...] = ()
        """What happened in the latest frame: deaths first, then by id."""

    @property
    def next_track(self) -> int:
        """The id that the next new object will get."""
        # norfair numbers the objects of one tracker 1, 2, 3, ...; its process-wide ids are not used.
        return self._first + int(self._norfair.total_object_count)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that are alive after the latest frame, by id."""
        return tuple(
            Track(
                track,
                life.first,
                life.last,
                life.sightings,
                life.sightings >= self._options.confirm,
                life.hidden,
                life.now,
            )
            for track, life in sorted(self._lives.items())
        )

    def update(
        self, regions: Mapping[str, tuple[Region, ...]], width: int, height: int, seq: int | None = None
    ) -> dict[str, tuple[Region, ...]]:
        """Link one grounded frame's regions to the tracks; in order, also when nothing was found.

        Args:
            regions: task -> regions of a picture.
            width: of the picture, in pixels.
            height: of the picture, in pixels.
            seq: number of the frame; None for the one after the latest. Objects move on over frames left out.

        Returns:
            the same regions in the same order with `track` set: the same box has the same id in every
            task. A region that is the whole picture is no object and keeps track 0.
        """
        self._advance(seq)
        boxes = _objects(regions.values(), Box(0.0, 0.0, float(width), float(height)))
        least = self._options.least * max(width, height)
        detections = [norfair.Detection(points=self._widened(box, least), data=box) for box in boxes]
        self._norfair.update(detections=detections)
        this_frame = {id(detection) for detection in detections}
        events: list[TrackEvent] = []
        tracks: dict[Box, int] = {}
        alive: dict[int, _Life] = {}
        for tracked in sorted(self._norfair.tracked_objects, key=lambda item: int(item.id)):
            track = self._track(tracked)
            corners = self._narrowed(np.asarray(tracked.estimate, np.float64), least)
            if id(tracked.last_detection) in this_frame:
                box = tracked.last_detection.data
                tracks[box] = track
                alive[track] = self._seen(track, box, corners, events)
            else:
                alive[track] = self._missed(track, corners, events)
        gone = [TrackEvent("death", track, self._seq) for track in sorted(set(self._lives) - set(alive))]
        self._lives, self.events = alive, (*gone, *events)
        self._found = {
            task: tuple(replace(region, track=tracks.get(region.box, 0)) for region in found)
            for task, found in regions.items()
        }
        return dict(self._found)

    def carry(self, width: int, height: int, seq: int | None = None) -> dict[str, tuple[Region, ...]]:
        """The regions of a frame that is not grounded: those that were found last, where they should be by now.

        Args:
            width: of the picture, in pixels.
            height: of the picture, in pixels.
            seq: as for `update`.

        Returns:
            task -> regions, in the order of the frame that was grounded last, without those that have left the
            picture. A region that is the whole picture stays.
        """
        self._advance(seq)
        self._step()
        least = self._options.least * max(width, height)
        for tracked in self._norfair.tracked_objects:
            life = self._lives[self._track(tracked)]
            corners = self._narrowed(np.asarray(tracked.estimate, np.float64), least)
            life.now = _moved(life.box, corners - life.anchor)
        alive = {self._track(tracked) for tracked in self._norfair.tracked_objects}
        gone = sorted(set(self._lives) - alive)
        for track in gone:
            del self._lives[track]
        self.events = tuple(TrackEvent("death", track, self._seq) for track in gone)
        return {
            task: tuple(moved for region in found if (moved := self._carried(region, width, height)) is not None)
            for task, found in self._found.items()
        }

    def _carried(self, region: Region, width: int, height: int) -> Region | None:
        if region.track == 0:
            return region
        life = self._lives.get(region.track)
        if life is None:
            return None
        box = life.now.clipped(width, height)
        return replace(region, box=box) if min(box.x1 - box.x0, box.y1 - box.y0) >= 1.0 else None

    def _advance(self, seq: int | None) -> None:
        """Move on to just before a frame, over those that were left out, and give up who was not seen for too long."""
        steps = 1 if seq is None or self._seq < 0 or seq <= self._seq else seq - self._seq
        for _ in range(min(steps - 1, self._options.longest)):
            self._step()
        # A frame that was tried again comes late: its number is that of the past, and no reason to give anybody up.
        self._seq = self._seq + 1 if seq is None else max(seq, self._seq)
        self._norfair.tracked_objects = [
            tracked
            for tracked in self._norfair.tracked_objects
            if self._seq - self._lives[self._track(tracked)].last <= self._options.longest
        ]

    def _step(self) -> None:
        """Let everything move on by a frame in which nothing was looked for: nobody is missed in it."""
        self._norfair.update()
        for tracked in self._norfair.tracked_objects:
            tracked.hit_counter += 1

    def _track(self, tracked: norfair.tracker.TrackedObject) -> int:
        return self._first + int(tracked.id) - 1

    def _seen(self, track: int, box: Box, corners: Corners, events: list[TrackEvent]) -> _Life:
        known = self._lives.get(track)
        if known is None:
            events.append(TrackEvent("birth", track, self._seq))
            return _Life(self._seq, self._seq, 1, hidden=False, box=box, anchor=corners)
        if known.hidden:
            events.append(TrackEvent("shown", track, self._seq))
        return _Life(known.first, self._seq, known.sightings + 1, hidden=False, box=box, anchor=corners)

    def _missed(self, track: int, corners: Corners, events: list[TrackEvent]) -> _Life:
        life = self._lives[track]
        if not life.hidden:
            events.append(TrackEvent("hidden", track, self._seq))
        life.hidden, life.now = True, _moved(life.box, corners - life.anchor)
        return life

    def _widened(self, box: Box, least: float) -> Corners:
        """The box's corners, moved outwards by the margin."""
        dx = max(least, self._options.margin * (box.x1 - box.x0))
        dy = max(least, self._options.margin * (box.y1 - box.y0))
        return np.array([[box.x0 - dx, box.y0 - dy], [box.x1 + dx, box.y1 + dy]], np.float64)

    def _narrowed(self, corners: Corners, least: float) -> Corners:
        """What `_widened` makes these corners of."""
        wide = corners[1] - corners[0]
        share = self._options.margin / (1 + 2 * self._options.margin)
        outwards = np.maximum(least, share * wide)
        narrowed: Corners = np.stack([corners[0] + outwards, corners[1] - outwards])
        return narrowed


def _objects(found: Iterable[Sequence[Region]], whole: Box) -> list[Box]:
    """The distinct boxes of objects, best score first, then by place: tasks and their order do not matter."""
    scores: dict[Box, float] = {}
    for regions in found:
        for region in regions:
            if region.box != whole:
                scores[region.box] = max(scores.get(region.box, 0.0), region.score)
    return sorted(scores, key=lambda b: (-scores[b], b.x0, b.y0, b.x1, b.y1))


def _moved(box: Box, by: Corners) -> Box:
    """The box with each corner moved; corners that would pass each other meet in their middle."""
    x0, y0, x1, y1 = box.x0 + by[0, 0], box.y0 + by[0, 1], box.x1 + by[1, 0], box.y1 + by[1, 1]
    if x0 > x1:
        x0 = x1 = (x0 + x1) / 2
    if y0 > y1:
        y0 = y1 = (y0 + y1) / 2
    return Box(float(x0), float(y0), float(x1), float(y1))
