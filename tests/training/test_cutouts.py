from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.training.cutouts import SMALLEST, load_cutouts, outline, place
from discover_stream.training.data import CropSampler
from discover_stream.training.pairs import KEY, REFRESH, STILL, ExampleMaker, Scene, Sources, difference
from discover_stream.types import Image

RED = np.array([200, 30, 30])


@pytest.fixture
def cutouts() -> tuple[Image, ...]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 120, (8, 12, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
    return (coarse, coarse[:, ::-1].copy())


@pytest.fixture
def plate() -> Image:
    return np.full((192, 192, 3), 180, dtype=np.uint8)


def test_labelled_boxes_are_cut_out_with_a_margin(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / "vehicles" / name).mkdir(parents=True)
    picture = np.full((200, 400, 3), 90, dtype=np.uint8)
    picture[60:140, 100:300] = RED
    PillowImage.fromarray(picture).save(tmp_path / "vehicles" / "images" / "street.png")
    (tmp_path / "vehicles" / "labels" / "street.txt").write_text(
        "2 0.5 0.5 0.5 0.4\n"  # the red one
        "2 0.1 0.1 0.1 0.05\n"  # too small
    )
    (tmp_path / "vehicles" / "labels" / "lost.txt").write_text("2 0.5 0.5 0.5 0.4\n")
    (cutout,) = load_cutouts(tmp_path)
    assert min(cutout.shape[:2]) >= SMALLEST
    assert (cutout == RED).all(axis=2).sum() == 80 * 200
    assert 80 * 200 < cutout.shape[0] * cutout.shape[1] < 1.4 * 80 * 200
    assert load_cutouts(tmp_path / "nothing") == ()


def test_outlines_are_whole_inside_and_nothing_at_the_corners() -> None:
    found = outline(60, 120)
    assert found[30, 60] == 1
    assert found[0, 0] == 0
    assert 0.6 < found.mean() < 1


def test_a_cutout_changes_the_plate_where_it_says(plate: Image, cutouts: tuple[Image, ...]) -> None:
    for seed in range(20):
        placed = place(np.random.default_rng(seed), plate, cutouts)
        outside = placed.where == 0
        assert (placed.picture[outside] == 180).all()
        covered = placed.where > 0.9
        assert covered.any()
        assert np.abs(placed.picture[covered].astype(int) - 180).mean() > 30
        # What is remembered is nearly what is there.
        left, before = difference(placed.picture, placed.remembered), difference(placed.picture, plate)
        assert left[covered].mean() < 0.5 * before[covered].mean()


def test_cutouts_give_keys_and_refreshes_with_something_to_send(plate: Image, cutouts: tuple[Image, ...]) -> None:
    crops = CropSampler([plate], [1.0], crop=192, seed=0)
    scene = Scene((plate, plate, plate), plate)  # nothing moves by itself
    for kind, shares in ((KEY, (0, 1, 0)), (REFRESH, (0, 0, 1))):
        maker = ExampleMaker(Sources((scene,), crops, cutouts), seed=1, shares=shares)
        examples = [maker.one() for _ in range(30)]
        shown = [example for example in examples if example.kind == kind]
        assert 8 <= len(shown) <= 25
        assert all(example.mask.any() and example.reference is not None for example in shown)
    without = ExampleMaker(Sources((scene,), crops), seed=1, shares=(0, 0, 1))
    assert {without.one().kind for _ in range(10)} == {STILL}
