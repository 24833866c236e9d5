from collections import Counter

import numpy as np
import pytest
import torch

from discover_stream.generation.vae import build_vae
from discover_stream.training.data import CropSampler
from discover_stream.training.pairs import (
    KEY,
    REFRESH,
    STILL,
    Example,
    ExampleMaker,
    PairBank,
    Scene,
    Sources,
    cell_mask,
    difference,
    extent_of,
    median_plate,
    object_at,
    sampled,
    shift_between,
)
from discover_stream.video.simulate import SimulatedCamera


@pytest.fixture(scope="module")
def sources() -> Sources:
    camera = SimulatedCamera("pairs", seed=1001, fps=5, width=352, height=224)
    frames = tuple(camera.render(index)[0].image for index in range(30))
    crops = CropSampler(list(frames), [1.0] * len(frames), crop=192, seed=0)
    return Sources((Scene(frames, median_plate(frames)),), crops)


@pytest.fixture(scope="module")
def examples(sources: Sources) -> list[Example]:
    maker = ExampleMaker(sources, seed=1)
    return [maker.one() for _ in range(80)]


def test_the_plate_of_passing_objects_is_what_stands_behind() -> None:
    background = np.full((32, 32, 3), 90, dtype=np.uint8)
    frames = []
    for index in range(9):
        frame = background.copy()
        frame[:, 3 * index : 3 * index + 5] = 255
        frames.append(frame)
    assert np.array_equal(median_plate(tuple(frames)), background)


def test_cells_count_from_a_twentieth_on() -> None:
    moving = np.zeros((32, 48), dtype=bool)
    moving[0, :13] = True  # 13 of 256 pixels
    moving[16, 16:28] = True  # 12 of 256
    assert cell_mask(moving).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_motion_is_found_from_earlier_to_later() -> None:
    random = np.random.default_rng(0)
    texture = random.integers(0, 255, (16, 16, 3)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    earlier = np.full((128, 128, 3), 100, dtype=np.uint8)
    later = earlier.copy()
    earlier[20:84, 20:84] = texture
    later[23:87, 26:90] = texture
    where = np.zeros((128, 128), dtype=bool)
    where[23:87, 26:90] = True
    dx, dy = shift_between(earlier, later, where)
    assert (dx, dy) == (6, 3)


def test_every_kind_occurs_and_sends_something(examples: list[Example]) -> None:
    kinds = Counter(example.kind for example in examples)
    assert set(kinds) == {STILL, KEY, REFRESH}
    for example in examples:
        assert example.picture.shape == (192, 192, 3)
        assert example.mask.any()
        assert (example.reference is None) == (example.kind == STILL)


def test_an_object_is_what_hangs_together() -> None:
    moving = np.zeros((40, 60), dtype=bool)
    moving[5:15, 5:15] = moving[5:15, 18:25] = True  # a gap of three pixels
    moving[30:35, 40:50] = True
    thing = object_at(moving, 6, 6)
    assert thing[6, 20]
    assert not thing[31, 41]


def test_refreshes_know_more_than_keys(examples: list[Example]) -> None:
    def apart(kind: int) -> float:
        chosen = [e for e in examples if e.kind == kind and e.reference is not None]
        sent = [e.mask.astype(bool).repeat(16, axis=0).repeat(16, axis=1) for e in chosen]
        pairs = zip(chosen, sent, strict=True)
        return float(np.mean([difference(e.picture, e.reference)[where].mean() for e, where in pairs]))  # type: ignore[arg-type]

    assert apart(REFRESH) < 0.9 * apart(KEY)


def test_the_same_seed_draws_the_same_examples(sources: Sources) -> None:
    sources.crops.random = np.random.default_rng(0)
    one = [ExampleMaker(sources, seed=5).one() for _ in range(3)]
    sources.crops.random = np.random.default_rng(0)
    two = [ExampleMaker(sources, seed=5).one() for _ in range(3)]
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert np.array_equal(a.mask, b.mask)


def test_kinds_are_drawn_by_their_shares(sources: Sources) -> None:
    stills = ExampleMaker(sources, seed=3, shares=(1, 0, 0))
    assert {stills.one().kind for _ in range(10)} == {STILL}
    keys = ExampleMaker(sources, seed=3, shares=(0, 0.5, 0))
    kinds = [keys.one().kind for _ in range(30)]
    assert REFRESH not in kinds
    assert kinds.count(KEY) > kinds.count(STILL)  # a draw that meets nothing that moves gives a part of a still


def test_batches_are_cut_around_sent_cells_and_aligned(sources: Sources) -> None:
    torch.manual_seed(0)
    bank = PairBank(sources, build_vae(), 12, seed=2)
    batch = bank.draw(np.random.default_rng(0), 64, 20)
    assert batch.pictures.shape == (20, 3, 64, 64)
    assert batch.latents.shape == batch.references.shape == (20, 16, 8, 8)
    assert batch.masks.shape == (20, 1, 4, 4)
    assert bool((batch.masks.sum(dim=(1, 2, 3)) > 0).all())
    still = batch.kinds == STILL
    assert not batch.references[still].any()
    assert batch.references[~still].flatten(1).any(dim=1).all()
    # Pictures and latents are cut at the same place: a whole-crop draw holds both unmoved.
    whole = bank.draw(np.random.default_rng(1), 192, 12)
    found = (bank.pictures.float().div(255)[None] - whole.pictures[:, None]).abs().amax(dim=(2, 3, 4)).argmin(dim=1)
    assert torch.equal(whole.latents, bank.latents[found].float())


def test_small_objects_are_sampled_finer() -> None:
    thing = np.zeros((240, 320), dtype=bool)
    thing[100:120, 50:110] = True
    assert extent_of(thing) == 20
    random = np.random.default_rng(0)
    cut = random.integers(0, 255, (96, 96, 3)).astype(np.uint8)
    finer = sampled(cut)
    assert finer.shape == (192, 192, 3)
    # Each sample of the cut is where it was, at twice the place.
    means = finer.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(means.ravel(), cut.ravel())[0, 1] > 0.9
    assert np.array_equal(sampled(finer), finer)
