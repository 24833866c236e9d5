"""LATENT atoms of stream mode: samples of a window to payloads and back, by the conditional codec and a VAE.

The window's grid is padded to whole positions of z (4x4 cells) by its last row and column; cells of the padding are
never coded. A payload is the length of z's string (varint) and that string, where the atom has its own z, then the
string of y. ::

    reference --VAE--> r --------+------------------+
    samples --g_a, fuse with r--> y, z --> strings --> z_c^ --VAE--> samples as decoders have them
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import take_varint, varint
from discover_stream.codec.conditional import (
    AtomShape,
    Integers,
    Known,
    decode_symbols,
    decode_zs,
    encode_y,
    encode_z,
    rebuild,
    z_shape,
    z_symbols,
)
from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import Z_TO_Y
from discover_stream.codec.painter import Painted, PaintJob, check_size
from discover_stream.codec.records import Atom
from discover_stream.codec.scales import KEY, REFRESH, STILL
from discover_stream.codec.still import picture_tensor
from discover_stream.types import BitstreamError, Image


@dataclass(frozen=True)
class Autoencoder:
    """A VAE's two halves.

    Attributes:
        encode: pictures (B, 3, H, W) in 0..1, sides divisible by 64, to latents (B, L, H/8, W/8).
        decode: latents to pictures, not clamped.
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def kind_of(job: PaintJob) -> int:
    """Which kind an atom is."""
    if job.reference is None:
        return STILL
    return REFRESH if job.refreshes else KEY


def padded_mask(atom: Atom) -> CellMask:
    """The atom's cells on its padded grid: (h, w) bool, both multiples of 4."""
    rows, columns = atom.window.rows, atom.window.columns
    mask = np.zeros((-(-rows // Z_TO_Y) * Z_TO_Y, -(-columns // Z_TO_Y) * Z_TO_Y), dtype=bool)
    mask[:rows, :columns] = True if atom.cells is None else atom.cells.mask
    return mask


class LatentCodec:
    """The learned codec of stream mode: writes LATENT atoms, and paints them (`painter.Painter`).

    Args:
        model: the conditional codec.
        vae: the autoencoder of its latent space.
    """

    def __init__(self, model: CodecModel, vae: Autoencoder) -> None:
        self._model, self._vae = model, vae

    @property
    def name(self) -> bytes:
        """The bytes that name the model in packets."""
        return self._model.short_hash

    @torch.no_grad()
    def sketch(self, samples: Image, job: PaintJob) -> Sketch:
        """Look at what is to be coded, once for all qualities.

        Args:
            samples: (rows * 16, columns * 16, 3) uint8 RGB of the frame, on the window's grid.
            job: the atom, without payload, and what it is coded on.
        """
        network = self._model.network
        picture = picture_tensor(samples)
        flagged = self._flagged([job])[0]
        y, z = network.analyse(picture, network.reference_features(flagged))
        return Sketch(self._model, job, y, z_symbols(self._model, z), flagged)

    @torch.no_grad()
    def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
        """Decode atoms, all at once; see `painter.Painter.paint`. Raises BitstreamError."""
        if not jobs:
            return []
        for job in jobs:
            check_size(job.atom.window.rows, job.atom.window.columns)
        masks = [padded_mask(job.atom) for job in jobs]
        parts = [_split(job.atom) for job in jobs]
        shapes = [AtomShape(mask, job.atom.quality, kind_of(job)) for job, mask in zip(jobs, masks, strict=True)]
        own = [index for index, (string, _) in enumerate(parts) if string is not None]
        grids = [z_shape(self._model, mask) for mask in masks]
        found = decode_zs(self._model, [parts[index][0] or b"" for index in own], [grids[index] for index in own])
        zs: list[Integers] = [np.zeros(grid, dtype=np.int64) for grid in grids]
        for index, symbols in zip(own, found, strict=True):
            zs[index] = symbols
        known = [Known(z, flagged) for z, flagged in zip(zs, self._flagged(jobs), strict=True)]
        coded = decode_symbols(self._model, list(zip(known, shapes, strict=True)), [string for _, string in parts])
        latents = [
            rebuild(self._model, one, shape, symbols) for one, shape, symbols in zip(known, shapes, coded, strict=True)
        ]
        # Keys are coded on the plate alone, whose latent is at hand then.
        bare = [job for job in jobs if job.plate is not None and job.plate is not job.reference]
        encoded = iter(self._latents([job.plate for job in bare if job.plate is not None]))
        plates = []
        for job, one in zip(jobs, known, strict=True):
            if job.plate is not None:
                plates.append(one.reference[:, :-1] if job.plate is job.reference else next(encoded))
        drawn = self._drawn([*latents, *plates])
        backs = iter(drawn[len(jobs) :])
        return [
            Painted(_cut(samples, job), None if job.plate is None else _cut(next(backs), job))
            for job, samples in zip(jobs, drawn, strict=False)
        ]

    def _flagged(self, jobs: Sequence[PaintJob]) -> list[Tensor]:
        """References as the networks take them, (1, L + 1, 2h, 2w) each; zeros where there is none."""
        network = self._model.network
        encoded = iter(self._latents([job.reference for job in jobs if job.reference is not None]))
        answer = []
        for job in jobs:
            height, width = padded_mask(job.atom).shape
            empty = torch.zeros(1, network.config.latent_channels, 2 * height, 2 * width)
            latent = empty if job.reference is None else next(encoded)
            answer.append(network.with_flag(latent, torch.tensor([int(job.reference is not None)])))
        return answer

    def _latents(self, pictures: Sequence[Image]) -> list[Tensor]:
        return _by_shape([picture_tensor(picture) for picture in pictures], self._vae.encode)

    def _drawn(self, latents: Sequence[Tensor]) -> list[Image]:
        """Latents as pictures (8H, 8W, 3) uint8 RGB."""
        drawn = _by_shape(latents, self._vae.decode)
        return [picture[0].clamp(0, 1).permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy() for picture in drawn]


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is to be coded, analysed: atoms of any quality are made from it.

    Attributes:
        model: the codec.
        job: the atom, without payload, and what it is coded on.
        y: (1, M, h, w), not quantised.
        z: (N, h/4, w/4) symbols.
        flagged: (1, L + 1, 2h, 2w), the reference.
    """

    model: CodecModel
    job: PaintJob
    y: Tensor
    z: Integers
    flagged: Tensor

    @cached_property
    def _z_string(self) -> bytes:
        return encode_z(self.model, self.z)

    @torch.no_grad()
    def atom(self, quality: int) -> Atom:
        """The atom in a quality, 1..8; with a z of its own where it is smaller with one."""
        shape = AtomShape(padded_mask(self.job.atom), quality, kind_of(self.job))
        bare, _ = encode_y(self.model, Known(np.zeros_like(self.z), self.flagged), shape, self.y)
        lean, _ = encode_y(self.model, Known(self.z, self.flagged), shape, self.y)
        whole = varint(len(self._z_string)) + self._z_string + lean
        own = len(whole) < len(bare)
        return dataclasses.replace(self.job.atom, quality=quality, own_z=own, payload=whole if own else bare)


def _split(atom: Atom) -> tuple[bytes | None, bytes]:
    """The strings of z, where the atom has its own, and of y. Raises BitstreamError."""
    if not atom.own_z:
        return None, atom.payload
    length, start = take_varint(atom.payload, 0)
    if start + length > len(atom.payload):
        raise BitstreamError(f"an atom of {len(atom.payload)} bytes is said to have {length} bytes of z")
    return atom.payload[start : start + length], atom.payload[start + length :]


def _cut(samples: Image, job: PaintJob) -> Image:
    """Samples of the padded grid, without the padding."""
    rows, columns = 16 * job.atom.window.rows, 16 * job.atom.window.columns
    return np.ascontiguousarray(samples[:rows, :columns])


def _by_shape(tensors: Sequence[Tensor], network: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """A network on several inputs (1, ...), those of one shape at once; answers in order."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault(tuple(tensor.shape), []).append(index)
    answers: dict[int, Tensor] = {}
    for indices in groups.values():
        found = network(torch.cat([tensors[index] for index in indices]))
        answers |= {index: found[place : place + 1] for place, index in enumerate(indices)}
    return [answers[index] for index in range(len(tensors))]
