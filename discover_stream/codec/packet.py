"""Packets: what one frame is on the wire, and how a packet proves itself.

::

    offset  bytes  field
    0       1      magic 0xD5
    1       1      format version (high four bits), regions only (bit 3), mode (low three bits: 0 still)
    2       4      CRC32C of all other bytes, little endian
    6       3      model hash: first bytes of the SHA-256 of the codec's weights and tables
    9       1      quality, 1..8
    10      1-8    seq, varint
    ..      1-8    incarnation, varint
    ..             side information: varint length, then bits (see `_write_side`)
    ..             coarse atom: varint length, then bytes; not with regions only
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
    REGIONS_ONLY,
    SCORE_BITS,
    SIDE_BITS,
    TRACK_ORDER,
    check_frame,
    check_tags,
    put_members,
    put_sized,
    put_tags,
    put_tasks,
    sealed,
    take_members,
    take_sized,
    take_tags,
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
    "stripped",
    "task_key",
    "whole_pixels",
]

MAX_ATOMS = 16384
CAPTURE_BITS = 64
EXTENT_ORDER = 5
"""Of the codes of a region's width and height."""
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
    """One frame for one or several tasks.

    Attributes:
        model: the three bytes that name the codec's weights.
        quality: 1..8.
        seq: of the frame.
        incarnation: of the encoder.
        capture_ns: capture time, ns since the epoch.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        tasks: 16-bit keys, ascending.
        regions: of all tasks.
        coarse: the coarse atom's bytes.
        atoms: of all tasks.
        tags: for some tasks, (position, ascending label indices) of what is in the picture as a whole.
        regions_only: there is nothing of the picture, not even a coarse atom.
    """

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
    tags: tuple[tuple[int, tuple[int, ...]], ...] = ()
    regions_only: bool = False


@dataclass(frozen=True, slots=True)
class PacketSize:
    """Bytes of a packet by part. `framing` is the length fields; only packets of stream mode have plates."""

    header: int
    side_information: int
    coarse: int
    atoms: int
    framing: int
    plates: int = 0

    @property
    def total(self) -> int:
        """All bytes of the packet."""
        return self.header + self.side_information + self.coarse + self.atoms + self.framing + self.plates


def _write_side(packet: Packet) -> bytes:
    writer = BitWriter()
    writer.put(packet.width - 1, SIDE_BITS)
    writer.put(packet.height - 1, SIDE_BITS)
    writer.put(packet.capture_ns, CAPTURE_BITS)
    writer.put(len(packet.tasks), 6)
    put_tasks(writer, packet.tasks)
    writer.put_gamma(len(packet.regions) + 1)
    before: PacketRegion | None = None
    for region in packet.regions:
        _put_region(writer, region, before, packet)
        before = region
    writer.put(int(bool(packet.tags)), 1)
    if packet.tags:
        put_tags(writer, packet.tags, len(packet.tasks))
    if not packet.regions_only:
        writer.put_gamma(len(packet.atoms) + 1)
        for atom in packet.atoms:
            put_members(writer, atom.tasks, len(packet.tasks))
    return writer.bytes()


def _put_region(writer: BitWriter, region: PacketRegion, before: PacketRegion | None, packet: Packet) -> None:
    """Append a region; its track, and mostly its labels, are told by how they differ from the region before."""
    x0, y0, x1, y1 = (int(value) for value in (region.box.x0, region.box.y0, region.box.x1, region.box.y1))
    if x0 > x1 or y0 > y1 or not 0 <= region.track <= MAX_TRACK:
        raise ValueError(f"a region has no box, or a track outside 0..{MAX_TRACK}: {region}")
    writer.put(x0, packet.width.bit_length())
    writer.put(y0, packet.height.bit_length())
    writer.put_golomb(x1 - x0, EXTENT_ORDER)
    writer.put_golomb(y1 - y0, EXTENT_ORDER)
    writer.put(region.score, SCORE_BITS)
    writer.put_signed(region.track - (before.track if before else 0), TRACK_ORDER)
    labels = tuple(sorted(region.labels))
    if before is not None:
        same = labels == tuple(sorted(before.labels))
        writer.put(int(same), 1)
        if same:
            return
    put_members(writer, [task for task, _ in labels], len(packet.tasks))
    for _, label in labels:
        put_sized(writer, label, LABEL_SIZE_BITS)


def _read_region(reader: BitReader, before: PacketRegion | None, width: int, height: int, tasks: int) -> PacketRegion:
    x0, y0 = reader.take(width.bit_length()), reader.take(height.bit_length())
    x1, y1 = x0 + reader.take_golomb(EXTENT_ORDER, MAX_SIDE), y0 + reader.take_golomb(EXTENT_ORDER, MAX_SIDE)
    if x1 > width or y1 > height:
        raise BitstreamError("a box lies outside the picture")
    score = reader.take(SCORE_BITS)
    track = (before.track if before else 0) + reader.take_signed(TRACK_ORDER, MAX_TRACK)
    if not 0 <= track <= MAX_TRACK:
        raise BitstreamError(f"a track {track} is outside 0..{MAX_TRACK}")
    box = Box(x0, y0, x1, y1)
    if before is not None and reader.take(1):
        return PacketRegion(box, score, track, before.labels)
    labels = tuple((task, take_sized(reader, LABEL_SIZE_BITS)) for task in take_members(reader, tasks))
    if before is not None and labels == before.labels:
        raise BitstreamError("a region writes out the labels of the one before")
    return PacketRegion(box, score, track, labels)


def packet_bytes(packet: Packet) -> bytes:
    """The packet on the wire.

    Raises:
        BitstreamError: the packet is larger than 4 MiB.
        ValueError: a field does not fit its bits, there are more regions or atoms than the format allows, or a
            packet of regions only holds something of the picture.
    """
    if len(packet.regions) > MAX_REGIONS or len(packet.atoms) > MAX_ATOMS or len(packet.model) != MODEL_BYTES:
        raise ValueError(
            f"a packet holds at most {MAX_REGIONS} regions, {MAX_ATOMS} atoms and {MODEL_BYTES} bytes of model hash"
        )
    if packet.regions_only and (packet.coarse or packet.atoms):
        raise ValueError("a packet of regions only has no coarse atom and no atoms; see `stripped`")
    if not 1 <= packet.quality <= 8:
        raise ValueError(f"quality {packet.quality} is not in 1..8")
    check_tags(packet.tags, len(packet.tasks))
    parts = [
        bytes((packet.quality,)),
        varint(packet.seq),
        varint(packet.incarnation),
    ]
    for block in _blocks(packet):
        parts += [varint(len(block)), block]
    mode = MODE_STILL | REGIONS_ONLY * packet.regions_only
    return sealed(mode, packet.model, b"".join(parts), packet.seq)


def _blocks(packet: Packet) -> list[bytes]:
    """What stands in the packet after its header, each behind its length."""
    side = _write_side(packet)
    return [side] if packet.regions_only else [side, packet.coarse, *(atom.payload for atom in packet.atoms)]


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
        regions_only = check_frame(data, MODE_STILL)
        model, quality = data[6:FRAME_BYTES], data[9]
        if not 1 <= quality <= 8:
            raise BitstreamError(f"quality {quality} is not in 1..8")
        seq, position = take_varint(data, 10)
        where = f"camera {camera}, seq {seq}"
        return _parse_body(data, position, model, quality, seq, regions_only)
    except BitstreamError as error:
        raise BitstreamError(f"{where}: {error}") from None


def _parse_body(data: bytes, position: int, model: bytes, quality: int, seq: int, regions_only: bool) -> Packet:
    incarnation, position = take_varint(data, position)
    side, position = _take_block(data, position)
    reader = BitReader(side)
    width, height = reader.take(SIDE_BITS) + 1, reader.take(SIDE_BITS) + 1
    if width * height > MAX_PIXELS:
        raise BitstreamError(f"a picture of {width}x{height} exceeds the bound of {MAX_PIXELS} pixels")
    capture_ns = reader.take(CAPTURE_BITS)
    tasks = take_tasks(reader, reader.take(6))
    regions: list[PacketRegion] = []
    for _ in range(reader.take_gamma(MAX_REGIONS + 1) - 1):
        regions.append(_read_region(reader, regions[-1] if regions else None, width, height, len(tasks)))
    tags = take_tags(reader, len(tasks)) if reader.take(1) else ()
    count = 0 if regions_only else reader.take_gamma(MAX_ATOMS + 1) - 1
    members = [take_members(reader, len(tasks)) for _ in range(count)]
    reader.finish()
    coarse, position = (b"", position) if regions_only else _take_block(data, position)
    atoms = []
    for member in members:
        payload, position = _take_block(data, position)
        atoms.append(PacketAtom(member, payload))
    if position != len(data):
        raise BitstreamError(f"{len(data) - position} bytes are left over after the last atom")
    return Packet(
        model=model,
        quality=quality,
        seq=seq,
        incarnation=incarnation,
        capture_ns=capture_ns,
        width=width,
        height=height,
        tasks=tasks,
        regions=tuple(regions),
        coarse=coarse,
        atoms=tuple(atoms),
        tags=tags,
        regions_only=regions_only,
    )


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
        tags=tuple((renumber[task], listed) for task, listed in packet.tags if task in renumber),
    )


def stripped(packet: Packet) -> Packet:
    """The packet without anything of the picture: regions, tags and what the header says stay."""
    return dataclasses.replace(packet, coarse=b"", atoms=(), regions_only=True)


def packet_size(packet: Packet) -> PacketSize:
    """Where the bytes of a packet go; the parts add up to `len(packet_bytes(packet))`."""
    header = 10 + len(varint(packet.seq)) + len(varint(packet.incarnation))
    blocks = _blocks(packet)
    atoms = sum(len(atom.payload) for atom in packet.atoms)
    framing = sum(len(varint(len(block))) for block in blocks)
    return PacketSize(header, len(blocks[0]), len(packet.coarse), atoms, framing)


def whole_pixels(box: Box, width: int, height: int) -> Box:
    """The box grown to whole pixels and cut to the picture; it touches the same cells as before."""
    cut = box.clipped(width, height)
    return Box(math.floor(cut.x0), math.floor(cut.y0), math.ceil(cut.x1), math.ceil(cut.y1))
