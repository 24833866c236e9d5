"""The exact branch: from integers to scale indices, the same on every machine.

rANS needs the same probability table on both sides. A float network does not give that: other
kernels, thread counts or batch sizes round differently. So the table index of every symbol of y
comes from the integers of z alone, by a small network whose every value is an integer held in
float64: weights are multiples of 2**-12, activations of 2**-8, and no sum can reach 2**53, where
float64 would start to round. Matrix products of such numbers are exact in any order of summation.

::

    z symbols (N, hz, wz) --3x3 patches--> W1, ReLU --> W2, ReLU --> W3 + bias of quality --> index (M, 4hz, 4wz)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from compressai.ops.bound_ops import LowerBoundFunction
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.network import Z_TO_Y, CodecConfig

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


class ScaleBranch(nn.Module):
    """The branch as it is trained, in float. `export_branch` puts it on the integer grid."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.z_channels * 9, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.third = nn.Linear(HIDDEN, config.y_channels * Z_TO_Y**2)
        self.bias = nn.Parameter(torch.zeros(config.qualities, config.y_channels))
        nn.init.constant_(self.third.bias, SCALE_LEVELS / 2)

    def forward(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """Continuous scale indices.

        Args:
            symbols: (B, N, hz, wz) integers of z (as floats, gradient passed through).
            quality: (B,) in 1..8.

        Returns:
            (B, M, 4hz, 4wz), clamped to 0..47.
        """
        batch, _, rows, columns = symbols.shape
        limited = symbols.clamp(-Z_LIMIT, Z_LIMIT)
        patches = functional.unfold(limited, 3, padding=1).transpose(1, 2)
        hidden = self.first(patches).clamp(0, ACTIVATION_LIMIT)
        hidden = self.second(hidden).clamp(0, ACTIVATION_LIMIT)
        flat = self.third(hidden).transpose(1, 2).reshape(batch, -1, rows, columns)
        index = functional.pixel_shuffle(flat, Z_TO_Y) + self.bias[quality - 1][:, :, None, None]
        # Below the bound, the gradient passes where it would raise the index: none gets stuck there.
        bounded: Tensor = LowerBoundFunction.apply(index, torch.zeros(1))
        return bounded.clamp(max=SCALE_LEVELS - 1)


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


def export_branch(branch: ScaleBranch) -> dict[str, Tensor]:
    """The branch's weights as int32 tensors on the grid: weights in 2**-12, biases in 2**-20.

    Raises:
        ValueError: a weight is not finite or does not fit.
    """
    exported: dict[str, Tensor] = {}
    product = 2.0 ** (WEIGHT_BITS + ACTIVATION_BITS)
    for name in ("first", "second", "third"):
        layer = cast(nn.Linear, getattr(branch, name))
        exported[f"{name}.weight"] = on_grid(layer.weight, 2.0**WEIGHT_BITS)
        exported[f"{name}.bias"] = on_grid(layer.bias, product)
    exported["quality.bias"] = on_grid(branch.bias, product)
    return exported


class ExactScales:
    """The branch as it is used: integers in, integers out.

    Raises:
        ValueError: the weights could let a sum reach 2**53, where float64 stops being exact.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._layers = [
            (weights[f"{name}.weight"].numpy().astype(np.float64), weights[f"{name}.bias"].numpy().astype(np.float64))
            for name in ("first", "second", "third")
        ]
        self._quality_bias = weights["quality.bias"].numpy().astype(np.float64)
        self._channels = self._quality_bias.shape[1]
        # As the last layer's outputs lie: each channel's 4x4 cells together.
        self._spread_bias = np.repeat(self._quality_bias, Z_TO_Y**2, axis=1)
        limits = (Z_LIMIT, ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        for (weight, bias), limit in zip(self._layers, limits, strict=True):
            largest = np.abs(weight).sum(axis=1).max() * limit * 2**ACTIVATION_BITS + np.abs(bias).max()
            if largest + np.abs(self._quality_bias).max() + 2**32 >= 2**53:
                raise ValueError(f"the scale branch could reach {largest:.3g} grid units; float64 is exact below 2**53")

    def indices(self, symbols: Integers, quality: int) -> npt.NDArray[np.uint8]:
        """Scale indices of every cell and channel.

        Args:
            symbols: (N, hz, wz) integers of z.
            quality: 1..8.

        Returns:
            (M, 4hz, 4wz) in 0..47.
        """
        return self.indices_all([symbols], [quality])[0]

    def indices_all(self, symbols: Sequence[Integers], qualities: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
        """`indices` of several frames, of whatever size and camera, in one go."""
        patches, own = distinct_patches(symbols)
        values = patches * 2.0**ACTIVATION_BITS
        for weight, bias in self._layers[:2]:
            values = activated(values @ weight.T + bias)
        weight, bias = self._layers[2]
        sums = values @ weight.T + bias
        result, start = [], 0
        for part, quality in zip(symbols, qualities, strict=True):
            _, rows, columns = part.shape
            frame = own[start : start + rows * columns]
            start += rows * columns
            used, again = np.unique(frame, return_inverse=True)
            index = scale_index(sums[used] + self._spread_bias[quality - 1])[again]
            cells = index.reshape(rows, columns, self._channels, Z_TO_Y, Z_TO_Y).transpose(2, 0, 3, 1, 4)
            result.append(cells.reshape(self._channels, rows * Z_TO_Y, columns * Z_TO_Y))
        return result
