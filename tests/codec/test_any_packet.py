from __future__ import annotations

import dataclasses
from random import Random

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_golden import STILL, STREAM
from stream_cases import random_packet
from stream_film import FIRST_PLATE, FRAMES, capture_ns, film

from discover_stream.codec.any_packet import (
    AnyPacket,
    PlateClocks,
    any_packet_bytes,
    any_packet_size,
    is_plates_alone,
    parse_any,
    picture_sizes,
    regions_only,
    route_any,
    task_labels,
)
from discover_stream.codec.packet import Packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError

PACKETS: dict[str, AnyPacket] = {**STILL, **STREAM}


@pytest.mark.parametrize("name", PACKETS)
def test_packets_of_both_modes_go_the_same_way(name: str) -> None:
    packet = PACKETS[name]
    data = any_packet_bytes(packet)
    assert parse_any(data) == packet
    assert any_packet_size(packet).total == len(data)
    assert route_any(packet, packet.tasks) == packet
    bare = regions_only(packet)
    assert parse_any(any_packet_bytes(bare)) == bare
    assert type(bare) is type(packet)
    assert any_packet_size(bare).atoms == any_packet_size(bare).plates == any_packet_size(bare).coarse == 0
    for key in packet.tasks:
        assert regions_only(route_any(packet, {key})) == route_any(bare, {key})


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_the_parts_of_a_stream_packet_add_up_to_all_bytes(seed: int) -> None:
    packet = random_packet(Random(seed))
    size = any_packet_size(packet)
    assert size.total == len(any_packet_bytes(packet))
    assert size.atoms == sum(len(atom.payload) for atom, _ in packet.atoms())
    assert size.plates == sum(len(plate.payload or b"") for plate in packet.plates)
    assert min(dataclasses.astuple(size)) >= 0


@pytest.mark.parametrize(
    ("start", "reason"),
    [(b"\xd5\x12", "mode 2 is not known"), (b"\xd5\x21", "version 2"), (b"\xd4\x11", "magic"), (b"", "too short")],
)
def test_other_bytes_are_refused(start: bytes, reason: str) -> None:
    data = start + bytes(10) if start else b""
    sealed = data[:2] + crc32c.crc32c(data[6:], crc32c.crc32c(data[:2])).to_bytes(4, "little") + data[6:]
    with pytest.raises(BitstreamError, match=f"camera gate: .*{reason}"):
        parse_any(sealed if start else b"", camera="gate")


def test_what_packets_state_of_sizes_and_labels() -> None:
    assert list(picture_sizes(STILL["still-two-tasks"])) == [(640, 352)]
    assert list(picture_sizes(STREAM["stream-cut"])) == [(640, 352)] * 3
    assert list(picture_sizes(STREAM["stream-hold"])) == []
    assert set(task_labels(STILL["still-tags"])) == {(1, 0), (1, 3), (1, 100)}
    assert sorted(task_labels(STILL["still-two-tasks"])) == [(0, 3), (0, 32767), (1, 0), (1, 90)]
    listed = {(0, 1), (1, 0), (1, 3), (1, 100), (0, 2)}
    assert set(task_labels(STREAM["stream-list"])) == listed
    assert [name for name, packet in PACKETS.items() if is_plates_alone(packet)] == ["stream-plate-alone"]


@pytest.mark.parametrize("strip", [False, True])
def test_capture_times_are_told_by_the_plates_that_came(strip: bool) -> None:
    packets: list[StreamPacket] = [regions_only(packet) if strip else packet for packet in film()]
    clocks, late = PlateClocks(), PlateClocks()
    for packet in packets:
        clocks = clocks.after(packet)
        assert clocks.capture_ns(packet) == capture_ns(packet.seq)
    # Who comes later has no clock, not even by a plate that changes one that did not come.
    for packet in packets[1:]:
        late = late.after(packet)
        assert late.capture_ns(packet) is None
    late = late.after(film()[0])
    assert late.capture_ns(packets[4]) == capture_ns(4)
    assert late.capture_ns(packets[FRAMES - 1]) is None
    still = STILL["still-two-tasks"]
    assert isinstance(still, Packet)
    assert late.capture_ns(still) == still.capture_ns


def test_clocks_of_many_plates_take_bounded_room() -> None:
    clocks, first = PlateClocks(), film()[0]
    for number in range(1, 200):
        clocks = clocks.after(dataclasses.replace(first, plates=(dataclasses.replace(FIRST_PLATE, plate_id=number),)))
    assert sorted(clocks.clocks) == list(range(168, 200))
