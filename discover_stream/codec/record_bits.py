"""The bits of a stream packet's records of tracks. docs/bitstream.md says the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from discover_stream.codec.bits import BitReader, BitWriter, golomb_bits, zigzag
from discover_stream.codec.framing import (
    MAX_LABEL,
    MAX_TRACK,
    SCORE_BITS,
    put_members,
    take_members,
)
from discover_stream.codec.mask import read_mask, write_mask
from discover_stream.codec.records import (
    MAX_COORDINATE,
    MAX_DISTANCE,
    MAX_EXTENT,
    MAX_GRID,
    MAX_LIFT,
    MAX_SHIFT,
    MAX_SLOT,
    MAX_SPEED,
    STILL,
    Atom,
    AtomCoding,
    Cells,
    Delta,
    End,
    Key,
    Move,
    QuarterBox,
    Ref,
    Speed,
    Window,
    check_grid,
)
from discover_stream.codec.stream_packet import MAX_PACKET_CELLS
from discover_stream.types import BitstreamError

ORDER_BITS = 3
QUALITY_BITS = 3
_ZOOMS = {0: (0b1, 1), 1: (0b01, 2), 2: (0b001, 3), -1: (0b000, 3)}
"""Value and bits of each zoom of an atom."""


@dataclass(slots=True)
class Shape:
    """What the coding of a record depends on.

    Attributes:
        seq: of the packet.
        tasks: how many it has.
        on_plate: whether it names a plate.
        lists: whether it lists all tracks.
        cells: what grids with masks may still hold; goes down while reading.
    """

    seq: int
    tasks: int
    on_plate: bool
    lists: bool
    cells: int = field(default=MAX_PACKET_CELLS)


def put_cells(writer: BitWriter, cells: Cells | None) -> None:
    """Append one bit that says whether all cells are meant, and if not, their mask."""
    writer.put(int(cells is None), 1)
    if cells is not None:
        write_mask(writer, cells.mask)


def take_cells(reader: BitReader, rows: int, columns: int, shape: Shape) -> Cells | None:
    """The cells of a grid that come next."""
    return None if reader.take(1) else _take_mask(reader, rows, columns, shape)


def _take_mask(reader: BitReader, rows: int, columns: int, shape: Shape) -> Cells:
    check_grid(rows, columns)
    shape.cells -= rows * columns
    if shape.cells < 0:
        raise BitstreamError(f"masks of more than {MAX_PACKET_CELLS} cells exceed the bound of a packet")
    cells = Cells.of(read_mask(reader, rows, columns))
    if cells is None:
        raise BitstreamError("all cells are written as a mask")
    return cells


def put_labels(writer: BitWriter, labels: Sequence[tuple[int, int]], tasks: int) -> None:
    """Append the tasks of a record and its label in each."""
    put_members(writer, [task for task, _ in labels], tasks)
    for _, label in labels:
        writer.put_golomb(label, 4)


def take_labels(reader: BitReader, tasks: int) -> tuple[tuple[int, int], ...]:
    """The next tasks and labels."""
    return tuple((task, reader.take_golomb(4, MAX_LABEL)) for task in take_members(reader, tasks))


def _put_box(writer: BitWriter, box: QuarterBox) -> None:
    writer.put_signed(box.x, 10)
    writer.put_signed(box.y, 10)
    writer.put_golomb(box.width - 1, 7)
    writer.put_golomb(box.height - 1, 7)


def _take_box(reader: BitReader) -> QuarterBox:
    x, y = reader.take_signed(10, MAX_COORDINATE), reader.take_signed(10, MAX_COORDINATE)
    return QuarterBox(x, y, reader.take_golomb(7, MAX_EXTENT - 1) + 1, reader.take_golomb(7, MAX_EXTENT - 1) + 1)


def _put_speed(writer: BitWriter, speed: Speed) -> None:
    writer.put(int(speed != STILL), 1)
    if speed != STILL:
        for value, order in zip(speed.values, (5, 5, 2, 2), strict=True):
            writer.put_signed(value, order)


def _take_speed(reader: BitReader) -> Speed:
    if not reader.take(1):
        return STILL
    speed = Speed(*(reader.take_signed(order, MAX_SPEED) for order in (5, 5, 2, 2)))
    if speed == STILL:
        raise BitstreamError("a speed of zero is written out")
    return speed


def _put_atom(writer: BitWriter, atom: Atom, box: QuarterBox, shape: Shape) -> None:
    """All of an atom but its payload."""
    writer.put(atom.coding, 1)
    if atom.coding == AtomCoding.LATENT:
        writer.put(atom.quality - 1, QUALITY_BITS)
        writer.put(int(atom.own_z), 1)
    if shape.on_plate:
        writer.put(int(atom.on_plate), 1)
    writer.put(*_ZOOMS[atom.zoom])
    usual = Window.around(box, atom.zoom)
    writer.put(int(atom.window == usual), 1)
    if atom.window != usual:
        writer.put_signed(atom.window.x - usual.x, 4)
        writer.put_signed(atom.window.y - usual.y, 4)
        writer.put_golomb(atom.window.rows - 1, 2)
        writer.put_golomb(atom.window.columns - 1, 2)
    put_cells(writer, atom.cells)


def _take_atom(reader: BitReader, box: QuarterBox, shape: Shape) -> Atom:
    coding, quality, own_z = AtomCoding(reader.take(1)), 0, False
    if coding == AtomCoding.LATENT:
        quality, own_z = reader.take(QUALITY_BITS) + 1, bool(reader.take(1))
    on_plate = shape.on_plate and bool(reader.take(1))
    zoom = _take_zoom(reader)
    window = usual = Window.around(box, zoom)
    if not reader.take(1):
        x = usual.x + reader.take_signed(4, MAX_SHIFT)
        y = usual.y + reader.take_signed(4, MAX_SHIFT)
        rows = reader.take_golomb(2, MAX_GRID - 1) + 1
        window = Window(x, y, rows, reader.take_golomb(2, MAX_GRID - 1) + 1)
        if window == usual:
            raise BitstreamError("the usual window of an atom is written out")
    cells = take_cells(reader, window.rows, window.columns, shape)
    return Atom(window, cells, quality, own_z, on_plate, b"", coding, zoom)


def _take_zoom(reader: BitReader) -> int:
    if reader.take(1):
        return 0
    if reader.take(1):
        return 1
    return 2 if reader.take(1) else -1


def put_keys(writer: BitWriter, keys: Sequence[Key], shape: Shape) -> None:
    """Append all keys."""
    writer.put_gamma(len(keys) + 1)
    slot = -1
    for key in keys:
        writer.put_golomb(key.slot - slot - 1, 0)
        slot = key.slot
        writer.put_golomb(key.track - 1, 7)
        put_labels(writer, key.labels, shape.tasks)
        writer.put(key.score, SCORE_BITS)
        _put_box(writer, key.box)
        _put_speed(writer, key.speed)
        writer.put(int(key.lift != 0), 1)
        if key.lift:
            writer.put_signed(key.lift, 5)
        writer.put(int(key.atom is not None), 1)
        if key.atom is not None:
            _put_atom(writer, key.atom, key.box, shape)


def take_keys(reader: BitReader, most: int, shape: Shape) -> tuple[Key, ...]:
    """The next keys, their atoms without payloads."""
    keys: list[Key] = []
    slot = -1
    for _ in range(reader.take_gamma(most + 1) - 1):
        slot += reader.take_golomb(0, MAX_SLOT) + 1
        track = reader.take_golomb(7, MAX_TRACK - 1) + 1
        labels = take_labels(reader, shape.tasks)
        score, box, speed = reader.take(SCORE_BITS), _take_box(reader), _take_speed(reader)
        lift = 0
        if reader.take(1):
            lift = reader.take_signed(5, MAX_LIFT)
            if not lift:
                raise BitstreamError("a lift of zero is written out")
        atom = _take_atom(reader, box, shape) if reader.take(1) else None
        keys.append(Key(slot, track, box, score, labels, speed, lift, atom))
    return tuple(keys)


class _Refs:
    """Names of keys in their order: each is coded by its distance to the one before."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._distance, self._slot, self._first = 1, -1, True

    def put(self, writer: BitWriter, ref: Ref) -> None:
        distance = self._seq - ref.seq
        writer.put_golomb(distance - self._distance, 3)
        same = distance == self._distance and not self._first
        writer.put_golomb(ref.slot - (self._slot + 1 if same else 0), 0)
        self._distance, self._slot, self._first = distance, ref.slot, False

    def take(self, reader: BitReader) -> Ref:
        distance = self._distance + reader.take_golomb(3, MAX_DISTANCE)
        if distance > min(MAX_DISTANCE, self._seq):
            raise BitstreamError("a track's key lies before the first frame or too far back")
        same = distance == self._distance and not self._first
        slot = (self._slot + 1 if same else 0) + reader.take_golomb(0, MAX_SLOT)
        self._distance, self._slot, self._first = distance, slot, False
        return Ref(self._seq - distance, slot)


def golomb_orders(moves: Sequence[Move]) -> tuple[int, int]:
    """The orders for positions and sizes of all changes: those that need the fewest bits, lower first."""
    changes = [move.place.values for move in moves if isinstance(move.place, Delta)]

    def best(values: Sequence[int]) -> int:
        return min(range(2**ORDER_BITS), key=lambda order: sum(golomb_bits(zigzag(value), order) for value in values))

    return best([value for change in changes for value in change[:2]]), best(
        [v for change in changes for v in change[2:]]
    )


def put_moves(writer: BitWriter, moves: Sequence[Move], shape: Shape) -> None:
    """Append all moves."""
    writer.put_gamma(len(moves) + 1)
    if not moves:
        return
    orders = golomb_orders(moves)
    for order in orders:
        writer.put(order, ORDER_BITS)
    refs = _Refs(shape.seq)
    for move in moves:
        refs.put(writer, move.ref)
        put_members(writer, move.members, shape.tasks)
        _put_place(writer, move, orders)
        _put_rest(writer, move, shape)


def _put_place(writer: BitWriter, move: Move, orders: tuple[int, int]) -> None:
    if isinstance(move.place, Delta):
        writer.put(1, 1)
        for index, value in enumerate(move.place.values):
            writer.put_signed(value, orders[index // 2])
    elif move.place is None:
        writer.put(0b01, 2)
    else:
        writer.put(0b00, 2)
        _put_box(writer, move.place)


def _put_rest(writer: BitWriter, move: Move, shape: Shape) -> None:
    flags = [
        move.score is not None,
        move.speed is not None,
        move.lift is not None,
        move.hidden,
        move.shown is not None,
        move.atom is not None,
    ]
    writer.put(int(any(flags)), 1)
    if any(flags):
        for flag in flags:
            writer.put(int(flag), 1)
    if move.score is not None:
        writer.put(move.score, SCORE_BITS)
    if move.speed is not None:
        _put_speed(writer, move.speed)
    if move.lift is not None:
        writer.put_signed(move.lift, 5)
    if move.shown is not None:
        writer.put_golomb(move.shown.rows - 1, 2)
        writer.put_golomb(move.shown.columns - 1, 2)
        write_mask(writer, move.shown.mask)
    if move.atom is not None and isinstance(move.place, QuarterBox):
        _put_atom(writer, move.atom, move.place, shape)
    elif shape.lists:
        writer.put(int(move.source is not None), 1)
        if move.source is not None:
            writer.put_golomb(shape.seq - move.source - 1, 3)


def take_moves(reader: BitReader, most: int, shape: Shape) -> tuple[Move, ...]:
    """The next moves, their atoms without payloads."""
    count = reader.take_gamma(most + 1) - 1
    if not count:
        return ()
    orders = reader.take(ORDER_BITS), reader.take(ORDER_BITS)
    refs = _Refs(shape.seq)
    moves = tuple(_take_move(reader, refs.take(reader), orders, shape) for _ in range(count))
    if golomb_orders(moves) != orders:
        raise BitstreamError("moves are not written in the orders that need the fewest bits")
    return moves


def _take_move(reader: BitReader, ref: Ref, orders: tuple[int, int], shape: Shape) -> Move:
    members = take_members(reader, shape.tasks)
    place: Delta | QuarterBox | None = None
    if reader.take(1):
        place = Delta(*(reader.take_signed(orders[index // 2], 2 * MAX_COORDINATE) for index in range(4)))
    elif not reader.take(1):
        place = _take_box(reader)
    flags = [False] * 6
    if reader.take(1):
        flags = [bool(reader.take(1)) for _ in range(6)]
        if not any(flags):
            raise BitstreamError("a move that says nothing more is written as one that does")
    score = reader.take(SCORE_BITS) if flags[0] else None
    speed = _take_speed(reader) if flags[1] else None
    lift = reader.take_signed(5, MAX_LIFT) if flags[2] else None
    shown, atom, source = None, None, None
    if flags[4]:
        rows = reader.take_golomb(2, MAX_GRID - 1) + 1
        shown = _take_mask(reader, rows, reader.take_golomb(2, MAX_GRID - 1) + 1, shape)
    if flags[5]:
        if not isinstance(place, QuarterBox):
            raise BitstreamError("a refresh has no box of its own")
        atom = _take_atom(reader, place, shape)
    elif shape.lists and reader.take(1):
        source = shape.seq - 1 - reader.take_golomb(3, MAX_DISTANCE - 1)
    return Move(ref, members, place, score, speed, lift, flags[3], shown, source, atom)


def put_ends(writer: BitWriter, ends: Sequence[End], shape: Shape) -> None:
    """Append all ends; nothing in a packet that lists all tracks."""
    if shape.lists:
        return
    writer.put_gamma(len(ends) + 1)
    refs = _Refs(shape.seq)
    for end in ends:
        refs.put(writer, end.ref)
        put_members(writer, end.members, shape.tasks)


def take_ends(reader: BitReader, most: int, shape: Shape) -> tuple[End, ...]:
    """The next ends."""
    if shape.lists:
        return ()
    refs = _Refs(shape.seq)
    count = reader.take_gamma(most + 1) - 1
    return tuple(End(refs.take(reader), take_members(reader, shape.tasks)) for _ in range(count))
