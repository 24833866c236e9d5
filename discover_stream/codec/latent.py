"""Still mode between latents and atoms: the one place that orders symbols, for encoder and decoder alike.

A frame's z is its coarse atom, and every atom is read with the part of it that lies under the atom: the features
for its means, and the integers for its tables. The atom itself is coded as in stream mode, see `conditional`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.atom_rows import places_in
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.conditional import AtomShape, base_at, quantise, read_strings, rebuild_y, write_strings
from discover_stream.codec.entropy import plane_tables
from discover_stream.codec.exact_scales import Grid
from discover_stream.codec.mask import bounds_of, read_mask, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.scales import STILL
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
        quality: of the frame, 1..8.
        z_hat: (1, N, hz, wz) dequantised hyper-latent.
        features: (1, hyper + reference, 4hz, 4wz) for the means; still mode has no reference, so that part is zero.
        said: (k, 16, M) what k neighbourhoods of z say of their 4x4 cells, see `ExactContextScales.base_rows`.
        own: (hz * wz,) which of them each position of z has.
    """

    quality: int
    z_hat: Tensor
    features: Tensor
    said: Grid
    own: npt.NDArray[np.intp]


def z_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the hyper-latent of a picture."""
    return -(-height // 64), -(-width // 64)


def coarse_state(model: CodecModel, symbols: Integers, quality: int) -> CoarseState:
    """The state that follows from the symbols of z, (N, hz, wz)."""
    z_hat = (torch.from_numpy(symbols).float() + model.medians)[None]
    psi = model.network.h_s(z_hat)
    said, own = model.scales.base_rows([symbols])
    return CoarseState(quality, z_hat, torch.cat([psi, no_reference(model, *psi.shape[2:])], dim=1), said, own)


def no_reference(model: CodecModel, rows: int, columns: int) -> Tensor:
    """psi_r (1, reference, rows, columns) where there is no reference."""
    return torch.zeros(1, model.network.config.reference_channels, rows, columns)


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

    def shape(self, quality: int) -> AtomShape:
        """The atom as the codec sees it. The checkerboard belongs to the frame."""
        return AtomShape(self.mask, quality, STILL, self.rows.start, self.columns.start)

    def of(self, values: Tensor) -> Tensor:
        """The window's part of (1, C, h, w) values of the frame."""
        return values[:, :, self.rows, self.columns]


def window_of(mask: CellMask) -> AtomWindow:
    """The window of an atom with the given mask over the frame's cells."""
    rows, columns = bounds_of(mask)
    rows = slice(max(0, rows.start - HALO), min(mask.shape[0], rows.stop + HALO))
    columns = slice(max(0, columns.start - HALO), min(mask.shape[1], columns.stop + HALO))
    return AtomWindow(rows, columns, mask[rows, columns])


def atoms_base(model: CodecModel, coarse: CoarseState, masks: Sequence[CellMask]) -> Grid:
    """What z says of the cells of atoms with masks (rows, columns) of the frame: (cells of all atoms, M)."""
    if not masks:
        return np.zeros((0, model.network.config.y_channels))
    return base_at(coarse.said, coarse.own, np.concatenate([places_in(mask) for mask in masks]))


def encode_atom(model: CodecModel, coarse: CoarseState, y: Tensor, mask: CellMask) -> bytes:
    """The payload of one atom, see `encode_atoms`."""
    return encode_atoms(model, coarse, y, [mask])[0]


def encode_atoms(model: CodecModel, coarse: CoarseState, y: Tensor, masks: Sequence[CellMask]) -> list[bytes]:
    """Payloads of a frame's atoms: each its mask, then one coder string of its symbols.

    Args:
        model: the codec.
        coarse: the frame's coarse state.
        y: (1, M, 4hz, 4wz) of the frame, not quantised, before its gain.
        masks: (rows, columns) of the picture's cells, one for each atom.
    """
    shapes = [window_of(mask).shape(coarse.quality) for mask in masks]
    symbols = [quantise_atom(model, coarse, y, mask) for mask in masks]
    payloads = []
    strings = write_strings(model, shapes, atoms_base(model, coarse, masks), symbols)
    for mask, string in zip(masks, strings, strict=True):
        writer = BitWriter()
        write_mask(writer, mask)
        payloads.append(writer.bytes() + string)
    return payloads


def quantise_atom(model: CodecModel, coarse: CoarseState, y: Tensor, mask: CellMask) -> Integers:
    """Symbols (M, h, w) of the atom's window, zero outside the atom; arguments as for `encode_atoms`."""
    window = window_of(mask)
    return quantise(model, window.of(coarse.features), window.shape(coarse.quality), window.of(y))


def decode_atom_mask(payload: bytes, rows: int, columns: int) -> tuple[CellMask, bytes]:
    """The mask (rows, columns) of an atom and its coder string."""
    reader = BitReader(payload)
    mask = read_mask(reader, rows, columns)
    return mask, payload[reader.consumed_bytes() :]


def decode_atom_symbols(model: CodecModel, coarse: CoarseState, string: bytes, mask: CellMask) -> Integers:
    """Symbols (M, h, w) of one atom's window, see `decode_atoms_symbols`. Raises BitstreamError."""
    return decode_atoms_symbols(model, coarse, [string], [mask])[0]


def decode_atoms_symbols(
    model: CodecModel, coarse: CoarseState, strings: Sequence[bytes], masks: Sequence[CellMask]
) -> list[Integers]:
    """Symbols (M, h, w) of the windows of a frame's atoms, zero outside them.

    Raises:
        BitstreamError: the bytes of one are not such a string.
    """
    shapes = [window_of(mask).shape(coarse.quality) for mask in masks]
    return read_strings(model, shapes, atoms_base(model, coarse, masks), strings)


def rebuild_atom(
    model: CodecModel, coarse: CoarseState, symbols: Integers, mask: CellMask
) -> tuple[AtomWindow, Tensor]:
    """The atom's window and its y^ (1, M, h, w), zero outside its cells."""
    window = window_of(mask)
    return window, rebuild_y(model, window.of(coarse.features), window.shape(coarse.quality), symbols)
