from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from packet_golden import STILL
from stream_film import FIRST_PLATE, capture_ns, film, seen

from discover_stream.codec.any_packet import regions_only, route_any
from discover_stream.codec.follow import Reading, read_packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import Absence, Lack, StreamState
from discover_stream.types import Box, Region

PACKETS = film()
TASKS = (11, 22)
WHOLE = pytest.mark.parametrize("strip", [False, True])


def nothing(number: int) -> Sequence[StreamPacket]:
    return ()


def shelf(number: int) -> Sequence[StreamPacket]:
    """The plates of the film, as they are kept."""
    plates = [plate for packet in PACKETS for plate in packet.plates if plate.plate_id <= number]
    return [
        StreamPacket(
            b"abc", 0, 0, 0, 0, (), capture_us=0, size=(64, 48), plates=(dataclasses.replace(plate, members=()),)
        )
        for plate in plates
    ]


def readings(packets: Sequence[StreamPacket], position: int) -> dict[int, Reading]:
    """What the task at a position makes of them, by frame."""
    state, found = StreamState(), {}
    for packet in packets:
        found[packet.seq] = read_packet(state, route_any(packet, {TASKS[position]}), shelf)
        state = found[packet.seq].state
    return found


@WHOLE
@pytest.mark.parametrize("position", [0, 1])
def test_every_frame_shows_what_was_meant(position: int, strip: bool) -> None:
    packets = [regions_only(packet) for packet in PACKETS] if strip else PACKETS
    for seq, reading in readings(packets, position).items():
        assert set(reading.regions) == seen(seq, position)
        assert reading.absent == ()
        assert reading.capture_ns == capture_ns(seq)
        # The list of all tracks in frame 7 clears tags.
        assert reading.tags == ((0, 1) if position == 0 and 3 <= seq < 7 else ())


def test_a_lost_packet_is_told_and_a_list_mends_it() -> None:
    for lost in (0, 1, 3, 5):
        left = [packet for packet in PACKETS if packet.seq != lost]
        for seq, reading in readings(left, 0).items():
            kinds = {lack.what for lack in reading.absent}
            # Frame 7 lists all tracks, but the keys of 0 and 5 have to be there, else its state is not whole either.
            assert (Lack.STATE in kinds) == (lost < seq < 7 or (seq == 8 and lost in (0, 5))), (lost, seq, kinds)
            if lost == 1 and seq >= 7:
                assert set(reading.regions) == seen(seq, 0)
                assert not kinds
            assert set(reading.regions) <= set().union(*(seen(any_seq, 0) for any_seq in range(9)))
            if lost < seq < 7 and not reading.regions:
                assert reading.absent
    # A quiet packet may be lost.
    for seq, reading in readings([packet for packet in PACKETS if packet.seq != 2], 1).items():
        assert set(reading.regions) == seen(seq, 1)
        assert not reading.absent


def test_plates_that_came_before_are_fetched() -> None:
    late = route_any(PACKETS[6], {11})
    alone = read_packet(StreamState(), late, nothing)
    assert alone.capture_ns is None
    assert Absence(11, Lack.PLATE, 2) in alone.absent
    asked: list[int] = []

    def fetch(number: int) -> Sequence[StreamPacket]:
        asked.append(number)
        return shelf(number)

    fetched = read_packet(StreamState(), late, fetch)
    assert asked == [2]
    assert fetched.capture_ns == capture_ns(6)
    assert [lack.what for lack in fetched.absent] == [Lack.STATE]
    assert fetched.state.tasks[11].plate_there


def test_a_parent_that_is_absent_is_fetched() -> None:
    # From a list on, so that nothing but the plates is missing.
    packet = dataclasses.replace(PACKETS[5], base=None)
    reading = read_packet(StreamState(), packet, shelf)
    assert reading.absent == ()
    assert reading.state.plates[1].clock == reading.state.tasks[11].plates[2].clock == FIRST_PLATE.clock


def test_a_packet_that_comes_late_is_read_by_itself() -> None:
    before = readings(PACKETS[:5], 0)[4].state
    late = read_packet(before, route_any(PACKETS[3], {11}), nothing)
    assert late.state is before
    assert late.capture_ns is None or late.capture_ns == capture_ns(3)
    assert {lack.what for lack in late.absent} >= {Lack.STATE, Lack.KEY}
    after = read_packet(late.state, route_any(PACKETS[5], {11}), nothing)
    assert set(after.regions) == seen(5, 0)
    assert not after.absent


def test_a_new_incarnation_begins_anew() -> None:
    before = readings(PACKETS, 0)[8].state
    again = dataclasses.replace(PACKETS[0], incarnation=1, plates=(), plate_id=2)
    reading = read_packet(before, route_any(again, {11}), nothing)
    assert not reading.absent
    assert set(reading.regions) == seen(0, 0)


def test_still_packets_need_no_state() -> None:
    packet = STILL["still-tags"]
    state = StreamState(seq=9)
    reading = read_packet(state, packet, nothing)
    assert (reading.state, reading.capture_ns, reading.absent, reading.rewind) == (state, 1, (), 300)
    assert reading.tags == (0, 3, 100)
    regions = read_packet(state, route_any(STILL["still-two-tasks"], {17}), nothing).regions
    assert regions[0] == Region(3, 50 / 63, Box(0, 0, 64, 64), 7)
