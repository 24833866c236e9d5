"""What is rendered: jobs, the pictures that become of them, and both while the work is going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.generation.canvas import Canvas, Follow, ProvenanceMap, paste, provenance_of
from discover_stream.generation.noise import cell_noise
from discover_stream.generation.picture_decoder import SCALE
from discover_stream.generation.sampling import ChangeReport
from discover_stream.generation.windows import Nested, Placed, Window, batches
from discover_stream.types import CELL, Image, InputError, Provenance

FINE = CELL // SCALE
"""Latents along one side of a cell."""
SAMPLE_OVERHEAD = 400
"""Latents that a batch more costs about as much as, when sampling."""


@dataclass(frozen=True, eq=False)
class RenderJob:
    """A picture to render.

    Attributes:
        latent: (1, L, h, w) z_c^ of the padded picture.
        provenance: (rows, columns) of the picture's cells, what was received of them: `SENT`, `PLATE` or `PROPAGATED`;
            anything else was not received.
        width: of the picture in pixels.
        height: of the picture in pixels.
        camera: seeds the noise.
        plate: id of the plate that the picture stands on; seeds the noise, too.
        tags: "bus, car" as a condition, where the generator reads them.
        canvas: what is there already, or which earlier job of the same call renders it; only what is active is rendered
            into it. None renders the whole picture.
    """

    latent: Tensor
    provenance: ProvenanceMap
    width: int
    height: int
    camera: str
    plate: int = 0
    tags: str = ""
    canvas: Canvas | Follow | None = None


@dataclass(frozen=True)
class Rendered:
    """A picture and where it comes from.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) of its cells, values of `Provenance`.
        changed: provenance in lower case -> mean absolute change that sampling made to the latents of such cells, of
            those that were rendered; empty where nothing was sampled.
    """

    image: Image
    provenance: ProvenanceMap
    changed: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_generated(self) -> bool:
        """Whether something in it was generated."""
        return bool((self.provenance == Provenance.GENERATED).any())


class Piece:
    """A part of a picture on its way.

    Attributes:
        sheet: the picture.
        nested: the part.
        shape: (rows, columns) of the picture's latent.
        latent: (1, L, h, w), z_c^ at first, then what was sampled.
        window: of the picture that `latent` is of.
        pixels: (8 * rows, 8 * columns, 3) uint8 of the inner window, once they are there.
    """

    def __init__(self, sheet: Sheet, nested: Nested) -> None:
        self.sheet, self.nested = sheet, nested
        self.shape = (sheet.job.latent.shape[2], sheet.job.latent.shape[3])
        self.latent, self.window = sheet.job.latent, Window(0, 0, *self.shape)
        self.pixels: Image | None = None


class Sheet:
    """A picture that is being rendered.

    Attributes:
        job: as it came.
        active_latents: (h, w) of the latent, true where it is rendered; None for everywhere.
        latent_provenance: (1, 1, h, w) of the latent, values of `Provenance`.
        counted: the same where it is rendered, `MISSING` elsewhere: windows reach beyond what is.
        changes: what sampling changed.

    Args:
        job: what to render.
        generate: whether what was not received is generated.

    Raises:
        InputError: the job's latent, provenance or canvas does not fit its size.
    """

    def __init__(self, job: RenderJob, generate: bool) -> None:
        rows, columns = -(-job.height // CELL), -(-job.width // CELL)
        height, width = job.latent.shape[2:]
        if job.provenance.shape != (rows, columns) or height < rows * FINE or width < columns * FINE:
            raise InputError(
                f"camera {job.camera}: a picture of {job.width}x{job.height} pixels has {rows}x{columns} cells; got"
                f" provenance of {job.provenance.shape} and a latent of {width}x{height}; pass those of one picture"
            )
        self.job, self.changes = job, ChangeReport()
        self._provenance = provenance_of(job.provenance, generate)
        padded = np.full((height // FINE, width // FINE), Provenance.MISSING, np.uint8)
        padded[:rows, :columns] = self._provenance
        fine = padded.repeat(FINE, axis=0).repeat(FINE, axis=1)
        self.latent_provenance = torch.from_numpy(fine)[None, None]
        self.active_latents: npt.NDArray[np.bool_] | None = None
        if job.canvas is not None:
            if isinstance(job.canvas, Canvas):
                job.canvas.check(job.width, job.height, self._provenance)
            wanted = np.zeros(padded.shape, bool)
            wanted[:rows, :columns] = job.canvas.active
            self.active_latents = wanted.repeat(FINE, axis=0).repeat(FINE, axis=1)
            fine = np.where(self.active_latents, fine, Provenance.MISSING).astype(np.uint8)
        self.counted = torch.from_numpy(fine)[None, None]

    def noise(self) -> Tensor:
        """(1, L, h, w), what sampling starts from."""
        latent = self.job.latent
        return cell_noise(self.job.camera, self.job.plate, latent.shape[1], latent.shape[2], latent.shape[3])

    def finished(self, pieces: Sequence[Piece], before: Sequence[Rendered], margin: int) -> Rendered:
        """The picture.

        Args:
            pieces: its parts, with their pixels.
            before: what became of the jobs before it.
            margin: of the feather, in latents.

        Raises:
            InputError: it is to be rendered into an earlier picture that has another size.
        """
        job, canvas = self.job, self.job.canvas
        image, provenance = np.zeros((job.height, job.width, 3), np.uint8), self._provenance
        if isinstance(canvas, Follow):
            canvas = canvas.canvas(before)
        if canvas is not None:
            image, provenance = canvas.opened(job.width, job.height, provenance)
        for piece in pieces:
            nested, pixels = piece.nested, piece.pixels
            assert pixels is not None
            kept = nested.kept or nested.inner
            rows, columns = kept.within(nested.inner).slices(SCALE)
            paste(image, pixels[rows, columns], kept, self.active_latents, margin)
        return Rendered(image, provenance, self.changes.means())


def sizes(pieces: Sequence[Piece], most: int) -> list[Window]:
    """Outer windows grown to few sizes: picture by picture, so that none depends on what else is rendered with it."""
    grown = [piece.nested.outer for piece in pieces]
    for sheet in dict.fromkeys(piece.sheet for piece in pieces):
        own = [index for index, piece in enumerate(pieces) if piece.sheet is sheet]
        placed = [Placed(pieces[index].shape, grown[index]) for index in own]
        for batch in batches(placed, SAMPLE_OVERHEAD, most):
            for position, window in batch:
                grown[own[position]] = window
    return grown


def stack(fields: Sequence[Tensor], windows: Sequence[tuple[Piece, Window]]) -> Tensor:
    """Windows of fields (1, C, h, w) as a batch (B, C, rows, columns)."""
    cut = [field[:, :, *window.slices()] for field, (_, window) in zip(fields, windows, strict=True)]
    return torch.cat(cut).contiguous(memory_format=torch.channels_last)
