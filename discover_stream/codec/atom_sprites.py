"""From an atom's bytes to a sprite, and what of a frame an AV1 atom codes: the same on both sides.

An AV1 atom is a still of its window's samples. On the plate it shows a *residual*: half the difference to a reference,
which is the plate in the window, smoothed, for a refresh with the track's key drawn on it where the refresh's box is.
Smoothed, since an object hides the plate's lines: they would have to be coded away (6 % of the bytes on real crops, and
where bits do not suffice they would shine through). What is drawn beside the object is the plate itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.av1 import decode_av1, encode_av1
from discover_stream.codec.composing import Drawn, Grid, PlatePicture, draw
from discover_stream.codec.painter import Painted, Painter, PaintJob
from discover_stream.codec.records import (
    MAX_COORDINATE,
    MAX_EXTENT,
    QUARTER,
    Atom,
    AtomCoding,
    Cells,
    QuarterBox,
    Window,
)
from discover_stream.codec.sprites import (
    FRAME_LEVELS,
    GREY,
    Alpha,
    Sprite,
    box_mask,
    cell_samples,
    grid_samples,
    grid_size,
    inside,
    residual,
    restored,
    soft_mask,
)
from discover_stream.types import CELL, BitstreamError, Image

SMOOTH = 3.0
"""Standard deviation in pixels of the Gaussian over the plate that AV1 residuals are taken from."""


class Reference:
    """What an atom is coded on, on its window's grid.

    Attributes:
        plate: (rows * 16, columns * 16, 3) uint8 RGB of the plate, smoothed for AV1; None for an atom that is not
            coded on it.
        samples: the same with the track's key drawn on it; grey without a plate.
        alpha: (rows * 16, columns * 16), how much of that the key is.
    """

    def __init__(
        self,
        window: Window,
        zoom: int,
        box: QuarterBox,
        plate: PlatePicture | None,
        key: Sprite | None,
        coding: AtomCoding,
    ) -> None:
        rows, columns = grid_size(window)
        self.plate = None if plate is None else grid_samples(plate.image, window, zoom)
        if self.plate is not None and coding == AtomCoding.AV1:
            self.plate = _smoothed(self.plate, zoom)
        self.samples: Image = np.full((rows, columns, 3), GREY, np.uint8) if self.plate is None else self.plate.copy()
        self.alpha: Alpha = np.zeros((rows, columns), np.uint8)
        if key is not None:
            down, right, alpha = draw(self.samples, Grid(window.x, window.y, zoom), Drawn(box, key))
            self.alpha[down, right] = alpha


@dataclass(frozen=True, slots=True, eq=False)
class Coming:
    """An atom to be decoded.

    Attributes:
        atom: with its payload.
        box: the object's in its frame.
        plate: the one of its packet, for atoms that are coded on it.
        key: for a refresh, the sprite of its key; None for a key, or where its key has no atom.
    """

    atom: Atom
    box: QuarterBox
    plate: PlatePicture | None = None
    key: Sprite | None = None

    def reference(self) -> Reference:
        """What it is coded on. Raises ValueError where it is coded on a plate, and none is given."""
        if self.atom.on_plate and self.plate is None:
            raise ValueError("an atom that is coded on a plate needs that plate")
        plate = self.plate if self.atom.on_plate else None
        return Reference(self.atom.window, self.atom.zoom, self.box, plate, self.key, self.atom.coding)


def sprites_of(coming: Sequence[Coming], size: tuple[int, int], painter: Painter | None = None) -> list[Sprite]:
    """Decode atoms, those of the learned codec all at once.

    Args:
        coming: the atoms; none of them refers to another one.
        size: width and height of the picture, in pixels.
        painter: for LATENT atoms.

    Raises:
        BitstreamError: a payload is damaged, or there is no painter for it.
        ValueError: an atom is coded on a plate, and none is given.
    """
    references = [one.reference() for one in coming]
    jobs = {
        index: paint_job(one, reference)
        for index, (one, reference) in enumerate(zip(coming, references, strict=True))
        if one.atom.coding == AtomCoding.LATENT
    }
    if jobs and painter is None:
        raise BitstreamError("an atom of the learned codec came, and this decoder has no model for it")
    painted = dict(zip(jobs, painter.paint(list(jobs.values())), strict=True)) if painter is not None else {}
    return [
        _sprite(one, reference, painted.get(index), size)
        for index, (one, reference) in enumerate(zip(coming, references, strict=True))
    ]


def sprite_of(
    atom: Atom,
    box: QuarterBox,
    size: tuple[int, int],
    *,
    plate: PlatePicture | None = None,
    key: Sprite | None = None,
    painter: Painter | None = None,
) -> Sprite:
    """Decode one atom; see `Coming` and `sprites_of`."""
    return sprites_of([Coming(atom, box, plate, key)], size, painter)[0]


def paint_job(one: Coming, reference: Reference) -> PaintJob:
    """What a painter gets of a LATENT atom."""
    refreshes = one.key is not None
    known = reference.samples if one.atom.on_plate or refreshes else None
    # The same picture where it is the same: it goes through the networks once.
    plate = known if reference.plate is not None and not refreshes else reference.plate
    return PaintJob(one.atom, known, plate, refreshes)


def _sprite(one: Coming, reference: Reference, painted: Painted | None, size: tuple[int, int]) -> Sprite:
    atom, (rows, columns), behind = one.atom, grid_size(one.atom.window), reference.plate
    if painted is not None:
        samples, behind = painted.samples, painted.plate
        if samples.shape != (rows, columns, 3):
            raise BitstreamError(f"an atom of {rows}x{columns} samples was decoded to {samples.shape}")
    else:
        samples = decode_av1(atom.payload, columns, rows)
        samples = restored(samples, reference.samples) if atom.on_plate else samples
    allowed = inside(atom.window, atom.zoom, *size)
    coded = None if atom.cells is None else cell_samples(atom.cells.mask)
    if reference.plate is not None:
        assert behind is not None
        alpha = soft_mask(samples, behind, atom.zoom, _both(allowed, coded))
    else:
        alpha = np.where(_both(allowed, coded), box_mask(one.box, atom.window, atom.zoom), np.uint8(0))
    if coded is not None:
        samples = np.where(coded[..., None], samples, reference.samples)
        if one.key is not None:
            alpha = np.where(coded, alpha, reference.alpha)
    return Sprite(samples, alpha, atom.window, atom.zoom, one.box, *size)


def latent_window(
    frame: Image, box: QuarterBox, *, zoom: int = 0, plate: PlatePicture | None = None, key: Sprite | None = None
) -> tuple[Image, PaintJob]:
    """What a LATENT atom of a box shows, and the atom without its payload: its window, its cells, what it is coded on.

    On a plate, the cells are those that hold a part of the object, and those in which the key shows something else.

    Args:
        frame: (H, W, 3) uint8 RGB.
        box: the object's.
        zoom: of the atom, -1..2.
        plate: the decoded one of the packet; None to code on nothing, or on the key alone.
        key: for a refresh, the sprite of its key.
    """
    window = Window.around(box, zoom)
    atom = Atom(window, None, 1, False, plate is not None, b"", AtomCoding.LATENT, zoom)
    reference = Coming(atom, box, plate, key).reference()
    samples = grid_samples(frame, window, zoom)
    if plate is not None:
        keep = np.maximum(object_mask(frame, samples, box, plate, (window, zoom)), reference.alpha)
        cells = keep.reshape(window.rows, CELL, window.columns, CELL).any(axis=(1, 3))
        atom = replace(atom, cells=Cells.of(cells) if cells.any() else None)
    return samples, paint_job(Coming(atom, box, plate, key), reference)


def av1_atom(
    frame: Image,
    box: QuarterBox,
    quantizer: int,
    *,
    zoom: int = 0,
    plate: PlatePicture | None = None,
    key: Sprite | None = None,
    keep: Alpha | None = None,
) -> Atom:
    """What of a frame is inside a box, as an AV1 atom of the usual window.

    Args:
        frame: (H, W, 3) uint8 RGB.
        box: the object's.
        quantizer: 1 (best) to 63.
        zoom: of the atom, -1..2.
        plate: the decoded one of the packet, to code residuals; None to code the samples themselves.
        key: for a refresh, the sprite of its key.
        keep: (rows * 16, columns * 16) of the window's grid, 0..255: how much of the difference is coded. None for
            the object's mask by the frame's difference to the plate, near the box.

    Raises:
        InputError: the quantizer is out of range.
    """
    window = Window.around(box, zoom)
    samples = grid_samples(frame, window, zoom)
    if plate is None:
        payload = encode_av1(samples, quantizer)
        return Atom(window, None, 0, False, False, payload, AtomCoding.AV1, zoom)
    reference = Reference(window, zoom, box, plate, key, AtomCoding.AV1)
    assert reference.plate is not None
    if keep is None:
        keep = object_mask(frame, samples, box, plate, (window, zoom))
    # What the key shows beside the object is taken back too: there the plate is coded.
    whole = np.maximum(keep, reference.alpha)
    target = np.where((keep > 0)[..., None], samples, reference.plate)
    payload = encode_av1(residual(target, reference.samples, whole), quantizer)
    return Atom(window, None, 0, False, True, payload, AtomCoding.AV1, zoom)


def object_mask(frame: Image, samples: Image, box: QuarterBox, plate: PlatePicture, grid: tuple[Window, int]) -> Alpha:
    """What of a window is the object, by the frame's difference to the plate near the box.

    Args:
        frame: (H, W, 3) uint8 RGB.
        samples: the same on the window's grid.
        box: the object's.
        plate: the decoded one.
        grid: the window, and its zoom.
    """
    window, zoom = grid
    near = box_mask(_grown(box), window, zoom) > 0
    allowed = near & inside(window, zoom, frame.shape[1], frame.shape[0])
    return soft_mask(samples, grid_samples(plate.image, window, zoom), zoom, allowed, FRAME_LEVELS)


def _grown(box: QuarterBox) -> QuarterBox:
    """With room for what detectors cut off and for shadows: a tenth on each side, at least three pixels."""
    right, down = max(3 * QUARTER, box.width // 10), max(3 * QUARTER, box.height // 10)
    x, y = max(box.x - right, -MAX_COORDINATE), max(box.y - down, -MAX_COORDINATE)
    return QuarterBox(x, y, min(box.width + 2 * right, MAX_EXTENT), min(box.height + 2 * down, MAX_EXTENT))


def _smoothed(samples: Image, zoom: int) -> Image:
    deviation = SMOOTH * 2.0**zoom
    side = 2 * round(3 * deviation) + 1
    smooth: Image = cv2.GaussianBlur(
        samples, (side, side), sigmaX=deviation, sigmaY=deviation, borderType=cv2.BORDER_REPLICATE
    ).astype(np.uint8, copy=False)
    return smooth


def _both(one: CellMask, other: CellMask | None) -> CellMask:
    return one if other is None else one & other
