"""`scales.ContextScales` in integers: what both sides of the bitstream compute, the same on every machine.

Grid and proof are those of `exact`: weights are multiples of 2**-12, activations of 2**-8, all held in float64,
and no sum can reach 2**53, so products of matrices are exact in any order. Symbols of y enter by their size:
whole numbers to 15, and sums of four of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from discover_stream.codec.exact import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    WEIGHT_BITS,
    Z_LIMIT,
    activated,
    distinct_patches,
    on_grid,
    scale_index,
)
from discover_stream.codec.network import Z_TO_Y
from discover_stream.codec.scales import KINDS, MAGNITUDE_LIMIT, ContextScales, pass_name

Integers = npt.NDArray[np.int64]
Grid = npt.NDArray[np.float64]
"""Whole numbers of grid units, held in float64."""

_PRODUCT = 2.0 ** (WEIGHT_BITS + ACTIVATION_BITS)


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
                np.ascontiguousarray(weight.numpy().T.astype(np.float64)),
                weights[f"{name.removesuffix('.weight')}.bias"].numpy().astype(np.float64),
            )
            for name, weight in weights.items()
            if name.endswith(".weight")
        }
        self._drop_own()
        # From channels with their 4x4 cells to cells with their channels.
        turned = np.arange(len(self._layers["third"][1])).reshape(-1, Z_TO_Y**2).T.ravel()
        self._layers["third"] = (self._layers["third"][0][:, turned], self._layers["third"][1][turned])
        self._bias = weights["bias"].numpy().astype(np.float64)  # (qualities, kinds, M)
        if self._bias.shape[1:] != (KINDS, sum(groups)):
            raise ValueError(f"biases for {self._bias.shape[1:]}, not for {KINDS} kinds and {sum(groups)} channels")
        self._check_bounds()

    def _check_bounds(self) -> None:
        """The proof: the largest index sum is that of z, a quality's bias and one context together."""

        def most(name: str, limit: float) -> float:
            weight, bias = self._layers[name]
            return float(np.abs(weight).sum(axis=0).max() * limit * 2**ACTIVATION_BITS + np.abs(bias).max())

        sums = [most("first", Z_LIMIT), most("second", ACTIVATION_LIMIT)]
        contexts = [name.removesuffix(".out") for name in self._layers if name.endswith(".out")]
        sums += [most(f"{name}.hidden", 4 * MAGNITUDE_LIMIT) for name in contexts]
        last = most("third", ACTIVATION_LIMIT) + float(np.abs(self._bias).max())
        sums.append(last + max((most(f"{name}.out", ACTIVATION_LIMIT) for name in contexts), default=0.0))
        if max(sums) + 2**32 >= 2**53:
            raise ValueError(f"the scale branch could reach {max(sums):.3g} grid units; float64 is exact below 2**53")

    def _drop_own(self) -> None:
        """Layers `*.lean`: those of second passes without a cell's own symbols of the group, which are yet to come."""
        known = 0
        for group, size in enumerate(self._groups):
            name = f"{pass_name(group, True)}.hidden"
            if name in self._layers:
                weight, bias = self._layers[name]
                self._layers[f"{name}.lean"] = (np.delete(weight, np.s_[known : known + size], axis=0), bias)
            known += size

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
        values, own = self.base_rows([symbols])
        flat = values[own].reshape(rows, columns, Z_TO_Y, Z_TO_Y, -1)
        cells = flat.transpose(4, 0, 2, 1, 3).reshape(-1, rows * Z_TO_Y, columns * Z_TO_Y)
        return cast(Grid, cells + self._bias[quality - 1, kind][:, None, None])

    def base_rows(self, symbols: Sequence[Integers]) -> tuple[Grid, npt.NDArray[np.intp]]:
        """What several z say, before the bias of quality and kind.

        Returns:
            (k, 16, M) for k neighbourhoods, each for its 4x4 cells in row order; and for every position, z after
            z in row order, which is its own.
        """
        patches, own = distinct_patches(symbols)
        patches *= 2.0**ACTIVATION_BITS
        sums = self._product("third", self._activate("second", self._activate("first", patches)))
        return sums.reshape(len(patches), Z_TO_Y**2, -1), own

    def bias(self, quality: int, kind: int) -> Grid:
        """What quality (1..8) and kind add to each channel's index, (M,) in 2**-20."""
        return cast(Grid, self._bias[quality - 1, kind])

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
        limited = np.minimum(sizes, MAGNITUDE_LIMIT).astype(np.float64)
        features = np.concatenate([limited, neighbour_sums(limited)]).transpose(1, 2, 0)
        start = sum(self._groups[:group])
        own = base[start : start + self._groups[group]].transpose(1, 2, 0)
        return self.indices_of_rows(own, group, second, features).transpose(2, 0, 1)

    def indices_of_rows(self, base: Grid, group: int, second: bool, features: Grid) -> npt.NDArray[np.uint8]:
        """`indices` of any cells, (..., M) each, from their features.

        Args:
            base: (..., size of the group) indices in 2**-20 so far, bias included.
            group: index of the channel group.
            second: False for the anchors' pass, True for the others'.
            features: (..., 2 * known channels) sizes of the cell, at most 15, then sums of its neighbours'. In the
                second pass, sizes of the cell's own symbols of the group may be left out: they are zero.

        Returns:
            (..., size of the group) in 0..47.
        """
        if features.shape[-1]:
            name = pass_name(group, second)
            lean = features.shape[-1] < len(self._layers[f"{name}.hidden"][0])
            hidden = self._activate(
                f"{name}.hidden.lean" if lean else f"{name}.hidden", features * 2.0**ACTIVATION_BITS
            )
            return scale_index(self._product(f"{name}.out", hidden) + base)
        return scale_index(base.copy())

    def _product(self, name: str, values: Grid) -> Grid:
        weight, bias = self._layers[name]
        return cast(Grid, values @ weight + bias)

    def _activate(self, name: str, values: Grid) -> Grid:
        """One layer and its clamp."""
        return activated(self._product(name, values))


def neighbour_sums(values: Grid) -> Grid:
    """Sum of the four neighbours of every cell, zero beyond the edge; (C, h, w) -> the same."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    return cast(Grid, vertical + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:])
