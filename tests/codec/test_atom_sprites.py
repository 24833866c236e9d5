from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from discover_stream.codec.atom_sprites import Reference, av1_atom, sprite_of
from discover_stream.codec.composing import Drawn, PlatePicture, compose
from discover_stream.codec.painter import Painted, PaintJob
from discover_stream.codec.records import Atom, AtomCoding, Cells, QuarterBox, Window
from discover_stream.types import BitstreamError, Image, InputError, Provenance

WIDTH, HEIGHT = 128, 96
SIZE = (WIDTH, HEIGHT)


def street() -> Image:
    """A road with grain and two lines."""
    random = np.random.default_rng(5)
    road = 105 + np.repeat(np.repeat(random.integers(-6, 7, (24, 32)), 4, 0), 4, 1).astype(float)
    road[40:43] = 210
    road[:, 60:62] = 190
    return np.clip(np.stack([road, road, road + 4], -1), 0, 255).astype(np.uint8)


def with_car(picture: Image, x: int, y: int, light: int = 240) -> Image:
    """A red car, 40 x 24 pixels, with dark windows."""
    frame = picture.copy()
    frame[y : y + 24, x : x + 40] = (180, 40, 40)
    frame[y + 3 : y + 10, x + 8 : x + 30] = (30, 30, 50)
    frame[y + 16 : y + 20, x + 34 : x + 39] = light
    return frame


def box(x: float, y: float, width: float = 40, height: float = 24) -> QuarterBox:
    return QuarterBox(round(4 * x), round(4 * y), round(4 * width), round(4 * height))


def psnr(one: Image, other: Image) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


PLATE = PlatePicture(street())


@pytest.mark.parametrize("zoom", [-1, 0, 1])
def test_a_car_on_the_plate_is_drawn_and_moved(zoom: int) -> None:
    frame = with_car(street(), 30, 50)
    atom = av1_atom(frame, box(30, 50), 16, zoom=zoom, plate=PLATE)
    assert (atom.coding, atom.quality, atom.on_plate, atom.window) == (
        AtomCoding.AV1, 0, True, Window.around(box(30, 50), zoom),
    )  # fmt: skip
    sprite = sprite_of(atom, box(30, 50), SIZE, plate=PLATE)
    least = 23 if zoom < 0 else 28
    assert psnr(compose(PLATE, [Drawn(box(30, 50), sprite)]).image, frame) > least
    moved = compose(PLATE, [Drawn(box(70, 20), sprite, Provenance.PROPAGATED)])
    assert psnr(moved.image, with_car(street(), 70, 20)) > least
    assert not moved.alpha[60:].any()


def test_what_the_plate_shows_costs_next_to_nothing() -> None:
    atom = av1_atom(street(), box(30, 50), 30, plate=PLATE)
    assert len(atom.payload) <= 6
    assert not sprite_of(atom, box(30, 50), SIZE, plate=PLATE).alpha.any()


def test_without_a_plate_the_box_is_drawn() -> None:
    frame = with_car(street(), 30, 50)
    atom = av1_atom(frame, box(30, 50), 10)
    assert not atom.on_plate
    sprite = sprite_of(atom, box(30, 50), SIZE)
    made = compose(PlatePicture.missing(*SIZE), [Drawn(box(30, 50), sprite)])
    assert psnr(made.image[53:71, 33:67], frame[53:71, 33:67]) > 28
    assert not made.alpha[:49].any()
    assert not made.alpha[:, 72:].any()


def test_a_refresh_sends_what_changed() -> None:
    """The key brought nearer, its light off: less than a key, and right."""
    first, place = with_car(street(), 30, 50), box(30, 50)
    key = sprite_of(av1_atom(first, place, 16, plate=PLATE), place, SIZE, plate=PLATE)
    later, now = with_car(street(), 62, 20, light=60), box(62, 20)
    refresh = av1_atom(later, now, 16, plate=PLATE, key=key)
    again = av1_atom(later, now, 16, plate=PLATE)
    assert len(refresh.payload) < 0.6 * len(again.payload)
    sprite = sprite_of(refresh, now, SIZE, plate=PLATE, key=key)
    made = compose(PLATE, [Drawn(now, sprite)])
    assert psnr(made.image, later) > 28
    assert np.abs(made.image[37:39, 97:100].astype(int) - 60).max() < 25


def test_a_refresh_takes_back_what_is_no_longer_there() -> None:
    first, place = with_car(street(), 30, 50), box(30, 50)
    key = sprite_of(av1_atom(first, place, 16, plate=PLATE), place, SIZE, plate=PLATE)
    empty = av1_atom(street(), place, 16, plate=PLATE, key=key)
    sprite = sprite_of(empty, place, SIZE, plate=PLATE, key=key)
    assert psnr(compose(PLATE, [Drawn(place, sprite)]).image, street()) > 30


def test_cells_that_a_refresh_leaves_out_are_the_keys() -> None:
    first, place = with_car(street(), 30, 50), box(30, 50)
    key = sprite_of(av1_atom(first, place, 16, plate=PLATE), place, SIZE, plate=PLATE)
    later, now = with_car(street(), 64, 16, light=60), box(64, 16)
    right = np.zeros((2, 3), bool)
    right[:, 2] = True
    whole = av1_atom(later, now, 16, plate=PLATE, key=key)
    part = dataclasses.replace(whole, cells=Cells.of(right))
    sprite = sprite_of(part, now, SIZE, plate=PLATE, key=key)
    reference = Reference(part.window, 0, now, PLATE, key, AtomCoding.AV1)
    assert np.array_equal(sprite.samples[:, :32], reference.samples[:, :32])
    assert np.array_equal(sprite.alpha[:, :32], reference.alpha[:, :32])
    full = sprite_of(whole, now, SIZE, plate=PLATE, key=key)
    assert np.array_equal(sprite.samples[:, 32:], full.samples[:, 32:])


def test_cells_that_a_key_leaves_out_show_what_is_behind() -> None:
    frame = with_car(street(), 32, 48)
    left = np.zeros((2, 3), bool)
    left[:, 0] = True
    atom = dataclasses.replace(av1_atom(frame, box(32, 48), 16, plate=PLATE), cells=Cells.of(left))
    sprite = sprite_of(atom, box(32, 48), SIZE, plate=PLATE)
    assert not sprite.alpha[:, 16:].any()
    assert (sprite.alpha[2:22, 2:15] == 255).all()


def test_what_lies_beyond_the_picture_is_not_known() -> None:
    frame = with_car(np.pad(street(), ((0, 0), (0, 20), (0, 0)), mode="edge"), 108, 50)[:, :WIDTH]
    place = box(108, 50)
    sprite = sprite_of(av1_atom(frame, place, 16, plate=PLATE), place, SIZE, plate=PLATE)
    assert not sprite.alpha[:, 20:].any()
    later = compose(PLATE, [Drawn(box(64, 48), sprite)])
    assert np.array_equal(later.image[:, 88:], PLATE.image[:, 88:])
    assert (later.provenance[3, 6] == Provenance.MISSING).all()


def test_latent_atoms_are_painted_on_their_reference() -> None:
    class Brush:
        def __init__(self) -> None:
            self.seen: list[Image | None] = []

        def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
            (job,) = jobs
            atom = job.atom
            self.seen.append(job.reference)
            base = np.zeros((atom.window.rows * 16, atom.window.columns * 16, 3), np.uint8)
            return [Painted(base + np.uint8(len(atom.payload)), job.plate)]

    brush, window = Brush(), Window.around(box(30, 50))
    atom = Atom(window, None, 3, False, True, b"12345")
    key = sprite_of(atom, box(30, 50), SIZE, plate=PLATE, painter=brush)
    assert np.array_equal(brush.seen[0], street()[50:82, 30:78])
    assert (key.samples == 5).all()
    sprite_of(dataclasses.replace(atom, on_plate=False), box(30, 50), SIZE, painter=brush)
    assert brush.seen[1] is None
    sprite_of(atom, box(30, 50), SIZE, plate=PLATE, key=key, painter=brush)
    assert (brush.seen[2][4:20, 4:36] == 5).all()
    sprite_of(dataclasses.replace(atom, on_plate=False), box(30, 50), SIZE, key=key, painter=brush)
    assert (brush.seen[3][4:20, 4:36] == 5).all()
    with pytest.raises(BitstreamError, match="no model"):
        sprite_of(atom, box(30, 50), SIZE, plate=PLATE)


def test_a_plate_that_is_not_there_is_the_callers_fault() -> None:
    atom = av1_atom(street(), box(30, 50), 30, plate=PLATE)
    with pytest.raises(ValueError, match="plate"):
        sprite_of(atom, box(30, 50), SIZE)
    with pytest.raises(BitstreamError):
        sprite_of(dataclasses.replace(atom, payload=b""), box(30, 50), SIZE, plate=PLATE)
    with pytest.raises(InputError):
        av1_atom(street(), box(30, 50), 64, plate=PLATE)
