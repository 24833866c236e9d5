from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_encoder import SIZE, stream

from discover_stream.codec.atom_sprites import av1_atom
from discover_stream.codec.composing import Composite, PlatePicture
from discover_stream.codec.painter import Painted, PaintJob
from discover_stream.codec.plate_pictures import av1_payload
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone
from discover_stream.codec.records import Cells, End, Key, Move, QuarterBox, Ref
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket, route_stream
from discover_stream.codec.stream_pictures import PlateStore, StreamPictures
from discover_stream.types import BitstreamError, Image, Provenance

WIDTH, HEIGHT = 96, 64
CLOCK = Clock(10**15, 0, 100_000, 1000)


class Brush:
    """Paints what follows from an atom's bytes and its reference, so that a wrong one of either is seen."""

    def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
        return [Painted(self._one(job), job.plate) for job in jobs]

    def _one(self, job: PaintJob) -> Image:
        shape = (job.atom.window.rows * 16, job.atom.window.columns * 16, 3)
        shade = np.uint8(60 + zlib.crc32(job.atom.payload) % 120)
        base = np.full(shape, shade, np.uint8) if job.reference is None else job.reference // 2 + shade // 2
        base[::4] = 255 - base[::4]
        return base


def brushes(model: bytes) -> Brush:
    return Brush()


def street() -> Image:
    random = np.random.default_rng(3)
    road = 100 + random.integers(-5, 6, (8, 12)).repeat(8, 0).repeat(8, 1)
    road[20:22] = 200
    return np.stack([road, road, road + 3], -1).astype(np.uint8)


def with_car(x: int, y: int, colour: tuple[int, int, int] = (190, 40, 40)) -> Image:
    frame = street()
    frame[y : y + 16, x : x + 24] = colour
    frame[y + 3 : y + 8, x + 5 : x + 18] = 20
    return frame


def box(x: float, y: float) -> QuarterBox:
    return QuarterBox(round(4 * x), round(4 * y), 96, 64)


def psnr(one: Image, other: Image) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


def plate(plate_id: int = 1, image: Image | None = None) -> Plate:
    payload = av1_payload(street() if image is None else image, 12)
    return Plate(plate_id, WIDTH, HEIGHT, (0, 1), CLOCK, coding=PlateCoding.AV1, payload=payload)


def decoded_plate() -> PlatePicture:
    store = PlateStore().added([plate()], b"abc")
    return store.picture(1)


def first(**changes: object) -> StreamPacket:
    """A packet of tasks 11 and 22 that brings a plate and a car, which both see."""
    atom = av1_atom(with_car(10, 30), box(10, 30), 14, plate=decoded_plate())
    key = Key(0, 5, box(10, 30), 50, ((0, 3), (1, 4)), atom=atom)
    packet = StreamPacket(
        b"abc", 10, 0, 1, 10, (11, 22), plated=(0, 1), drift=0, plates=(plate(),), keys=(key,)
    )  # fmt: skip
    return dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def after(seq: int, **changes: object) -> StreamPacket:
    packet = StreamPacket(b"abc", seq, 0, 1, 10, (11, 22), base=seq - 1, plated=(0, 1), drift=0)
    return dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def car_at(x: float, y: float, **changes: object) -> Move:
    return dataclasses.replace(Move(Ref(10, 0), (0, 1), box(x, y)), **changes)  # type: ignore[arg-type]


def test_a_car_comes_moves_and_goes() -> None:
    pictures = StreamPictures()
    assert pictures.take(first()).whole
    made = pictures.compose()
    assert psnr(made.image, with_car(10, 30)) > 30
    assert made.provenance[2, 1] == Provenance.SENT
    pictures.take(after(11, moves=(car_at(50, 40),)))
    made = pictures.compose()
    assert psnr(made.image, with_car(50, 40)) > 30
    assert made.provenance[3, 4] == Provenance.PROPAGATED
    assert made.provenance[0, 0] == Provenance.PLATE
    pictures.take(after(12, ends=(End(Ref(10, 0), (0, 1)),)))
    assert psnr(pictures.compose().image, street()) > 33
    assert len(pictures._sprites) == 0


def test_a_refresh_is_drawn_until_the_next() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    green = with_car(40, 20, (40, 170, 40))
    key = pictures._sprites[Ref(10, 0), 10]
    atom = av1_atom(green, box(40, 20), 14, plate=decoded_plate(), key=key)
    pictures.take(after(11, moves=(car_at(40, 20, atom=atom),)))
    assert psnr(pictures.compose().image, green) > 29
    pictures.take(after(12, moves=(car_at(60, 44),)))
    assert psnr(pictures.compose().image, with_car(60, 44, (40, 170, 40))) > 29
    pictures.take(after(13, base=None, moves=(car_at(60, 44),)))
    assert psnr(pictures.compose().image, with_car(60, 44)) > 29, "the key's own atom is named"


def test_hidden_and_shown() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    pictures.take(after(11, moves=(car_at(10, 30, hidden=True),)))
    assert np.array_equal(pictures.compose().image, decoded_plate().image)
    left = Cells.of(np.array([[True, False]]))
    pictures.take(after(12, moves=(car_at(10, 30, shown=left),)))
    made = pictures.compose()
    assert psnr(made.image[:, :26], with_car(10, 30)[:, :26]) > 29
    assert np.array_equal(made.image[:, 27:], decoded_plate().image[:, 27:])


def test_what_is_absent_is_grey_and_missing() -> None:
    """A decoder that has the plate, and the packet after the key."""
    pictures = StreamPictures()
    alone = StreamPacket(
        b"abc", 0, 0, 0, 0, (), capture_us=0, size=(WIDTH, HEIGHT), plates=(dataclasses.replace(plate(), members=()),)
    )  # fmt: skip
    pictures.take(alone)
    key = first().keys[0]
    assert not pictures.take(after(11, base=None, plate_id=2, keys=(key,))).whole
    made = pictures.compose()
    assert (made.provenance == Provenance.MISSING).all()
    assert (made.image == 128).all()
    pictures.take(after(12, base=None, keys=(dataclasses.replace(key, slot=1),)))
    made = pictures.compose()
    assert psnr(made.image, with_car(10, 30)) > 30
    assert not (made.provenance == Provenance.MISSING).any()


def test_a_lost_refresh_is_missing_not_the_key() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    step = pictures.take(after(13, base=None, moves=(car_at(40, 20, source=12),)))
    assert not step.whole
    made = pictures.compose()
    assert (made.image[20:36, 40:64] == 128).all()
    assert made.provenance[1, 3] == Provenance.MISSING
    assert made.provenance[0, 0] == Provenance.PLATE


def test_tasks_see_their_own_tracks() -> None:
    key = first().keys[0]
    mine = dataclasses.replace(key, labels=((0, 3),))
    atom = av1_atom(with_car(60, 4), box(60, 4), 14, plate=decoded_plate())
    theirs = Key(1, 6, box(60, 4), 50, ((1, 3),), atom=atom)
    pictures = StreamPictures()
    pictures.take(first(keys=(mine, theirs)))
    one, other, both = (pictures.compose(tasks) for tasks in ([11], [22], None))
    assert psnr(one.image, with_car(10, 30)) > 30
    assert psnr(other.image, with_car(60, 4)) > 30
    assert np.array_equal(both.image[:24], other.image[:24])
    assert np.array_equal(both.image[26:], one.image[26:])
    assert np.array_equal(pictures.compose([]).image, np.full((HEIGHT, WIDTH, 3), 128))


def test_plates_change_and_are_shifted_by_the_view() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    brighter = Plate(4, WIDTH, HEIGHT, (0, 1), None, 1, 1, tone=Tone((0, 0, 0), (80, 80, 80)))
    pictures.take(after(11, plate_id=4, plates=(brighter,), moves=(car_at(10, 30),)))
    made = pictures.compose()
    assert (made.image[:16].astype(int) - decoded_plate().image[:16] == 20).all()
    pictures.take(after(12, plate_id=4, view=(4 * 16, 0), moves=(car_at(10, 44),)))
    shifted = pictures.compose()
    assert (shifted.image[:16, 16:].astype(int) - decoded_plate().image[:16, :-16] == 20).all()
    assert (shifted.provenance[0] == [0, 3, 3, 3, 3, 3]).all()
    pictures.take(after(13, plate_id=4, moves=(car_at(10, 44),)))
    assert np.array_equal(pictures.compose().image[:16], made.image[:16])


def test_a_bare_plate_is_filled_in_when_it_comes() -> None:
    store = PlateStore().added([plate().bare()], b"abc")
    assert not store.picture(1).there.any()
    assert store.added([plate()], b"abc").picture(1).there is None
    assert store.added([plate()], b"abc").added([plate().bare()], b"abc").picture(1).there is None
    assert store.size(1) == (WIDTH, HEIGHT)


def test_parents_are_kept_as_long_as_their_children() -> None:
    child = Plate(2, WIDTH, HEIGHT, (0, 1), None, 1, 1, tone=Tone((0, 0, 0), (8, 8, 8)))
    other = plate(7)
    store = PlateStore().added([plate(), child, other], b"abc")
    store.keep([2])
    assert 1 in store
    assert 7 not in store
    assert len(store) == 2
    assert (store.picture(2).image[0, 0] == decoded_plate().image[0, 0] + 2).all()
    orphan = PlateStore().added([child], b"abc")
    assert 2 not in orphan


def test_a_new_incarnation_keeps_nothing_but_plates() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    pictures.take(after(11, incarnation=1, base=None))
    assert np.array_equal(pictures.compose().image, decoded_plate().image)
    assert len(pictures._sprites) == 0


def test_memory_is_bounded() -> None:
    pictures = StreamPictures(max_samples=1000, camera="gate")
    pictures.take(first())
    another = dataclasses.replace(first().keys[0], track=6)
    with pytest.raises(BitstreamError, match=r"gate, seq 11: .* 1024 samples, more than 1000"):
        pictures.take(after(11, keys=(another,)))
    pictures.take(after(11, keys=(dataclasses.replace(another, track=5),)))


def test_plates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discover_stream.codec.stream_pictures.MAX_PLATE_BYTES", 1000)
    pictures = StreamPictures(camera="gate")
    large = dataclasses.replace(plate(), payload=bytes(1001))
    with pytest.raises(BitstreamError, match="gate, seq 10: plates of 1001 bytes"):
        pictures.take(first(plates=(large,)))
    assert pictures.take(first()).whole


def test_a_refused_packet_changes_nothing() -> None:
    pictures = StreamPictures()
    pictures.take(first())
    before, state = pictures.compose(), pictures.state
    key = first().keys[0]
    assert key.atom is not None
    bad = dataclasses.replace(key, slot=0, atom=dataclasses.replace(key.atom, payload=b"\x00\x40\x00"))
    with pytest.raises(BitstreamError, match="seq 11"):
        pictures.take(after(11, plates=(plate(9),), keys=(bad,)))
    assert pictures.state is state
    assert np.array_equal(pictures.compose().image, before.image)
    assert pictures.take(after(11, moves=(car_at(11, 31),))).whole


def test_nothing_to_show_before_the_first_packet() -> None:
    with pytest.raises(BitstreamError, match="how large"):
        StreamPictures().compose()


def test_models_are_needed_for_learned_atoms() -> None:
    packets, _, _ = stream(1)
    pictures = StreamPictures(camera="gate")

    def play() -> None:
        for packet in packets:
            pictures.take(packet)
            pictures.compose()

    with pytest.raises(BitstreamError, match="no model"):
        play()


def same(one: Composite, other: Composite) -> None:
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.provenance, other.provenance)


@given(st.integers(0, 40), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_every_subset_of_tasks_sees_the_same(seed: int, choice: int) -> None:
    """Composing for some tasks, and decoding only what was routed to them, give the same pictures."""
    packets, steps, _ = stream(seed)
    wanted = [task for index, task in enumerate((11, 22, 33)) if choice >> index & 1] or [11]
    whole, routed = StreamPictures(brushes), StreamPictures(brushes)
    for packet, step in zip(packets, steps, strict=True):
        assert whole.take(packet).whole == step.whole
        made = whole.compose(wanted)
        assert made.image.shape == (SIZE[1], SIZE[0], 3)
        part = parse_stream_packet(stream_packet_bytes(route_stream(packet, wanted)))
        if part.tasks:
            routed.take(part)
            same(routed.compose(wanted), made)


@given(st.integers(0, 40), st.integers(0, 2**32), st.floats(0.05, 0.6))
@settings(max_examples=25, deadline=None)
def test_lost_packets_are_missing_until_mended(seed: int, luck: int, loss: float) -> None:
    """Where the state says that nothing is absent, the picture is the one of a decoder that lost nothing."""
    packets, _, _ = stream(seed)
    random = Random(luck)
    whole, lossy = StreamPictures(brushes), StreamPictures(brushes)
    for index, packet in enumerate(packets):
        whole.take(packet)
        if index and random.random() < loss:
            continue
        step = lossy.take(packet)
        if step.whole:
            same(lossy.compose(), whole.compose())
        else:
            lossy.compose()


def test_what_is_held_does_not_grow() -> None:
    packets, _, _ = stream(7, 120)
    pictures = StreamPictures(brushes)
    for packet in packets:
        step = pictures.take(packet)
        pictures.compose()
        tracks = sum(len(task.tracks) for task in step.state.tasks.values())
        assert len(pictures._sprites) <= 2 * tracks
        assert len(pictures._plates._pictures) <= 3
        assert len(pictures._plates) <= 32 * 4 + 15
