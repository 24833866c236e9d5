"""The codec's networks: slim ELIC-style transforms and the masked, grouped context of the means.

Symbols follow the papers: x picture, y latent (1/16), z hyper-latent (1/64), z_c latent of the
diffusion VAE (1/8), hats for quantised values, M(z) the coarse branch of DISCOVER.

What the entropy coder needs (scale indices) is *not* here: see `exact`. These networks only give
means, context and synthesis, which are added after entropy decoding, in fp32.

::

    x --g_a--> y --*gain--> y' ----------------(- mean, round)--> symbols --> atoms
                            |                          ^
                            +--h_a--> z --round--> symbols of z --> coarse atom
    coarse:  z^ --h_s--> psi --context(psi, y^ so far)--+
             z^ --M----> m
    y^, mask, m --g_s--> z_c^
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from compressai.models.sensetime import ResidualBottleneckBlock
from compressai.models.utils import conv, deconv
from torch import Tensor, nn

Y_STRIDE = 16
Z_STRIDE = 64
Z_TO_Y = Z_STRIDE // Y_STRIDE


@dataclass(frozen=True)
class CodecConfig:
    """Widths of a codec. The default is `nano`."""

    stem_channels: int = 32
    analysis_channels: int = 64
    wide_channels: int = 96
    y_channels: int = 96
    z_channels: int = 48
    groups: tuple[int, ...] = (32, 64)
    hyper_channels: int = 128
    synthesis_channels: int = 128
    latent_channels: int = 16
    qualities: int = 8

    def __post_init__(self) -> None:
        """Refuse widths that do not fit together."""
        if sum(self.groups) != self.y_channels:
            raise ValueError(f"groups {self.groups} must add up to y_channels={self.y_channels}")


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


class CodecNetwork(GainUnits):
    """All float networks of the codec."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config.qualities, config.y_channels)
        self.config = config
        stem, mid, wide = config.stem_channels, config.analysis_channels, config.wide_channels
        n, m = config.z_channels, config.y_channels
        self.g_a = analysis(stem, mid, wide, m)
        self.h_a = hyper_analysis(m, n)
        self.h_s = hyper_synthesis(n, config.hyper_channels)
        self.coarse = coarse_branch(n)
        self.context = ContextModel(config.groups, config.hyper_channels)
        s = config.synthesis_channels
        # ELIC's decoder without its last two layers: 1/16 to 1/8.
        self.g_s = nn.Sequential(
            conv(m + 1 + 64, s, kernel_size=3, stride=1),
            ResidualBottleneckBlock(s, s),
            ResidualBottleneckBlock(s, s),
            ResidualBottleneckBlock(s, s),
            deconv(s, wide, kernel_size=5, stride=2),
            ResidualBottleneckBlock(wide, wide),
            ResidualBottleneckBlock(wide, wide),
            ResidualBottleneckBlock(wide, wide),
            conv(wide, config.latent_channels, kernel_size=3, stride=1),
        )

    def analyse(self, picture: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """y' and z of pictures (B, 3, H, W), RGB 0..1, sides divisible by 64; quality (B,) in 1..8."""
        scaled = self.g_a(picture) * self.gain(quality)
        return scaled, self.h_a(scaled)

    def synthesise(self, scaled: Tensor, mask: Tensor, z_hat: Tensor, quality: Tensor) -> Tensor:
        """z_c^ from decoded y'.

        Args:
            scaled: (B, M, h, w) y' with zeros where nothing was sent.
            mask: (B, 1, h, w) 1 where a cell was sent (zero is a valid symbol).
            z_hat: (B, N, h/4, w/4) hyper-latent.
            quality: (B,) in 1..8.

        Returns:
            (B, latent channels, 2h, 2w).
        """
        y_hat = scaled * self.ungain(quality) * mask
        return cast(Tensor, self.g_s(torch.cat([y_hat, mask, self.coarse(z_hat)], dim=1)))
