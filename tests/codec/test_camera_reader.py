from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from packet_golden import STILL
from stream_film import painted_film, seen

from discover_stream.codec.any_packet import route_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, Provenance

PACKETS = tuple(route_any(packet, {11}) for packet in painted_film())


def shelf(number: int) -> Sequence[StreamPacket]:
    """The first plate alone, as it is kept."""
    plate = dataclasses.replace(PACKETS[0].plates[0], members=())
    return [StreamPacket(b"abc", 0, 0, 0, 0, (), capture_us=0, size=(64, 48), plates=(plate,))] if number == 1 else []


def test_fetched_plates_are_shown() -> None:
    reader = CameraReader("gate", shelf)
    first = dataclasses.replace(PACKETS[0], plates=())
    assert reader.read(first).absent == ()
    picture = reader.pictures.picture(0, 0)
    assert not (picture.provenance == Provenance.MISSING).any()
    assert picture.image[44, 60].mean() == pytest.approx(60, abs=4)


def test_a_packet_that_comes_late_or_is_refused_changes_no_picture() -> None:
    one, two = CameraReader("gate", shelf), CameraReader("gate", shelf)
    for packet in PACKETS[:5]:
        one.read(packet)
        two.read(packet)
    assert one.read(PACKETS[2]).absent
    wrong = dataclasses.replace(PACKETS[0].plates[0], width=80)
    with pytest.raises(BitstreamError, match="camera gate, seq 5: plate 1 came before"):
        one.read(dataclasses.replace(PACKETS[5], plates=(wrong,)))
    for reader in (one, two):
        assert set(reader.read(PACKETS[5]).regions) == seen(5, 0)
    assert (one.pictures.picture(0, 5).image == two.pictures.picture(0, 5).image).all()


def test_still_packets_between_others_leave_them_alone() -> None:
    reader = CameraReader("gate", shelf)
    reader.read(STILL["still-tags"])
    assert not reader.begun
    for packet in PACKETS[:2]:
        reader.read(packet)
    reader.read(STILL["still-tags"])
    assert set(reader.read(PACKETS[2]).regions) == seen(2, 0)
    assert reader.begun
