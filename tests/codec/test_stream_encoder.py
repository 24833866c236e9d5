from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from street import BLUE, GREY, HEIGHT, RED, SIZE, WIDTH, Places, frame, picture, regions, road

from discover_stream.codec.plate_policy import PlateAction
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings, StreamStart
from discover_stream.codec.stream_packet import GapReason, StreamPacket, route_stream
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.types import Frame, Image, InputError, Provenance

KEYS = {"cars": 11, "all": 22}
SETTINGS = StreamSettings(b"abc", quality=6)
Story = Callable[[int], Places]


def one_car(seq: int) -> Places:
    return {1: (RED, 5 + 3.3 * seq, 30)} if seq else {}


def two_cars(seq: int) -> Places:
    return {} if seq == 0 else {1: (RED, 4 + 3.0 * seq, 14), 2: (BLUE, 110 - 2.5 * seq, 60)}


def coded(
    story: Story,
    count: int,
    encoder: StreamEncoder | None = None,
    first: int = 0,
    light: Callable[[int], float] = lambda _: 0,
) -> tuple[list[StreamPacket], list[Image]]:
    """Packets, as parsed from their bytes, and what the encoder believes decoders show."""
    encoder = encoder or StreamEncoder(SETTINGS)
    packets, pictures = [], []
    for seq in range(first, first + count):
        found = regions(story(seq))
        packet = encoder.encode(frame(seq, story(seq), light(seq)), {"cars": found, "all": found[:1]}, KEYS)
        parsed = parse_stream_packet(stream_packet_bytes(packet))
        assert parsed == packet
        packets.append(parsed)
        pictures.append(encoder.composite.image)
    return packets, pictures


def decoded(packets: Sequence[StreamPacket]) -> list[Image]:
    decoder, pictures = StreamPictures(), []
    for packet in packets:
        assert decoder.take(packet).absent == ()
        pictures.append(decoder.compose().image)
    return pictures


def error(image: Image, other: Image, places: Places | None = None) -> float:
    apart = np.abs(image.astype(float) - other).mean(axis=2)
    if places is None:
        return float(apart.mean())
    ((_, x, y),) = places.values()
    return float(apart[round(y) : round(y) + SIZE[1], max(0, round(x)) : round(x) + SIZE[0]].mean())


def test_decoders_show_what_the_encoder_believes_and_that_is_the_street() -> None:
    packets, believed = coded(two_cars, 30)
    for seq, (image, shown) in enumerate(zip(decoded(packets), believed, strict=True)):
        assert np.array_equal(image, shown), seq
        assert error(image, picture(two_cars(seq))) < 7, seq


def test_colours_are_the_objects_own() -> None:
    packets, _ = coded(two_cars, 12)
    last, places = decoded(packets)[-1], two_cars(11)
    for track, strong in ((1, 0), (2, 2)):
        _, x, y = places[track]
        body = last[round(y) + 12 : round(y) + 17, round(x) + 5 : round(x) + 35].reshape(-1, 3).mean(axis=0)
        assert int(np.argmax(body)) == strong
        assert body[strong] - body[2 - strong] > 80


def test_a_steady_object_is_sent_once_and_then_costs_next_to_nothing() -> None:
    packets, _ = coded(one_car, 30)
    atoms = [seq for seq, packet in enumerate(packets) for _ in packet.atoms()]
    assert len(atoms) <= 3
    assert atoms[0] == 1
    later = [
        len(stream_packet_bytes(packet)) for packet in packets[8:] if not any(packet.atoms()) and not packet.plates
    ]
    assert sum(later) / len(later) < 40


def test_it_leaves_no_ghost_and_no_trail() -> None:
    packets, _ = coded(lambda seq: one_car(seq) if seq < 20 else {}, 32)
    pictures = decoded(packets)
    empty, _ = coded(lambda seq: {}, 1)
    assert error(pictures[-1], decoded(empty)[0]) < 1
    # where the car was, while it is elsewhere
    assert error(pictures[19], picture(one_car(19)), one_car(4)) < 5


def test_what_stood_there_from_the_start_is_the_plates_until_it_leaves() -> None:
    def story(seq: int) -> Places:
        return {1: (GREY, 30 + max(0, seq - 10) * 4.0, 40)}

    packets, _ = coded(story, 40)
    assert not any(atom for packet in packets[:11] for atom in packet.atoms())
    pictures = decoded(packets)
    assert error(pictures[9], picture(story(9)), story(9)) < 6
    assert (
        error(pictures[39], picture(story(39)), story(0)) < 20
    )  # as far as the rules ask for: the car itself is at 80
    assert error(pictures[24], picture(story(24)), story(24)) < 12


def test_regions_follow_the_objects() -> None:
    packets, _ = coded(two_cars, 20)
    decoder = StreamPictures()
    for seq, packet in enumerate(packets):
        found = {region.track: region.box for region in decoder.take(packet).state.tasks[11].regions()}
        wanted = {region.track: region.box for region in regions(two_cars(seq))}
        assert found.keys() == wanted.keys()
        assert all(found[track].iou(box) > 0.75 for track, box in wanted.items())


def test_each_task_gets_its_own_objects_only() -> None:
    packets, _ = coded(two_cars, 10)
    decoder = StreamPictures()
    for packet in packets:
        step = decoder.take(route_stream(packet, (22,)))
        assert step.absent == ()
    assert [region.track for region in step.state.tasks[22].regions()] == [1]
    blue = two_cars(9)[2]
    assert error(decoder.compose().image, road(), {2: blue}) < 6


@pytest.mark.parametrize("wanted", [17, 29, 59])
def test_reading_from_where_a_packet_says_gives_its_picture(wanted: int) -> None:
    def story(seq: int) -> Places:
        return {} if seq == 0 else {1: (RED, 4 + 1.7 * seq, 14), 2: (BLUE, 20 + seq % 7, 60)}

    packets, believed = coded(story, 60)
    start = packets[wanted].oldest_ref
    assert wanted - start <= 50
    plates = [plate for packet in packets[: start + 1] for plate in packet.plates]
    alone = [dataclasses.replace(plate, members=()) for plate in plates]
    decoder = StreamPictures()
    decoder.take(StreamPacket(b"abc", 0, 0, 0, 0, (), capture_us=0, size=(WIDTH, HEIGHT), plates=tuple(alone)))
    for packet in packets[start : wanted + 1]:
        step = decoder.take(packet)
    assert step.absent == ()
    assert np.array_equal(decoder.compose().image, believed[wanted])


def test_a_lost_packet_is_told_and_mended_within_the_time_between_lists() -> None:
    packets, believed = coded(two_cars, 40)
    lost = next(seq for seq in range(12, 30) if packets[seq].keys or packets[seq].moves)
    decoder, told, mended = StreamPictures(), False, None
    for seq, packet in enumerate(packets):
        if seq == lost:
            continue
        step = decoder.take(packet)
        told |= seq > lost and not step.whole
        if seq > lost and step.whole and mended is None:
            mended = seq
    assert told
    assert mended is not None
    assert mended - lost <= 12
    assert np.array_equal(decoder.compose().image, believed[-1])


def test_a_task_that_starts_gets_everything() -> None:
    encoder = StreamEncoder(SETTINGS)
    decoder = StreamPictures()
    for seq in range(16):
        keys = {"cars": 11} if seq < 8 else KEYS
        found = regions(two_cars(seq))
        packet = encoder.encode(frame(seq, two_cars(seq)), dict.fromkeys(keys, found), keys)
        if seq >= 8:
            step = decoder.take(route_stream(packet, (22,)))
            assert step.absent == ()
            assert np.array_equal(decoder.compose().image, encoder.composite.image)
    assert {region.track for region in step.state.tasks[22].regions()} == {1, 2}


def test_a_restart_keys_everything_and_reuses_no_plate() -> None:
    encoder = StreamEncoder(SETTINGS)
    packets, _ = coded(two_cars, 10, encoder)
    after = StreamEncoder(SETTINGS, encoder.start)
    more, believed = coded(two_cars, 8, after, first=12)
    assert more[0].incarnation == packets[0].incarnation + 1
    assert not {p.plate_id for packet in packets for p in packet.plates} & {p.plate_id for q in more for p in q.plates}
    assert more[0].base is None
    assert np.array_equal(decoded([*packets, *more])[-1], believed[-1])


def test_frames_that_are_missing_are_told() -> None:
    encoder = StreamEncoder(SETTINGS)
    encoder.encode(frame(0, {}), {}, KEYS)
    packet = encoder.encode(frame(5, {}), {}, KEYS)
    assert packet.gap is not None
    assert (packet.gap.frames, packet.gap.reason) == (4, GapReason.SOURCE)


def test_other_light_costs_no_picture() -> None:
    packets, _ = coded(one_car, 24, light=lambda seq: min(12.0, 1.5 * seq))
    assert sum(1 for packet in packets for _ in packet.atoms()) <= 4
    assert any(plate.tone for packet in packets for plate in packet.plates)
    assert error(decoded(packets)[-1], picture(one_car(23), 12.0)) < 8


def test_a_bit_rate_is_kept() -> None:
    rng = np.random.default_rng(3)

    def story(seq: int) -> Places:
        return {} if seq == 0 else {1: (tuple(rng.integers(20, 230, 3)), 20 + 2 * seq, 30)}  # a new colour each frame

    def rate(bitrate: float | None) -> float:
        nonlocal rng
        rng = np.random.default_rng(3)
        encoder, bits = StreamEncoder(dataclasses.replace(SETTINGS, quality=8, bitrate=bitrate)), []
        for seq in range(40):
            places = story(seq)
            bits.append(
                8 * len(stream_packet_bytes(encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 1})))
            )
        return sum(bits[10:]) / 3.0

    free = rate(None)
    assert rate(free / 3) < 0.6 * free


def test_a_hand_held_camera_is_advised_to_still_mode() -> None:
    scene = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    large = np.asarray(__import__("cv2").resize(scene, (640, 480)), dtype=np.uint8)
    encoder = StreamEncoder(SETTINGS)
    assert encoder.advice is None
    for seq in range(32):
        cut = np.ascontiguousarray(large[seq : seq + 240, 2 * seq : 2 * seq + 320])
        encoder.encode(Frame("hand", seq, seq * 100_000_000, cut), {}, KEYS)
        if encoder.advice is not None:
            break
    assert encoder.advice is not None
    assert encoder.advice.action == PlateAction.STILL


def test_what_cannot_be_coded_is_refused() -> None:
    encoder = StreamEncoder(SETTINGS)
    encoder.encode(frame(3, {}), {}, KEYS)
    with pytest.raises(InputError, match="seq 3: it does not come after"):
        encoder.encode(frame(3, {}), {}, KEYS)
    with pytest.raises(InputError, match="no task"):
        encoder.encode(frame(4, {}), {}, {})
    with pytest.raises(InputError, match="same key"):
        encoder.encode(frame(4, {}), {}, {"a": 1, "b": 1})
    with pytest.raises(InputError, match="size"):
        encoder.encode(Frame("street", 4, 400_000_000, road()[:64]), {}, KEYS)
    for wrong in ({"model": b"a"}, {"fps": 0.0}, {"quality": 0}, {"bitrate": 0.0}):
        with pytest.raises(InputError):
            StreamSettings(**({"model": b"abc"} | wrong))
    assert StreamStart() == StreamStart(0, 1, None)


def test_what_left_the_plate_while_nobody_looked_leaves_no_ghost() -> None:
    """The grounder loses a parked car in the very frames in which it is gone: nothing says so but the picture."""
    encoder, shown = StreamEncoder(SETTINGS), list[Image]()
    parked = {1: (GREY, 60.0, 40.0)}
    for seq in range(14):
        places = parked if seq < 10 else {}
        encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 11})
        shown.append(encoder.composite.image)
    assert error(shown[9], road(), parked) > 40
    assert error(shown[12], road(), parked) < 20


def parked_and_driving(seq: int) -> Places:
    return {1: (BLUE, 110, 60)} | ({2: (RED, 4 + 3.0 * seq, 14)} if seq else {})


def test_a_task_without_plate_gets_what_moves_and_no_byte_of_what_stands_still() -> None:
    encoder, packets = StreamEncoder(SETTINGS), []
    for seq in range(14):
        found = regions(parked_and_driving(seq))
        packet = encoder.encode(frame(seq, parked_and_driving(seq)), {"cars": found, "all": found}, KEYS, {11})
        packets.append(parse_stream_packet(stream_packet_bytes(packet)))
    bare, plated = StreamPictures(), StreamPictures()
    for seq, packet in enumerate(packets):
        own = route_stream(packet, [11])
        assert own.plate_id == 0
        assert own.plates == ()
        assert bare.take(own).absent == ()
        assert plated.take(route_stream(packet, [22])).absent == ()
        found = {region.track for region in bare.state.tasks[11].regions()}
        assert found == set(parked_and_driving(seq))
    seen, picture_of_all = bare.compose(), plated.compose()
    car, parked = (slice(18, 34), slice(48, 82)), (slice(62, 82), slice(112, 146))
    truth = picture(parked_and_driving(13))
    assert np.abs(seen.image[car].astype(float) - truth[car]).mean() < 12
    assert np.abs(picture_of_all.image[car].astype(float) - truth[car]).mean() < 12
    assert (seen.image[parked] == 128).all()
    assert np.abs(picture_of_all.image[parked].astype(float) - truth[parked]).mean() < 12
    assert (seen.provenance[0] == Provenance.MISSING).all()
    assert (picture_of_all.provenance != Provenance.MISSING).all()


def test_a_camera_whose_tasks_all_want_no_plate_sends_none() -> None:
    encoder, decoder = StreamEncoder(SETTINGS), StreamPictures()
    for seq in range(8):
        found = regions(one_car(seq))
        packet = encoder.encode(frame(seq, one_car(seq)), {"cars": found}, {"cars": 11}, {11})
        packet = parse_stream_packet(stream_packet_bytes(packet))
        assert packet.plates == ()
        assert decoder.take(packet).absent == ()
        assert np.array_equal(decoder.compose().image, encoder.composite.image)


def test_what_drives_off_the_plate_is_no_background_where_it_is_then() -> None:
    """A car that the first plate shows starts at once, in the very frame in which the background is looked at."""
    encoder = StreamEncoder(SETTINGS)
    for seq in range(3):
        places: Places = {1: (RED, 48.0 if seq == 2 else 4.0, 30)}
        encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 11})
    background = encoder._plates._background.picture
    assert background is not None
    assert np.abs(background[32:52, 50:86].astype(float) - picture({})[32:52, 50:86]).mean() < 5


@pytest.mark.parametrize("speed", [5.0, -5.0])
def test_an_object_that_drives_out_of_the_picture_is_not_sent_again(speed: float) -> None:
    def leaving(seq: int) -> Places:
        return {1: (RED, 60 + speed * seq, 30)} if seq else {}

    count = 19 if speed > 0 else 18
    packets, _ = coded(leaving, count)
    assert [seq for seq, packet in enumerate(packets) for _ in packet.atoms()] == [1]
    decoder = StreamPictures()
    for seq, (packet, image) in enumerate(zip(packets, decoded(packets), strict=True)):
        tracks = decoder.take(packet).state.tasks[11].tracks
        assert error(image, picture(leaving(seq))) < 6, seq
        if seq:
            assert len(tracks) == 1, seq
