"""Damage that gets past the door: bytes changed inside their framing, with checksums that fit again.

Everything here keeps to one shape: bytes in, bytes out, and a `Random` that decides. `Raw` is the fuzzer's own
mutation (libFuzzer's under `make fuzz`, `any_bytes` in the suite): what it is handed it may change at will.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from random import Random

import crc32c
import msgspec

from discover_stream.codec.bits import take_varint, varint
from discover_stream.codec.framing import FRAME_BYTES, MODE_STREAM, packet_mode
from discover_stream.codec.stream import CRC_BYTES, MAGIC
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError

Raw = Callable[[bytes], bytes]

LENGTH_BYTES = 2
"""Of each part of a list of parts, see `join`."""


def any_bytes(random: Random, data: bytes) -> bytes:
    """One to three small changes anywhere."""
    out = bytearray(data)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(out) + 1)
        kind = random.randrange(6)
        if kind == 0:
            out[place:place] = random.randbytes(random.choice((1, 1, 2, 9)))
        elif kind == 1:
            del out[place : place + random.choice((1, 1, 2, 9, 999))]
        elif kind == 2:
            out[place:place] = out[place : place + random.randint(1, 20)]
        elif place < len(out):
            out[place] = (out[place] ^ 1 << random.randrange(8), random.randrange(256), 0, 255)[random.randrange(4)]
    return bytes(out)


def any_bits(random: Random, data: bytes) -> bytes:
    """Bits flipped, put in or taken out: what follows in a row of bit codes is shifted, as no change of bytes does."""
    bits = int.from_bytes(data, "big")
    count = 8 * len(data)
    for _ in range(random.randint(1, 3)):
        if not count:
            break
        place = random.randrange(count)
        low = bits & (1 << place) - 1
        kind = random.randrange(3)
        if kind == 0:
            bits ^= 1 << place
        elif kind == 1:
            size = random.choice((1, 1, 2, 8))
            bits, count = (bits >> place << size | random.getrandbits(size)) << place | low, count + size
        else:
            size = min(random.choice((1, 1, 2, 8)), count - place)
            bits, count = bits >> place + size << place | low, count - size
    padding = -count % 8
    return (bits << padding).to_bytes((count + padding) // 8, "big")


def resealed(data: bytes) -> bytes:
    """A packet with the checksum that fits it."""
    if len(data) < FRAME_BYTES:
        return data
    return data[:2] + crc32c.crc32c(data[6:], crc32c.crc32c(data[:2])).to_bytes(4, "little") + data[6:]


def intact(data: bytes) -> bool:
    """Whether a packet's checksum fits."""
    return len(data) >= FRAME_BYTES and resealed(data) == data


def join(parts: list[bytes]) -> bytes:
    """Several parts as one input: two bytes of length before each."""
    return b"".join(len(part).to_bytes(LENGTH_BYTES, "little") + part for part in parts)


def split(data: bytes, most: int) -> list[bytes]:
    """At most so many parts of any bytes; the last one may be cut."""
    parts, position = [], 0
    while position < len(data) and len(parts) < most:
        start = position + LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "little")
        parts.append(data[start:position])
    return parts


def still_blocks(data: bytes) -> tuple[bytes, list[bytes]]:
    """What stands before the blocks of a still packet, and the blocks, as far as they go."""
    position = FRAME_BYTES + 1
    for _ in range(2):
        _, position = take_varint(data, position)
    head, blocks = data[:position], []
    while position < len(data):
        length, position = take_varint(data, position)
        blocks.append(data[position : position + length])
        position += length
    return head, blocks


def bent_still(random: Random, raw: Raw, data: bytes) -> bytes:
    """A still packet, changed inside one block (or with one more, one fewer), its lengths and checksum repaired."""
    try:
        head, blocks = still_blocks(data)
    except BitstreamError:
        return resealed(raw(data))
    kind = random.randrange(12)
    if not blocks or kind == 0:
        return resealed(raw(data))
    place = random.choice((0, random.randrange(len(blocks))))
    if kind == 1:
        blocks.insert(place, random.choice(blocks))
    elif kind == 2:
        del blocks[place]
    elif kind == 4:
        pass
    elif place == 0 or kind == 3:
        blocks[place] = any_bits(random, blocks[place])
    else:
        blocks[place] = raw(blocks[place])
    lengths = [varint(len(block)) for block in blocks]
    if blocks and kind == 4:
        # The same number in a longer form, which is none.
        short = lengths[place % len(blocks)]
        lengths[place % len(blocks)] = short[:-1] + bytes((short[-1] | 0x80, 0))
    return resealed(head + b"".join(length + block for length, block in zip(lengths, blocks, strict=True)))


def bent_stream(random: Random, raw: Raw, data: bytes) -> bytes:
    """A stream packet, changed in its bits or in one of its records, its checksum repaired."""
    kind = random.randrange(4)
    if kind == 0:
        return resealed(raw(data))
    if kind == 1:
        return resealed(data[:FRAME_BYTES] + any_bits(random, data[FRAME_BYTES:]))
    try:
        packet = parse_stream_packet(data)
        return stream_packet_bytes(_changed(random, raw, packet))
    except (BitstreamError, ValueError):
        start = random.choice((FRAME_BYTES, 12))
        return resealed(data[:start] + any_bits(random, data[start : start + 60]) + data[start + 60 :])


def _changed(random: Random, raw: Raw, packet: StreamPacket) -> StreamPacket:
    """One field of a packet or of one of its records is another one. Raises ValueError where that cannot be."""
    names = [field.name for field in dataclasses.fields(packet)]
    name = random.choice(names)
    value = getattr(packet, name)
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        place = random.randrange(len(value))
        kind = random.randrange(4)
        if kind == 0:
            value = value[:place] + value[place + 1 :]
        elif kind == 1:
            value = value[: place + 1] + value[place:]
        else:
            value = (*value[:place], _field_changed(random, raw, value[place]), *value[place + 1 :])
        return dataclasses.replace(packet, **{name: value})
    return dataclasses.replace(packet, **{name: _other(random, raw, value)})  # type: ignore[arg-type]


def _field_changed(random: Random, raw: Raw, record: object) -> object:
    assert dataclasses.is_dataclass(record)
    assert not isinstance(record, type)
    name = random.choice([field.name for field in dataclasses.fields(record)])
    return dataclasses.replace(record, **{name: _other(random, raw, getattr(record, name))})


def _other(random: Random, raw: Raw, value: object) -> object:
    """Something of the same type."""
    if isinstance(value, bool):
        return not value
    if type(value) is int:
        far = random.choice((1, -1)) * random.getrandbits(random.choice((3, 12, 31)))
        return random.choice((value + 1, value - 1, 0, value + far))
    if isinstance(value, bytes):
        return raw(value)
    if dataclasses.is_dataclass(value):
        return _field_changed(random, raw, value)
    if isinstance(value, tuple) and value:
        place = random.randrange(len(value))
        return (*value[:place], _other(random, raw, value[place]), *value[place + 1 :])
    return value


def bent_packet(random: Random, raw: Raw, data: bytes) -> bytes:
    """A packet of either mode, changed and repaired."""
    return (bent_stream if packet_mode(data) == MODE_STREAM else bent_still)(random, raw, data)


def bent_sequence(random: Random, raw: Raw, data: bytes, most: int) -> bytes:
    """Packets one after another: one is changed and repaired, or left out, or comes twice, or at another place."""
    parts = split(data, most)
    if not parts:
        return join([resealed(raw(data))])
    place = random.randrange(len(parts))
    kind = random.randrange(8)
    if kind == 0 and len(parts) > 1:
        del parts[place]
    elif kind == 1:
        parts.insert(random.randrange(len(parts) + 1), parts[place])
    elif kind == 2:
        random.shuffle(parts)
    else:
        parts[place] = bent_packet(random, raw, parts[place])
    return join([part for part in parts if len(part) < 256**LENGTH_BYTES])


def file_parts(data: bytes) -> tuple[bytes, list[bytes]]:
    """Packed body of a `.dsv` file's header, and its packets as far as they go. Raises BitstreamError."""
    length, position = take_varint(data, len(MAGIC) + 1)
    body = data[position : position + length]
    position += length + CRC_BYTES
    packets = []
    while data[position : position + 1] == b"P":
        length, position = take_varint(data, position + 1)
        packets.append(data[position : position + length])
        position += length
    return body, packets


def file_of(start: bytes, body: bytes, packets: list[bytes]) -> bytes:
    """A `.dsv` file whose framing and checksums are right, whatever it holds."""
    head = start + varint(len(body)) + body
    head += crc32c.crc32c(head).to_bytes(CRC_BYTES, "little")
    rest = head + b"".join(b"P" + varint(len(packet)) + packet for packet in packets) + b"E" + varint(len(packets))
    return rest + crc32c.crc32c(rest).to_bytes(CRC_BYTES, "little")


def _bent_body(random: Random, raw: Raw, packed: bytes) -> bytes:
    """A header's body, changed before it is packed."""
    try:
        body = zlib.decompressobj().decompress(packed, 2**20)
        stored = msgspec.msgpack.decode(body)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        return raw(packed)
    kind = random.randrange(4)
    if kind == 0:
        return raw(packed)
    if kind == 1 and isinstance(stored, list) and stored:
        place = random.randrange(len(stored))
        stored[place] = _json_like(random)
        return zlib.compress(msgspec.msgpack.encode(stored))
    return zlib.compress(raw(body))


def _json_like(random: Random) -> object:
    choices: tuple[object, ...] = (
        None, -1, 0, 2**40, 1.5, float("nan"), "", "gate\n", "x" * 300, b"", b"abc", [], [0, 0], [1, 0], [2**33, 1],
        [["t", 1, ["a"]], ["t", 1, ["a"]]], [["t", -1, []]], {},
    )  # fmt: skip
    return random.choice(choices)


def bent_file(random: Random, raw: Raw, data: bytes) -> bytes:
    """A `.dsv` file, changed in its header or in one packet, all framing and checksums repaired."""
    try:
        body, packets = file_parts(data)
    except BitstreamError:
        return raw(data)
    start = data[: len(MAGIC) + 1]
    kind = random.randrange(8)
    if not packets or kind == 0:
        return file_of(start, _bent_body(random, raw, body), packets)
    place = random.randrange(len(packets))
    if kind == 1:
        del packets[place]
    elif kind == 2:
        packets.insert(place, packets[place])
    else:
        packets[place] = bent_packet(random, raw, packets[place])
    return file_of(start, body, packets)
