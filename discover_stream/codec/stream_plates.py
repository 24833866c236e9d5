"""Makes a camera's plates: what `plate_policy` decides on what `background` sees, as records and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.av1 import encode_av1
from discover_stream.codec.background import Background, Light, Seen, boxes_mask, cells_of, filled
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.plate_pictures import plate_picture
from discover_stream.codec.plate_policy import (
    PlateAction,
    PlateDecision,
    PlateRules,
    PlateView,
    decide_plate,
    nudged,
)
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Warp
from discover_stream.codec.records import QUARTER, Cells
from discover_stream.types import CELL, Box, Frame, Image

TICK_US = 1000
SHADOW = 12
"""Pixels around a moving object that are not taken for what is behind it."""
FILL = 31
"""Pixels over which what is not sent of a plate's rectangle is smoothed, so that it costs nothing."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What tracks want of the plate in a frame.

    Attributes:
        moving: boxes of objects that the plate does not show.
        released: boxes in which the plate shows objects that are leaving.
        parked: boxes of objects that the plate is to show.
        whole: a plate that stands alone is wanted.
    """

    moving: tuple[Box, ...] = ()
    released: tuple[Box, ...] = ()
    parked: tuple[Box, ...] = ()
    whole: bool = False


class PlateMaker:
    """One camera's plates.

    Args:
        interval_us: between frames, nominally.
        first: id of the first plate.
        rules: when plates change.
    """

    def __init__(self, interval_us: int, first: int = 1, rules: PlateRules | None = None) -> None:
        self._rules = rules or PlateRules()
        self._background = Background(rules=self._rules)
        self._interval_us, self._next = interval_us, first
        self._picture: PlatePicture | None = None
        self._depth, self._changed = 0, 0.0
        self._clock: Clock | None = None
        self._differing_since: float | None = None
        self._wholes: tuple[float, ...] = ()
        self.decision = PlateDecision(PlateAction.KEEP, "no frame yet")

    @property
    def next_id(self) -> int:
        """The id that the next plate will get."""
        return self._next

    @property
    def plate_id(self) -> int:
        """Of the plate under the last frame."""
        return self._next - 1 if self._picture is not None else 0

    @property
    def picture(self) -> PlatePicture:
        """The plate under the last frame, as decoders have it. There is one after the first `update`."""
        assert self._picture is not None
        return self._picture

    @property
    def clock(self) -> Clock:
        """Of that plate."""
        assert self._clock is not None
        return self._clock

    def see(self, frame: Frame, moving: Sequence[Box]) -> Seen:
        """Look at the next frame, before `update`. `moving`: boxes of objects that the plate does not show."""
        plate = None if self._picture is None else self._picture.image
        return self._background.see(frame.image, plate, moving, frame.capture_ns / 1e9)

    def update(self, frame: Frame, seen: Seen, demand: Demand, quantizer: int) -> Plate | None:
        """Change the plate if that is due; `decision` says why.

        Args:
            frame: the one that was seen.
            seen: what `see` answered for it.
            demand: of the tracks.
            quantizer: of AV1, 1..63.

        Returns:
            the record, without members; None where the plate holds.
        """
        time = frame.capture_ns / 1e9
        height, width = frame.image.shape[:2]
        released = cells_of(demand.released, width, height, 2) | cells_of(demand.parked, width, height)
        if seen.differing < self._rules.scene:
            self._differing_since = None
        elif self._differing_since is None:
            self._differing_since = time
        view = PlateView(
            time,
            None if self._picture is None else self._changed,
            self._depth,
            released.size,
            int(seen.stale.sum()),
            int(released.sum()),
            seen.differing,
            self._differing_since,
            seen.tone,
            self._background.looks,
            self._wholes,
            demand.whole,
        )
        self.decision = decide_plate(view, self._rules)
        action = self.decision.action
        if action in (PlateAction.KEEP, PlateAction.STILL) and self._picture is not None:
            return None
        self._changed = time
        if action == PlateAction.TONE:
            record = self._toned(seen)
            if record is not None:
                return record
        if action == PlateAction.WARP:
            return self._warped(frame)
        if action in (PlateAction.CELLS, PlateAction.TONE):
            return self._cells(seen, demand, released | seen.stale, released, quantizer)
        return self._whole(frame, seen, demand, quantizer, self._differing_since is not None)

    def _whole(self, frame: Frame, seen: Seen, demand: Demand, quantizer: int, scene: bool) -> Plate:
        background = self._background.picture
        if self._picture is None or scene or background is None:
            target = frame.image
        else:
            target = seen.light.put_on(self._filled(background, seen, demand))
        if scene:
            self._wholes = (*self._wholes, frame.capture_ns / 1e9)[-8:]
        self._differing_since = None
        height, width = target.shape[:2]
        payload = encode_av1(target, quantizer)
        self._background.restart(target)
        self._depth = 0
        self._clock = Clock(frame.capture_ns // 1000, frame.seq, self._interval_us, TICK_US)
        return self._record(Plate(
            self._next, width, height, (), self._clock, coding=PlateCoding.AV1, payload=payload,
        ))  # fmt: skip

    def _filled(self, picture: Image, seen: Seen, demand: Demand) -> Image:
        """A picture of the background without what leaves (there the frame shows what is now), and with what parks."""
        height, width = picture.shape[:2]
        open_ = boxes_mask(demand.released, width, height, 4)
        target = picture.copy()
        target[open_] = seen.image[open_]
        target = filled(target, open_ & boxes_mask(demand.moving, width, height, SHADOW))
        parked = boxes_mask(demand.parked, width, height, 4)
        target[parked] = seen.image[parked]
        return target

    def _cells(self, seen: Seen, demand: Demand, cells: CellMask, released: CellMask, quantizer: int) -> Plate:
        background = self._background.picture
        assert background is not None
        assert self._picture is not None
        height, width = background.shape[:2]
        target = self._filled(background, seen, demand)
        if released.any():
            self._background.replace(target, released)
        rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
        top, left = int(rows[0]) * CELL, int(columns[0]) * CELL
        bottom, right = min(height, (int(rows[-1]) + 1) * CELL), min(width, (int(columns[-1]) + 1) * CELL)
        part = (slice(top, bottom), slice(left, right))
        wanted = np.repeat(np.repeat(cells, CELL, 0), CELL, 1)[:height, :width][part][..., None]
        smooth = cv2.blur(target[part], (FILL, FILL))
        payload = encode_av1(np.where(wanted, target[part], smooth), quantizer)
        return self._child(coding=PlateCoding.AV1, payload=payload, cells=Cells.of(cells))

    def _toned(self, seen: Seen) -> Plate | None:
        tone = seen.light.tone()
        if tone is None:
            return None
        self._background.relight(Light.of(tone))
        return self._child(tone=tone)

    def _warped(self, frame: Frame) -> Plate:
        shift = nudged(self._background.looks, self._rules)
        assert shift is not None
        x, y = (round(QUARTER * value) for value in shift)
        record = self._child(warp=Warp(x, y))
        self._background.restart(self.picture.image)
        return record

    def _child(self, **changes: object) -> Plate:
        assert self._picture is not None
        height, width = self._picture.image.shape[:2]
        self._depth += 1
        plain = Plate(self._next, width, height, (), self._clock)
        return self._record(replace(plain, clock=None, parent=self._next - 1, depth=self._depth, **changes))  # type: ignore[arg-type]

    def _record(self, plate: Plate) -> Plate:
        self._picture = plate_picture(plate, self._picture if plate.parent else None)
        self._next += 1
        return plate
