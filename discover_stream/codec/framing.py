"""What packets of both modes share: how they start, prove themselves, and name tasks.

::

    offset  bytes  field
    0       1      magic 0xD5
    1       1      format version (high four bits), regions only (bit 3), mode (low three bits: 0 still, 1 stream)
    2       4      CRC32C of all other bytes, little endian
    6       3      model hash: first bytes of the SHA-256 of the codec's weights and tables
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import crc32c

from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.types import BitstreamError

MAGIC = 0xD5
FORMAT_VERSION = 1
MODE_STILL = 0
MODE_STREAM = 1
REGIONS_ONLY = 8
"""The bit beside the mode of packets that hold nothing of the picture."""
MAX_PACKET = 4 * 2**20
MAX_SIDE = 8192
MAX_PIXELS = 2**25
MAX_TASKS = 63
MAX_REGIONS = 4096
MAX_LABEL = 2**15 - 1
MAX_TAGS = 4096
MAX_TRACK = 2**31 - 1
MODEL_BYTES = 3
SCORE_BITS = 6
TRACK_ORDER = 2
"""Of the code of how far a region's track is from that of the region before: trackers number what they see in turn."""
SIDE_BITS = 13
KEY_BITS = 16
FRAME_BYTES = 9
"""Magic, version and mode, checksum, model hash."""
SHORTEST = 11


def task_key(name: str, version: int) -> int:
    """The 16 bits that stand for a task and its label-set version in packets."""
    return int(crc32c.crc32c(f"{name}@{version}".encode())) & 0xFFFF


def sealed(mode: int, model: bytes, body: bytes, seq: int) -> bytes:
    """A whole packet: what every packet starts with, its checksum, and the rest.

    `mode` holds the bit for regions only, where it is set.

    Raises:
        BitstreamError: the packet is larger than 4 MiB.
    """
    start = bytes((MAGIC, FORMAT_VERSION << 4 | mode))
    rest = model + body
    crc = crc32c.crc32c(rest, crc32c.crc32c(start))
    data = start + crc.to_bytes(4, "little") + rest
    if len(data) > MAX_PACKET:
        raise BitstreamError(f"seq {seq}: the packet has {len(data)} bytes, the bound is {MAX_PACKET}")
    return data


def check_frame(data: bytes, mode: int) -> bool:
    """That bytes are an undamaged packet of the mode; whether it is one of regions only. Raises BitstreamError."""
    if len(data) < SHORTEST:
        raise BitstreamError(f"a packet of {len(data)} bytes is too short; it was cut off")
    if len(data) > MAX_PACKET:
        raise BitstreamError(f"a packet of {len(data)} bytes exceeds the bound of {MAX_PACKET}")
    if data[0] != MAGIC:
        raise BitstreamError("these bytes are not a discover-stream packet (wrong magic)")
    crc = crc32c.crc32c(data[6:], crc32c.crc32c(data[:2]))
    if crc != int.from_bytes(data[2:6], "little"):
        raise BitstreamError("the checksum does not match; the packet was damaged on its way")
    found, names = packet_mode(data), {MODE_STILL: "still", MODE_STREAM: "stream"}
    if data[1] >> 4 == FORMAT_VERSION and found in names and found != mode:
        raise BitstreamError(
            f"format version {FORMAT_VERSION}, mode {found}: a packet of {names[found]} mode"
            f" where one of {names[mode]} mode is read; use the parser of its mode"
        )
    if data[1] >> 4 != FORMAT_VERSION or found != mode:
        raise BitstreamError(f"format version {data[1] >> 4}, mode {found} is not known here; update discover-stream")
    return bool(data[1] & REGIONS_ONLY)


def packet_mode(data: bytes) -> int:
    """The mode a packet says it has, unchecked; -1 for bytes too short to say."""
    return data[1] & 7 if len(data) > 1 else -1


def put_sized(writer: BitWriter, value: int, size_bits: int) -> None:
    """Append a length in `size_bits` bits and the value in that many."""
    size = value.bit_length()
    writer.put(size, size_bits)
    writer.put(value, size)


def take_sized(reader: BitReader, size_bits: int) -> int:
    """The next number of `put_sized`. Raises BitstreamError where it is not in its shortest form."""
    size = reader.take(size_bits)
    value = reader.take(size)
    if value.bit_length() != size:
        raise BitstreamError("a number is written longer than needed")
    return value


def put_members(writer: BitWriter, members: Collection[int], tasks: int) -> None:
    """Which tasks: one bit each, nothing where there is only one task to belong to."""
    if tasks > 1:
        for index in range(tasks):
            writer.put(int(index in members), 1)


def take_members(reader: BitReader, tasks: int) -> tuple[int, ...]:
    """The positions of the tasks that something belongs to. Raises BitstreamError where there are none."""
    members = tuple(i for i in range(tasks) if reader.take(1)) if tasks > 1 else (0,)
    if not members or not tasks:
        raise BitstreamError("a region, an atom or a tag belongs to no task")
    return members


def check_tags(tags: Sequence[tuple[int, Sequence[int]]], tasks: int) -> None:
    """Refuse tags that are not of ascending task positions, or not ascending labels. Raises ValueError."""
    positions = [task for task, _ in tags]
    if positions != sorted(set(positions)) or any(not 0 <= task < tasks for task in positions):
        raise ValueError(f"tags must be of tasks of the packet, once each, in ascending order, not {positions}")
    for _, listed in tags:
        labels = all(0 <= tag <= MAX_LABEL for tag in listed)
        if len(listed) > MAX_TAGS or list(listed) != sorted(set(listed)) or not labels:
            raise ValueError(f"tags must be at most {MAX_TAGS} ascending labels of 0..{MAX_LABEL}")


def put_tags(writer: BitWriter, tags: Sequence[tuple[int, Sequence[int]]], tasks: int) -> None:
    """Append the tags of at least one task: (position of the task, ascending label indices)."""
    put_members(writer, [task for task, _ in tags], tasks)
    for _, listed in tags:
        writer.put_golomb(len(listed), 2)
        for before, tag in zip((-1, *listed), listed, strict=False):
            writer.put_golomb(tag - before - 1, 3)


def take_tags(reader: BitReader, tasks: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The next tags. Raises BitstreamError where there are none, or a tag is no label index."""
    found = []
    for task in take_members(reader, tasks):
        listed: list[int] = []
        for _ in range(reader.take_golomb(2, MAX_TAGS)):
            listed.append((listed[-1] if listed else -1) + 1 + reader.take_golomb(3, MAX_LABEL))
        if listed and listed[-1] > MAX_LABEL:
            raise BitstreamError(f"a tag is beyond the largest label index of {MAX_LABEL}")
        found.append((task, tuple(listed)))
    return tuple(found)


def put_tasks(writer: BitWriter, tasks: Collection[int]) -> None:
    """Append the keys of a packet's tasks."""
    for key in tasks:
        writer.put(key, KEY_BITS)


def take_tasks(reader: BitReader, count: int) -> tuple[int, ...]:
    """The next `count` task keys. Raises BitstreamError where they do not ascend."""
    tasks = tuple(reader.take(KEY_BITS) for _ in range(count))
    if sorted(set(tasks)) != list(tasks):
        raise BitstreamError("the tasks are not in ascending order")
    return tasks
