"""A frame's atoms in both codecs, ready to be coded: what `benchmarks.entropy` times and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from benchmarks.entropy_content import Content
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter, varint
from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    decode_symbols,
    decode_zs,
    encode_symbols,
    encode_zs,
    quantise,
    rebuild,
)
from discover_stream.codec.conditional_model import ConditionalModel
from discover_stream.codec.entropy import LIMIT
from discover_stream.codec.latent import (
    CoarseState,
    atom_tables,
    coarse_state,
    quantise_atom,
    rebuild_atom,
)
from discover_stream.codec.mask import bounds_of, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.still import picture_tensor
from discover_stream.training.pairs import latent_of
from discover_stream.types import CELL, Image

KEY = 1
"""The kind of an atom that knows the plate, see `codec.scales.KINDS`."""


def mask_bytes(mask: CellMask) -> int:
    """Bytes of a mask on the frame's grid."""
    writer = BitWriter()
    write_mask(writer, mask)
    return len(writer.bytes())


def framed(strings: Sequence[bytes], masks: Sequence[CellMask]) -> int:
    """Bytes of atoms: masks, strings, and the length field of each."""
    sizes = [len(string) + mask_bytes(mask) for string, mask in zip(strings, masks, strict=True)]
    return sum(size + len(varint(size)) for size in sizes)


class StillFrame:
    """A frame of still mode with the codec that ships: a coarse atom and atoms."""

    def __init__(self, model: CodecModel, content: Content, masks: Sequence[CellMask], quality: int) -> None:
        self.model, self.masks, self.quality = model, masks, quality
        self._picture = picture_tensor(content.picture)
        self.scaled, z = self._analyse()
        self.z = (z[0] - model.medians).round().clamp(1 - LIMIT, LIMIT - 1).numpy().astype(np.int64)
        self.coarse = coarse_state(model, self.z, quality)
        self.symbols = [quantise_atom(model, self.coarse, self.scaled, mask) for mask in masks]
        ((self.z_string, self.strings),) = still_encode([self])
        ((z_found, found),) = still_decode([self])
        if not np.array_equal(z_found, self.z) or not all(map(np.array_equal, found, self.symbols)):
            raise RuntimeError("still mode: what was decoded is not what was coded")

    def _analyse(self) -> tuple[Tensor, Tensor]:
        return self.model.network.analyse(self._picture, torch.tensor([self.quality]))

    @property
    def tables(self) -> list[np.ndarray]:
        """Table numbers of each atom's symbols."""
        return [atom_tables(self.coarse, mask).ravel() for mask in self.masks]

    def networks_encode(self) -> None:
        """All float networks of an encoder."""
        self._analyse()
        self.model.network.h_s(self.coarse.z_hat)
        for mask in self.masks:
            quantise_atom(self.model, self.coarse, self.scaled, mask)

    def networks_decode(self) -> None:
        """All float networks of a decoder, up to the VAE's latent."""
        network = self.model.network
        network.h_s(self.coarse.z_hat)
        field = torch.zeros(1, 1, *self.scaled.shape[2:])
        for symbols, mask in zip(self.symbols, self.masks, strict=True):
            rebuild_atom(self.model, self.coarse, symbols, mask)
        network.synthesise(self.scaled, field, self.coarse.z_hat, torch.tensor([self.quality]))

    def size(self) -> int:
        """Bytes of all atoms, the coarse one included, with masks and length fields."""
        return len(self.z_string) + len(varint(len(self.z_string))) + framed(self.strings, self.masks)


def still_encode(frames: Sequence[StillFrame]) -> list[tuple[bytes, list[bytes]]]:
    """The entropy path of an encoder, of one frame or of several cameras' frames together."""
    model = frames[0].model
    z_strings = [model.z_coder.encode_planes(frame.z) for frame in frames]
    indices = model.scales.indices_all([frame.z for frame in frames], [frame.quality for frame in frames])
    tables = _tables(frames, indices)
    strings = model.y_coder.encode_all([part.ravel() for frame in frames for part in frame.symbols], tables)
    return list(zip(z_strings, _split(strings, [len(frame.masks) for frame in frames]), strict=True))


def still_decode(frames: Sequence[StillFrame]) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """The entropy path of a decoder, see `still_encode`."""
    model = frames[0].model
    zs = [model.z_coder.decode_planes(frame.z_string, frame.z.shape) for frame in frames]
    tables = _tables(frames, model.scales.indices_all(zs, [frame.quality for frame in frames]))
    found = model.y_coder.decode_all([string for frame in frames for string in frame.strings], tables)
    channels = frames[0].symbols[0].shape[0]
    shaped = [part.reshape(channels, -1) for part in found]
    return list(zip(zs, _split(shaped, [len(frame.masks) for frame in frames]), strict=True))


def _tables(frames: Sequence[StillFrame], indices: Sequence[np.ndarray]) -> list[np.ndarray]:
    nothing = torch.empty(0)
    states = [CoarseState(nothing, nothing, part) for part in indices]
    return [
        atom_tables(state, mask).ravel() for frame, state in zip(frames, states, strict=True) for mask in frame.masks
    ]


def _split(items: Sequence, counts: Sequence[int]) -> list[list]:  # type: ignore[type-arg]
    ends = np.cumsum(counts)
    return [list(items[end - count : end]) for count, end in zip(counts, ends, strict=True)]


@dataclass(frozen=True)
class Plan:
    """How atoms of the conditional codec are made: `own_z` keys on the plate, else parts of a still frame."""

    quality: int
    own_z: bool


class ConditionalFrame:
    """A frame's atoms with the conditional codec: keys with a z of their own, or parts of a still frame."""

    def __init__(
        self,
        model: ConditionalModel,
        vae: AutoencoderTiny,
        content: Content,
        masks: Sequence[CellMask],
        plan: Plan,
    ) -> None:
        self.model, self.masks, self.plan = model, masks, plan
        self._content, self._vae = content, vae
        self.atoms: list[tuple[Known, AtomShape]] = []
        self.ys: list[Tensor] = []
        self.pictures: list[tuple[Tensor, Tensor]] = []
        if plan.own_z:
            for mask in masks:
                self._add_key(mask)
            self.zs = [known.z for known, _ in self.atoms]
        else:
            self._add_parts()
        self.symbols = [quantise(model, *atom, y) for atom, y in zip(self.atoms, self.ys, strict=True)]
        ((self.z_strings, self.strings),) = conditional_encode([self])
        ((z_found, found),) = conditional_decode([self])
        if not all(map(np.array_equal, z_found, self.zs)) or not all(map(np.array_equal, found, self.symbols)):
            raise RuntimeError("conditional codec: what was decoded is not what was coded")

    def _analyse(self, picture: Image, reference: Image | None) -> tuple[Tensor, Tensor, np.ndarray]:
        """Flagged reference, y and symbols of z of a picture whose sides are multiples of 64."""
        network = self.model.network
        tensor = picture_tensor(picture)
        latent = torch.zeros(1, network.config.latent_channels, tensor.shape[2] // 8, tensor.shape[3] // 8)
        if reference is not None:
            latent = latent_of(self._vae, reference)[None].float()
        flagged = network.with_flag(latent, torch.tensor([int(reference is not None)]))
        y, z = network.analyse(tensor, network.reference_features(flagged))
        self.pictures.append((tensor, flagged))
        symbols = (z[0] - self.model.medians).round().clamp(1 - LIMIT, LIMIT - 1).numpy().astype(np.int64)
        return flagged, y, symbols

    def _add_key(self, mask: CellMask) -> None:
        rows, columns = bounds_of(mask)
        inside = mask[rows, columns]
        height, width = (-(-side // 4) * 4 for side in inside.shape)
        own = np.zeros((height, width), dtype=bool)
        own[: inside.shape[0], : inside.shape[1]] = inside
        corner = (rows.start * CELL, columns.start * CELL)
        picture, plate = (window(image, corner, own.shape) for image in (self._content.picture, self._content.plate))
        flagged, y, z = self._analyse(picture, plate)
        self.atoms.append((Known(z, flagged), AtomShape(own, self.plan.quality, KEY)))
        self.ys.append(y)

    def _add_parts(self) -> None:
        """Atoms that share the frame's z: each sees the positions of z that its cells lie in."""
        flagged, y, z = self._analyse(self._content.picture, None)
        self.zs = [z]
        for mask in self.masks:
            rows, columns = bounds_of(mask)
            top, left, bottom, right = rows.start // 4, columns.start // 4, -(-rows.stop // 4), -(-columns.stop // 4)
            own = np.zeros(((bottom - top) * 4, (right - left) * 4), dtype=bool)
            part = mask[top * 4 : bottom * 4, left * 4 : right * 4]
            own[: part.shape[0], : part.shape[1]] = part
            known = Known(
                z[:, top:bottom, left:right], flagged[:, :, top * 8 : bottom * 8, left * 8 : right * 8].contiguous()
            )
            self.atoms.append((known, AtomShape(own, self.plan.quality, 0)))
            self.ys.append(y[:, :, top * 4 : bottom * 4, left * 4 : right * 4])

    def networks_encode(self) -> None:
        """All float networks of an encoder but the VAE."""
        network = self.model.network
        for tensor, flagged in self.pictures:
            network.analyse(tensor, network.reference_features(flagged))
        for atom, y in zip(self.atoms, self.ys, strict=True):
            quantise(self.model, *atom, y)

    def networks_decode(self) -> None:
        """All float networks of a decoder, up to the VAE's latent."""
        for atom, symbols in zip(self.atoms, self.symbols, strict=True):
            rebuild(self.model, *atom, symbols)

    def size(self) -> int:
        """Bytes of all atoms with their z, masks and length fields."""
        return sum(len(string) + 1 for string in self.z_strings) + framed(self.strings, self.masks)


def window(image: Image, corner: tuple[int, int], cells: tuple[int, ...]) -> Image:
    """The part of a picture from a corner (row, column) on, of so many cells; beyond its edge, its last pixels."""
    height, width = cells[0] * CELL, cells[1] * CELL
    part = image[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    missing = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(part, missing, mode="edge"))


def conditional_encode(frames: Sequence[ConditionalFrame]) -> list[tuple[list[bytes], list[bytes]]]:
    """The entropy path of an encoder, of one frame or of several cameras' frames together."""
    model = frames[0].model
    z_strings = encode_zs(model, [z for frame in frames for z in frame.zs])
    atoms = [atom for frame in frames for atom in frame.atoms]
    strings = encode_symbols(model, atoms, [part for frame in frames for part in frame.symbols])
    z_parts = _split(z_strings, [len(frame.zs) for frame in frames])
    return list(zip(z_parts, _split(strings, [len(frame.atoms) for frame in frames]), strict=True))


def conditional_decode(frames: Sequence[ConditionalFrame]) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The entropy path of a decoder, see `conditional_encode`."""
    model = frames[0].model
    shapes = [z.shape for frame in frames for z in frame.zs]
    zs = decode_zs(model, [string for frame in frames for string in frame.z_strings], shapes)  # type: ignore[arg-type]
    # What is decoded is what was coded (checked when a frame is made), so z need not be cut into atoms again.
    atoms = [atom for frame in frames for atom in frame.atoms]
    found = decode_symbols(model, atoms, [string for frame in frames for string in frame.strings])
    z_parts = _split(zs, [len(frame.zs) for frame in frames])
    return list(zip(z_parts, _split(found, [len(frame.atoms) for frame in frames]), strict=True))
