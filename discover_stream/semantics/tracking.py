"""Tracking: stable ids for what the grounder finds frame after frame, on top of norfair.

One tracker per camera. It sees boxes only, each once, whatever tasks name them, so a physical object has
one id in all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import norfair
import numpy as np

from discover_stream.types import Box, Region


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """How boxes are linked.

    Boxes are widened before they are compared, so that small fast objects still overlap from frame to frame:
    on each side by `margin` of their size, and at least by `least` of the picture's longer side.
    `max_distance` is the largest 1 - IoU of widened boxes that links; `patience` is for how many frames a
    well-established track may go unseen.
    """

    margin: float = 0.25
    least: float = 0.0075
    max_distance: float = 0.8
    patience: int = 10


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
        )

    @property
    def next_track(self) -> int:
        """The id that the next new object will get."""
        # norfair numbers the objects of one tracker 1, 2, 3, ...; its process-wide ids are not used.
        return self._first + int(self._norfair.total_object_count)

    def update(
        self, regions: Mapping[str, tuple[Region, ...]], width: int, height: int
    ) -> dict[str, tuple[Region, ...]]:
        """Link one frame's regions to the tracks; call once per frame, in order, also when nothing was found.

        Args:
            regions: task -> regions of a picture.
            width: of the picture, in pixels.
            height: of the picture, in pixels.

        Returns:
            the same regions in the same order with `track` set: the same box has the same id in every
            task. A region that is the whole picture is no object and keeps track 0.
        """
        whole = Box(0.0, 0.0, float(width), float(height))
        scores: dict[Box, float] = {}
        for found in regions.values():
            for region in found:
                if region.box != whole:
                    scores[region.box] = max(scores.get(region.box, 0.0), region.score)
        # Best first, then by place: the outcome must not depend on the order of tasks.
        boxes = sorted(scores, key=lambda b: (-scores[b], b.x0, b.y0, b.x1, b.y1))
        least = self._options.least * max(width, height)
        detections = [norfair.Detection(points=self._widened(box, least), data=box) for box in boxes]
        self._norfair.update(detections=detections)
        this_frame = {id(detection) for detection in detections}
        tracks = {
            tracked.last_detection.data: self._first + int(tracked.id) - 1
            for tracked in self._norfair.tracked_objects
            if id(tracked.last_detection) in this_frame
        }
        return {
            task: tuple(replace(region, track=tracks.get(region.box, 0)) for region in found)
            for task, found in regions.items()
        }

    def _widened(self, box: Box, least: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """The box's corners as norfair wants them, (2, 2) x, y, moved outwards by the margin."""
        dx = max(least, self._options.margin * (box.x1 - box.x0))
        dy = max(least, self._options.margin * (box.y1 - box.y0))
        return np.array([[box.x0 - dx, box.y0 - dy], [box.x1 + dx, box.y1 + dy]], np.float64)
