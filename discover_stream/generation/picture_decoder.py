"""From latents to the pixels of a window, looking at no more of its surroundings than each layer needs.

The layers at latent resolution look farthest and cost least; those at full size cost most and look at a few pixels. So
a window goes in with wide margins, which are cut back each time the picture doubles::

    latents, outer window --> layers at 1/8 --cut--> layers at 1/4 --cut--> layers at 1/2 --cut--> inner window
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.generation.straight import Layer, can_fuse, fused_stages, is_plain_cpu, plain_stages
from discover_stream.generation.vae import BLOCK
from discover_stream.generation.windows import Window

SCALE = 8
"""Pixels per latent."""


class PictureDecoder(Protocol):
    """The second half of a VAE."""

    @property
    def vae(self) -> Any:
        """The autoencoder, of diffusers."""
        ...

    @property
    def channels(self) -> int:
        """L, of the latent."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks whose norms can be fixed, by name."""
        ...

    @property
    def reach(self) -> int:
        """Latents around a window that it looks at."""
        ...

    def decode(self, latent: Tensor, inner: Window) -> Tensor:
        """Pixels of a window.

        Args:
            latent: (B, L, h, w).
            inner: what is wanted of it.

        Returns:
            (B, 3, 8 * rows, 8 * columns) of the inner window, RGB, about 0..1, not clamped.
        """
        ...


class _Cutter:
    """Cuts features back to a window and a margin, again and again.

    Args:
        shape: (h, w) of the latent.
        inner: what is wanted of it in the end.
    """

    def __init__(self, shape: tuple[int, int], inner: Window) -> None:
        self._shape, self._inner = shape, inner
        self._have = Window(0, 0, *shape)

    def cut(self, features: Tensor, margin: int) -> Tensor:
        """(B, C, s * h, s * w) of what is there -> the inner window with a margin of latents, at the same scale s."""
        scale = features.shape[2] // self._have.rows
        wanted = self._inner.grown(margin, self._shape)
        if wanted == self._have:
            return features
        rows, columns = wanted.within(self._have).slices(scale)
        self._have = wanted
        return features[:, :, rows, columns]


@dataclass(frozen=True)
class TinyDecoder:
    """The `nano` size.

    Attributes:
        vae: the autoencoder.
        margins: latents around the inner window that are left before each doubling; never more than before.
        reach: latents around it that go in.
    """

    vae: AutoencoderTiny
    margins: tuple[int, ...] = (1, 0)
    reach: int = 2
    _fused: list[Sequence[Sequence[Layer]]] = field(default_factory=list, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """See `PictureDecoder`."""
        return cast(int, self.vae.config["latent_channels"])

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """See `PictureDecoder`; it has no norms."""
        return {}

    def decode(self, latent: Tensor, inner: Window) -> Tensor:
        """See `PictureDecoder`."""
        cutter, margins = _Cutter((latent.shape[2], latent.shape[3]), inner), iter(self.margins)
        # As diffusers' DecoderTiny does it: squashed on the way in, from 0..1 to -1..1 on the way out.
        features = torch.tanh(latent / 3) * 3
        for index, stage in enumerate(self._stages()):
            if index:
                features = cutter.cut(features, next(margins, 0))
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            for layer in stage:
                features = layer(features)
        return functional.pixel_shuffle(cutter.cut(features, 0), BLOCK)

    def _stages(self) -> Sequence[Sequence[Layer]]:
        """The layers between doublings."""
        if not (is_plain_cpu(self.vae) and can_fuse()):
            return plain_stages(self.vae)
        if not self._fused:
            self._fused.append(fused_stages(self.vae))
        return self._fused[0]


@dataclass(frozen=True)
class KlDecoder:
    """Stable Diffusion's size. Its attention at latent resolution looks at the whole outer window.

    Attributes:
        vae: the autoencoder.
        margins: latents around the inner window that are left after the layers at latent resolution, and after each
            block behind them; never more than before.
        reach: latents around it that go in.
    """

    vae: AutoencoderKL
    margins: tuple[int, ...] = (4, 3, 2, 1, 1)
    reach: int = 8

    @property
    def channels(self) -> int:
        """See `PictureDecoder`."""
        return cast(int, self.vae.config["latent_channels"])

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """See `PictureDecoder`."""
        return {"vae": self.vae.decoder}

    def decode(self, latent: Tensor, inner: Window) -> Tensor:
        """See `PictureDecoder`."""
        cutter, margins = _Cutter((latent.shape[2], latent.shape[3]), inner), iter(self.margins)
        network = self.vae.decoder
        features = latent / float(self.vae.config["scaling_factor"])
        if self.vae.post_quant_conv is not None:
            features = self.vae.post_quant_conv(features)
        features = cutter.cut(network.mid_block(network.conv_in(features)), next(margins, 0))
        for block in network.up_blocks:
            features = cutter.cut(block(features), next(margins, 0))
        features = network.conv_out(network.conv_act(network.conv_norm_out(features)))
        return cutter.cut(features, 0).add(1).div(2)
