"""Packets: what one frame is on the wire, and how a packet proves itself.

::

    offset  bytes  field
    0       1      magic 0xD5
    1       1      format version (high four bits), mode (low four bits: 0 still)
    2       4      CRC32C of all other bytes, little endian
    6       3      model hash: first bytes of the SHA-256 of the codec's weights and tables
    9       1      quality, 1..8
    10      1-8    seq, varint
    ..      1-8    incarnation, varint
    ..             side information: varint length, then bits (see `_write_side`)
    ..             coarse atom: varint length, then bytes
    ..             atoms: for each, varint length, then bytes (mask, then one coder string)

The same layout serves the archive (all tasks) and a task's substream: `route` copies atom bytes and
writes only the side information anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass

from discover_stream.codec.bits import BitReader, BitWriter, take_varint, varint
from discover_stream.codec.framing import (
    FORMAT_VERSION,
    FRAME_BYTES,
    KEY_BITS,
    MAGIC,
    MAX_LABEL,
    MAX_PACKET,
    MAX_PIXELS,
    MAX_REGIONS,
    MAX_SIDE,
    MAX_TASKS,
    MAX_TRACK,
    MODE_STILL,
    MODEL_BYTES,
    SCORE_BITS,
    SIDE_BITS,
    check_frame,
    put_members,
    put_sized,
    put_tasks,
    sealed,
    take_members,
    take_sized,
    take_tasks,
    task_key,
)
from discover_stream.types import BitstreamError, Box

__all__ = [
    "FORMAT_VERSION",
    "HEADER_LIMIT",
    "KEY_BITS",
    "MAGIC",
    "MAX_ATOMS",
    "MAX_LABEL",
    "MAX_PACKET",
    "MAX_PIXELS",
    "MAX_REGIONS",
    "MAX_SIDE",
    "MAX_TASKS",
    "MAX_TRACK",
    "MODEL_BYTES",
    "MODE_STILL",
    "SCORE_BITS",
    "Packet",
    "PacketAtom",
    "PacketRegion",
    "PacketSize",
    "packet_bytes",
    "packet_size",
    "parse_packet",
    "route",
    "task_key",
    "whole_pixels",
]

MAX_ATOMS = 16384
CAPTURE_BITS = 64
TRACK_SIZE_BITS = 5
LABEL_SIZE_BITS = 4
HEADER_LIMIT = 16
"""Bytes before the side information for seq < 2**28 and incarnation < 2**14."""


@dataclass(frozen=True, slots=True)
class PacketRegion:
    """A region as a packet carries it.

    Attributes:
        box: whole pixels.
        score: 0..63, in 63rds.
        track: stable id, 0 where there is none.
        labels: for each task that has the region, (position of the task in the packet, label index).
    """

    box: Box
    score: int
    track: int
    labels: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PacketAtom:
    """An atom's bytes, and the positions of the tasks (in the packet) that get it."""

    tasks: tuple[int, ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame for one or several tasks. `tasks` holds their 16-bit keys, ascending."""

    model: bytes
    quality: int
    seq: int
    incarnation: int
    capture_ns: int
    width: int
    height: int
    tasks: tuple[int, ...]
    regions: tuple[PacketRegion, ...]
    coarse: bytes
    atoms: tuple[PacketAtom, ...]


@dataclass(frozen=True, slots=True)
class PacketSize:
    """Bytes of a packet by part. `framing` is the length fields."""

    header: int
    side_information: int
    coarse: int
    atoms: int
    framing: int

    @property
    def total(self) -> int:
        """All bytes of the packet."""
        return self.header + self.side_information + self.coarse + self.atoms + self.framing


def _write_side(packet: Packet) -> bytes:
    writer = BitWriter()
    writer.put(packet.width - 1, SIDE_BITS)
    writer.put(packet.height - 1, SIDE_BITS)
    writer.put(packet.capture_ns, CAPTURE_BITS)
    writer.put(len(packet.tasks), 6)
    put_tasks(writer, packet.tasks)
    across, down = packet.width.bit_length(), packet.height.bit_length()
    writer.put_gamma(len(packet.regions) + 1)
    for region in packet.regions:
        for value, bits in zip(_corners(region.box), (across, down, across, down), strict=True):
            writer.put(value, bits)
        writer.put(region.score, SCORE_BITS)
        put_sized(writer, region.track, TRACK_SIZE_BITS)
        put_members(writer, [task for task, _ in region.labels], len(packet.tasks))
        for _, label in sorted(region.labels):
            put_sized(writer, label, LABEL_SIZE_BITS)
    writer.put_gamma(len(packet.atoms) + 1)
    for atom in packet.atoms:
        put_members(writer, atom.tasks, len(packet.tasks))
    return writer.bytes()


def _corners(box: Box) -> tuple[int, int, int, int]:
    return int(box.x0), int(box.y0), int(box.x1), int(box.y1)


def _read_region(reader: BitReader, width: int, height: int, tasks: int) -> PacketRegion:
    across, down = width.bit_length(), height.bit_length()
    x0, y0, x1, y1 = (reader.take(bits) for bits in (across, down, across, down))
    if not (x0 <= x1 <= width and y0 <= y1 <= height):
        raise BitstreamError("a box lies outside the picture")
    score = reader.take(SCORE_BITS)
    track = take_sized(reader, TRACK_SIZE_BITS)
    members = take_members(reader, tasks)
    labels = tuple((task, take_sized(reader, LABEL_SIZE_BITS)) for task in members)
    return PacketRegion(Box(x0, y0, x1, y1), score, track, labels)


def packet_bytes(packet: Packet) -> bytes:
    """The packet on the wire.

    Raises:
        BitstreamError: the packet is larger than 4 MiB.
        ValueError: a field does not fit its bits, or there are more regions or atoms than the format allows.
    """
    if len(packet.regions) > MAX_REGIONS or len(packet.atoms) > MAX_ATOMS or len(packet.model) != MODEL_BYTES:
        raise ValueError(
            f"a packet holds at most {MAX_REGIONS} regions, {MAX_ATOMS} atoms and {MODEL_BYTES} bytes of model hash"
        )
    parts = [
        bytes((packet.quality,)),
        varint(packet.seq),
        varint(packet.incarnation),
    ]
    for block in (_write_side(packet), packet.coarse, *(atom.payload for atom in packet.atoms)):
        parts += [varint(len(block)), block]
    return sealed(MODE_STILL, packet.model, b"".join(parts), packet.seq)


def parse_packet(data: bytes, *, camera: str = "?") -> Packet:
    """Read a packet.

    Args:
        data: its bytes, exactly.
        camera: named in errors.

    Raises:
        BitstreamError: the bytes are damaged, foreign or beyond a bound; the message names camera,
            seq (where it could be read) and cause.
    """
    where = f"camera {camera}"
    try:
        check_frame(data, MODE_STILL)
        model, quality = data[6:FRAME_BYTES], data[9]
        if not 1 <= quality <= 8:
            raise BitstreamError(f"quality {quality} is not in 1..8")
        seq, position = take_varint(data, 10)
        where = f"camera {camera}, seq {seq}"
        return _parse_body(data, model, quality, seq, position)
    except BitstreamError as error:
        raise BitstreamError(f"{where}: {error}") from None


def _parse_body(data: bytes, model: bytes, quality: int, seq: int, position: int) -> Packet:
    incarnation, position = take_varint(data, position)
    side, position = _take_block(data, position)
    reader = BitReader(side)
    width, height = reader.take(SIDE_BITS) + 1, reader.take(SIDE_BITS) + 1
    if width * height > MAX_PIXELS:
        raise BitstreamError(f"a picture of {width}x{height} exceeds the bound of {MAX_PIXELS} pixels")
    capture_ns = reader.take(CAPTURE_BITS)
    tasks = take_tasks(reader, reader.take(6))
    regions = tuple(
        _read_region(reader, width, height, len(tasks)) for _ in range(reader.take_gamma(MAX_REGIONS + 1) - 1)
    )
    members = [take_members(reader, len(tasks)) for _ in range(reader.take_gamma(MAX_ATOMS + 1) - 1)]
    reader.finish()
    coarse, position = _take_block(data, position)
    atoms = []
    for member in members:
        payload, position = _take_block(data, position)
        atoms.append(PacketAtom(member, payload))
    if position != len(data):
        raise BitstreamError(f"{len(data) - position} bytes are left over after the last atom")
    return Packet(model, quality, seq, incarnation, capture_ns, width, height, tasks, regions, coarse, tuple(atoms))


def _take_block(data: bytes, position: int) -> tuple[bytes, int]:
    length, position = take_varint(data, position)
    if position + length > len(data):
        raise BitstreamError("a block runs past the end of the packet")
    return data[position : position + length], position + length


def route(packet: Packet, tasks: Collection[int]) -> Packet:
    """The packet of a subscriber of `tasks` (keys): their regions and atoms, and the coarse atom.

    Atom bytes are copied as they are. Keys that the packet does not have are ignored.
    """
    kept = [index for index, key in enumerate(packet.tasks) if key in tasks]
    renumber = {old: new for new, old in enumerate(kept)}
    regions = []
    for region in packet.regions:
        labels = tuple((renumber[task], label) for task, label in region.labels if task in renumber)
        if labels:
            regions.append(dataclasses.replace(region, labels=labels))
    atoms = []
    for atom in packet.atoms:
        members = tuple(renumber[task] for task in atom.tasks if task in renumber)
        if members:
            atoms.append(PacketAtom(members, atom.payload))
    return dataclasses.replace(
        packet,
        tasks=tuple(packet.tasks[index] for index in kept),
        regions=tuple(regions),
        atoms=tuple(atoms),
    )


def packet_size(packet: Packet) -> PacketSize:
    """Where the bytes of a packet go; the parts add up to `len(packet_bytes(packet))`."""
    header = 10 + len(varint(packet.seq)) + len(varint(packet.incarnation))
    side = len(_write_side(packet))
    atoms = sum(len(atom.payload) for atom in packet.atoms)
    lengths = [side, len(packet.coarse), *(len(atom.payload) for atom in packet.atoms)]
    framing = sum(len(varint(length)) for length in lengths)
    return PacketSize(header, side, len(packet.coarse), atoms, framing)


def whole_pixels(box: Box, width: int, height: int) -> Box:
    """The box grown to whole pixels and cut to the picture; it touches the same cells as before."""
    cut = box.clipped(width, height)
    return Box(math.floor(cut.x0), math.floor(cut.y0), math.ceil(cut.x1), math.ceil(cut.y1))
