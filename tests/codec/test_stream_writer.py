from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from street import BLUE, RED, SIZE, Places, frame, picture, regions

from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import Box, Image, Region

SETTINGS = StreamSettings(b"abc", quality=6)
Story = Callable[[int], tuple[Places, tuple[Region, ...]]]


def overtaken(seq: int) -> Places:
    """A red car that comes into the picture behind a blue one, which drives away."""
    return {} if seq == 0 else {1: (RED, 40.0, 30.0), 2: (BLUE, 42.0 + max(0, seq - 3) * 9.0, 34.0)}


def test_an_object_that_was_keyed_while_it_was_hidden_gets_its_picture_when_it_is_seen() -> None:
    encoder, sent = StreamEncoder(SETTINGS), []
    for seq in range(14):
        places = overtaken(seq)
        packet = encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 1})
        sent += [(seq, key.atom is not None) for key in packet.keys if key.track == 1]
    assert sent[0] == (1, False)
    assert any(atom for _, atom in sent[1:])
    shown, wanted = encoder.composite.image, picture(overtaken(13))
    car = (slice(30, 30 + SIZE[1]), slice(40, 40 + SIZE[0]))
    assert np.abs(shown[car].astype(float) - wanted[car]).mean() < 12


def test_an_object_that_drives_into_the_picture_is_shown_whole_once_it_is_in() -> None:
    def story(seq: int) -> tuple[Places, tuple[Region, ...]]:
        places: Places = {} if seq == 0 else {1: (RED, -20.0 + 12.0 * (seq - 1), 40.0)}  # half of it shows at first
        return places, regions(places)

    packets, shown = coded(story, 7)
    places, _ = story(6)
    left, top = round(places[1][1]), round(places[1][2])
    car = (slice(top, top + SIZE[1]), slice(left, left + SIZE[0]))
    assert np.abs(shown[6][car].astype(float) - picture(places)[car]).mean() < 12
    assert 2 <= len(pictured(packets, 1)) <= 3


def test_an_object_that_the_quantizer_leaves_nothing_of_is_not_keyed_in_every_frame() -> None:
    def story(seq: int) -> Places:
        return {} if seq == 0 else {1: ((122, 122, 122), 60.0 + seq, 40.0)}

    encoder, keys = StreamEncoder(StreamSettings(b"abc", quality=1)), 0
    for seq in range(20):
        packet = encoder.encode(frame(seq, story(seq)), {"cars": regions(story(seq))}, {"cars": 1})
        keys += len(packet.keys)
    assert keys <= 4


def widened(region: Region, left: float, top: float, right: float, bottom: float) -> Region:
    box = region.box
    return replace(region, box=Box(box.x0 - left, box.y0 - top, box.x1 + right, box.y1 + bottom))


def coded(story: Story, count: int) -> tuple[list[StreamPacket], list[Image]]:
    encoder, packets, shown = StreamEncoder(SETTINGS), [], []
    for seq in range(count):
        places, found = story(seq)
        packets.append(encoder.encode(frame(seq, places), {"cars": found}, {"cars": 1}))
        shown.append(encoder.composite.image)
    return packets, shown


def pictured(packets: Sequence[StreamPacket], track: int) -> list[int]:
    return [packet.seq for packet in packets if any(key.track == track and key.atom for key in packet.keys)]


def test_an_object_that_was_all_covered_when_it_was_keyed_is_not_the_plates() -> None:
    def story(seq: int) -> tuple[Places, tuple[Region, ...]]:
        places = overtaken(seq)
        found = regions(places)
        return places, tuple(widened(one, 6, 8, 6, 6) if one.track == 2 else one for one in found)

    packets, shown = coded(story, 16)
    assert pictured(packets, 1)
    car = (slice(30, 30 + SIZE[1]), slice(40, 40 + SIZE[0]))
    assert np.abs(shown[-1][car].astype(float) - picture(overtaken(15))[car]).mean() < 20


def once_doubled(seq: int) -> tuple[Places, tuple[Region, ...]]:
    """A car that drives, and once a box around it and the road behind it."""
    places: Places = {} if seq == 0 else {1: (RED, 40.0 + 5 * seq, 30.0)}
    found = regions(places)
    if seq == 8:
        found += (replace(widened(found[0], 36, 4, 2, 6), track=9),)
    return places, found


def test_a_box_around_what_others_show_brings_no_picture() -> None:
    packets, shown = coded(once_doubled, 14)
    assert not pictured(packets, 9)
    for seq in range(8, 14):
        apart = np.abs(shown[seq].astype(float) - picture(once_doubled(seq)[0])).mean()
        assert apart < 5, (seq, apart)


def test_what_nobody_finds_is_not_drawn_over_what_is_found() -> None:
    """The box shows something of its own, too, so it gets a picture; the next frame has neither that nor the box."""

    def story(seq: int) -> tuple[Places, tuple[Region, ...]]:
        places, found = once_doubled(seq)
        return ({**places, 2: (BLUE, 44.0, 34.0)} if seq == 8 else places), found

    packets, shown = coded(story, 12)
    assert pictured(packets, 9) == [8]
    for seq in range(9, 12):
        apart = np.abs(shown[seq].astype(float) - picture(story(seq)[0])).mean()
        assert apart < 5, (seq, apart)
