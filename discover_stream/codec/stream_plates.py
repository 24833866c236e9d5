"""Makes a camera's plates: what `plate_policy` decides on what `background` sees, as records and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.av1 import encode_av1
from discover_stream.codec.background import (
    Background,
    Mask,
    Seen,
    boxes_mask,
    cells_of,
    cells_touched,
    filled,
)
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.plate_light import Light, measure_light
from discover_stream.codec.plate_pictures import plate_picture
from discover_stream.codec.plate_policy import (
    PlateAction,
    PlateDecision,
    PlateRules,
    PlateView,
    around,
    decide_plate,
    nudged,
    rests,
    waited,
    within_budget,
)
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Warp
from discover_stream.codec.records import QUARTER, Cells
from discover_stream.codec.stream_state import MAX_HELD_PLATES
from discover_stream.types import CELL, Box, Frame, Image

TICK_US = 1000
NEAR = 4
"""Pixels around a moving object that are its own."""
SHADOW = 12
"""Pixels around a moving object that are not taken for what is behind it."""
FILL = 31
"""Pixels over which a whole plate is smoothed where its objects are, which are sent apart."""
FADE = 8.0
"""Pixels over which cells that change pass into what is around them."""
AROUND = 4
"""Pixels around objects that are sent as finely as these."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What tracks want of the plate in a frame.

    Attributes:
        moving: boxes of objects that the plate does not show.
        released: boxes in which the plate shows objects that are leaving.
        parked: boxes of objects that the plate is to show.
        shown: boxes of objects that the plate shows, and goes on showing.
        whole: a plate that stands alone is wanted.
        lost: boxes in which the plate shows objects that were not found in this frame.
    """

    moving: tuple[Box, ...] = ()
    released: tuple[Box, ...] = ()
    parked: tuple[Box, ...] = ()
    shown: tuple[Box, ...] = ()
    whole: bool = False
    lost: tuple[Box, ...] = ()


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
        self._base: PlatePicture | None = None
        self._base_id = self._top = 0
        self._since_base: CellMask | None = None
        self._depth = 0
        self._changed = self._rested = self._mended = 0.0
        self._clock: Clock | None = None
        self._differing_since: float | None = None
        self._wholes: tuple[float, ...] = ()
        self._owed: Mask | None = None
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

    def update(self, frame: Frame, seen: Seen, demand: Demand, quantizer: int) -> tuple[Plate, ...]:
        """Change the plate if that is due; `decision` says why.

        Args:
            frame: the one that was seen.
            seen: what `see` answered for it.
            demand: of the tracks.
            quantizer: of AV1, 1..63, for objects that the plate shows; what is around them is coarser.

        Returns:
            the records, each but the first a child of the one before, without members; none where the plate holds.
        """
        time = frame.capture_ns / 1e9
        height, width = frame.image.shape[:2]
        parked = cells_of(demand.parked, width, height)
        open_ = self._opened(seen, demand, time) & ~parked
        released = cells_of(demand.released, width, height, 2) | parked | open_
        if seen.differing < self._rules.scene:
            self._differing_since = None
        elif self._differing_since is None:
            self._differing_since = time
        soon = seen.stale & (seen.near | seen.ghosts)
        view = PlateView(
            time,
            None if self._picture is None else self._changed,
            self._depth,
            released.size,
            int(soon.sum()),
            int((seen.ghosts & seen.near).sum()),
            int((seen.stale & ~soon).sum()),
            int(released.sum()),
            seen.differing,
            self._differing_since,
            seen.tone,
            self._background.looks,
            self._wholes,
            demand.whole,
            self._rested,
            self._mended,
            self._gathered(),
        )
        self.decision = decide_plate(view, self._rules)
        action = self.decision.action
        if action in (PlateAction.KEEP, PlateAction.STILL) and self._picture is not None:
            return ()
        self._changed = time
        if action == PlateAction.TONE:
            record = self._toned(seen)
            if record is not None:
                return (record,)
        if action == PlateAction.WARP:
            return (self._warped(frame),)
        if action in (PlateAction.CELLS, PlateAction.GATHER, PlateAction.TONE):
            stale = np.zeros_like(soon)
            if waited(view, self._rules):
                stale, self._mended = soon, time
            if rests(view, self._rules):
                stale, self._rested = seen.stale, time
            due, lit = released | stale, tuple[Plate, ...]()
            if action == PlateAction.GATHER:
                changed, lit = self._back_to_base()
                due |= changed
            elif self._since_base is not None:
                self._since_base |= due
            fine = parked | (due & ~released & cells_of(demand.shown, width, height, AROUND))
            return (*lit, *self._cells(seen, demand, (due, open_), fine, quantizer))
        self._rested = self._mended = time
        return self._whole(frame, seen, demand, quantizer, self._differing_since is not None)

    def _gathered(self) -> int | None:
        """How many cells changed since the last whole plate; None where that is too long ago, or it moved."""
        if self._since_base is None or self._next - self._base_id > MAX_HELD_PLATES - 4:
            return None
        return int(self._since_base.sum())

    def _back_to_base(self) -> tuple[CellMask, tuple[Plate, ...]]:
        """Build on the last whole plate again: the cells that changed since, and the record that gives it the light."""
        assert self._picture is not None
        assert self._base is not None
        assert self._since_base is not None
        light, _ = measure_light(self._picture.image, self._base.image, ~self._since_base)
        self._picture, self._top, self._depth = self._base, self._base_id, 0
        tone = light.tone()
        return self._since_base, () if tone is None else (self._child(tone=tone),)

    def _whole(self, frame: Frame, seen: Seen, demand: Demand, quantizer: int, scene: bool) -> tuple[Plate, ...]:
        background = self._background.picture
        objects = (*demand.shown, *demand.parked)
        if self._picture is None or scene or background is None:
            target, objects = frame.image, (*objects, *demand.moving)
        else:
            target = seen.light.put_on(self._filled(background, seen, demand, np.zeros_like(seen.stale)))
        if scene:
            self._wholes = (*self._wholes, frame.capture_ns / 1e9)[-8:]
        self._differing_since = None
        height, width = target.shape[:2]
        fine = cells_of(objects, width, height, AROUND)
        coarse = around(quantizer, self._rules)
        crowded = fine.mean() >= self._rules.many
        if crowded:  # two plates would be no fewer bytes
            fine, coarse = np.zeros_like(fine), quantizer
        inside = _pixels(fine, target.shape)
        picture = np.where(inside, cv2.blur(target, (FILL, FILL)), target)
        payload = encode_av1(picture, coarse)
        if not crowded:
            coarser = within_budget(coarse, quantizer, 8 * len(payload) / (width * height), self._rules)
            payload = payload if coarser == coarse else encode_av1(picture, coarser)
        self._background.restart(target)
        self._depth = 0
        self._clock = Clock(frame.capture_ns // 1000, frame.seq, self._interval_us, TICK_US)
        base = self._record(Plate(
            self._next, width, height, (), self._clock, coding=PlateCoding.AV1, payload=payload,
        ))  # fmt: skip
        self._base, self._base_id, self._since_base = self._picture, self._top, fine
        return (base, *self._sent(target, fine, quantizer))

    def _opened(self, seen: Seen, demand: Demand, time: float) -> CellMask:
        """The cells in which the plate shows what has left, or a guess, and the frame for the first time what is there.

        An object that leaves is seen to do so piece by piece: what it, its shadow and whoever follows it cover is owed,
        until it is free. A track that nobody finds may have left, too: there the frame also has to stand still.
        """
        height, width = seen.image.shape[:2]
        nothing: CellMask = np.zeros_like(seen.stale)
        if self._picture is None:
            return nothing
        if self._owed is None:
            self._owed = np.zeros((height, width), dtype=bool)
        self._owed |= boxes_mask(demand.released, width, height, SHADOW)
        if time - self._changed < self._rules.opened - 1e-9:
            return nothing
        free = ~cells_of(demand.moving, width, height, NEAR)
        lost = cells_of(demand.lost, width, height, NEAR) & seen.still
        owed = cells_touched(self._owed)
        differs = (lost & (seen.apart > self._rules.drift)) | (owed & (seen.apart > self._rules.drift / 2))
        opened: CellMask = free & differs
        self._owed &= ~_pixels(owed & free, seen.image.shape)[..., 0]
        return opened

    def _filled(self, picture: Image, seen: Seen, demand: Demand, opened: CellMask) -> Image:
        """A picture of the background without what leaves (there the frame shows what is now), and with what parks."""
        height, width = picture.shape[:2]
        open_ = boxes_mask(demand.released, width, height, 4) | _pixels(opened, picture.shape)[..., 0]
        target = picture.copy()
        target[open_] = seen.image[open_]
        target = filled(target, self._guessed(demand, width, height))
        parked = boxes_mask(demand.parked, width, height, 4)
        target[parked] = seen.image[parked]
        return target

    def _cells(
        self, seen: Seen, demand: Demand, due: tuple[CellMask, CellMask], fine: CellMask, quantizer: int
    ) -> tuple[Plate, ...]:
        """The records of cells: those that are due, and of them those just opened; `fine` of them show objects."""
        background = self._background.picture
        assert background is not None
        cells, opened = due
        target = self._filled(background, seen, demand, opened)
        height, width = target.shape[:2]
        told = cells_of((*demand.released, *demand.parked), width, height, 2) | opened
        if told.any():
            self._background.replace(target, told)
            self._background.forget(self._guessed(demand, width, height))
        coarse = around(quantizer, self._rules)
        soft = self._faded(target, cells | fine, cells & ~(told | fine))
        return (*self._sent(soft, cells & ~fine, coarse), *self._sent(target, fine, quantizer))

    def _faded(self, target: Image, cells: CellMask, fading: CellMask) -> Image:
        """Some cells of those that are sent, faded into the plate around all of these, so that no edge is seen."""
        assert self._picture is not None
        inside = cv2.distanceTransform(_pixels(cells, target.shape).astype(np.uint8), cv2.DIST_L2, 3)
        share = np.where(_pixels(fading, target.shape), np.minimum(inside / FADE, 1)[..., None], 1).astype(np.float32)
        faded = share * target + (1 - share) * self._picture.image
        return np.rint(faded).astype(np.uint8)

    def _guessed(self, demand: Demand, width: int, height: int) -> Mask:
        """The pixels in which something leaves and something else moves: what is behind is not seen."""
        leaves, hides = boxes_mask(demand.released, width, height, 4), boxes_mask(demand.moving, width, height, SHADOW)
        guessed: Mask = leaves & hides & ~boxes_mask(demand.parked, width, height, 4)
        return guessed

    def _sent(self, target: Image, cells: CellMask, quantizer: int) -> tuple[Plate, ...]:
        """The record of some cells of a picture; none for none."""
        if not cells.any():
            return ()
        height, width = target.shape[:2]
        rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
        top, left = int(rows[0]) * CELL, int(columns[0]) * CELL
        bottom, right = min(height, (int(rows[-1]) + 1) * CELL), min(width, (int(columns[-1]) + 1) * CELL)
        part = (slice(top, bottom), slice(left, right))
        wanted = _pixels(cells, target.shape)[part]
        # One colour between the cells: the fewest bits, and their edges are those of AV1's blocks.
        between = np.rint(target[part][wanted[..., 0]].mean(axis=0)).astype(np.uint8)
        payload = encode_av1(np.where(wanted, target[part], between), quantizer)
        return (self._child(coding=PlateCoding.AV1, payload=payload, cells=Cells.of(cells)),)

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
        self._since_base = None
        record = self._child(warp=Warp(x, y))
        self._background.restart(self.picture.image)
        return record

    def _child(self, **changes: object) -> Plate:
        assert self._picture is not None
        height, width = self._picture.image.shape[:2]
        self._depth += 1
        plain = Plate(self._next, width, height, (), self._clock)
        return self._record(replace(plain, clock=None, parent=self._top, depth=self._depth, **changes))  # type: ignore[arg-type]

    def _record(self, plate: Plate) -> Plate:
        self._picture = plate_picture(plate, self._picture if plate.parent else None)
        self._top = self._next
        self._next += 1
        return plate


def _pixels(cells: CellMask, shape: tuple[int, ...]) -> CellMask:
    """(H, W, 1), the pixels of some cells of a picture of a shape."""
    wide: CellMask = np.repeat(np.repeat(cells, CELL, 0), CELL, 1)[: shape[0], : shape[1], None]
    return wide
