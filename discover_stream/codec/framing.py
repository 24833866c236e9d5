"""What packets of both modes share: how they start, prove themselves, and name tasks.

::

    offset  bytes  field
    0       1      magic 0xD5
    1       1      format version (high four bits), mode (low four bits: 0 still, 1 stream)
    2       4      CRC32C of all other bytes, little endian
    6       3      model hash: first bytes of the SHA-256 of the codec's weights and tables
"""

from __future__ import annotations

from collections.abc import Collection

import crc32c

from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.types import BitstreamError

MAGIC = 0xD5
FORMAT_VERSION = 1
MODE_STILL = 0
MODE_STREAM = 1
MAX_PACKET = 4 * 2**20
MAX_SIDE = 8192
MAX_PIXELS = 2**25
MAX_TASKS = 63
MAX_REGIONS = 4096
MAX_LABEL = 2**15 - 1
MAX_TRACK = 2**31 - 1
MODEL_BYTES = 3
SCORE_BITS = 6
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


def check_frame(data: bytes, mode: int) -> None:
    """That bytes are an undamaged packet of the mode. Raises BitstreamError."""
    if len(data) < SHORTEST:
        raise BitstreamError(f"a packet of {len(data)} bytes is too short; it was cut off")
    if len(data) > MAX_PACKET:
        raise BitstreamError(f"a packet of {len(data)} bytes exceeds the bound of {MAX_PACKET}")
    if data[0] != MAGIC:
        raise BitstreamError("these bytes are not a discover-stream packet (wrong magic)")
    crc = crc32c.crc32c(data[6:], crc32c.crc32c(data[:2]))
    if crc != int.from_bytes(data[2:6], "little"):
        raise BitstreamError("the checksum does not match; the packet was damaged on its way")
    if data[1] >> 4 == FORMAT_VERSION and data[1] & 15 in (MODE_STILL, MODE_STREAM) and data[1] & 15 != mode:
        names = {MODE_STILL: "still", MODE_STREAM: "stream"}
        raise BitstreamError(
            f"format version {FORMAT_VERSION}, mode {data[1] & 15}: a packet of {names[data[1] & 15]} mode"
            f" where one of {names[mode]} mode is read; use the parser of its mode"
        )
    if data[1] != FORMAT_VERSION << 4 | mode:
        raise BitstreamError(
            f"format version {data[1] >> 4}, mode {data[1] & 15} is not known here; update discover-stream"
        )


def packet_mode(data: bytes) -> int:
    """The mode a packet says it has, unchecked; -1 for bytes too short to say."""
    return data[1] & 15 if len(data) > 1 else -1


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
        raise BitstreamError("a region or an atom belongs to no task")
    return members


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
