"""The networks of the conditional codec: slim ELIC transforms that may look at a reference.

The codec of format version 1 in both modes. An atom is a rectangle of cells with a mask. Its *reference*
is what both sides know of that rectangle before the atom arrives, as a latent of the diffusion VAE: the
plate, or the track's last key pasted on the plate; still mode has none. Symbols follow the papers: x
picture, y latent (1/16), z hyper-latent (1/64), z_c latent of the VAE (1/8), hats for quantised values,
M(z^) the coarse branch of DISCOVER.

What the entropy coder needs (scale indices) is *not* here: see `scales`. These networks only give means,
context and synthesis, which are added after entropy decoding, in fp32.

::

    x --g_a--+                                   +--(- mean, round)--> symbols
             fuse --> y --*gain--> y' -----------+       ^
    r --g_r--+        |                                  |
        |             +--h_a--*z gain--> z --round--> z^ --h_s--> psi --context(psi, psi_r, y^ so far)
        +--> psi_r ------------------------------------------------------+
    y^, mask, M(z^), psi_r --g_s--> features --head(features, r)--> z_c^
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from compressai.layers import AttentionBlock
from compressai.models.sensetime import ResidualBottleneckBlock
from compressai.models.utils import conv, deconv
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.codec.network import (
    ContextModel,
    GainUnits,
    analysis,
    coarse_branch,
    hyper_analysis,
    hyper_synthesis,
)


@dataclass(frozen=True)
class TransformConfig:
    """Widths of a codec. The default is `nano`; `elic` adds what CompressAI's `Elic2022Official` has more:
    three residual blocks a level, and attention."""

    stem_channels: int = 32
    analysis_channels: int = 64
    wide_channels: int = 96
    y_channels: int = 96
    z_channels: int = 32
    groups: tuple[int, ...] = (32, 64)
    hyper_channels: int = 96
    reference_channels: int = 64
    synthesis_channels: int = 128
    latent_channels: int = 16
    qualities: int = 8
    elic: bool = False

    def __post_init__(self) -> None:
        """Refuse widths that do not fit together."""
        if sum(self.groups) != self.y_channels:
            raise ValueError(f"groups {self.groups} must add up to y_channels={self.y_channels}")


class Transforms(GainUnits):
    """All float networks of the codec."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__(config.qualities, config.y_channels)
        self.config = config
        stem, mid, wide = config.stem_channels, config.analysis_channels, config.wide_channels
        n, m, r = config.z_channels, config.y_channels, config.reference_channels
        self.g_a = elic_analysis(stem, mid, wide, m) if config.elic else analysis(stem, mid, wide, m)
        # The reference, from the VAE's 1/8 to 1/16. The channel of ones tells it from an absent one.
        self.g_r = nn.Sequential(
            conv(config.latent_channels + 1, 64, kernel_size=3, stride=1),
            ResidualBottleneckBlock(64, 64),
            conv(64, r, kernel_size=5, stride=2),
            ResidualBottleneckBlock(r, r),
        )
        self.fuse = nn.Sequential(
            conv(m + r, m, kernel_size=3, stride=1),
            nn.LeakyReLU(0.1, inplace=True),
            conv(m, m, kernel_size=3, stride=1),
        )
        self.h_a = hyper_analysis(m, n)
        self.h_s = hyper_synthesis(n, config.hyper_channels)
        self.coarse = coarse_branch(n)
        self.context = ContextModel(config.groups, config.hyper_channels + r)
        s = config.synthesis_channels
        # ELIC's decoder without its last two layers: 1/16 to 1/8.
        self.g_s = nn.Sequential(
            conv(m + 1 + 64 + r, s, kernel_size=3, stride=1),
            *([AttentionBlock(s)] if config.elic else []),
            ResidualBottleneckBlock(s, s),
            ResidualBottleneckBlock(s, s),
            ResidualBottleneckBlock(s, s),
            deconv(s, wide, kernel_size=5, stride=2),
            ResidualBottleneckBlock(wide, wide),
            ResidualBottleneckBlock(wide, wide),
        )
        self.head = nn.Sequential(
            conv(wide + config.latent_channels + 1, wide, kernel_size=3, stride=1),
            ResidualBottleneckBlock(wide, wide),
            conv(wide, config.latent_channels, kernel_size=3, stride=1),
        )
        # One gain per channel of z: it says what is there, whatever the quality.
        self.log_z_gain = nn.Parameter(torch.zeros(n))

    def with_flag(self, reference: Tensor, present: Tensor) -> Tensor:
        """A reference latent (B, L, 2h, 2w), zero where `present` (B,) is 0, with a channel that says so."""
        flag = present.view(-1, 1, 1, 1).to(reference.dtype)
        ones = torch.ones_like(reference[:, :1])
        return torch.cat([reference, ones], dim=1) * flag

    def analyse(self, picture: Tensor, psi_r: Tensor) -> tuple[Tensor, Tensor]:
        """y and z, not quantised.

        Args:
            picture: (B, 3, H, W) RGB 0..1, sides divisible by 64.
            psi_r: (B, reference, H/16, W/16), see `reference_features`.

        Returns:
            y (B, M, H/16, W/16) before its gain, z (B, N, H/64, W/64).
        """
        seen = self.g_a(picture)
        y = seen + self.fuse(torch.cat([seen, psi_r], dim=1))
        return y, self.h_a(y) * self.log_z_gain.exp().view(1, -1, 1, 1)

    def reference_features(self, flagged: Tensor) -> Tensor:
        """psi_r (B, reference, h, w) of a flagged reference (B, L + 1, 2h, 2w); zero for an absent one."""
        features = self.g_r(flagged)
        return cast(Tensor, features * functional.avg_pool2d(flagged[:, -1:], 2))

    def hyper_features(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """psi (B, hyper, 4hz, 4wz) and M(z^) (B, 64, 4hz, 4wz) of z^ (B, N, hz, wz)."""
        return self.h_s(z_hat), self.coarse(z_hat)

    def synthesise(self, scaled: Tensor, mask: Tensor, coarse: Tensor, psi_r: Tensor, flagged: Tensor) -> Tensor:
        """z_c^ from decoded y.

        Args:
            scaled: (B, M, h, w) y^ (after `ungain`).
            mask: (B, 1, h, w) 1 where a cell was sent (zero is a valid symbol).
            coarse: (B, 64, h, w) M(z^).
            psi_r: (B, reference, h, w) features of the reference.
            flagged: (B, L + 1, 2h, 2w) the reference itself, see `with_flag`.

        Returns:
            (B, L, 2h, 2w): the reference plus what the atom says of it.
        """
        features = self.g_s(torch.cat([scaled * mask, mask, coarse, psi_r], dim=1))
        return cast(Tensor, flagged[:, :-1] + self.head(torch.cat([features, flagged], dim=1)))


def elic_analysis(stem: int, mid: int, wide: int, out: int) -> nn.Sequential:
    """ELIC's analysis as CompressAI's `Elic2022Official` has it: (B, 3, H, W) -> (B, out, H/16, W/16)."""

    def level(channels: int) -> list[nn.Module]:
        return [ResidualBottleneckBlock(channels, channels) for _ in range(3)]

    return nn.Sequential(
        conv(3, stem, kernel_size=5, stride=2),
        *level(stem),
        conv(stem, mid, kernel_size=5, stride=2),
        *level(mid),
        AttentionBlock(mid),
        conv(mid, wide, kernel_size=5, stride=2),
        *level(wide),
        conv(wide, out, kernel_size=5, stride=2),
        AttentionBlock(out),
    )
