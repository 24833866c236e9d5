"""`scales.ContextScales` in integers: what both sides of the bitstream compute, the same on every machine.

Grid and proof are those of `exact`: weights are multiples of 2**-12, activations of 2**-8, all held in float64,
and no sum can reach 2**53, so products of matrices are exact in any order. Symbols of y enter by their size:
whole numbers to 15, and sums of four of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from discover_stream.codec.exact import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    SCALE_LEVELS,
    WEIGHT_BITS,
    Z_LIMIT,
    on_grid,
    patches_of,
)
from discover_stream.codec.scales import KINDS, MAGNITUDE_LIMIT, ContextScales, pass_name
from discover_stream.codec.transforms import Z_TO_Y

Integers = npt.NDArray[np.int64]
Grid = npt.NDArray[np.float64]
"""Whole numbers of grid units, held in float64."""

_PRODUCT = 2.0 ** (WEIGHT_BITS + ACTIVATION_BITS)
_TOP = ACTIVATION_LIMIT * 2**ACTIVATION_BITS


def export_scales(scales: ContextScales) -> dict[str, Tensor]:
    """The branch's weights as int32 tensors on the grid: weights in 2**-12, biases in 2**-20.

    Raises:
        ValueError: a weight is not finite or does not fit.
    """
    layers: dict[str, nn.Linear] = {name: getattr(scales, name) for name in ("first", "second", "third")}
    for name, pair in scales.context.items():
        for part in ("hidden", "out"):
            layers[f"{name}.{part}"] = cast(nn.Linear, cast(nn.ModuleDict, pair)[part])
    exported = {}
    for name, layer in layers.items():
        exported[f"{name}.weight"] = on_grid(layer.weight, 2.0**WEIGHT_BITS)
        exported[f"{name}.bias"] = on_grid(layer.bias, _PRODUCT)
    exported["bias"] = on_grid(scales.bias, _PRODUCT)
    return exported


class ExactContextScales:
    """The branch as it is used: integers in, integers out.

    Raises:
        ValueError: the weights could let a sum reach 2**53, where float64 stops being exact, or do not fit together.
    """

    def __init__(self, weights: Mapping[str, Tensor], groups: tuple[int, ...]) -> None:
        self._groups = groups
        self._layers = {
            name.removesuffix(".weight"): (
                weight.numpy().astype(np.float64),
                weights[f"{name.removesuffix('.weight')}.bias"].numpy().astype(np.float64),
            )
            for name, weight in weights.items()
            if name.endswith(".weight")
        }
        self._bias = weights["bias"].numpy().astype(np.float64)  # (qualities, kinds, M)
        if self._bias.shape[1:] != (KINDS, sum(groups)):
            raise ValueError(f"biases for {self._bias.shape[1:]}, not for {KINDS} kinds and {sum(groups)} channels")
        self._check_bounds()

    def _check_bounds(self) -> None:
        """The proof: the largest index sum is that of z, a quality's bias and one context together."""

        def most(name: str, limit: float) -> float:
            weight, bias = self._layers[name]
            return float(np.abs(weight).sum(axis=1).max() * limit * 2**ACTIVATION_BITS + np.abs(bias).max())

        sums = [most("first", Z_LIMIT), most("second", ACTIVATION_LIMIT)]
        contexts = [name.removesuffix(".out") for name in self._layers if name.endswith(".out")]
        sums += [most(f"{name}.hidden", 4 * MAGNITUDE_LIMIT) for name in contexts]
        last = most("third", ACTIVATION_LIMIT) + float(np.abs(self._bias).max())
        sums.append(last + max((most(f"{name}.out", ACTIVATION_LIMIT) for name in contexts), default=0.0))
        if max(sums) + 2**32 >= 2**53:
            raise ValueError(f"the scale branch could reach {max(sums):.3g} grid units; float64 is exact below 2**53")

    def base(self, symbols: Integers, quality: int, kind: int) -> Grid:
        """What z says of every cell and channel.

        Args:
            symbols: (N, hz, wz) integers of z.
            quality: 1..8.
            kind: of the atom, see `scales.KINDS`.

        Returns:
            (M, 4hz, 4wz), scale indices in 2**-20.
        """
        _, rows, columns = symbols.shape
        values = patches_of(symbols) * 2.0**ACTIVATION_BITS
        values = self._activate("second", self._activate("first", values))
        weight, bias = self._layers["third"]
        flat = (values @ weight.T + bias).reshape(rows, columns, -1, Z_TO_Y, Z_TO_Y)
        cells = flat.transpose(2, 0, 3, 1, 4).reshape(-1, rows * Z_TO_Y, columns * Z_TO_Y)
        return cast(Grid, cells + self._bias[quality - 1, kind][:, None, None])

    def indices(self, base: Grid, group: int, second: bool, sizes: Integers) -> npt.NDArray[np.uint8]:
        """Scale indices of one pass.

        Args:
            base: (M, h, w) from `base`, cut to the atom's cells.
            group: index of the channel group.
            second: False for the anchors' pass, True for the others'.
            sizes: (channels known in this pass, h, w) |symbols|, see `scales.ContextScales.indices`.

        Returns:
            (size of the group, h, w) in 0..47.
        """
        start = sum(self._groups[:group])
        sums = base[start : start + self._groups[group]]
        if len(sizes):
            name = pass_name(group, second)
            limited = np.minimum(sizes, MAGNITUDE_LIMIT).astype(np.float64)
            features = np.concatenate([limited, neighbour_sums(limited)]).transpose(1, 2, 0) * 2.0**ACTIVATION_BITS
            weight, bias = self._layers[f"{name}.out"]
            sums = sums + (self._activate(f"{name}.hidden", features) @ weight.T + bias).transpose(2, 0, 1)
        index = np.floor(sums / _PRODUCT + 0.5)
        clipped: npt.NDArray[np.uint8] = np.clip(index, 0, SCALE_LEVELS - 1).astype(np.uint8)
        return clipped

    def _activate(self, name: str, values: Grid) -> Grid:
        """One layer and its clamp. Half goes up, by floor(v + 1/2): one fixed rule for ties, exact in float64."""
        weight, bias = self._layers[name]
        return cast(Grid, np.clip(np.floor((values @ weight.T + bias) * 2.0**-WEIGHT_BITS + 0.5), 0, _TOP))


def neighbour_sums(values: Grid) -> Grid:
    """Sum of the four neighbours of every cell, zero beyond the edge; (C, h, w) -> the same."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    return cast(Grid, vertical + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:])


def numbers(values: Tensor) -> Integers:
    """A tensor of whole numbers as integers."""
    return values.detach().round().to(torch.int64).numpy()
