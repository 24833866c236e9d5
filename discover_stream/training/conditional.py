"""The codec as it learns: atoms with and without a reference, float where the codec has integers.

Stages I and II (`training.joint`) train it. Pictures come with what a decoder knows before an atom arrives
(`training.pairs`): nothing (still mode), the plate (a track's key), or an earlier look at the object pasted on the
plate (a refresh). Sizes of crops may differ from batch to batch, so that small atoms are seen as they are used: with
edges all around and few positions of z.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from discover_stream.codec.exact import SCALE_LARGEST, SCALE_LEVELS, SCALE_SMALLEST
from discover_stream.codec.network import checkerboard
from discover_stream.codec.scales import ContextScales
from discover_stream.codec.transforms import TransformConfig, Transforms
from discover_stream.training.compute import Autocast, bf16_on_cpu
from discover_stream.training.pairs import Examples

START_Z, START_Y = 2.0, 2.5
"""Standard deviations of z, and of y' at the middle quality, when training begins: symbols that are all zero
at the start teach the rest of the codec to do without them."""


def gaussian_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of integers around `residual` under a zero-mean Gaussian of standard deviation `scale`."""
    size = residual.abs()
    upper = torch.special.ndtr((0.5 - size) / scale)
    lower = torch.special.ndtr((-0.5 - size) / scale)
    bits: Tensor = -(upper - lower).clamp_min(1e-9).log2()
    return bits


def round_through(value: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return value + (value.round() - value).detach()


class TrainableConditional(nn.Module):
    """Everything of the codec that learns: networks, exact branch in float, prior of z."""

    def __init__(self, config: TransformConfig, autocast: Autocast = bf16_on_cpu) -> None:
        super().__init__()
        self._autocast = autocast
        self.network = Transforms(config)
        self.scales = ContextScales(config)
        self.prior = EntropyBottleneck(config.z_channels)

    def forward(
        self,
        batch: Examples,
        quality: Tensor,
        noisy: bool = False,
        own_z: Tensor | None = None,
        *,
        hold_z: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass in training mode.

        Args:
            batch: pictures (B, 3, H, W), masks (B, 1, H/16, W/16), references (B, L, H/8, W/8) and kinds (B,).
            quality: (B,) in 1..8.
            noisy: add uniform noise to y' and z where the codec rounds.
            own_z: (B,) 1 where z is sent, 0 where its symbols count as 0; None: it always is.
            hold_z: what makes z learns nothing from this pass.

        Returns:
            z_c^ (B, L, H/8, W/8), bits of sent y (B,), bits of z (B,).
        """
        network = self.network
        with self._autocast():
            flagged = network.with_flag(batch.references, batch.kinds > 0)
            psi_r = network.reference_features(flagged)
            y, z = network.analyse(batch.pictures, psi_r)
        y, z = y.float(), z.float()
        if hold_z:
            z = z.detach()
        scaled = y * network.gain(quality)
        _, likelihood = self.prior(z)
        z_bits = -likelihood.clamp_min(1e-9).log2().sum(dim=(1, 2, 3))
        medians = self.prior.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)
        centred = z - medians
        symbols = centred + torch.empty_like(z).uniform_(-0.5, 0.5) if noisy else round_through(centred)
        if own_z is not None:
            symbols, z_bits = symbols * own_z.view(-1, 1, 1, 1), z_bits * own_z
        base = self.scales.base(symbols, quality, batch.kinds)
        with self._autocast():
            psi, coarse = network.hyper_features(symbols + medians)
            features = torch.cat([psi, psi_r], dim=1)
        noise = torch.empty_like(scaled).uniform_(-0.5, 0.5)
        scaled_hat, y_bits = self.passes(scaled, features, base, batch.masks, noise, noisy)
        with self._autocast():
            y_hat = scaled_hat * network.ungain(quality)
            latent = network.synthesise(y_hat, batch.masks, coarse, psi_r, flagged)
        return latent.float(), y_bits, z_bits

    def passes(
        self, scaled: Tensor, features: Tensor, base: Tensor, mask: Tensor, noise: Tensor, noisy: bool
    ) -> tuple[Tensor, Tensor]:
        """y'^ (masked) and the bits of it (B,), pass by pass as the decoder sees them.

        The bits are those of the residuals plus `noise`; with `noisy`, y'^ is y' plus it, too.
        """
        anchors = checkerboard(scaled.shape[2], scaled.shape[3], 0, 0).to(scaled.device)
        known: list[Tensor] = []
        sizes: list[Tensor] = []
        bits = scaled.new_zeros(scaled.shape[0])
        start = 0
        for group, size in enumerate(self.network.config.groups):
            part, own_noise = scaled[:, start : start + size], noise[:, start : start + size]
            now, now_sizes = torch.zeros_like(part), torch.zeros_like(part)
            for second, cells in ((False, anchors * mask), (True, (1 - anchors) * mask)):
                with self._autocast():
                    seen = torch.cat([*known, now], dim=1)
                    mean = self.network.context.means(group, features, seen, mask, second=second).float()
                context = torch.cat([*sizes, now_sizes], dim=1) if second else torch.cat([*sizes, part[:, :0]], dim=1)
                index = self.scales.indices(base, group, second, context)
                scale = SCALE_SMALLEST * torch.exp(
                    index * (math.log(SCALE_LARGEST / SCALE_SMALLEST) / (SCALE_LEVELS - 1))
                )
                residual = part - mean
                bits = bits + (gaussian_bits(residual + own_noise, scale) * cells).sum(dim=(1, 2, 3))
                rounded = round_through(residual)
                now_sizes = now_sizes + rounded.abs() * cells
                now = now + ((part + own_noise) if noisy else (rounded + mean)) * cells
            known.append(now)
            sizes.append(now_sizes)
            start += size
        return torch.cat(known, dim=1), bits

    @torch.no_grad()
    def start_alive(self, batch: Examples) -> None:
        """Set the gains so that symbols are neither all zero nor huge when training begins."""
        network = self.network
        y, z = self._analysed(batch)
        steps = torch.linspace(-1.2, 1.2, network.config.qualities).view(-1, 1)
        middle = (START_Y / y.std(dim=(0, 2, 3)).clamp_min(1e-6)).log()
        network.log_gain.copy_(steps + middle)
        network.log_ungain.copy_(-steps - middle)
        self._scale_z(z)

    @torch.no_grad()
    def revive_z(self, batch: Examples) -> None:
        """Begin z anew in a codec that has let it fall silent: what makes it, its gains, and its prior.

        What reads z stays: it has seen zeros alone, and goes on from there.
        """
        network = self.network
        for layer in network.h_a:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
        network.log_z_gain.zero_()
        self.prior = EntropyBottleneck(network.config.z_channels)
        y, _ = self._analysed(batch)
        cast(nn.Conv2d, network.h_a[0]).weight.mul_(1 / y.std().clamp_min(1e-6))
        self._scale_z(network.h_a(y))

    def _analysed(self, batch: Examples) -> tuple[Tensor, Tensor]:
        """y and z of a batch, not quantised."""
        network = self.network
        flagged = network.with_flag(batch.references, batch.kinds > 0)
        return network.analyse(batch.pictures, network.reference_features(flagged))

    def _scale_z(self, z: Tensor) -> None:
        """Change the gains so that what was z has the deviation that training begins with."""
        self.network.log_z_gain.add_((START_Z / z.std(dim=(0, 2, 3)).clamp_min(1e-6)).log())
