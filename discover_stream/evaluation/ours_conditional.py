"""The conditional codec on pictures of their own: what its weights give without plate, key or diffusion.

A frame is one LATENT atom over its grid of cells: a byte (quality, whether there is a mask, whether z is the atom's
own), the mask where not everything is sent, the payload. Sizes are known from elsewhere, as for all systems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from discover_stream.codec.atoms import CellMask, cell_grid
from discover_stream.codec.background import cells_of
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.latent_atoms import LatentCodec
from discover_stream.codec.mask import read_mask, write_mask
from discover_stream.codec.painter import PaintJob
from discover_stream.codec.records import Atom, Cells, Window
from discover_stream.evaluation.ours import Sent
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.painting import needed_codec
from discover_stream.types import CELL, Image, Region

MASKED, OWN_Z = 1 << 4, 1 << 5
"""Flags beside the quality in the first byte."""


@dataclass(frozen=True)
class OursConditional:
    """The conditional codec in still mode, decoded by its VAE.

    Attributes:
        quality: 1 (fewest bits) to 8.
        sends: what is sent: the cells of the task's boxes, or the whole picture.
        codec: gives the weights, when they are needed.
    """

    quality: int
    sends: Sent = "picture"
    codec: Callable[[], LatentCodec] = needed_codec

    @property
    def name(self) -> str:
        """As in tables."""
        return f"ours conditional, {self.sends}"

    def encode(self, clip: Clip) -> Coded:
        """Code every frame to one atom; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        chunks = [
            Chunk(index, self.coded(image, None if self.sends == "picture" else box_cells(regions, width, height)))
            for index, (image, regions) in enumerate(zip(clip.frames, clip.regions, strict=True))
        ]
        return Coded(tuple(chunks), b"", len(chunks), width, height)

    def decode(self, coded: Coded) -> Decoded:
        """Decode every atom; see `System.decode`."""
        frames = tuple(self.decoded(chunk.data, coded.width, coded.height) for chunk in coded.chunks)
        return Decoded(frames, (None,) * len(frames))

    def coded(self, image: Image, mask: CellMask | None) -> bytes:
        """What is sent of a picture (H, W, 3): the cells of a mask (H/16, W/16, rounded up), or all of it."""
        height, width = image.shape[:2]
        samples = np.pad(image, ((0, -height % CELL), (0, -width % CELL), (0, 0)), mode="edge")
        grid = Window(0, 0, *cell_grid(width, height))
        cells = None if mask is None else Cells.of(mask)
        atom = (
            self.codec()
            .sketch(samples, PaintJob(Atom(grid, cells, self.quality, False, False, b"")))
            .atom(self.quality)
        )
        writer = BitWriter()
        if cells is not None:
            write_mask(writer, cells.mask)
        first = self.quality | MASKED * (cells is not None) | OWN_Z * atom.own_z
        return bytes((first,)) + writer.bytes() + atom.payload

    def decoded(self, data: bytes, width: int, height: int) -> Image:
        """The picture (height, width, 3) of what was sent."""
        grid = Window(0, 0, *cell_grid(width, height))
        cells, start = None, 1
        if data[0] & MASKED:
            reader = BitReader(data[1:])
            cells = Cells.of(read_mask(reader, grid.rows, grid.columns))
            start += reader.consumed_bytes()
        (painted,) = self.codec().paint(
            [PaintJob(Atom(grid, cells, data[0] & 15, bool(data[0] & OWN_Z), False, data[start:]))]
        )
        return np.ascontiguousarray(painted.samples[:height, :width])

    def command(self) -> str:
        """The equivalent command."""
        return "(the learned codec's atoms have no command of their own)"


def box_cells(regions: tuple[Region, ...], width: int, height: int) -> CellMask:
    """The cells (rows, columns) of a picture that boxes touch; the first one where there is no box."""
    mask = cells_of([region.box for region in regions], width, height)
    if not mask.any():
        mask[0, 0] = True
    return mask
