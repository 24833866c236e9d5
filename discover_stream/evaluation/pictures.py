"""Picture quality against the original: PSNR and MS-SSIM, over the whole picture or inside a mask.

Pictures are (H, W, 3) uint8 RGB, masks (H, W) bool. More is better for every measure here.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from discover_stream.evaluation.boxes import Mask
from discover_stream.types import Image, InputError

PSNR_CEILING = 100.0
"""dB given for pictures that are equal, and the most that is ever given: means stay finite."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, from Wang, Simoncelli, Bovik, "Multi-scale structural similarity" (2003)."""

WINDOW, SIGMA = 11, 1.5
MS_SSIM_MIN_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""The shorter side that MS-SSIM needs: the window has to fit the coarsest of the scales."""

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_Floats = npt.NDArray[np.float64]


def check_pair(original: Image, decoded: Image, inside: Mask | None = None) -> None:
    """Refuse what cannot be compared.

    Raises:
        InputError: sizes or kinds differ, or the mask marks nothing.
    """
    for image in (original, decoded):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"cannot compare a {image.dtype} array of shape {image.shape}; give uint8 RGB pictures")
    if original.shape != decoded.shape:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (original, decoded)]
        raise InputError(f"cannot compare pictures of {sizes[0]} and {sizes[1]} pixels; decode at the original's size")
    if inside is not None and inside.shape != original.shape[:2]:
        raise InputError(f"a mask of shape {inside.shape} does not fit a picture of shape {original.shape[:2]}")
    if inside is not None and not inside.any():
        raise InputError("the mask marks no pixel; leave pictures without objects out of the mean")


def psnr(original: Image, decoded: Image, inside: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all three channels, at most `PSNR_CEILING`.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: the same size.
        inside: measure only these pixels.

    Raises:
        InputError: see `check_pair`.
    """
    check_pair(original, decoded, inside)
    error = np.square(original.astype(np.float64) - decoded)
    mean = float((error if inside is None else error[inside]).mean())
    return PSNR_CEILING if mean == 0 else min(PSNR_CEILING, float(10 * np.log10(255**2 / mean)))


def ms_ssim(original: Image, decoded: Image, inside: Mask | None = None) -> float:
    """Multi-scale structural similarity, 0..1, the mean of the three channels.

    Over the whole picture it is what `pytorch_msssim` says. Inside a mask the same maps are averaged with the mask
    as weight at every scale; pictures are mirrored at their edges, so that objects there count as well.

    Args:
        original: (H, W, 3) uint8 RGB.
        decoded: the same size.
        inside: measure only these pixels.

    Raises:
        InputError: a side below `MS_SSIM_MIN_SIDE`; and see `check_pair`.
    """
    check_pair(original, decoded, inside)
    height, width = original.shape[:2]
    if min(height, width) < MS_SSIM_MIN_SIDE:
        raise InputError(
            f"MS-SSIM cannot measure {width}x{height} pixels: its five scales need {MS_SSIM_MIN_SIDE} a side;"
            " use PSNR or larger pictures"
        )
    if inside is not None:
        return _weighted_ms_ssim(original, decoded, inside.astype(np.float64))
    from pytorch_msssim import ms_ssim as measure

    first, second = (torch.from_numpy(i.astype(np.float32)).permute(2, 0, 1)[None] for i in (original, decoded))
    with torch.inference_mode():
        return float(measure(first, second, data_range=255, weights=list(WEIGHTS)))


def _weighted_ms_ssim(original: Image, decoded: Image, weight: _Floats, *, mirrored: bool = True) -> float:
    """MS-SSIM whose maps are averaged with `weight`; unmirrored and with equal weights it is the usual one."""
    first, second = original.astype(np.float64), decoded.astype(np.float64)
    result = np.ones(3)
    for scale, power in enumerate(WEIGHTS):
        if scale:
            first, second, weight = _halved(first), _halved(second), _halved(weight)
        luminance, structure = _maps(first, second)
        values = luminance * structure if scale == len(WEIGHTS) - 1 else structure
        border = 0 if mirrored else WINDOW // 2
        area = slice(border, weight.shape[0] - border), slice(border, weight.shape[1] - border)
        mean = np.average(values[area].reshape(-1, 3), axis=0, weights=weight[area].reshape(-1))
        result *= np.maximum(mean, 0.0) ** power
    return float(result.mean())


def _maps(first: _Floats, second: _Floats) -> tuple[_Floats, _Floats]:
    """Luminance, and contrast with structure, at every pixel and channel (H, W, 3)."""
    mean_1, mean_2 = _blurred(first), _blurred(second)
    var_1 = _blurred(first * first) - mean_1**2
    var_2 = _blurred(second * second) - mean_2**2
    both = _blurred(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1**2 + mean_2**2 + _C1)
    return luminance, (2 * both + _C2) / (var_1 + var_2 + _C2)


def _blurred(values: _Floats) -> _Floats:
    return np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA), dtype=np.float64)


def _halved(values: _Floats) -> _Floats:
    """Means of 2x2; odd sides get a line of zeros before them, as `pytorch_msssim` pads them."""
    height, width = values.shape[:2]
    pad = [(height % 2, height % 2), (width % 2, width % 2)] + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, pad)
    rows, columns = padded.shape[0] // 2, padded.shape[1] // 2
    blocks = padded[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2, *values.shape[2:])
    return np.asarray(blocks.mean((1, 3)), dtype=np.float64)
