"""The grid of the exact branch: what makes its sums the same on every machine.

Range coding needs the same probability table on both sides. A float network does not give that: other
kernels, thread counts or batch sizes round differently. So the table index of every symbol of y
comes from integers alone, by small networks (`exact_scales`) whose every value is an integer held in
float64: weights are multiples of 2**-12, activations of 2**-8, and no sum can reach 2**53, where
float64 would start to round. Matrix products of such numbers are exact in any order of summation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

WEIGHT_BITS = 12
ACTIVATION_BITS = 8
ACTIVATION_LIMIT = 255.0
"""Activations are clamped to 0..255 (in units of 1, that is 0..65280 grid units)."""

Z_LIMIT = 127
"""Symbols of z are clamped to +-127 before they enter the branch."""

SCALE_LEVELS = 48
SCALE_SMALLEST = 0.10
SCALE_LARGEST = 40.0
HIDDEN = 96

Integers = npt.NDArray[np.int64]


def scale_table() -> list[float]:
    """The standard deviation of each scale index, geometric from 0.10 to 40."""
    ratio = (SCALE_LARGEST / SCALE_SMALLEST) ** (1 / (SCALE_LEVELS - 1))
    return [SCALE_SMALLEST * ratio**level for level in range(SCALE_LEVELS)]


def activated(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What follows a hidden layer: back to the activations' grid, clamped; overwrites its argument.

    Half goes up, by floor(v + 1/2): one fixed rule for ties, exact in float64.
    """
    sums *= 2.0**-WEIGHT_BITS
    sums += 0.5
    np.floor(sums, out=sums)
    return np.clip(sums, 0, ACTIVATION_LIMIT * 2**ACTIVATION_BITS, out=sums)


def scale_index(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Scale indices from sums in 2**-20, by the same rule for ties; overwrites its argument."""
    sums *= 2.0 ** -(WEIGHT_BITS + ACTIVATION_BITS)
    sums += 0.5
    # What is left is not negative, so cutting off is rounding down.
    return np.clip(sums, 0, SCALE_LEVELS - 1, out=sums).astype(np.uint8)


def on_grid(values: Tensor, units: float) -> Tensor:
    """Weights as int32 in 1/units.

    Raises:
        ValueError: one is not finite or does not fit.
    """
    scaled = (values.detach().double() * units).round()
    if not bool((scaled.abs() < 2**31).all()):
        raise ValueError("a weight of the scale branch is not finite or does not fit 32 bits on its grid")
    return scaled.to(torch.int32)


def patches_of(symbols: Integers) -> npt.NDArray[np.float64]:
    """The 3x3 neighbourhood of every position of z: (N, hz, wz) -> (hz * wz, 9 N), zero outside, clamped to +-127."""
    n, rows, columns = symbols.shape
    padded = np.zeros((n, rows + 2, columns + 2))
    np.clip(symbols, -Z_LIMIT, Z_LIMIT, out=padded[:, 1:-1, 1:-1], casting="unsafe")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # type: ignore[call-overload]  # (N, hz, wz, 3, 3)
    patches: npt.NDArray[np.float64] = windows.transpose(1, 2, 0, 3, 4).reshape(rows * columns, n * 9)
    return patches


def distinct_patches(symbols: Sequence[Integers]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Neighbourhoods of the positions of several z, those that are all zero only once: most of them are.

    Returns:
        Patches (k, 9 N), the first all zero; and for every position, z after z in row order, which is its own.
    """
    patches = np.concatenate([patches_of(part) for part in symbols])
    busy = patches.any(axis=1)
    return np.concatenate([np.zeros((1, patches.shape[1])), patches[busy]]), np.cumsum(busy) * busy
