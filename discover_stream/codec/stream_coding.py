"""A stream packet to bytes and back, and where its bits go.

::

    offset  bytes  field
    0       9      as every packet, see `framing`; mode 1
    9       1-8    seq, varint
    ..      1-8    incarnation, varint
    ..      1-8    plate id, varint, 0 for none
    ..      1-3    frames back to oldest_ref, varint
    ..             side information: bits, zero-padded to a byte; it says itself where it ends
    ..             payloads: of plates, keys, refreshes; the last one reaches to the packet's end
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from discover_stream.codec.bits import BitReader, BitWriter, take_varint, varint
from discover_stream.codec.framing import (
    FRAME_BYTES,
    MAX_PACKET,
    MAX_REGIONS,
    MAX_TASKS,
    MODE_STREAM,
    REGIONS_ONLY,
    check_frame,
    put_members,
    put_tags,
    put_tasks,
    sealed,
    take_members,
    take_tags,
    take_tasks,
)
from discover_stream.codec.plate_bits import put_plates, put_size, take_plates, take_size
from discover_stream.codec.plates import TIME_BITS, Plate
from discover_stream.codec.record_bits import (
    Shape,
    put_ends,
    put_keys,
    put_moves,
    take_ends,
    take_keys,
    take_moves,
)
from discover_stream.codec.records import MAX_DISTANCE
from discover_stream.codec.sighting_bits import put_sightings, take_sightings
from discover_stream.codec.stream_packet import (
    MAX_DRIFT,
    MAX_GAP,
    MAX_PLATES,
    MAX_TRACKS,
    MAX_VIEW,
    GapReason,
    LostFrames,
    StreamPacket,
    needs_size,
    needs_time,
)
from discover_stream.types import BitstreamError

GAP_BITS = 4
LENGTH_ORDER = 6
_NEXT, _CONTINUES, _LISTS, _CUT = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """Bits of a stream packet by part.

    Attributes:
        header: all before the side information.
        frame: tasks, link, time, and the bits that say which records follow.
        plates: without payloads; so are keys and moves.
        events: starts and stops of tasks, gaps, shifts of the view.
        tags: of the picture as a whole.
        keys: tracks that appear.
        moves: where tracks are, refreshes among them.
        ends: tracks that are over.
        sightings: regions of this frame only.
        lengths: of payloads.
        padding: to whole bytes.
        plate_payloads: what the coders made of plates; of keys; of refreshes.
    """

    header: int
    frame: int
    plates: int
    events: int
    tags: int
    keys: int
    moves: int
    ends: int
    sightings: int
    lengths: int
    padding: int
    plate_payloads: int
    key_payloads: int
    refresh_payloads: int

    @property
    def bits(self) -> int:
        """All bits of the packet."""
        return sum(dataclasses.astuple(self))

    @property
    def total(self) -> int:
        """All bytes of the packet."""
        return self.bits // 8


def _shape(packet: StreamPacket) -> Shape:
    return Shape(packet.seq, len(packet.tasks), packet.plate_id > 0, packet.base is None)


def _put_frame(writer: BitWriter, packet: StreamPacket) -> None:
    tasks = len(packet.tasks)
    writer.put_golomb(tasks, 0)
    put_tasks(writer, packet.tasks)
    if packet.base is None:
        writer.put_gamma(_CUT if packet.cut else _LISTS)
    elif packet.base == packet.seq - 1:
        writer.put_gamma(_NEXT)
    else:
        writer.put_gamma(_CONTINUES)
        writer.put_golomb(packet.seq - packet.base - 2, 3)
    if packet.drift is not None:
        writer.put_signed(packet.drift, 4)
    if packet.plate_id and tasks:
        everyone = len(packet.plated) == tasks
        writer.put(int(everyone), 1)
        if not everyone:
            put_members(writer, packet.plated, tasks)
    writer.put(int(packet.quiet), 1)
    if not packet.quiet:
        writer.put(int(packet.special), 1)


def _put_start(writer: BitWriter, packet: StreamPacket) -> None:
    """Time and size in full."""
    if packet.capture_us is not None:
        writer.put(packet.capture_us, TIME_BITS)
    if packet.size is not None:
        put_size(writer, *packet.size)


def _put_events(writer: BitWriter, packet: StreamPacket) -> None:
    if packet.special:
        tasks = range(len(packet.tasks))
        changing = bool(packet.started or packet.stopped)
        for flag in (bool(packet.plates), changing, packet.gap is not None, bool(packet.tags), packet.view != (0, 0)):
            writer.put(int(flag), 1)
        if changing:
            for positions in (packet.started, packet.stopped):
                for task in tasks:
                    writer.put(int(task in positions), 1)
        if packet.gap is not None:
            writer.put_golomb(packet.gap.frames, 0)
            writer.put(packet.gap.reason, GAP_BITS)
        if packet.view != (0, 0):
            for value in packet.view:
                writer.put_signed(value, 2)


def _put_tags(writer: BitWriter, packet: StreamPacket) -> None:
    if packet.tags:
        put_tags(writer, packet.tags, len(packet.tasks))


def _put_lengths(writer: BitWriter, packet: StreamPacket) -> None:
    for payload in packet.payloads[:-1]:
        writer.put_golomb(len(payload), LENGTH_ORDER)


def _sections(packet: StreamPacket) -> Iterator[tuple[str, Callable[[BitWriter], None]]]:
    """The parts of the side information in their order, each with the field of `StreamSizes` it counts for."""
    shape = _shape(packet)
    yield "frame", lambda writer: _put_frame(writer, packet)
    if not packet.quiet:
        yield "events", lambda writer: _put_events(writer, packet)
    yield "frame", lambda writer: _put_start(writer, packet)
    if packet.quiet:
        return
    if packet.plates:
        yield "plates", lambda writer: put_plates(writer, packet.plates, shape)
    yield "tags", lambda writer: _put_tags(writer, packet)
    yield "keys", lambda writer: put_keys(writer, packet.keys, shape)
    yield "moves", lambda writer: put_moves(writer, packet.moves, shape)
    yield "ends", lambda writer: put_ends(writer, packet.ends, shape)
    yield "sightings", lambda writer: put_sightings(writer, packet.sightings, shape)
    yield "lengths", lambda writer: _put_lengths(writer, packet)


def _header(packet: StreamPacket) -> bytes:
    numbers = packet.seq, packet.incarnation, packet.plate_id, packet.seq - packet.oldest_ref
    return b"".join(varint(number) for number in numbers)


def stream_packet_bytes(packet: StreamPacket) -> bytes:
    """The packet on the wire.

    Raises:
        BitstreamError: the packet is larger than 4 MiB.
    """
    writer = BitWriter()
    for _, put in _sections(packet):
        put(writer)
    body = _header(packet) + writer.bytes() + b"".join(packet.payloads)
    mode = MODE_STREAM | REGIONS_ONLY * packet.regions_only
    return sealed(mode, packet.model, body, packet.seq)


def packet_sizes(packet: StreamPacket) -> StreamSizes:
    """Where the bits of a packet go; the parts add up to `8 * len(stream_packet_bytes(packet))`."""
    sizes = dict.fromkeys((field.name for field in dataclasses.fields(StreamSizes)), 0)
    writer = BitWriter()
    for name, put in _sections(packet):
        before = len(writer)
        put(writer)
        sizes[name] += len(writer) - before
    sizes["header"] = 8 * (FRAME_BYTES + len(_header(packet)))
    sizes["padding"] = -len(writer) % 8
    sizes["plate_payloads"] = 8 * sum(len(plate.payload or b"") for plate in packet.plates)
    sizes["key_payloads"] = 8 * sum(len(key.atom.payload) for key in packet.keys if key.atom)
    sizes["refresh_payloads"] = 8 * sum(len(move.atom.payload) for move in packet.moves if move.atom)
    return StreamSizes(**sizes)


def parse_stream_packet(data: bytes, *, camera: str = "?") -> StreamPacket:
    """Read a packet. A plain function of its bytes: it needs no state and allocates no more than they can fill.

    Args:
        data: its bytes, exactly.
        camera: named in errors.

    Raises:
        BitstreamError: the bytes are damaged, foreign or beyond a bound; the message names camera,
            seq (where it could be read) and cause.
    """
    where = f"camera {camera}"
    try:
        regions_only = check_frame(data, MODE_STREAM)
        seq, position = take_varint(data, FRAME_BYTES)
        where = f"camera {camera}, seq {seq}"
        return _parse_body(data, seq, position, regions_only)
    # The records' own checks raise ValueError.
    except (BitstreamError, ValueError) as error:
        raise BitstreamError(f"{where}: {error}") from None


def _parse_body(data: bytes, seq: int, position: int, regions_only: bool) -> StreamPacket:
    incarnation, position = take_varint(data, position)
    plate_id, position = take_varint(data, position)
    distance, position = take_varint(data, position)
    if distance > min(seq, MAX_DISTANCE):
        raise BitstreamError("oldest_ref lies before the first frame or too far back")
    reader = BitReader(data[position:])
    fields = _take_side(reader, seq, plate_id) | {"regions_only": regions_only}
    packet = StreamPacket(data[6:FRAME_BYTES], seq, incarnation, plate_id, seq - distance, **fields)  # type: ignore[arg-type]
    empty = packet.payloads
    lengths = [reader.take_golomb(LENGTH_ORDER, MAX_PACKET) for _ in empty[:-1]]
    position += reader.consumed_bytes()
    if sum(lengths) > len(data) - position or (not empty and position != len(data)):
        raise BitstreamError("the payloads do not fill the packet to its end")
    payloads = []
    for length in (*lengths, len(data) - position - sum(lengths))[: len(empty)]:
        payloads.append(data[position : position + length])
        position += length
    return _filled(packet, iter(payloads))


def _take_side(reader: BitReader, seq: int, plate_id: int) -> dict[str, object]:
    """All of the side information but the lengths, as fields of a packet."""
    tasks = take_tasks(reader, reader.take_golomb(0, MAX_TASKS))
    base, cut = _take_link(reader, seq)
    drift = reader.take_signed(4, MAX_DRIFT) if plate_id else None
    plated: tuple[int, ...] = ()
    if plate_id and tasks:
        everyone = tuple(range(len(tasks)))
        if reader.take(1):
            plated = everyone
        else:
            plated = take_members(reader, len(tasks))
            if plated == everyone:
                raise BitstreamError("all tasks are shown on the plate, but named one by one")
    quiet = bool(reader.take(1))
    special = not quiet and bool(reader.take(1))
    events = _take_events(reader, len(tasks)) if special else {}
    fields: dict[str, object] = {
        "tasks": tasks, "base": base, "cut": cut, "drift": drift, "plated": plated, **events
    }  # fmt: skip
    if needs_time(plate_id, tasks, plated):
        fields["capture_us"] = reader.take(TIME_BITS)
    if needs_size(plate_id, tasks, plated, base is None or bool(fields.get("started"))):
        fields["size"] = take_size(reader)
    if quiet:
        return fields
    shape = Shape(seq, len(tasks), plate_id > 0, base is None)
    if fields.pop("has_plates", False):
        fields["plates"] = take_plates(reader, MAX_PLATES, shape)
    if fields.pop("has_tags", False):
        fields["tags"] = take_tags(reader, len(tasks))
    records = {
        "keys": take_keys(reader, MAX_TRACKS, shape),
        "moves": take_moves(reader, MAX_TRACKS, shape),
        "ends": take_ends(reader, MAX_TRACKS, shape),
        "sightings": take_sightings(reader, MAX_REGIONS, shape),
    }
    if not special and not any(records.values()):
        raise BitstreamError("a packet without records is written as one that has some")
    return fields | records


def _take_link(reader: BitReader, seq: int) -> tuple[int | None, bool]:
    """The frame that a packet continues, if any, and whether the scene is a new one."""
    link = reader.take_gamma(_CUT)
    if link in (_LISTS, _CUT):
        return None, link == _CUT
    base = seq - 1 if link == _NEXT else seq - 2 - reader.take_golomb(3, MAX_DISTANCE)
    if base < 0:
        raise BitstreamError("a packet continues a state before the first frame")
    return base, False


def _take_events(reader: BitReader, tasks: int) -> dict[str, object]:
    has_plates, changing, has_gap, has_tags, has_view = (bool(reader.take(1)) for _ in range(5))
    if not (has_plates or changing or has_gap or has_tags or has_view):
        raise BitstreamError("a packet with nothing special is written as one that has something")
    events: dict[str, object] = {"has_plates": has_plates, "has_tags": has_tags}
    if changing:
        started, stopped = (tuple(task for task in range(tasks) if reader.take(1)) for _ in range(2))
        if not (started or stopped):
            raise BitstreamError("tasks are said to start or stop, but none does")
        events |= {"started": started, "stopped": stopped}
    if has_gap:
        frames = reader.take_golomb(0, MAX_GAP)
        events["gap"] = LostFrames(frames, GapReason(reader.take(GAP_BITS)))
    if has_view:
        view = reader.take_signed(2, MAX_VIEW), reader.take_signed(2, MAX_VIEW)
        if view == (0, 0):
            raise BitstreamError("a shift of the view by nothing is written out")
        events["view"] = view
    return events


def _filled(packet: StreamPacket, payloads: Iterator[bytes]) -> StreamPacket:
    """The packet with its payloads in place of the empty ones."""
    replace = dataclasses.replace

    def plate(old: Plate) -> Plate:
        return old if old.payload is None else replace(old, payload=next(payloads))

    # In the order of the payloads: plates, keys, refreshes.
    plates = tuple(plate(old) for old in packet.plates)
    keys = tuple(
        key if key.atom is None else replace(key, atom=replace(key.atom, payload=next(payloads))) for key in packet.keys
    )
    moves = tuple(
        move if move.atom is None else replace(move, atom=replace(move.atom, payload=next(payloads)))
        for move in packet.moves
    )
    return replace(packet, plates=plates, keys=keys, moves=moves)
