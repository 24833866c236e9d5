"""Atoms of the conditional codec: from latents to bytes and back, for encoder and decoder alike.

An atom's payload is up to two coder strings: its own z, where it has one, and its symbols of y. Symbols are
ordered by pass (`scales`), within a pass by channel, then in row order. Tables of a pass follow from z and from
the symbols of the passes before it, integers only; means are added afterwards, in fp32, pass by pass.

::

    z string --> z^ --exact--> base ----+--> tables of pass 1 --> symbols --+
                                        +--> tables of pass 2 <--- sizes ---+--> symbols --> ...
    then      z^, reference --> psi, psi_r --> means of pass 1 --> y' of pass 1 --> means of pass 2 --> ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.conditional_model import ConditionalModel
from discover_stream.codec.entropy import LIMIT, SymbolReader, SymbolWriter
from discover_stream.codec.exact_scales import Grid
from discover_stream.codec.transforms import Z_TO_Y, checkerboard

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AtomShape:
    """What both sides know of an atom before its strings.

    Attributes:
        mask: (h, w) of the atom's own grid, true for its cells; h and w are multiples of 4, so that z covers them.
        quality: 1..8.
        kind: part of a still frame, key or refresh (`scales.KINDS`).
        top: row of the atom's first cell in the grid that the checkerboard belongs to; 0 with a grid of its own.
        left: its column.
    """

    mask: CellMask
    quality: int
    kind: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class Known:
    """What both sides know of an atom's place: nothing of it is sent with the atom.

    Attributes:
        z: (N, h/4, w/4) symbols of z: the atom's own, or cut from the coarse atom; zeros where there is neither.
        reference: (1, L + 1, 2h, 2w) flagged latent of the reference, see `Transforms.with_flag`.
    """

    z: Integers
    reference: Tensor


@dataclass(frozen=True)
class _Pass:
    group: int
    channels: slice
    second: bool
    cells: CellMask


def z_shape(model: ConditionalModel, mask: CellMask) -> tuple[int, int, int]:
    """Shape of the symbols of z of an atom with a mask (h, w)."""
    return model.network.config.z_channels, mask.shape[0] // Z_TO_Y, mask.shape[1] // Z_TO_Y


def encode_z(model: ConditionalModel, symbols: Integers) -> bytes:
    """Symbols of z (N, hz, wz) as one coder string."""
    channels = np.repeat(np.arange(symbols.shape[0]), symbols.shape[1] * symbols.shape[2])
    return model.z_coder.encode(symbols.ravel(), channels)


def decode_z(model: ConditionalModel, string: bytes, shape: tuple[int, int, int]) -> Integers:
    """Symbols of z of the given shape; see `encode_z`. Raises BitstreamError."""
    channels = np.repeat(np.arange(shape[0]), shape[1] * shape[2])
    return model.z_coder.decode(string, channels).reshape(shape)


def features_of(model: ConditionalModel, known: Known) -> tuple[Tensor, Tensor, Tensor]:
    """(psi and psi_r (1, hyper + reference, h, w), psi_r (1, reference, h, w), M(z^) (1, 64, h, w))."""
    z_hat = (torch.from_numpy(known.z).float() + model.medians)[None]
    psi, coarse = model.network.hyper_features(z_hat)
    psi_r = model.network.reference_features(known.reference)
    return torch.cat([psi, psi_r], dim=1), psi_r, coarse


def encode_y(model: ConditionalModel, known: Known, shape: AtomShape, y: Tensor) -> tuple[bytes, Integers]:
    """The coder string of an atom's y, and its symbols.

    Args:
        model: the codec.
        known: see `Known`.
        shape: see `AtomShape`.
        y: (1, M, h, w) of the atom's grid, not quantised, before its gain.

    Returns:
        The string; symbols (M, h, w), zero outside the mask.
    """
    quality = torch.tensor([shape.quality])
    target = y.float() * model.network.gain(quality)
    symbols = torch.zeros_like(target)

    def residual_of(step: _Pass, mean: Tensor) -> Tensor:
        residual = (target[:, step.channels] - mean).round().clamp(1 - LIMIT, LIMIT - 1)
        chosen = residual * torch.from_numpy(step.cells).float()
        symbols[:, step.channels] += chosen
        return chosen

    walk(model, features_of(model, known)[0], shape, residual_of)
    numbers = symbols[0].numpy().astype(np.int64)
    writer = SymbolWriter(model.y_coder)
    for step, tables in tables_of(model, known, shape, numbers):
        writer.put(numbers[step.channels][:, step.cells].ravel(), tables)
    return writer.bytes(), numbers


def decode_y(model: ConditionalModel, known: Known, shape: AtomShape, string: bytes) -> Integers:
    """Symbols (M, h, w) of an atom, zero outside its mask; see `encode_y`. Integers only.

    Raises:
        BitstreamError: the string is not the coding of such symbols.
    """
    reader = SymbolReader(model.y_coder, string)
    numbers = np.zeros((model.network.config.y_channels, *shape.mask.shape), dtype=np.int64)
    for step, tables in tables_of(model, known, shape, numbers):
        part = numbers[step.channels]  # a view: the next pass sees what is filled in here
        part[:, step.cells] = reader.take(tables).reshape(len(part), -1)
    reader.finish()
    return numbers


def rebuild(model: ConditionalModel, known: Known, shape: AtomShape, symbols: Integers) -> Tensor:
    """z_c^ (1, L, 2h, 2w) of an atom from its symbols (M, h, w)."""
    features, psi_r, coarse = features_of(model, known)
    numbers = torch.from_numpy(symbols).float()[None]

    def residual_of(step: _Pass, _mean: Tensor) -> Tensor:
        return numbers[:, step.channels] * torch.from_numpy(step.cells).float()

    scaled = walk(model, features, shape, residual_of)
    y_hat = scaled * model.network.ungain(torch.tensor([shape.quality]))
    mask = torch.from_numpy(shape.mask).float()[None, None]
    return model.network.synthesise(y_hat, mask, coarse, psi_r, known.reference)


def passes_of(model: ConditionalModel, shape: AtomShape) -> Iterator[_Pass]:
    """The passes of an atom, in the order of its string: each group at the anchors, then at the others."""
    height, width = shape.mask.shape
    anchors = checkerboard(height, width, shape.top, shape.left)[0, 0].numpy() > 0
    start = 0
    for group, size in enumerate(model.network.config.groups):
        for second in (False, True):
            yield _Pass(group, slice(start, start + size), second, shape.mask & (anchors != second))
        start += size


def tables_of(
    model: ConditionalModel, known: Known, shape: AtomShape, symbols: Integers
) -> Iterator[tuple[_Pass, npt.NDArray[np.uint8]]]:
    """Each pass with the tables of its symbols; `symbols` (M, h, w) is looked at only where it is known by then."""
    base: Grid = model.scales.base(known.z, shape.quality, shape.kind)
    for step in passes_of(model, shape):
        # In the second pass the group's anchors are known, and only they are not zero yet in a decoder.
        seen = symbols[: step.channels.stop if step.second else step.channels.start]
        sizes = np.abs(seen)
        if step.second:
            sizes[step.channels] *= shape.mask & ~step.cells
        index = model.scales.indices(base, step.group, step.second, sizes)
        yield step, index[:, step.cells].ravel()


def walk(
    model: ConditionalModel, features: Tensor, shape: AtomShape, residual_of: Callable[[_Pass, Tensor], Tensor]
) -> Tensor:
    """Rebuild y' (1, M, h, w) of an atom pass by pass, zero outside its mask.

    `residual_of` gives the symbols of a pass, zero outside its cells: an encoder makes them from the means
    it is handed, a decoder has them.
    """
    mask = torch.from_numpy(shape.mask).float()[None, None]
    known = torch.zeros(1, 0, *shape.mask.shape)
    part = known
    for step in passes_of(model, shape):
        size = step.channels.stop - step.channels.start
        if not step.second:
            part = torch.zeros(1, size, *shape.mask.shape)
        seen = torch.cat([known, part], dim=1)
        mean = model.network.context.means(step.group, features, seen, mask, second=step.second)
        part = part + residual_of(step, mean) + mean * torch.from_numpy(step.cells).float()
        if step.second:
            known = torch.cat([known, part], dim=1)
    return known
