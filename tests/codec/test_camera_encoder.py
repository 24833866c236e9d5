from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from hand_held import hand_held
from street import HEIGHT, RED, WIDTH, Places, frame, picture, regions

from discover_stream.codec.any_packet import AnyPacket, any_packet_bytes, parse_any, regions_only, route_any
from discover_stream.codec.camera_encoder import Ask, CameraEncoder, CameraMemory
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.mode_policy import CoderSettings, ModeRules, ModeState
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.packet import Packet
from discover_stream.codec.painter import Painted, PaintJob
from discover_stream.codec.records import Atom
from discover_stream.codec.still import decode_packet
from discover_stream.codec.stream import StreamInfo, StreamTask, check_belongs
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, Box, Frame, Image, InputError, TaskOptions

CARS, ALL = 11, 22
REGIONS = TaskOptions("regions")
MOVES = "the camera is hand-held|new scenes"
"""Why no plate serves a camera."""


@pytest.fixture(scope="module")
def model() -> CodecModel:
    torch.set_num_threads(1)
    return load_codec()


def places(seq: int) -> Places:
    return {1: (RED, 4 + 3.0 * seq, 30)} if seq else {}


def asks(seq: int, options: Mapping[int, TaskOptions] | None = None, tags: tuple[int, ...] = ()) -> dict[str, Ask]:
    found = regions(places(seq))
    chosen = options or {}
    return {
        "cars": Ask(CARS, found, chosen.get(CARS, TaskOptions()), tags),
        "all": Ask(ALL, found, chosen.get(ALL, TaskOptions())),
    }


def encode(encoder: CameraEncoder, seq: int, **how: object) -> AnyPacket:
    return encoder.encode(frame(seq, places(seq)), asks(seq, **how), fps=10.0)  # type: ignore[arg-type]


def shown(reader: CameraReader, packet: AnyPacket) -> Image | None:
    """The picture of a packet that nothing is missing for; None for one of still mode."""
    parsed = parse_any(any_packet_bytes(packet))
    assert reader.read(parsed).absent == ()
    return reader.pictures.picture(parsed.incarnation, parsed.seq).image if isinstance(parsed, StreamPacket) else None


def error(image: Image | None, seq: int) -> float:
    assert image is not None
    return float(np.abs(image.astype(float) - picture(places(seq))).mean())


def reader() -> CameraReader:
    return CameraReader("street", lambda number: ())


def swaying(seq: int) -> Frame:
    return Frame("street", seq, seq * 100_000_000, hand_held(seq, WIDTH, HEIGHT))


def test_a_hand_held_camera_goes_to_still_mode_says_why_and_is_tried_again(model: CodecModel) -> None:
    settings = CoderSettings("auto", 3, rules=ModeRules(retry_s=1.0))
    encoder, follower = CameraEncoder(model, settings), reader()
    modes, plates = "", []
    for seq in range(48):
        moving = swaying(min(seq, 34))
        packet = encoder.encode(Frame("street", seq, seq * 100_000_000, moving.image), {"cars": Ask(CARS)}, fps=10.0)
        if isinstance(packet, StreamPacket):
            modes += "S"
            plates += [plate.plate_id for plate in packet.plates]
            image = shown(follower, packet)
            if not modes[:-1].endswith("S"):  # a stream begins: all of the picture comes with it
                assert packet.oldest_ref == seq
                assert packet.base is None
                assert np.abs(image.astype(float) - moving.image).mean() < 25
        else:
            modes += "-"
            assert follower.read(packet).absent == ()
            assert decode_packet(model, packet).latent.isfinite().all()
            assert re.search(MOVES, encoder.status.reason)
        assert encoder.status.mode == ("stream" if modes[-1] == "S" else "still")
    first = modes.index("-")
    assert modes[first:].startswith("-" * 9)
    assert "S" in modes[first:]
    assert plates == sorted(set(plates))
    assert encoder.memory.next_plate > max(plates)


def test_a_stream_that_is_wanted_is_kept_and_the_trouble_told(model: CodecModel) -> None:
    encoder = CameraEncoder(model, CoderSettings("stream", 3))
    for seq in range(32):
        assert isinstance(encoder.encode(swaying(seq), {"cars": Ask(CARS)}, fps=10.0), StreamPacket)
    assert encoder.status.mode == "stream"
    assert re.search(MOVES, encoder.status.reason)


def test_a_restart_goes_on_with_its_mode_and_uses_no_plate_twice(model: CodecModel) -> None:
    first = CameraEncoder(model, CoderSettings("auto", 3))
    packets = [encode(first, seq) for seq in range(4)]
    memory = first.memory
    second = CameraEncoder(model, CoderSettings("auto", 3), CameraMemory(1, memory.next_plate, memory.next_seq))
    packets += [encode(second, seq) for seq in (5, 6)]
    follower = reader()
    for packet in packets:
        image = shown(follower, packet)
        assert error(image, packet.seq) < 14
    after = packets[4]
    assert isinstance(after, StreamPacket)
    assert (after.incarnation, after.base, after.gap is not None and after.gap.frames) == (1, None, 1)
    assert not {1, memory.next_plate - 1} & {plate.plate_id for plate in after.plates}
    waiting = CameraMemory(2, 9, 7, ModeState("hand-held", 600_000_000, 1))
    assert isinstance(encode(CameraEncoder(model, CoderSettings("auto", 3), waiting), 7), Packet)


def test_a_frame_that_comes_late_is_coded_by_itself_and_disturbs_nothing(model: CodecModel) -> None:
    encoder, follower = CameraEncoder(model, CoderSettings("auto", 3)), reader()
    for seq in (0, 1, 3, 4):
        shown(follower, encode(encoder, seq))
    memory = encoder.memory
    late = encoder.encode(frame(2, places(2)), asks(2), again=True)
    assert isinstance(late, Packet)
    assert encoder.memory == memory
    follower.read(late)
    packet = encode(encoder, 5)
    assert isinstance(packet, StreamPacket)
    assert packet.base == 4
    assert error(shown(follower, packet), 5) < 14


def test_a_task_that_gets_pixels_after_regions_is_keyed_anew(model: CodecModel) -> None:
    encoder, follower = CameraEncoder(model, CoderSettings("auto", 3)), reader()
    for seq in range(8):
        bare = seq < 5
        packet = encode(encoder, seq, options={CARS: REGIONS if bare else TaskOptions()})
        mine = route_any(packet, (CARS,))
        reading = follower.read(regions_only(mine) if bare else mine)
        assert reading.absent == ()
        assert len(reading.regions) == min(seq, 1)
        if not bare:
            assert error(follower.pictures.picture(0, seq).image, seq) < 14


def test_where_no_task_wants_pixels_none_are_coded(model: CodecModel) -> None:
    encoder = CameraEncoder(model, CoderSettings("stream", 3))
    for seq in range(3):
        packet = encode(encoder, seq, options={CARS: REGIONS, ALL: REGIONS})
        assert packet.regions_only
    packet = encode(encoder, 3, options={CARS: REGIONS})
    follower = reader()
    assert error(shown(follower, packet), 3) < 14  # from one packet alone


@pytest.mark.parametrize("mode", ["still", "stream"])
def test_tags_are_those_of_the_frame(model: CodecModel, mode: str) -> None:
    encoder, follower = CameraEncoder(model, CoderSettings(mode, 3)), reader()  # type: ignore[arg-type]
    sizes = []
    for seq, tags in enumerate([(1,), (1,), (1, 3), (), (), (2,), *[(2,)] * 12]):
        options = {CARS: TaskOptions("pixels", tags=True)}
        packet = parse_any(any_packet_bytes(encode(encoder, seq, options=options, tags=tags)))
        assert follower.read(packet).tags == tags
        sizes.append(len(packet.tags))
    if mode == "stream":
        assert sizes[:6] == [1, 0, 1, 1, 0, 1]
        assert 1 <= sum(sizes[6:]) <= 2  # again with each packet that lists everything


def test_a_picture_of_another_size_or_rate_begins_a_stream(model: CodecModel) -> None:
    encoder, follower = CameraEncoder(model, CoderSettings("stream", 3)), reader()
    for seq in range(3):
        shown(follower, encode(encoder, seq))
    small = Frame("street", 3, 300_000_000, frame(3, {}).image[:64, :96])
    packet = encoder.encode(small, {"cars": Ask(CARS)}, fps=10.0)
    image = shown(follower, packet)
    assert image is not None
    assert image.shape == (64, 96, 3)
    slow = [Frame("street", seq, seq * 10**9, small.image) for seq in range(4, 34)]
    packets = [encoder.encode(one, {"cars": Ask(CARS)}, fps=10.0) for one in slow]
    begun = [p.plates[0].clock.interval_us for p in packets if p.plates and p.plates[0].clock]  # type: ignore[union-attr]
    assert begun[-1] == 1_000_000
    for one in packets:
        shown(follower, one)


def test_after_a_packet_that_was_not_written_a_stream_begins(model: CodecModel) -> None:
    encoder, follower = CameraEncoder(model, CoderSettings("stream", 3)), reader()
    shown(follower, encode(encoder, 0))
    before = encoder.memory
    encode(encoder, 1)
    encoder.unwritten()
    assert encoder.memory == before
    packet = encode(encoder, 2)
    assert isinstance(packet, StreamPacket)
    assert packet.gap is not None
    assert packet.gap.frames == 1
    assert error(shown(follower, packet), 2) < 14


def test_without_tasks_it_is_still_mode_and_a_bad_picture_is_refused(model: CodecModel) -> None:
    encoder = CameraEncoder(model, CoderSettings("auto", 3))
    assert isinstance(encoder.encode(frame(0, {}), {}), Packet)
    grey = Frame("street", 1, 10**8, np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match="street, seq 1"):
        encoder.encode(grey, {})
    assert isinstance(encode(encoder, 2), StreamPacket)


@dataclass(frozen=True)
class Seen:
    original: float = 0.9
    shown: float = 0.9
    overlap: float = 1.0


class Eye:
    """A critic that is content with everything, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Image, Image, int]] = []

    def opinions(self, original: Image, shown: Image, boxes: Sequence[Box]) -> list[Seen]:
        self.asked.append((original, shown, len(boxes)))
        return [Seen() for _ in boxes]


def test_a_critic_is_asked_in_stream_mode_alone(model: CodecModel) -> None:
    for mode in ("still", "stream"):
        eye = Eye()
        encoder = CameraEncoder(model, CoderSettings(mode, 3), critic=eye)  # type: ignore[arg-type]
        for seq in range(6):
            encode(encoder, seq)
        assert bool(eye.asked) == (mode == "stream")
    original, shown, count = eye.asked[-1]
    assert original.shape == shown.shape == (HEIGHT, WIDTH, 3)
    assert count >= 1


def test_packets_of_streams_name_the_learned_codec(model: CodecModel) -> None:
    class Silent:
        """Has a name, and makes nothing that is smaller."""

        name = b"new"

        def sketch(self, samples: Image, job: PaintJob) -> Silent:
            self._atom = dataclasses.replace(job.atom, payload=bytes(10_000))
            return self

        def atom(self, quality: int) -> Atom:
            return self._atom

        def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
            raise AssertionError("what is larger is not looked at")

    encoder = CameraEncoder(model, CoderSettings("auto", 3), learned=Silent())
    packets = [encode(encoder, seq) for seq in range(6)]
    assert {packet.model for packet in packets} == {b"new"}
    info = StreamInfo("street", WIDTH, HEIGHT, Fraction(10), encoder.models, (StreamTask("cars", 1, ()),))
    still = encoder.encode(frame(0, places(0)), {"cars": Ask(info.tasks[0].key)}, again=True)
    assert still.model == model.short_hash
    check_belongs(info, still, -1)
    with pytest.raises(BitstreamError, match="made with model"):
        check_belongs(dataclasses.replace(info, model=b"new"), still, -1)
    assert CameraEncoder(model, CoderSettings("auto", 3)).models == model.short_hash
