"""A frame's atoms in both modes, ready to be coded: what `benchmarks.entropy` times and counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from benchmarks.entropy_content import Content
from discover_stream.codec.atom_rows import places_in
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter, varint
from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    base_at,
    decode_zs,
    encode_zs,
    features_of,
    passes_of,
    quantise,
    read_strings,
    rebuild,
    write_strings,
    z_symbols,
)
from discover_stream.codec.latent import coarse_state, quantise_atom, rebuild_atom, window_of
from discover_stream.codec.mask import bounds_of, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.scales import KEY
from discover_stream.codec.still import analyse_still, picture_tensor, synthesise_still
from discover_stream.training.pairs import latent_of
from discover_stream.types import CELL, Image

Integers = np.ndarray
Coded = tuple[list[bytes], list[bytes]]
"""Strings of a frame's z, and of its atoms' y."""


def mask_bytes(mask: CellMask) -> int:
    """Bytes of a mask on the frame's grid."""
    writer = BitWriter()
    write_mask(writer, mask)
    return len(writer.bytes())


class CodedFrame(ABC):
    """A frame's atoms, coded and decoded.

    Attributes:
        model: the codec.
        masks: of the atoms, (rows, columns) of the frame's cells each.
        shapes: of the atoms, on their own grids.
        zs: symbols of every z, (N, hz, wz) each.
        symbols: of y of every atom, (M, h, w) each, zero outside its cells.
        z_strings: one for each z.
        strings: one for each atom.
    """

    model: CodecModel
    masks: Sequence[CellMask]
    shapes: list[AtomShape]
    zs: list[Integers]
    symbols: list[Integers]

    def code(self) -> None:
        """Fill the strings. Raises RuntimeError where what is decoded is not what was coded."""
        ((self.z_strings, self.strings),) = encode([self])
        ((z_found, found),) = decode([self])
        if not all(map(np.array_equal, z_found, self.zs)) or not all(map(np.array_equal, found, self.symbols)):
            raise RuntimeError(f"{type(self).__name__}: what was decoded is not what was coded")

    @abstractmethod
    def places(self, first: int) -> list[Integers]:
        """Of the cells of every atom, see `places_in`; `first` is the number of the frame's first position of z."""

    @abstractmethod
    def networks_encode(self) -> None:
        """All float networks of an encoder but the VAE."""

    @abstractmethod
    def networks_decode(self) -> None:
        """All float networks of a decoder, up to the VAE's latent."""

    def size(self) -> int:
        """Bytes of all z and atoms with their masks and length fields."""
        atoms = [len(string) + mask_bytes(mask) for string, mask in zip(self.strings, self.masks, strict=True)]
        return sum(size + len(varint(size)) for size in [*map(len, self.z_strings), *atoms])


class StillFrame(CodedFrame):
    """A frame of still mode: a coarse atom, which is z of the whole picture, and atoms."""

    def __init__(self, model: CodecModel, content: Content, masks: Sequence[CellMask], quality: int) -> None:
        self.model, self.masks = model, masks
        self._picture = picture_tensor(content.picture)
        self._y, z = analyse_still(model, self._picture)
        self._coarse = coarse_state(model, z, quality)
        self.zs = [z]
        self.shapes = [window_of(mask).shape(quality) for mask in masks]
        self.symbols = self._quantised()
        self.code()

    def _quantised(self) -> list[Integers]:
        return [quantise_atom(self.model, self._coarse, self._y, mask) for mask in self.masks]

    def places(self, first: int) -> list[Integers]:
        """See `CodedFrame.places`."""
        return [places_in(mask, first) for mask in self.masks]

    def in_order(self) -> list[tuple[Integers, Integers]]:
        """Symbols (n,) and table numbers (n,) of every atom, in the order of its string."""
        scales, found = self.model.scales, []
        for mask, shape, symbols in zip(self.masks, self.shapes, self.symbols, strict=True):
            window = window_of(mask)
            base = scales.base(self.zs[0], shape.quality, shape.kind)[:, window.rows, window.columns]
            sizes = np.zeros_like(symbols)
            parts = []
            for step in passes_of(self.model, shape):
                seen = sizes[: step.channels.stop if step.second else step.channels.start]
                numbers = scales.indices(base, step.group, step.second, seen)
                own = symbols[step.channels]
                parts.append((own[:, step.cells].ravel(), numbers[:, step.cells].ravel().astype(np.int64)))
                sizes[step.channels] += np.abs(own) * step.cells
            found.append((np.concatenate([own for own, _ in parts]), np.concatenate([which for _, which in parts])))
        return found

    def networks_encode(self) -> None:
        """See `CodedFrame.networks_encode`."""
        analyse_still(self.model, self._picture)
        self.model.network.h_s(self._coarse.z_hat)
        self._quantised()

    def networks_decode(self) -> None:
        """See `CodedFrame.networks_decode`."""
        self.model.network.h_s(self._coarse.z_hat)
        field = torch.zeros(1, 1, *self._y.shape[2:])
        for symbols, mask in zip(self.symbols, self.masks, strict=True):
            rebuild_atom(self.model, self._coarse, symbols, mask)
        synthesise_still(self.model, self._y, field, self._coarse.z_hat)


class KeyFrame(CodedFrame):
    """A frame's objects as stream mode sends them first: each with a z of its own, coded on the plate."""

    def __init__(
        self, model: CodecModel, vae: AutoencoderTiny, content: Content, masks: Sequence[CellMask], quality: int
    ) -> None:
        self.model, self.masks = model, masks
        self.zs, self.shapes = [], []
        self._known: list[Known] = []
        self._pictures: list[Tensor] = []
        self._ys: list[Tensor] = []
        for mask in masks:
            self._add(vae, content, mask, quality)
        self.symbols = self._quantised()
        self.code()

    def _add(self, vae: AutoencoderTiny, content: Content, mask: CellMask, quality: int) -> None:
        rows, columns = bounds_of(mask)
        inside = mask[rows, columns]
        own = np.zeros(tuple(-(-side // 4) * 4 for side in inside.shape), dtype=bool)
        own[: inside.shape[0], : inside.shape[1]] = inside
        corner = (rows.start * CELL, columns.start * CELL)
        picture, plate = (cut_out(image, corner, own.shape) for image in (content.picture, content.plate))
        flagged = self.model.network.with_flag(latent_of(vae, plate)[None].float(), torch.ones(1))
        tensor = picture_tensor(picture)
        y, z = self._analyse(tensor, flagged)
        symbols = z_symbols(self.model, z)
        self._known.append(Known(symbols, flagged))
        self._pictures.append(tensor)
        self._ys.append(y)
        self.zs.append(symbols)
        self.shapes.append(AtomShape(own, quality, KEY))

    def _analyse(self, picture: Tensor, flagged: Tensor) -> tuple[Tensor, Tensor]:
        network = self.model.network
        return network.analyse(picture, network.reference_features(flagged))

    def _quantised(self) -> list[Integers]:
        return [
            quantise(self.model, features_of(self.model, known)[0], shape, y)
            for known, shape, y in zip(self._known, self.shapes, self._ys, strict=True)
        ]

    def places(self, first: int) -> list[Integers]:
        """See `CodedFrame.places`."""
        found = []
        for shape, z in zip(self.shapes, self.zs, strict=True):
            found.append(places_in(shape.mask, first))
            first += positions(z)
        return found

    def networks_encode(self) -> None:
        """See `CodedFrame.networks_encode`."""
        for picture, known in zip(self._pictures, self._known, strict=True):
            self._analyse(picture, known.reference)
        self._quantised()

    def networks_decode(self) -> None:
        """See `CodedFrame.networks_decode`."""
        for known, shape, symbols in zip(self._known, self.shapes, self.symbols, strict=True):
            rebuild(self.model, known, shape, symbols)


def positions(z: Integers) -> int:
    """How many positions z (N, hz, wz) has."""
    return z.shape[1] * z.shape[2]


def cut_out(image: Image, corner: tuple[int, int], cells: tuple[int, ...]) -> Image:
    """The part of a picture from a corner (row, column) on, of so many cells; beyond its edge, its last pixels."""
    height, width = cells[0] * CELL, cells[1] * CELL
    part = image[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    missing = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(part, missing, mode="edge"))


def encode(frames: Sequence[CodedFrame]) -> list[Coded]:
    """The entropy path of an encoder, of one frame or of several cameras' frames together."""
    model = frames[0].model
    zs = [z for frame in frames for z in frame.zs]
    z_strings = encode_zs(model, zs)
    shapes = [shape for frame in frames for shape in frame.shapes]
    strings = write_strings(model, shapes, _base(frames, zs), [part for frame in frames for part in frame.symbols])
    return list(zip(_split(z_strings, frames, "zs"), _split(strings, frames, "shapes"), strict=True))


def decode(frames: Sequence[CodedFrame]) -> list[tuple[list[Integers], list[Integers]]]:
    """The entropy path of a decoder, see `encode`."""
    model = frames[0].model
    grids = [z.shape for frame in frames for z in frame.zs]
    zs = decode_zs(model, [string for frame in frames for string in frame.z_strings], grids)  # type: ignore[arg-type]
    shapes = [shape for frame in frames for shape in frame.shapes]
    strings = [string for frame in frames for string in frame.strings]
    found = read_strings(model, shapes, _base(frames, zs), strings)
    return list(zip(_split(zs, frames, "zs"), _split(found, frames, "shapes"), strict=True))


def _base(frames: Sequence[CodedFrame], zs: Sequence[Integers]) -> Integers:
    """What z says of all cells of all atoms; the z of a frame follow each other."""
    said, own = frames[0].model.scales.base_rows(zs)
    places, first = [], 0
    for frame in frames:
        places += frame.places(first)
        first += sum(map(positions, frame.zs))
    return base_at(said, own, np.concatenate(places))


def _split(items: Sequence, frames: Sequence[CodedFrame], kind: str) -> list[list]:  # type: ignore[type-arg]
    counts = [len(getattr(frame, kind)) for frame in frames]
    ends = np.cumsum(counts)
    return [list(items[end - count : end]) for count, end in zip(counts, ends, strict=True)]
