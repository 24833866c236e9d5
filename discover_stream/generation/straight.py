"""The `nano` networks on a CPU as straight rows of convolutions: the same arithmetic with less in between.

Small windows spend as much time on norms, activations and Python as on convolutions. So what stands around a
convolution goes into it: its activation, the sum with a shortcut, and, where norms are fixed, the norm and the time
embedding that follow it at one timestep::

    conv --> + time --> norm --> SiLU        becomes        conv (scaled, shifted, with SiLU)

The operations are those that torch's own compiler emits. Where they are missing, or do not give what the plain ones
give, `can_fuse` says so and everything goes the plain way. Weights are not laid out for the CPU beforehand: which
layout is wanted depends on a window's size, and the wrong one costs milliseconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from discover_stream.generation.norms import Clock, FixedNorm

Layer = Callable[[Tensor], Tensor]
MAX_TIMESTEPS = 64
"""Timesteps of which the straight form is held: 50 steps of a street need as many; each has half of the weights."""
CLOSE = 1e-4
"""Largest difference between a fused convolution and a plain one that counts as the same arithmetic."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution with what follows it.

    Attributes:
        weight: (out, in, h, w).
        bias: (out) or None.
        stride: of both axes.
        padding: likewise.
        then: the activation: `none`, `relu` or `swish`.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    then: str = "none"

    @classmethod
    def of(
        cls, conv: nn.Conv2d, then: str = "none", scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Convolution:
        """A plain convolution, its output scaled and shifted by (out) channels before the activation."""
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        if scale is not None:
            weight = weight * scale[:, None, None, None]
            bias = None if bias is None else bias * scale
        if shift is not None:
            bias = shift if bias is None else bias + shift
        stride, padding = (conv.stride[0], conv.stride[1]), (int(conv.padding[0]), int(conv.padding[1]))
        return cls(weight.contiguous(memory_format=torch.channels_last), bias, stride, padding, then)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, ...)."""
        how: tuple[Any, ...] = (self.padding, self.stride, (1, 1), 1, self.then, [], "")
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *how)
        return found

    def plus(self, x: Tensor, other: Tensor, then: str | None = None) -> Tensor:
        """The sum with something of the output's size, and an activation of it."""
        how: tuple[Any, ...] = (self.padding, self.stride, (1, 1), 1, "add", None, then, [], "")
        pointwise = torch.ops.mkldnn._convolution_pointwise.binary
        found: Tensor = pointwise(x, other, self.weight, self.bias, *how)
        return found


@cache
def can_fuse() -> bool:
    """Whether this torch and this CPU have the fused convolutions, and they give what plain ones give."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 8, 9, 7, generator=generator).contiguous(memory_format=torch.channels_last)
    try:
        plain, fused = conv(x), Convolution.of(conv, "swish")
        pairs = (functional.silu(plain), fused(x)), ((plain + x).relu(), Convolution.of(conv).plus(x, x, "relu"))
        apart = max(float((one - other).abs().max()) for one, other in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return apart < CLOSE


def is_plain_cpu(network: nn.Module) -> bool:
    """Whether a network calculates in float32 on a CPU."""
    weight = next(network.parameters())
    return weight.device.type == "cpu" and weight.dtype == torch.float32


@dataclass(frozen=True, eq=False)
class Residual:
    """A residual block of a UNet at one timestep."""

    scale: Tensor
    shift: Tensor
    first: Convolution
    second: Convolution
    shortcut: Convolution | None

    @classmethod
    def of(cls, block: Any, time: Tensor) -> Residual:
        """A diffusers `ResnetBlock2D` whose norms are fixed, at the timestep of their clock; time (1, width)."""
        scale, shift = block.norm1.affine()
        again, moved = block.norm2.affine()
        more = block.time_emb_proj(functional.silu(time))[0]
        first = Convolution.of(block.conv1, "swish", scale=again, shift=again * more + moved)
        shortcut = None if block.conv_shortcut is None else Convolution.of(block.conv_shortcut)
        sides = (1, -1, 1, 1)
        return cls(scale.view(sides), shift.view(sides), first, Convolution.of(block.conv2), shortcut)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w)."""
        inner = self.first(functional.silu(torch.addcmul(self.shift, x, self.scale), inplace=True))
        return self.second.plus(inner, x if self.shortcut is None else self.shortcut(x))


def is_straight(network: UNet2DModel) -> bool:
    """Whether a denoiser is one that `StraightDenoiser` knows: no attention, fixed norms, plain halving."""
    kinds = {"DownBlock2D", "UpBlock2D"}
    config = network.config
    norms = [module for module in network.modules() if isinstance(module, FixedNorm | nn.GroupNorm)]
    return (
        {*config["down_block_types"], *config["up_block_types"]} <= kinds
        and not config["add_attention"]
        and config["act_fn"] == "silu"
        and config["resnet_time_scale_shift"] == "default"
        and bool(norms)
        and all(isinstance(norm, FixedNorm) for norm in norms)
    )


class StraightDenoiser:
    """A denoiser with fixed norms at one timestep, the one of its clock when it is made.

    Args:
        network: see `is_straight`.
        timestep: it is made for.
    """

    def __init__(self, network: UNet2DModel, timestep: int) -> None:
        time = network.time_embedding(network.time_proj(torch.tensor([timestep])).float())
        self._into = Convolution.of(network.conv_in)
        self._down: list[tuple[list[Residual], Convolution | None]] = []
        for block in network.down_blocks:
            halving = None if block.downsamplers is None else Convolution.of(block.downsamplers[0].conv)
            self._down.append(([Residual.of(one, time) for one in block.resnets], halving))
        self._middle = [Residual.of(one, time) for one in network.mid_block.resnets]
        self._up: list[tuple[list[Residual], Convolution | None]] = []
        for block in network.up_blocks:
            doubling = None if block.upsamplers is None else Convolution.of(block.upsamplers[0].conv)
            self._up.append(([Residual.of(one, time) for one in block.resnets], doubling))
        scale, shift = network.conv_norm_out.affine()
        self._scale, self._shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
        self._out = Convolution.of(network.conv_out)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w), as the network's `sample` at the timestep."""
        x = self._into(x)
        sides = [x]
        for blocks, halving in self._down:
            for block in blocks:
                x = block(x)
                sides.append(x)
            if halving is not None:
                x = halving(x)
                sides.append(x)
        for block in self._middle:
            x = block(x)
        for blocks, doubling in self._up:
            for block in blocks:
                x = block(torch.cat([x, sides.pop()], dim=1))
            if doubling is not None:
                x = doubling(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self._out(functional.silu(torch.addcmul(self._shift, x, self._scale), inplace=True))


@dataclass(frozen=True, eq=False)
class TinyBlock:
    """diffusers' `AutoencoderTinyBlock`."""

    first: Convolution
    second: Convolution
    third: Convolution
    skip: Convolution | None

    @classmethod
    def of(cls, block: Any) -> TinyBlock:
        """The same block."""
        first, _, second, _, third = block.conv
        skip = Convolution.of(block.skip) if isinstance(block.skip, nn.Conv2d) else None
        return cls(Convolution.of(first, "relu"), Convolution.of(second, "relu"), Convolution.of(third), skip)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same size."""
        return self.third.plus(self.second(self.first(x)), x if self.skip is None else self.skip(x), "relu")


def plain_stages(vae: AutoencoderTiny) -> Sequence[Sequence[Layer]]:
    """The layers of a decoder between its doublings, as they are."""
    stages: list[list[Layer]] = [[]]
    for layer in vae.decoder.layers:
        if isinstance(layer, nn.Upsample):
            stages.append([])
        else:
            stages[-1].append(layer)
    return stages


def fused_stages(vae: AutoencoderTiny) -> Sequence[Sequence[Layer]]:
    """The same with fused convolutions."""
    fused: list[list[Layer]] = []
    for stage in plain_stages(vae):
        fused.append([])
        for index, layer in enumerate(stage):
            if isinstance(layer, nn.Conv2d):
                activated = index + 1 < len(stage) and isinstance(stage[index + 1], nn.ReLU)
                fused[-1].append(Convolution.of(layer, "relu" if activated else "none"))
            elif not isinstance(layer, nn.ReLU):
                fused[-1].append(TinyBlock.of(layer))
    return fused


class StraightDenoisers:
    """The straight forms of a denoiser, by timestep; those that were used last.

    Args:
        network: see `is_straight`.
        clock: of its norms.
    """

    def __init__(self, network: UNet2DModel, clock: Clock) -> None:
        self._network, self._clock = network, clock
        self._known: OrderedDict[int, StraightDenoiser] = OrderedDict()

    def at(self, timestep: int) -> StraightDenoiser:
        """The denoiser at a timestep."""
        if timestep not in self._known:
            self._clock.timestep = timestep
            self._known[timestep] = StraightDenoiser(self._network, timestep)
            while len(self._known) > MAX_TIMESTEPS:
                self._known.popitem(last=False)
        self._known.move_to_end(timestep)
        return self._known[timestep]
