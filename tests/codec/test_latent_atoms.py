"""LATENT atoms: written, painted, refused; with small random networks, and with ones that code pixels exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_cases import SMALL, write_random_codec
from torch import Tensor
from torch.nn import functional

from discover_stream.codec.atom_sprites import Coming, latent_window, sprites_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.latent_atoms import Autoencoder, LatentCodec
from discover_stream.codec.model import load_codec
from discover_stream.codec.painter import PaintJob
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Atom, AtomCoding, Window
from discover_stream.types import BitstreamError, Image

WIDTH, HEIGHT = 128, 96
CHANNELS = SMALL.latent_channels


def folded(pictures: Tensor) -> Tensor:
    """Pictures to latents of 16 channels that keep their coarse colours: averages of 4x4 pixels, in places of 8x8."""
    small = functional.pixel_unshuffle(functional.avg_pool2d(pictures, 4), 2)
    return functional.pad(small, (0, 0, 0, 0, 0, CHANNELS - small.shape[1]))


def unfolded(latents: Tensor) -> Tensor:
    return functional.interpolate(functional.pixel_shuffle(latents[:, :12], 2), scale_factor=4.0)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> LatentCodec:
    path = write_random_codec(tmp_path_factory.mktemp("weights"), 3)
    return LatentCodec(load_codec(path), Autoencoder(folded, unfolded))


def street() -> Image:
    random = np.random.default_rng(1)
    return np.repeat(np.repeat(random.integers(60, 120, (HEIGHT // 8, WIDTH // 8, 3)), 8, 0), 8, 1).astype(np.uint8)


def with_car(x: int, y: int) -> Image:
    frame = street()
    frame[y : y + 20, x : x + 36] = (200, 40, 30)
    return frame


PLATE = PlatePicture(street())


def box(x: int, y: int) -> QuarterBox:
    return QuarterBox(4 * x, 4 * y, 4 * 36, 4 * 20)


@pytest.mark.parametrize("quality", [1, 8])
@pytest.mark.parametrize("plate", [PLATE, None])
def test_an_atom_is_painted_alone_as_with_others(codec: LatentCodec, quality: int, plate: PlatePicture | None) -> None:
    places = (30, 50), (70, 20), (100, 66)  # the last one beyond the picture's edge
    coming = []
    for place in places:
        samples, job = latent_window(with_car(*place), box(*place), plate=plate)
        coming.append(Coming(codec.sketch(samples, job).atom(quality), box(*place), plate))
    assert all(one.atom.coding == AtomCoding.LATENT and one.atom.payload for one in coming)
    together = sprites_of(coming, (WIDTH, HEIGHT), codec)
    for one, expected in zip(coming, together, strict=True):
        (alone,) = sprites_of([one], (WIDTH, HEIGHT), codec)
        assert np.abs(alone.samples.astype(int) - expected.samples).max() <= 1
        assert np.abs(alone.alpha.astype(int) - expected.alpha).mean() < 2


def test_bytes_say_all_there_is_to_say(codec: LatentCodec) -> None:
    """What is painted follows from the payload: another one gives another picture, or none."""
    samples, job = latent_window(with_car(30, 50), box(30, 50), plate=PLATE)
    fine = codec.sketch(samples, job).atom(8)
    coarse = codec.sketch(samples, job).atom(1)
    assert len(coarse.payload) < len(fine.payload)
    one, two = codec.paint([dataclasses.replace(job, atom=atom) for atom in (fine, coarse)])
    assert not np.array_equal(one.samples, two.samples)
    assert one.plate is not None
    assert two.plate is not None
    assert np.array_equal(one.plate, two.plate)


def test_a_refresh_is_coded_on_its_key(codec: LatentCodec) -> None:
    samples, job = latent_window(with_car(30, 50), box(30, 50), plate=PLATE)
    (key,) = sprites_of([Coming(codec.sketch(samples, job).atom(8), box(30, 50), PLATE)], (WIDTH, HEIGHT), codec)
    key = dataclasses.replace(key, samples=samples, alpha=np.full_like(key.alpha, 255))
    now = box(64, 40)
    samples, job = latent_window(with_car(64, 40), now, plate=PLATE, key=key)
    assert job.refreshes
    assert job.reference is not None
    assert job.plate is not None
    assert not np.array_equal(job.reference, job.plate)
    atom = codec.sketch(samples, job).atom(4)
    (right,) = codec.paint([dataclasses.replace(job, atom=atom)])
    (wrong,) = codec.paint([dataclasses.replace(job, atom=atom, reference=job.plate)])
    assert not np.array_equal(right.samples, wrong.samples)
    assert right.plate is not None
    assert wrong.plate is not None
    assert np.array_equal(right.plate, wrong.plate)
    (sprite,) = sprites_of([Coming(atom, now, PLATE, key)], (WIDTH, HEIGHT), codec)
    assert sprite.samples.shape == (32, 48, 3)


def test_only_cells_of_the_object_are_sent_on_a_plate(codec: LatentCodec) -> None:
    wide = QuarterBox(4 * 10, 4 * 10, 4 * 90, 4 * 70)
    samples, job = latent_window(with_car(30, 50), wide, plate=PLATE)
    assert job.atom.cells is not None
    assert 0 < job.atom.cells.mask.mean() < 0.6
    _, bare = latent_window(with_car(30, 50), wide)
    assert bare.atom.cells is None
    (painted,) = codec.paint([dataclasses.replace(job, atom=codec.sketch(samples, job).atom(3))])
    assert painted.samples.shape == samples.shape


def test_z_is_sent_where_it_pays(codec: LatentCodec) -> None:
    """Both forms are decoded; the one that is sent has not more bytes than the other."""
    chosen = set()
    for side in (1, 5):
        window = Window(0, 0, side, side)
        samples = np.random.default_rng(side).integers(0, 256, (16 * side, 16 * side, 3)).astype(np.uint8)
        job = PaintJob(Atom(window, None, 1, False, False, b""))
        atom = codec.sketch(samples, job).atom(8)
        chosen.add(atom.own_z)
        (painted,) = codec.paint([dataclasses.replace(job, atom=atom)])
        assert painted.samples.shape == samples.shape
        assert painted.plate is None
    assert chosen


def test_damage_is_refused(codec: LatentCodec) -> None:
    samples, job = latent_window(with_car(30, 50), box(30, 50), plate=PLATE)
    atom = codec.sketch(samples, job).atom(8)
    for damaged in (
        dataclasses.replace(atom, payload=b"", own_z=True),
        dataclasses.replace(atom, payload=atom.payload + b"\x00"),
        dataclasses.replace(atom, payload=b"\xff\xff\xff" + atom.payload, own_z=True),
        dataclasses.replace(atom, payload=b"\x7f" + atom.payload[:9], own_z=True),
    ):
        with pytest.raises(BitstreamError):
            codec.paint([dataclasses.replace(job, atom=damaged)])
    large = Atom(Window(0, 0, 256, 65), None, 1, False, False, b"1")
    with pytest.raises(BitstreamError, match="more than 16384"):
        codec.paint([PaintJob(large)])
    assert codec.paint([]) == []


def test_the_name_is_that_of_the_file(tmp_path: Path) -> None:
    path = write_random_codec(tmp_path, 4)
    model = load_codec(path)
    assert LatentCodec(model, Autoencoder(folded, unfolded)).name == model.digest[:3]
    assert torch.is_tensor(model.medians)
