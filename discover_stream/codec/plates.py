"""Plates as packets carry them: a camera's background, whole or as a change of an earlier one.

A plate is immutable and named by (camera, plate id). Its payload is an atom of the whole picture's grid, or
an AV1 still of the smallest rectangle of cells that holds its cells; what cells it does not send are its
parent's, shifted and toned, or missing where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.framing import MAX_PIXELS, MAX_SIDE
from discover_stream.codec.records import Cells, within

MAX_PLATE = 2**31 - 1
MAX_CHAIN = 15
"""Partial plates from a plate that stands alone."""
MAX_TICK_US = 10**6
MAX_INTERVAL_US = 2**32
MAX_WARP = 2**13
MAX_GAIN = 255
MAX_OFFSET = 1023
TIME_BITS = 56


class PlateCoding(IntEnum):
    """What a plate's payload is."""

    ATOM = 0
    AV1 = 1


@dataclass(frozen=True, slots=True)
class Clock:
    """From sequence numbers to capture times.

    Attributes:
        capture_us: of frame `seq`, microseconds since the epoch.
        seq: the frame.
        interval_us: nominal time between frames.
        tick_us: the precision to which a packet states how far its frame is off the nominal time.
    """

    capture_us: int
    seq: int
    interval_us: int
    tick_us: int

    def __post_init__(self) -> None:
        within("a capture time in microseconds", self.capture_us, 0, 2**TIME_BITS - 1)
        within("seq", self.seq, 0, 2**56 - 1)
        within("a frame interval in microseconds", self.interval_us, 0, MAX_INTERVAL_US)
        within("a tick in microseconds", self.tick_us, 1, MAX_TICK_US)

    def drift(self, seq: int, capture_ns: int) -> int:
        """Ticks between a frame's capture time (ns) and its nominal time, rounded to nearest."""
        off = capture_ns // 1000 - self.capture_us - (seq - self.seq) * self.interval_us
        return (2 * off + self.tick_us) // (2 * self.tick_us)

    def capture_ns(self, seq: int, drift: int) -> int:
        """A frame's capture time in ns, exact to half a tick."""
        nominal = self.capture_us + (seq - self.seq) * self.interval_us
        return 1000 * (nominal + drift * self.tick_us)


@dataclass(frozen=True, slots=True)
class Warp:
    """A nudged camera: the parent is turned and scaled about the picture's centre, then shifted.

    Attributes:
        x: shift to the right, quarter pixels.
        y: shift down, quarter pixels.
        turn: clockwise, in 2^-14 radians.
        scale: growth, in 2^-14.
    """

    x: int
    y: int
    turn: int = 0
    scale: int = 0

    def __post_init__(self) -> None:
        for value in self.values:
            within("a warp", value, -MAX_WARP, MAX_WARP)
        if not any(self.values):
            raise ValueError("a warp that does nothing is left out")

    @property
    def values(self) -> tuple[int, int, int, int]:
        """x, y, turn, scale."""
        return self.x, self.y, self.turn, self.scale


@dataclass(frozen=True, slots=True)
class Tone:
    """Other light on the parent: value' = clamp(value + gain/256 * value + offset/4, 0, 255) for R, G, B."""

    gains: tuple[int, int, int]
    offsets: tuple[int, int, int]

    def __post_init__(self) -> None:
        if len(self.gains) != 3 or len(self.offsets) != 3 or not any(self.gains + self.offsets):
            raise ValueError("a tone has three gains and three offsets, not all zero")
        for value in self.gains:
            within("a gain", value, -MAX_GAIN, MAX_GAIN)
        for value in self.offsets:
            within("an offset", value, -MAX_OFFSET, MAX_OFFSET)


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate.

    Attributes:
        plate_id: > 0, ascending for a camera, never used again.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        members: positions of the tasks it is for; none in a packet without tasks.
        clock: None where the parent's goes on.
        parent: the plate it changes; 0 where it stands alone.
        depth: 0 where it stands alone, else the parent's + 1.
        coding: what the payload is.
        quality: 1..8 of an atom; 0 of an AV1 still, and without payload.
        own_z: whether an atom's payload starts with a string of z.
        cells: of the picture's grid, that the payload holds; None for all.
        warp: applied to the parent.
        tone: applied to the parent after the warp.
        payload: None where warp and tone say it all; without these either, nothing is told of what the plate
            shows, only its clock and size (a *bare* plate).
    """

    plate_id: int
    width: int
    height: int
    members: tuple[int, ...]
    clock: Clock | None
    parent: int = 0
    depth: int = 0
    coding: PlateCoding = PlateCoding.ATOM
    quality: int = 0
    own_z: bool = False
    cells: Cells | None = None
    warp: Warp | None = None
    tone: Tone | None = None
    payload: bytes | None = None

    def __post_init__(self) -> None:
        within("a plate id", self.plate_id, 1, MAX_PLATE)
        check_size(self.width, self.height)
        if list(self.members) != sorted(set(self.members)):
            raise ValueError("a record must name the tasks it belongs to, once each, in ascending order")
        within("a plate's parent", self.parent, 0, self.plate_id - 1)
        within("a plate's place in its chain", self.depth, int(self.parent > 0), MAX_CHAIN * int(self.parent > 0))
        if not self.parent and (self.clock is None or self.warp or self.tone):
            raise ValueError("a plate without a parent has a clock, and nothing to warp or tone")
        if self.payload is None and (self.cells or self.own_z or self.coding != PlateCoding.ATOM):
            raise ValueError("a plate without payload says nothing of one")
        has_quality = self.payload is not None and self.coding == PlateCoding.ATOM
        within("quality", self.quality, int(has_quality), 8 * int(has_quality))
        if self.own_z and not has_quality:
            raise ValueError("only an atom has a z of its own")
        if self.cells and (self.cells.rows, self.cells.columns) != cell_grid(self.width, self.height):
            raise ValueError("a plate's cells are of another grid than the picture's")

    @property
    def is_bare(self) -> bool:
        """Whether nothing is told of what the plate shows."""
        return self.payload is None and not (self.warp or self.tone)

    def bare(self) -> Plate:
        """Its clock and size, its place in the chain, and whom it is for."""
        return Plate(self.plate_id, self.width, self.height, self.members, self.clock, self.parent, self.depth)


def check_size(width: int, height: int) -> None:
    """Refuse a picture outside the format's bounds. Raises ValueError."""
    within("a picture's width", width, 1, MAX_SIDE)
    within("a picture's height", height, 1, MAX_SIDE)
    within("a picture's number of pixels", width * height, 1, MAX_PIXELS)
