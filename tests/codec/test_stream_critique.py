from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from street import BLUE, RED, Places, frame, picture, regions, road

from discover_stream.codec.atom_sprites import av1_atom, sprite_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Ref
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_critique import Critique, Layer
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.codec.stream_motion import Scene
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.types import Box, Image

SETTINGS = StreamSettings(b"abc", quality=4)
PLACES: Places = {1: (RED, 20.0, 30.0), 2: (BLUE, 90.0, 50.0)}


class Seen(NamedTuple):
    original: float
    shown: float
    overlap: float = 1.0


class Likeness:
    """Sees an object by its mean difference: none at all from `blind` grey levels on, and counts what it is asked."""

    def __init__(self, blind: float) -> None:
        self.blind, self.asked = blind, 0

    def opinions(self, original: Image, shown: Image, boxes: Sequence[Box]) -> list[Seen]:
        self.asked += len(boxes)
        apart = np.abs(original.astype(float) - shown).mean(axis=2)
        height, width = apart.shape
        found = []
        for box in boxes:
            part = box.clipped(width, height)
            inside = apart[int(part.y0) : int(part.y1) + 1, int(part.x0) : int(part.x1) + 1]
            found.append(Seen(0.8, 0.8 * max(0.0, 1 - float(inside.mean()) / self.blind)))
        return found


class Unknowing:
    """Knows nothing."""

    def opinions(self, original: Image, shown: Image, boxes: Sequence[Box]) -> list[Seen]:
        return [Seen(0.0, 0.0, 0.0) for _ in boxes]


def layer(places: Places, track: int, slot: int) -> Layer:
    plate = PlatePicture(road())
    (region,) = (one for one in regions(places) if one.track == track)
    box = QuarterBox.of(region.box)
    sprite = sprite_of(av1_atom(picture(places), box, 20, plate=plate), box, (160, 96), plate=plate)
    return Layer((box.bottom, Ref(0, slot)), box, sprite)


def boxes(places: Places) -> dict[int, QuarterBox]:
    return {region.track: QuarterBox.of(region.box) for region in regions(places)}


def test_a_critic_sees_each_track_as_decoders_would_show_it() -> None:
    scene = Scene.of(picture(PLACES), road())
    critique = Critique(Likeness(60.0), scene, {1: layer(PLACES, 1, 0)})
    before = critique.losses(boxes(PLACES))
    assert before[1] is not None
    assert before[2] is not None
    assert before[1] < 0.15 < before[2]
    # trying a picture changes nothing, sending it does
    tried = critique.loss(2, layer(PLACES, 2, 1))
    assert tried is not None
    assert tried < 0.15
    assert critique.losses(boxes(PLACES)) == before
    critique.send(2, layer(PLACES, 2, 1))
    assert critique.losses(boxes(PLACES))[2] == tried
    critique.send(1, None)
    after = critique.losses(boxes(PLACES))[1]
    assert after is not None
    assert after > 0.3
    assert critique.losses({}) == {}


def test_what_is_nearer_covers_what_is_behind() -> None:
    behind, before = {1: (RED, 40.0, 30.0)}, {2: (BLUE, 50.0, 40.0)}
    scene = Scene.of(picture({**behind, **before}), road())
    layers = {2: layer(before, 2, 0), 1: layer(behind, 1, 1)}
    shown = Critique(Likeness(60.0), scene, layers).losses(boxes({**behind, **before}))
    assert all(value is not None and value < 0.2 for value in shown.values())


def changing(seq: int) -> Places:
    """A car that gets darker, and so ever less like the picture that was sent of it."""
    red, green, blue = (max(0, round(value - 1.6 * seq)) for value in (210, 120, 90))
    return {} if seq == 0 else {1: ((red, green, blue), 10 + 2.0 * seq, 30)}


def coded(critic: Likeness | Unknowing | None, count: int = 36) -> tuple[list[StreamPacket], list[Image]]:
    encoder, packets, pictures = StreamEncoder(SETTINGS, critic=critic), [], []
    for seq in range(count):
        packets.append(encoder.encode(frame(seq, changing(seq)), {"cars": regions(changing(seq))}, {"cars": 1}))
        pictures.append(encoder.composite.image)
    return packets, pictures


def atoms(packets: Sequence[StreamPacket]) -> int:
    return sum(1 for packet in packets for _ in packet.atoms())


def test_a_content_critic_saves_pictures_and_one_that_is_not_asks_for_more() -> None:
    alone, _ = coded(None)
    content, _ = coded(Likeness(1e9))
    strict, shown = coded(Likeness(20.0))
    assert atoms(content) < atoms(alone) < atoms(strict)
    assert sum(map(len, map(stream_packet_bytes, content))) < sum(map(len, map(stream_packet_bytes, alone)))
    decoder = StreamPictures()
    for packet, image in zip(strict, shown, strict=True):
        decoder.take(packet)
        assert np.array_equal(decoder.compose().image, image)


def test_whatever_the_critic_says_an_object_keeps_its_colour() -> None:
    def story(seq: int) -> Places:
        return {} if seq == 0 else {1: (RED if seq < 8 else BLUE, 10 + 2.0 * seq, 30)}

    encoder = StreamEncoder(SETTINGS, critic=Likeness(1e9))
    for seq in range(16):
        encoder.encode(frame(seq, story(seq)), {"cars": regions(story(seq))}, {"cars": 1})
    _, x, y = story(15)[1]
    body = encoder.composite.image[round(y) + 12 : round(y) + 17, round(x) + 5 : round(x) + 35]
    assert int(np.argmax(body.reshape(-1, 3).mean(axis=0))) == 2


def test_without_an_opinion_the_error_decides_as_without_a_critic() -> None:
    assert [stream_packet_bytes(one) for one in coded(Unknowing())[0]] == [
        stream_packet_bytes(one) for one in coded(None)[0]
    ]


def test_the_critic_is_not_asked_for_what_it_cannot_change() -> None:
    critic = Likeness(60.0)
    encoder = StreamEncoder(dataclasses.replace(SETTINGS, quality=6), critic=critic)
    for seq in range(10):
        encoder.encode(frame(seq, PLACES), {"cars": regions(PLACES)}, {"cars": 1})
    assert critic.asked == 0  # the plate shows both, and they are still on it
