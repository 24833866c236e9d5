"""The exact branch with context: from integers to scale indices, the same on every machine.

Range coding needs the same probability table on both sides; a float network does not give that (see
`exact`, whose grid and proof of exactness this module shares). Here a table index follows from two kinds
of integers: the symbols of z, and the symbols of y that the same atom has decoded in earlier passes. The
second kind is what ELIC's context model gives a float codec, and what small atoms, for which z is dear,
live on.

::

    z (N, hz, wz) --3x3 patches--> A1, ReLU --> A2, ReLU --> A3 + bias[quality, kind] ----+--> index of pass p
    |y| so far: own cell and sum of the 4 neighbours, <= 15 each --> B1_p, ReLU --> B2_p --+

A *pass* is one group of channels at the anchors or at the others of the checkerboard.
"""

from __future__ import annotations

from typing import cast

import torch
from compressai.ops.bound_ops import LowerBoundFunction
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.exact import ACTIVATION_LIMIT, HIDDEN, SCALE_LEVELS, Z_LIMIT
from discover_stream.codec.network import Z_TO_Y
from discover_stream.codec.transforms import TransformConfig

MAGNITUDE_LIMIT = 15
"""Symbols enter the context by their size, clamped to 0..15; the sum of four neighbours is at most 60."""

CONTEXT_HIDDEN = 64
STILL, KEY, REFRESH = 0, 1, 2
"""What an atom is: part of a still frame, a track's key, a refresh."""
KINDS = 3


def neighbours(values: Tensor) -> Tensor:
    """Sum of the four neighbours of every cell, zero beyond the edge; (B, C, h, w) -> the same."""
    padded = functional.pad(values, (1, 1, 1, 1))
    vertical = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    return vertical + padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]


def pass_name(group: int, second: bool) -> str:
    """What a pass is called in weights files."""
    return f"{group}{'b' if second else 'a'}"


def context_network(seen: int, size: int) -> nn.ModuleDict:
    """Two layers from `seen` features to `size` channels; silent before training."""
    out = nn.Linear(CONTEXT_HIDDEN, size)
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    return nn.ModuleDict({"hidden": nn.Linear(seen, CONTEXT_HIDDEN), "out": out})


class ContextScales(nn.Module):
    """The branch as it is trained, in float."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.groups = config.groups
        self.first = nn.Linear(config.z_channels * 9, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.third = nn.Linear(HIDDEN, config.y_channels * Z_TO_Y**2)
        self.bias = nn.Parameter(torch.zeros(config.qualities, KINDS, config.y_channels))
        nn.init.constant_(self.third.bias, SCALE_LEVELS / 2)
        # One small network per pass that has something to look at: all but the first.
        self.context = nn.ModuleDict()
        for group, size in enumerate(config.groups):
            known = sum(config.groups[:group])
            for second, seen in ((False, known), (True, known + size)):
                if seen:
                    self.context[pass_name(group, second)] = context_network(2 * seen, size)

    def base(self, symbols: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """What z alone says: (B, N, hz, wz) symbols, (B,) qualities 1..8, (B,) kinds -> (B, M, 4hz, 4wz)."""
        batch, _, rows, columns = symbols.shape
        patches = functional.unfold(symbols.clamp(-Z_LIMIT, Z_LIMIT), 3, padding=1).transpose(1, 2)
        hidden = self.first(patches).clamp(0, ACTIVATION_LIMIT)
        hidden = self.second(hidden).clamp(0, ACTIVATION_LIMIT)
        flat = self.third(hidden).transpose(1, 2).reshape(batch, -1, rows, columns)
        return functional.pixel_shuffle(flat, Z_TO_Y) + self.bias[quality - 1, kind][:, :, None, None]

    def indices(self, base: Tensor, group: int, second: bool, sizes: Tensor) -> Tensor:
        """Continuous scale indices of one pass.

        Args:
            base: (B, M, h, w) from `base`, cut to the atom's cells.
            group: index of the channel group.
            second: False for the anchors' pass, True for the others'.
            sizes: (B, channels known in this pass, h, w) |symbols| of earlier groups and, in the second
                pass, of this group's anchors; zero where nothing is known.

        Returns:
            (B, size of the group, h, w), clamped to 0..47.
        """
        start = sum(self.groups[:group])
        index = base[:, start : start + self.groups[group]]
        if sizes.shape[1]:
            limited = sizes.clamp(max=MAGNITUDE_LIMIT)
            features = torch.cat([limited, neighbours(limited)], dim=1).permute(0, 2, 3, 1)
            layers = cast(nn.ModuleDict, self.context[pass_name(group, second)])
            hidden = layers["hidden"](features).clamp(0, ACTIVATION_LIMIT)
            index = index + layers["out"](hidden).permute(0, 3, 1, 2)
        # Below the bound, the gradient passes where it would raise the index: none gets stuck there.
        bounded: Tensor = LowerBoundFunction.apply(index, index.new_zeros(1))
        return bounded.clamp(max=SCALE_LEVELS - 1)
