"""What a stream packet can say of tracks: atoms, keys, moves, ends, regions.

Conventions: boxes are in quarter pixels of the picture (see `quarter_box`); tasks are positions in the
packet's list of task keys; a *ref* names a key by the frame and the slot in which it came. Every class
refuses, with ValueError, what the format cannot carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.framing import MAX_LABEL, MAX_PIXELS, MAX_SIDE, MAX_TRACK
from discover_stream.codec.quarter_box import (
    MAX_COORDINATE,
    MAX_EXTENT,
    MAX_SPEED,
    QUARTER,
    STILL,
    Delta,
    QuarterBox,
    Speed,
    within,
)
from discover_stream.types import CELL, Box

__all__ = [
    "MAX_COORDINATE",
    "MAX_EXTENT",
    "MAX_SPEED",
    "QUARTER",
    "STILL",
    "Atom",
    "AtomCoding",
    "Cells",
    "Delta",
    "End",
    "Key",
    "Move",
    "QuarterBox",
    "Ref",
    "Sighting",
    "Speed",
    "Window",
    "within",
]

MAX_LIFT = 2**16
MAX_SCORE = 63
MAX_SLOT = 4095
MAX_DISTANCE = 2**16
MAX_SHIFT = 2**15
"""Pixels between the corner of a box and that of its atom's window."""
MAX_CELLS = MAX_PIXELS // CELL**2
MAX_GRID = MAX_SIDE // CELL
MIN_ZOOM, MAX_ZOOM = -1, 2


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names a key: the frame in which it came, and its slot there."""

    seq: int
    slot: int


@dataclass(frozen=True, slots=True)
class Window:
    """The grid of an atom: its corner in whole pixels of the picture, its size in cells of that grid.

    How much of the picture a cell covers depends on the atom's zoom: see `cell_pixels`.
    """

    x: int
    y: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        for value in (self.x, self.y):
            within("a window's corner", value, -2 * MAX_SHIFT, 2 * MAX_SHIFT)
        check_grid(self.rows, self.columns)

    @classmethod
    def around(cls, box: QuarterBox, zoom: int = 0) -> Window:
        """The smallest one whose corner is the box's, rounded down to a pixel, and that covers the box.

        A box larger than any picture gets as many cells as an atom may have.

        Args:
            box: of the object.
            zoom: of the atom, -1..2.
        """
        x, y = box.x // QUARTER, box.y // QUARTER
        cell = cell_pixels(zoom) * QUARTER
        columns = min(-(-(box.x + box.width - x * QUARTER) // cell), MAX_GRID)
        rows = min(-(-(box.y + box.height - y * QUARTER) // cell), MAX_GRID, MAX_CELLS // columns)
        return cls(x, y, rows, columns)


def cell_pixels(zoom: int) -> int:
    """Pixels of the picture across a cell of an atom: 32, 16, 8 and 4 for a zoom of -1, 0, 1 and 2.

    An atom's grid samples the picture at 2**zoom samples a pixel, and a cell has 16x16 samples.
    Raises ValueError for another zoom.
    """
    within("a zoom", zoom, MIN_ZOOM, MAX_ZOOM)
    return 2 * CELL >> zoom + 1


def check_grid(rows: int, columns: int) -> None:
    """Refuse a grid of cells larger than any picture. Raises ValueError."""
    within("a grid's height in cells", rows, 1, MAX_GRID)
    within("a grid's width in cells", columns, 1, MAX_GRID)
    within("a grid's number of cells", rows * columns, 1, MAX_CELLS)


@dataclass(frozen=True, slots=True)
class Cells:
    """A set of cells of a grid: some, but not all of them.

    Attributes:
        rows: of the grid.
        columns: of the grid.
        packed: one bit a cell in row order, most significant first, zero-padded to a byte.
    """

    rows: int
    columns: int
    packed: bytes

    def __post_init__(self) -> None:
        check_grid(self.rows, self.columns)
        count = self.rows * self.columns
        if len(self.packed) != -(-count // 8):
            raise ValueError(f"{len(self.packed)} bytes are not one bit for each of {count} cells")
        inside = int(np.unpackbits(np.frombuffer(self.packed, np.uint8), count=count).sum())
        if not 0 < inside < count or (count % 8 and self.packed[-1] & (1 << -count % 8) - 1):
            raise ValueError("a set of cells must hold some of its grid's cells, not all, and nothing beyond")

    @classmethod
    def of(cls, mask: CellMask) -> Cells | None:
        """The set a mask (rows, columns) shows; None where it shows all cells."""
        return None if mask.all() else cls(mask.shape[0], mask.shape[1], np.packbits(mask).tobytes())

    @property
    def mask(self) -> CellMask:
        """(rows, columns), true for the cells of the set."""
        count = self.rows * self.columns
        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=count)
        return bits.astype(bool).reshape(self.rows, self.columns)


class AtomCoding(IntEnum):
    """What the payload of an atom is."""

    LATENT = 0
    """Coder strings of the codec: of z, where it has its own, then of y."""
    AV1 = 1
    """A stripped AV1 still of all the window's samples."""


@dataclass(frozen=True, slots=True)
class Atom:
    """Coded cells of a track, as the packet carries them.

    Attributes:
        window: their grid.
        cells: which of its cells are coded; None for all. An AV1 still shows all, and the others are ignored.
        quality: 1..8 of LATENT atoms, 0 of AV1.
        own_z: whether the payload starts with a string of z; never in AV1.
        on_plate: whether it is coded on the packet's plate (and so needs it). An AV1 still then shows
            residuals, see docs/bitstream.md.
        payload: what the coder made of them.
        coding: by which coder.
        zoom: -1..2; the grid samples the picture at 2**zoom samples a pixel.
    """

    window: Window
    cells: Cells | None
    quality: int
    own_z: bool
    on_plate: bool
    payload: bytes
    coding: AtomCoding = AtomCoding.LATENT
    zoom: int = 0

    def __post_init__(self) -> None:
        latent = int(self.coding == AtomCoding.LATENT)
        within("quality", self.quality, latent, 8 * latent)
        within("a zoom", self.zoom, MIN_ZOOM, MAX_ZOOM)
        if self.own_z and not latent:
            raise ValueError("only a LATENT atom has a z of its own")
        if self.cells and (self.cells.rows, self.cells.columns) != (self.window.rows, self.window.columns):
            raise ValueError("an atom's cells are of another grid than its window")


def check_labels(labels: Iterable[tuple[int, int]]) -> None:
    """Refuse labels that are not of ascending task positions. Raises ValueError."""
    positions = [task for task, _ in labels]
    if not positions or positions != sorted(set(positions)):
        raise ValueError("a record must name the tasks it belongs to, once each, in ascending order")
    for _, label in labels:
        within("a label", label, 0, MAX_LABEL)


def check_members(members: tuple[int, ...]) -> None:
    """Refuse members that are not ascending task positions. Raises ValueError."""
    if not members or list(members) != sorted(set(members)):
        raise ValueError("a record must name the tasks it belongs to, once each, in ascending order")


@dataclass(frozen=True, slots=True)
class Key:
    """A track appears, or is shown anew: what later frames refer to.

    Attributes:
        slot: its number among the keys of the packet; routing keeps it.
        track: stable id, > 0.
        box: of the object.
        score: 0..63, in 63rds.
        labels: for each task that has the track, (position of the task, label index).
        speed: by which later boxes are predicted.
        lift: quarter pixels added to the lower edge for the order of drawing.
        atom: its pixels; None where the plate shows them.
    """

    slot: int
    track: int
    box: QuarterBox
    score: int
    labels: tuple[tuple[int, int], ...]
    speed: Speed = STILL
    lift: int = 0
    atom: Atom | None = None

    def __post_init__(self) -> None:
        within("a slot", self.slot, 0, MAX_SLOT)
        within("a track", self.track, 1, MAX_TRACK)
        within("a score", self.score, 0, MAX_SCORE)
        within("a lift", self.lift, -MAX_LIFT, MAX_LIFT)
        check_labels(self.labels)

    @property
    def members(self) -> tuple[int, ...]:
        """The positions of the tasks that have the track."""
        return tuple(task for task, _ in self.labels)


@dataclass(frozen=True, slots=True)
class Move:
    """Where a track is in this frame; with an atom, a refresh.

    Attributes:
        ref: the track's key.
        members: positions of the tasks it is for.
        place: what is added to the predicted box; None for the predicted box itself; or a box of its own, as
            every refresh has.
        score: None where it stays.
        speed: by which the box glides until it is mentioned again; None where it stays.
        lift: None where it stays.
        hidden: the object is not to be seen (and not drawn) until it is mentioned again.
        shown: cells of the drawn atom that are drawn until it is mentioned again; None for all.
        source: only in a packet that lists all tracks, and without an atom: the frame whose refresh is drawn;
            None for the key's own atom.
        atom: a refresh, coded on the key's atom.
    """

    ref: Ref
    members: tuple[int, ...]
    place: Delta | QuarterBox | None = None
    score: int | None = None
    speed: Speed | None = None
    lift: int | None = None
    hidden: bool = False
    shown: Cells | None = None
    source: int | None = None
    atom: Atom | None = None

    def __post_init__(self) -> None:
        check_members(self.members)
        if isinstance(self.place, Delta) and not any(self.place.values):
            raise ValueError("a move that changes nothing is written as the predicted box")
        if self.score is not None:
            within("a score", self.score, 0, MAX_SCORE)
        if self.lift is not None:
            within("a lift", self.lift, -MAX_LIFT, MAX_LIFT)
        if self.atom is not None and not isinstance(self.place, QuarterBox):
            raise ValueError("a refresh has a box of its own, since the grid of its atom follows from it")
        if self.source is not None and (self.atom is not None or self.source <= self.ref.seq):
            raise ValueError("a move draws its own refresh or an earlier one that came after the key")

    def box(self, predicted: QuarterBox) -> QuarterBox:
        """The box in this frame. Raises ValueError where there is none."""
        if isinstance(self.place, QuarterBox):
            return self.place
        return predicted if self.place is None else predicted.changed(self.place)


@dataclass(frozen=True, slots=True)
class End:
    """A track is over for some tasks."""

    ref: Ref
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        check_members(self.members)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A region of this frame only, not a track that later frames refer to.

    Attributes:
        box: whole pixels, inside 0..8192, not empty.
        score: 0..63, in 63rds.
        track: 0 for none.
        labels: for each task that has the region, (position of the task, label index).
    """

    box: Box
    score: int
    track: int
    labels: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        corners = self.box.x0, self.box.y0, self.box.x1, self.box.y1
        if any(value != int(value) for value in corners) or not (
            0 <= corners[0] < corners[2] <= MAX_SIDE and 0 <= corners[1] < corners[3] <= MAX_SIDE
        ):
            raise ValueError(f"a region's box must be whole pixels in 0..{MAX_SIDE}, got {corners}")
        within("a score", self.score, 0, MAX_SCORE)
        within("a track", self.track, 0, MAX_TRACK)
        check_labels(self.labels)
