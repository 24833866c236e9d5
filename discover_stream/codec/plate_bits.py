"""The bits of plates in stream packets. docs/bitstream.md says the same in words."""

from __future__ import annotations

from collections.abc import Sequence

from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.framing import SIDE_BITS, put_members, take_members
from discover_stream.codec.plates import (
    MAX_CHAIN,
    MAX_GAIN,
    MAX_INTERVAL_US,
    MAX_OFFSET,
    MAX_PLATE,
    MAX_TICK_US,
    MAX_WARP,
    TIME_BITS,
    Clock,
    Plate,
    PlateCoding,
    Tone,
    Warp,
    check_size,
)
from discover_stream.codec.record_bits import QUALITY_BITS, Shape, put_cells, take_cells
from discover_stream.types import BitstreamError

SEQ_BITS = 56
DEPTH_BITS = 4
CODING_BITS = 2


def put_size(writer: BitWriter, width: int, height: int) -> None:
    """Append a picture's size."""
    writer.put(width - 1, SIDE_BITS)
    writer.put(height - 1, SIDE_BITS)


def take_size(reader: BitReader) -> tuple[int, int]:
    """The next (width, height), checked against the format's bounds. Raises BitstreamError or ValueError."""
    width, height = reader.take(SIDE_BITS) + 1, reader.take(SIDE_BITS) + 1
    check_size(width, height)
    return width, height


def _put_clock(writer: BitWriter, clock: Clock) -> None:
    writer.put(clock.capture_us, TIME_BITS)
    writer.put(clock.seq, SEQ_BITS)
    writer.put_golomb(clock.interval_us, 16)
    writer.put_golomb(clock.tick_us - 1, 9)


def _take_clock(reader: BitReader) -> Clock:
    capture_us, seq = reader.take(TIME_BITS), reader.take(SEQ_BITS)
    return Clock(capture_us, seq, reader.take_golomb(16, MAX_INTERVAL_US), reader.take_golomb(9, MAX_TICK_US - 1) + 1)


def put_plates(writer: BitWriter, plates: Sequence[Plate], shape: Shape) -> None:
    """Append at least one plate, without payloads."""
    writer.put_gamma(len(plates))
    for plate in plates:
        writer.put_golomb(plate.plate_id - 1, 7)
        writer.put(int(plate.parent > 0), 1)
        if plate.parent:
            writer.put_golomb(plate.plate_id - plate.parent - 1, 3)
            writer.put(plate.depth, DEPTH_BITS)
        put_size(writer, plate.width, plate.height)
        _put_changes(writer, plate)
        if plate.payload is not None:
            writer.put(plate.coding, CODING_BITS)
            if plate.coding == PlateCoding.ATOM:
                writer.put(plate.quality - 1, QUALITY_BITS)
                writer.put(int(plate.own_z), 1)
            put_cells(writer, plate.cells)
        if shape.tasks:
            put_members(writer, plate.members, shape.tasks)


def _put_changes(writer: BitWriter, plate: Plate) -> None:
    """The clock and, for a plate with a parent, what happens to that one."""
    parts = (plate.clock, plate.warp, plate.tone, plate.payload) if plate.parent else (plate.payload,)
    for part in parts:
        writer.put(int(part is not None), 1)
    if plate.clock is not None:
        _put_clock(writer, plate.clock)
    if plate.warp is not None:
        for value in plate.warp.values:
            writer.put_signed(value, 2)
    if plate.tone is not None:
        for value in plate.tone.gains + plate.tone.offsets:
            writer.put_signed(value, 2)


def take_plates(reader: BitReader, most: int, shape: Shape) -> tuple[Plate, ...]:
    """The next plates; payloads that follow are empty so far."""
    return tuple(_take_plate(reader, shape) for _ in range(reader.take_gamma(most)))


def _take_plate(reader: BitReader, shape: Shape) -> Plate:
    plate_id, parent, depth = reader.take_golomb(7, MAX_PLATE - 1) + 1, 0, 0
    if reader.take(1):
        parent = plate_id - 1 - reader.take_golomb(3, MAX_PLATE)
        depth = reader.take(DEPTH_BITS)
        if parent < 1 or not 1 <= depth <= MAX_CHAIN:
            raise BitstreamError("a plate's parent or its place in the chain is outside the format's bounds")
    width, height = take_size(reader)
    has_clock, has_warp, has_tone = (bool(reader.take(1)) for _ in range(3)) if parent else (True, False, False)
    has_payload = bool(reader.take(1))
    clock = _take_clock(reader) if has_clock else None
    warp = Warp(*(reader.take_signed(2, MAX_WARP) for _ in range(4))) if has_warp else None
    tone = _take_tone(reader) if has_tone else None
    coding, quality, own_z, cells = PlateCoding.ATOM, 0, False, None
    if has_payload:
        coding = PlateCoding(reader.take(CODING_BITS))
        if coding == PlateCoding.ATOM:
            quality, own_z = reader.take(QUALITY_BITS) + 1, bool(reader.take(1))
        cells = take_cells(reader, *cell_grid(width, height), shape)
    members = take_members(reader, shape.tasks) if shape.tasks else ()
    return Plate(
        plate_id=plate_id,
        width=width,
        height=height,
        members=members,
        clock=clock,
        parent=parent,
        depth=depth,
        coding=coding,
        quality=quality,
        own_z=own_z,
        cells=cells,
        warp=warp,
        tone=tone,
        payload=b"" if has_payload else None,
    )


def _take_tone(reader: BitReader) -> Tone:
    gains = tuple(reader.take_signed(2, MAX_GAIN) for _ in range(3))
    offsets = tuple(reader.take_signed(2, MAX_OFFSET) for _ in range(3))
    return Tone((gains[0], gains[1], gains[2]), (offsets[0], offsets[1], offsets[2]))
