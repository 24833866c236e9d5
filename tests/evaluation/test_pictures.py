"""PSNR and MS-SSIM: by hand, and against pytorch_msssim."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as reference

from discover_stream.evaluation import pictures
from discover_stream.evaluation.pictures import MS_SSIM_MIN_SIDE, PSNR_CEILING, ms_ssim, psnr
from discover_stream.types import Image, InputError


def scene(height: int, width: int, seed: int = 0) -> Image:
    """Smooth blobs with some grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(4, 30) + c) + np.cos(y / rng.uniform(4, 30) - c) for c in range(3)]
    return np.clip(128 + 45 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def noisy(image: Image, sigma: float, seed: int = 1) -> Image:
    grain = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def test_psnr_by_hand() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    grey = np.full((4, 4, 3), 10, np.uint8)
    assert psnr(black, grey) == pytest.approx(10 * math.log10(255**2 / 100))
    one = black.copy()
    one[0, 0, 1] = 255  # one of 48 samples is wholly wrong
    assert psnr(black, one) == pytest.approx(10 * math.log10(48))
    assert psnr(black, black) == PSNR_CEILING
    inside = np.zeros((4, 4), dtype=bool)
    inside[0, :2] = True  # that sample is one of six
    assert psnr(black, one, inside) == pytest.approx(10 * math.log10(6))
    assert psnr(black, one, ~inside) == PSNR_CEILING


@pytest.mark.parametrize("size", [(176, 192), (177, 161), (203, 331)])
def test_ms_ssim_is_that_of_pytorch_msssim(size: tuple[int, int]) -> None:
    first = scene(*size)
    second = noisy(first, 25)
    tensors = [torch.from_numpy(i.astype(np.float64)).permute(2, 0, 1)[None] for i in (first, second)]
    expected = float(reference(*tensors, data_range=255))
    assert ms_ssim(first, second) == pytest.approx(expected, abs=1e-4)
    # What is averaged inside masks is the same map: with equal weights and unmirrored edges it is the same number.
    weighted = pictures._weighted_ms_ssim(first, second, np.ones(size), mirrored=False)
    assert weighted == pytest.approx(expected, abs=1e-5)  # its window is in single precision
    assert ms_ssim(first, first) == pytest.approx(1.0)
    assert ms_ssim(first, first, np.ones(size, dtype=bool)) == pytest.approx(1.0)


def test_inside_sees_what_is_inside() -> None:
    image = scene(256, 320)
    broken = image.copy()
    broken[64:192, 180:300] = noisy(image, 60)[64:192, 180:300]
    there = np.zeros((256, 320), dtype=bool)
    there[80:176, 196:284] = True
    away = np.zeros((256, 320), dtype=bool)
    away[:, :60] = True
    assert ms_ssim(image, broken, there) < ms_ssim(image, broken) < ms_ssim(image, broken, away)
    assert psnr(image, broken, there) < psnr(image, broken) < psnr(image, broken, away)
    edge = np.zeros((256, 320), dtype=bool)
    edge[:4, :4] = True  # an object in the very corner
    assert 0 < ms_ssim(image, noisy(image, 20), edge) < 1


def test_more_noise_is_worse() -> None:
    image = scene(176, 208)
    steps = [noisy(image, sigma) for sigma in (2, 8, 30, 80)]
    for measure in (psnr, ms_ssim):
        values = [measure(image, step) for step in steps]
        assert values == sorted(values, reverse=True)


def test_what_cannot_be_compared_is_refused() -> None:
    image = scene(MS_SSIM_MIN_SIDE, 200)
    assert ms_ssim(image, image) == pytest.approx(1.0)
    with pytest.raises(InputError, match="160x200 pixels: its five scales need 161"):
        ms_ssim(image.transpose(1, 0, 2)[:, :160], image.transpose(1, 0, 2)[:, :160])
    with pytest.raises(InputError, match="200x161 and 200x160"):
        psnr(image, image[:-1])
    with pytest.raises(InputError, match="float64"):
        psnr(image, image.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="marks no pixel"):
        psnr(image, image, np.zeros(image.shape[:2], dtype=bool))
    with pytest.raises(InputError, match="does not fit"):
        ms_ssim(image, image, np.ones((3, 3), dtype=bool))
