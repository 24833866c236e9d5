from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.training.data import CropSampler, clip_first_half, load_pictures, photographs
from discover_stream.types import InputError


def gradient(height: int, width: int) -> np.ndarray:
    rows = np.linspace(0, 255, height).astype(np.uint8)
    return np.stack([np.repeat(rows[:, None], width, 1)] * 3, axis=2)


def test_same_seed_same_crops() -> None:
    pictures = [gradient(100, 120), gradient(64, 64)]
    first, second = (CropSampler(pictures, [1, 1], 48, seed=5).batch(6) for _ in range(2))
    assert (first == second).all()
    assert first.shape == (6, 3, 48, 48)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_pictures_smaller_than_a_crop_are_left_out() -> None:
    sampler = CropSampler([gradient(20, 20), gradient(64, 64)], [0.9, 0.1], 48, seed=0)
    assert len(sampler.pictures) == 1
    with pytest.raises(InputError, match="48 pixels"):
        CropSampler([gradient(20, 20)], [1], 48, seed=0)


def test_photographs_are_shrunk_and_rgb(tmp_path: Path) -> None:
    PillowImage.fromarray(gradient(300, 200)).convert("L").save(tmp_path / "a.png")
    (picture,) = photographs(tmp_path, longest=100)
    assert picture.shape == (100, 67, 3)


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training clips"):
        load_pictures(tmp_path)


@pytest.mark.shared
def test_only_the_first_half_of_a_clip_is_used(shared: Path) -> None:
    pictures = clip_first_half(shared / "video" / "motorway_fog.mp4", every=25)
    assert 7 <= len(pictures) <= 8  # 15 s at 25 frames/s
