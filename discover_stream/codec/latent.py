"""Between latents and atoms: the one place that orders symbols, for encoder and decoder alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.entropy import LIMIT, plane_tables
from discover_stream.codec.mask import bounds_of, read_mask, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import checkerboard
from discover_stream.types import BitstreamError

Integers = npt.NDArray[np.int64]

COARSE_SLACK_BITS = 256
"""What a coarse string may fall short of half its least information; see `decode_coarse`."""

HALO = 1
"""Cells of coarse features that an atom sees around its rectangle: the context network's reach."""


@dataclass(frozen=True)
class CoarseState:
    """What the coarse atom gives every atom of its frame.

    Attributes:
        z_hat: (1, N, hz, wz) dequantised hyper-latent.
        psi: (1, hyper, 4hz, 4wz) features for the means.
        indices: (M, 4hz, 4wz) scale indices.
    """

    z_hat: Tensor
    psi: Tensor
    indices: npt.NDArray[np.uint8]


def z_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the hyper-latent of a picture."""
    return -(-height // 64), -(-width // 64)


def coarse_state(model: CodecModel, symbols: Integers, quality: int) -> CoarseState:
    """The state that follows from the symbols of z, (N, hz, wz)."""
    return coarse_states(model, [symbols], [quality])[0]


def coarse_states(model: CodecModel, symbols: Sequence[Integers], qualities: Sequence[int]) -> list[CoarseState]:
    """`coarse_state` of frames of several cameras: the exact branch runs once for all of them."""
    found = []
    for part, indices in zip(symbols, model.scales.indices_all(symbols, qualities), strict=True):
        z_hat = (torch.from_numpy(part).float() + model.medians)[None]
        found.append(CoarseState(z_hat, model.network.h_s(z_hat), indices))
    return found


def encode_coarse(model: CodecModel, symbols: Integers) -> bytes:
    """The coarse atom: symbols of z (N, hz, wz) as one coder string."""
    return model.z_coder.encode_planes(symbols)


def decode_coarse(model: CodecModel, data: bytes, rows: int, columns: int) -> Integers:
    """Symbols of z (N, rows, columns); see `encode_coarse`.

    Raises:
        BitstreamError: the bytes are not such a string.
    """
    shape = (model.medians.shape[0], rows, columns)
    # The picture's size is a claim until here. A few bytes must not make the decoder work on a huge one:
    # half the least information of its symbols is asked for, less slack for what ends a string.
    if 8 * len(data) + COARSE_SLACK_BITS < model.z_coder.fewest_bits(plane_tables(shape)) / 2:
        raise BitstreamError(f"a coarse atom of {len(data)} bytes cannot describe a picture of this size")
    return model.z_coder.decode_planes(data, shape)


@dataclass(frozen=True)
class AtomWindow:
    """The part of a frame that an atom's context works on: its rectangle and a halo.

    Attributes:
        rows: of the frame's cells.
        columns: of the frame's cells.
        mask: (rows, columns) of the window, the atom's cells.
    """

    rows: slice
    columns: slice
    mask: CellMask


def window_of(mask: CellMask) -> AtomWindow:
    """The window of an atom with the given mask over the frame's cells."""
    rows, columns = bounds_of(mask)
    rows = slice(max(0, rows.start - HALO), min(mask.shape[0], rows.stop + HALO))
    columns = slice(max(0, columns.start - HALO), min(mask.shape[1], columns.stop + HALO))
    return AtomWindow(rows, columns, mask[rows, columns])


def walk_passes(
    model: CodecModel,
    window: AtomWindow,
    psi: Tensor,
    residual_of: Callable[[slice, Tensor, bool], Tensor],
) -> Tensor:
    """Rebuild y' of an atom group by group, anchors first (the order of `ContextModel`).

    Args:
        model: the codec.
        window: the atom's window.
        psi: (1, hyper, h, w) coarse features of the window.
        residual_of: gives the rounded residuals (1, channels, h, w) of a channel slice in a pass
            (False: the anchors', True: the others'); the encoder computes them from the means it is
            handed, (1, channels, h, w), the decoder has them.

    Returns:
        (1, M, h, w) y' with zeros outside the atom.
    """
    height, width = window.mask.shape
    mask = torch.from_numpy(window.mask).float().view(1, 1, height, width)
    anchors = checkerboard(height, width, window.rows.start, window.columns.start)
    known = torch.zeros(1, 0, height, width)
    for group, size in enumerate(model.network.config.groups):
        channels = slice(known.shape[1], known.shape[1] + size)
        unknown = torch.zeros(1, size, height, width)
        first = model.network.context.means(group, psi, torch.cat([known, unknown], 1), mask, second=False)
        part = (first + residual_of(channels, first, False)) * anchors * mask
        second = model.network.context.means(group, psi, torch.cat([known, part], 1), mask, second=True)
        part = part + (second + residual_of(channels, second, True)) * (1 - anchors) * mask
        known = torch.cat([known, part], 1)
    return known


def encode_atom(model: CodecModel, coarse: CoarseState, scaled: Tensor, mask: CellMask) -> bytes:
    """The payload of one atom, see `encode_atoms`."""
    return encode_atoms(model, coarse, scaled, [mask])[0]


def encode_atoms(model: CodecModel, coarse: CoarseState, scaled: Tensor, masks: Sequence[CellMask]) -> list[bytes]:
    """Payloads of a frame's atoms: each its mask, then one coder string of its symbols, channel by channel.

    Args:
        model: the codec.
        coarse: the frame's coarse state.
        scaled: (1, M, 4hz, 4wz) y' of the frame.
        masks: (rows, columns) of the picture's cells, one for each atom.
    """
    symbols = [quantise_atom(model, coarse, scaled, mask).ravel() for mask in masks]
    strings = model.y_coder.encode_all(symbols, [atom_tables(coarse, mask).ravel() for mask in masks])
    payloads = []
    for mask, string in zip(masks, strings, strict=True):
        writer = BitWriter()
        write_mask(writer, mask)
        payloads.append(writer.bytes() + string)
    return payloads


def atom_tables(coarse: CoarseState, mask: CellMask) -> npt.NDArray[np.uint8]:
    """Table numbers (M, cells of the atom) of the symbols of an atom with a mask (rows, columns)."""
    rows, columns = np.nonzero(mask)
    tables: npt.NDArray[np.uint8] = coarse.indices[:, rows, columns]
    return tables


def quantise_atom(model: CodecModel, coarse: CoarseState, scaled: Tensor, mask: CellMask) -> Integers:
    """Symbols (M, cells of the atom); arguments as for `encode_atoms`."""
    window = window_of(mask)
    target = scaled[:, :, window.rows, window.columns]
    height, width = window.mask.shape
    anchors = checkerboard(height, width, window.rows.start, window.columns.start).bool()
    residuals = torch.zeros_like(target)

    def residual_of(channels: slice, mean: Tensor, second: bool) -> Tensor:
        residual = (target[:, channels] - mean).round().clamp(1 - LIMIT, LIMIT - 1)
        residuals[:, channels] = torch.where(anchors != second, residual, residuals[:, channels])
        return residual

    walk_passes(model, window, coarse.psi[:, :, window.rows, window.columns], residual_of)
    symbols: Integers = residuals[0].numpy()[:, window.mask].astype(np.int64)
    return symbols


def decode_atom_mask(payload: bytes, rows: int, columns: int) -> tuple[CellMask, bytes]:
    """The mask (rows, columns) of an atom and its coder string."""
    reader = BitReader(payload)
    mask = read_mask(reader, rows, columns)
    return mask, payload[reader.consumed_bytes() :]


def decode_atom_symbols(model: CodecModel, coarse: CoarseState, string: bytes, mask: CellMask) -> Integers:
    """Symbols (M, cells of the atom) of one atom, see `decode_atoms_symbols`. Raises BitstreamError."""
    return decode_atoms_symbols(model, coarse, [string], [mask])[0]


def decode_atoms_symbols(
    model: CodecModel, coarse: CoarseState, strings: Sequence[bytes], masks: Sequence[CellMask]
) -> list[Integers]:
    """Symbols (M, cells of the atom) of a frame's atoms.

    Raises:
        BitstreamError: the bytes of one are not such a string.
    """
    tables = [atom_tables(coarse, mask) for mask in masks]
    found = model.y_coder.decode_all(strings, [part.ravel() for part in tables])
    return [symbols.reshape(part.shape) for symbols, part in zip(found, tables, strict=True)]


def rebuild_atom(
    model: CodecModel, coarse: CoarseState, symbols: Integers, mask: CellMask
) -> tuple[AtomWindow, Tensor]:
    """The atom's window and its y' (1, M, h, w), zero outside its cells."""
    window = window_of(mask)
    residuals = np.zeros((symbols.shape[0], *window.mask.shape), dtype=np.float32)
    residuals[:, window.mask] = symbols
    known = torch.from_numpy(residuals)[None]
    psi = coarse.psi[:, :, window.rows, window.columns]
    return window, walk_passes(model, window, psi, lambda channels, _mean, _second: known[:, channels])
