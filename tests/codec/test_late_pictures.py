from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from stream_film import FRAMES, painted_film

from discover_stream.codec.any_packet import regions_only, route_any
from discover_stream.codec.late_pictures import LatePictures
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.types import Image, InputError, Provenance

PACKETS = painted_film()


def all_pictures(shown: tuple[StreamPacket, ...]) -> dict[int, Image]:
    """Every picture, by a decoder that takes every packet when it comes."""
    pictures, found = StreamPictures(), {}
    for packet in shown:
        assert pictures.take(packet).whole
        found[packet.seq] = pictures.compose().image
    return found


@pytest.mark.parametrize("asked", [range(FRAMES), (0, 3, 8), (8,), (4, 6, 7)])
@pytest.mark.parametrize("task", [11, 22])
def test_whoever_asks_seldom_sees_the_same(asked: tuple[int, ...], task: int) -> None:
    mine = tuple(route_any(packet, {task}) for packet in PACKETS)
    expected, late = all_pictures(mine), LatePictures()
    for packet in mine:
        late.add(packet)
        if packet.seq in asked:
            shown = late.picture(0, packet.seq)
            assert (shown.image == expected[packet.seq]).all()
            assert not (shown.provenance == Provenance.MISSING).any()
    assert expected[0][20, 15].mean() > 100 > expected[0][45, 2].mean()


def test_what_nothing_refers_to_any_more_is_not_kept_but_plates_are() -> None:
    late = LatePictures()
    for packet in PACKETS:
        late.add(packet)
    assert len(late) == FRAMES
    # A cut: nothing earlier is shown, but its plate is the one before.
    cut = dataclasses.replace(PACKETS[5], seq=9, oldest_ref=9, base=None, cut=True, plates=(), gap=None)
    late.add(cut)
    assert len(late) == 3
    picture = late.picture(0, 9)
    assert (picture.provenance == Provenance.PLATE).all()
    assert len(late) == 0
    again = LatePictures()
    for number in range(100):
        plate = dataclasses.replace(PACKETS[0].plates[0], plate_id=number + 1)
        again.add(dataclasses.replace(cut, seq=number, oldest_ref=number, plate_id=number + 1, plates=(plate,)))
    assert len(again) == 33
    assert (again.picture(0, 99).provenance == Provenance.PLATE).all()


def test_pictures_that_are_gone_are_refused() -> None:
    late = LatePictures(camera="gate")
    for packet in PACKETS[:5]:
        late.add(packet)
    late.picture(0, 3)
    with pytest.raises(InputError, match="camera gate, seq 2: its picture is gone"):
        late.picture(0, 2)
    late.picture(0, 4)
    with pytest.raises(InputError, match="seq 5: its picture is gone"):
        late.picture(0, 5)


def test_regions_only_are_no_picture() -> None:
    late = LatePictures(camera="gate")
    late.add(regions_only(PACKETS[0]))
    with pytest.raises(InputError, match=r"seq 0: .*regions only"):
        late.picture(0, 0)


def test_a_new_incarnation_starts_anew() -> None:
    late = LatePictures()
    for packet in PACKETS:
        late.add(packet)
    first = dataclasses.replace(PACKETS[0], incarnation=1, plate_id=2, plates=())
    late.add(first)
    assert (late.picture(1, 0).image[20, 15] > 100).all()


def test_nothing_heavy_is_loaded_before_a_picture_is_asked_for() -> None:
    program = "import sys, discover_stream.sdk; sys.exit(any(name in sys.modules for name in ('cv2', 'av', 'torch')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
