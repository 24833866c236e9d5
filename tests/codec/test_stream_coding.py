from __future__ import annotations

import dataclasses
from random import Random

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_golden import PATH, STREAM, lines
from stream_cases import random_packet

from discover_stream.codec.bits import BitWriter
from discover_stream.codec.framing import MAX_PACKET, MODE_STREAM, sealed
from discover_stream.codec.packet import parse_packet
from discover_stream.codec.records import Atom, Delta, Key, Move, QuarterBox, Ref, Speed, Window
from discover_stream.codec.stream_coding import packet_sizes, parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import HEADER_LIMIT, StreamPacket
from discover_stream.types import BitstreamError

seeds = st.integers(0, 2**32 - 1)


def repaired(data: bytes) -> bytes:
    """The bytes with the checksum that fits them."""
    if len(data) < 6:
        return data
    return data[:2] + crc32c.crc32c(data[6:], crc32c.crc32c(data[:2])).to_bytes(4, "little") + data[6:]


def typical(**changes: object) -> StreamPacket:
    """A frame of one task after eight hours at ten frames a second."""
    packet = StreamPacket(
        b"abc", 300_000, 3, 40, 299_960, (4711,), base=299_999, plated=(0,), drift=4
    )  # fmt: skip
    return dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def moves(random: Random, count: int) -> tuple[Move, ...]:
    """Tracks whose keys came within four seconds; prediction is off by a few pixels."""
    distances = sorted(random.sample(range(1, 41), count))
    changes = (Delta(*(round(random.gauss(0, size)) for size in (12, 6, 4, 4))) for _ in distances)
    return tuple(
        Move(Ref(300_000 - distance, 0), (0,), change if any(change.values) else None)
        for distance, change in zip(distances, changes, strict=True)
    )


@settings(max_examples=150)
@given(seeds)
def test_a_packet_comes_back_and_its_parts_add_up(seed: int) -> None:
    packet = random_packet(Random(seed))
    data = stream_packet_bytes(packet)
    assert parse_stream_packet(data) == packet
    sizes = packet_sizes(packet)
    assert sizes.bits == 8 * len(data)
    assert sizes.total == len(data)
    assert sizes.padding < 8
    assert sizes.plate_payloads + sizes.key_payloads + sizes.refresh_payloads == 8 * sum(map(len, packet.payloads))


@settings(max_examples=10)
@given(seeds)
def test_every_flipped_bit_and_every_cut_is_refused(seed: int) -> None:
    data = stream_packet_bytes(random_packet(Random(seed), most_tasks=2))[:400]
    if len(data) < 400:
        for place in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[place // 8] ^= 1 << place % 8
            with pytest.raises(BitstreamError, match="camera north"):
                parse_stream_packet(bytes(damaged), camera="north")
    for length in range(len(data)):
        with pytest.raises(BitstreamError, match="camera north"):
            parse_stream_packet(data[:length], camera="north")


@settings(max_examples=100)
@given(seeds)
def test_forged_bytes_parse_in_their_one_form_or_are_refused(seed: int) -> None:
    random = Random(seed)
    original = stream_packet_bytes(random_packet(random))
    for _ in range(20):
        data = bytearray(original)
        for _ in range(random.randint(1, 3)):
            place = random.randrange(9, min(len(data), random.choice((60, 10**6))))
            data[place] ^= 1 << random.randrange(8)
        if random.random() < 0.2:
            del data[random.randrange(11, len(data) + 1) :]
        forged = repaired(bytes(data))
        try:
            parsed = parse_stream_packet(forged)
        except BitstreamError:
            continue
        assert stream_packet_bytes(parsed) == forged


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_behind_a_header_parse_or_are_refused(body: bytes) -> None:
    forged = sealed(MODE_STREAM, b"abc", b"\x20\x01\x00\x08" + body, 32)
    try:
        parsed = parse_stream_packet(forged)
    except BitstreamError:
        return
    assert stream_packet_bytes(parsed) == forged


def test_golden_packets_keep_their_bytes() -> None:
    """Run tests/codec/packet_golden.py only where a new format version is meant."""
    assert PATH.read_text(encoding="ascii").splitlines() == lines()


@pytest.mark.parametrize("name", STREAM)
def test_golden_packets_parse(name: str) -> None:
    stored = dict(line.split() for line in PATH.read_text(encoding="ascii").splitlines())
    assert parse_stream_packet(bytes.fromhex(stored[name])) == STREAM[name]


def test_a_frame_in_which_nothing_changes_is_twenty_bytes() -> None:
    packet = typical()
    assert packet.quiet
    sizes = packet_sizes(packet)
    assert sizes.header == 8 * 15 <= 8 * HEADER_LIMIT
    # One bit holds all tracks, one says what state they are of, one that all tasks are on the plate.
    assert sizes.frame == 3 + 16 + 1 + 5 + 1 + 1
    assert sizes.total == 19


@pytest.mark.parametrize("count", [1, 8])
def test_a_moving_track_costs_less_than_six_bytes(count: int) -> None:
    for seed in range(20):
        packet = typical(moves=moves(Random(seed), count))
        sizes = packet_sizes(packet)
        assert sizes.moves <= 8 * 6 * count
        assert sizes.ends == sizes.keys == sizes.sightings == 1


def test_a_key_costs_less_than_sixteen_bytes() -> None:
    box = QuarterBox(1200, 700, 200, 140)
    key = Key(0, 500, box, 50, ((0, 5),), Speed(120, 30, 4, 2), 0, Atom(Window.around(box), None, 4, False, True, b""))
    assert packet_sizes(typical(keys=(key,))).keys <= 8 * 16


@pytest.mark.parametrize("bound", [{"seq": 2**28 - 1, "oldest_ref": 2**28 - 100, "base": 2**28 - 2}, {}])
def test_headers_are_short(bound: dict[str, int]) -> None:
    packet = typical(incarnation=127, plate_id=127, **bound)
    assert packet_sizes(packet).header <= 8 * HEADER_LIMIT


def test_modes_are_told_apart() -> None:
    data = stream_packet_bytes(typical())
    with pytest.raises(BitstreamError, match="mode 1: a packet of stream mode"):
        parse_packet(data)
    with pytest.raises(BitstreamError, match="mode 0: a packet of still mode"):
        parse_stream_packet(repaired(data[:1] + b"\x10" + data[2:]))
    with pytest.raises(BitstreamError, match="mode 2 is not known"):
        parse_stream_packet(repaired(data[:1] + b"\x12" + data[2:]))
    with pytest.raises(BitstreamError, match="camera south, seq 300000: the payloads"):
        parse_stream_packet(repaired(data + b"\0"), camera="south")


def test_a_packet_beyond_its_bound_is_refused_by_both_sides() -> None:
    box = QuarterBox(0, 0, 4, 4)
    key = Key(0, 1, box, 1, ((0, 1),), atom=Atom(Window.around(box), None, 1, False, False, bytes(MAX_PACKET)))
    with pytest.raises(BitstreamError, match="bound"):
        stream_packet_bytes(typical(keys=(key,)))
    with pytest.raises(BitstreamError, match="bound"):
        parse_stream_packet(stream_packet_bytes(typical()) + bytes(MAX_PACKET))


def side(*fields: tuple[int, int]) -> bytes:
    """A packet of one task, seq 32 and plate 1, whose side information starts with the given (value, bits)."""
    writer = BitWriter()
    writer.put_golomb(1, 0)
    writer.put(4711, 16)
    for value, bits in fields:
        writer.put(value, bits)
    return sealed(MODE_STREAM, b"abc", b"\x20\x01\x01\x08" + writer.bytes(), 32)


LINK_NEXT, DRIFT_0, EVERYONE, SPOKEN = (1, 1), (0b10000, 5), (1, 1), (0, 1)
START = (LINK_NEXT, DRIFT_0, EVERYONE, SPOKEN)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((*START, (0, 1), (0b1111, 4)), "without records"),
        ((*START, (1, 1), (0, 5), (0b1111, 4)), "nothing special"),
        ((*START, (1, 1), (0b01000, 5), (0, 2), (0b1111, 4)), "none does"),
        ((*START, (1, 1), (0b00001, 5), (0b100100, 6), (0b1111, 4)), "shift of the view by nothing"),
        ((*START, (1, 1), (0b00100, 5), (1, 1), (15, 4), (0b1111, 4)), "GapReason"),
        # Two hundred thousand keys in a count.
        ((*START, (0, 1), (200_000, 35)), "count"),
        ((*START, (0, 1), (1, 1), (200_000, 35)), "count"),
        # No plate's task: the plate would not be named.
        ((LINK_NEXT, DRIFT_0, (0, 1), (1, 1)), "named one by one"),
    ],
)
def test_other_forms_are_refused(fields: tuple[tuple[int, int], ...], reason: str) -> None:
    with pytest.raises(BitstreamError, match=reason):
        parse_stream_packet(side(*fields))


def test_quiet_packets_end_where_they_say() -> None:
    assert parse_stream_packet(side(LINK_NEXT, DRIFT_0, EVERYONE, (1, 1))).quiet
    with pytest.raises(BitstreamError, match="padding"):
        parse_stream_packet(side(LINK_NEXT, DRIFT_0, EVERYONE, (1, 1), (1, 1)))


def test_a_mask_bomb_is_refused_before_it_is_built() -> None:
    """Each of four masks would be of the largest grid there is; together they are beyond a packet's bound."""
    writer = BitWriter()
    writer.put_gamma(5)
    for _ in range(4):
        writer.put_golomb(0, 0)
        writer.put_golomb(0, 7)
        writer.put_golomb(0, 4)
        writer.put(0, 6)
        for order in (10, 10, 7, 7):
            writer.put_golomb(0, order)
        # No speed, no lift, an atom of the codec, quality 1, own z and plate no, zoom 0, a window of its own.
        for value, bits in ((0, 1), (0, 1), (1, 1), (0, 1), (0, 3), (0, 1), (0, 1), (1, 1), (0, 1)):
            writer.put(value, bits)
        for order in (4, 4):
            writer.put_golomb(0, order)
        writer.put_golomb(511, 2)
        writer.put_golomb(255, 2)
        # A mask: not all cells, the top left one, a full rectangle.
        for value, bits in ((0, 1), (0, 9), (0, 8), (0, 9), (0, 8), (1, 1)):
            writer.put(value, bits)
    data = writer.bytes()
    with pytest.raises(BitstreamError, match="masks of more than 262144 cells"):
        parse_stream_packet(side(*START, (0, 1), *((byte, 8) for byte in data), (0, 99)))
