"""Parts of the codec's networks: slim ELIC-style transforms, the masked and grouped context of the means, gains.

`transforms` puts them together, and says which symbol is what.
"""

from __future__ import annotations

from typing import cast

import torch
from compressai.models.sensetime import ResidualBottleneckBlock
from compressai.models.utils import conv, deconv
from torch import Tensor, nn

Y_STRIDE = 16
Z_STRIDE = 64
Z_TO_Y = Z_STRIDE // Y_STRIDE


def checkerboard(height: int, width: int, top: int, left: int) -> Tensor:
    """Anchor cells of a rectangle of cells, (1, 1, height, width), 1 where row + column is even.

    `top` and `left` are the rectangle's first row and column in the frame's grid: in still mode the
    checkerboard belongs to the frame, so that the scale indices, which come from the frame's coarse
    atom, know whether a cell is an anchor.
    """
    rows = torch.arange(top, top + height).view(-1, 1)
    columns = torch.arange(left, left + width).view(1, -1)
    return ((rows + columns) % 2 == 0).float().view(1, 1, height, width)


class ContextModel(nn.Module):
    """Means of y' from features and what an atom has decoded so far (ELIC: uneven groups).

    Each group is decoded in two passes, anchors of the checkerboard first. The network of a group
    runs once per pass; it sees the features, earlier groups, the group's anchors (zero in the first
    pass), the atom's mask, and which pass it is.
    """

    def __init__(self, groups: tuple[int, ...], features: int) -> None:
        """For channel groups of these sizes, and so many channels of features."""
        super().__init__()
        self.groups = groups
        nets = []
        for index, size in enumerate(groups):
            seen = features + sum(groups[: index + 1]) + 2
            nets.append(
                nn.Sequential(
                    conv(seen, 128, kernel_size=3, stride=1),
                    nn.ReLU(inplace=True),
                    conv(128, 128, kernel_size=1, stride=1),
                    nn.ReLU(inplace=True),
                    conv(128, size, kernel_size=1, stride=1),
                )
            )
        self.nets = nn.ModuleList(nets)

    def means(self, group: int, psi: Tensor, known: Tensor, mask: Tensor, second: bool) -> Tensor:
        """Means of one group in one pass.

        Args:
            group: index of the channel group.
            psi: (B, features, h, w) what is known of the atom's cells: coarse features, and those of a reference.
            known: (B, channels up to and including this group, h, w) decoded y', zero where unknown.
            mask: (B, 1, h, w) 1 for the atom's cells.
            second: False for the anchors' pass, True for the others'.

        Returns:
            (B, size of the group, h, w).
        """
        which = torch.full_like(mask, float(second))
        return cast(Tensor, self.nets[group](torch.cat([psi, known * mask, mask, which], dim=1)))


def analysis(stem: int, mid: int, wide: int, out: int) -> nn.Sequential:
    """ELIC's analysis, slim: (B, 3, H, W) -> (B, out, H/16, W/16)."""
    return nn.Sequential(
        conv(3, stem, kernel_size=5, stride=2),
        nn.LeakyReLU(0.1, inplace=True),
        conv(stem, mid, kernel_size=5, stride=2),
        ResidualBottleneckBlock(mid, mid),
        ResidualBottleneckBlock(mid, mid),
        conv(mid, wide, kernel_size=5, stride=2),
        ResidualBottleneckBlock(wide, wide),
        ResidualBottleneckBlock(wide, wide),
        ResidualBottleneckBlock(wide, wide),
        conv(wide, out, kernel_size=5, stride=2),
    )


def hyper_analysis(m: int, n: int) -> nn.Sequential:
    """(B, M, h, w) -> (B, N, h/4, w/4)."""
    return nn.Sequential(
        conv(m, 64, kernel_size=3, stride=1),
        nn.ReLU(inplace=True),
        conv(64, 64, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        conv(64, n, kernel_size=5, stride=2),
    )


def hyper_synthesis(n: int, out: int) -> nn.Sequential:
    """(B, N, hz, wz) -> (B, out, 4hz, 4wz)."""
    return nn.Sequential(
        deconv(n, 64, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        deconv(64, 96, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        conv(96, out, kernel_size=3, stride=1),
    )


def coarse_branch(n: int) -> nn.Sequential:
    """DISCOVER's M, two transposed convolutions and one convolution: (B, N, hz, wz) -> (B, 64, 4hz, 4wz)."""
    return nn.Sequential(
        deconv(n, 64, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        deconv(64, 64, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        conv(64, 64, kernel_size=3, stride=1),
    )


class GainUnits(nn.Module):
    """One learned log-gain per quality and channel of y, and one for the way back."""

    def __init__(self, qualities: int, channels: int) -> None:
        super().__init__()
        steps = torch.linspace(-1.2, 1.2, qualities).view(-1, 1).repeat(1, channels)
        self.log_gain = nn.Parameter(steps.clone())
        self.log_ungain = nn.Parameter(-steps)

    def gain(self, quality: Tensor) -> Tensor:
        """(B,) qualities 1..8 -> (B, M, 1, 1) factors from y to y'."""
        return self.log_gain[quality - 1].exp()[:, :, None, None]

    def ungain(self, quality: Tensor) -> Tensor:
        """(B,) qualities 1..8 -> (B, M, 1, 1) factors from y' to y."""
        return self.log_ungain[quality - 1].exp()[:, :, None, None]
