"""What of a camera's next picture has to be rendered anew, where its last one is there.

With every picture the latents are kept that each of its places was *rendered from*. A cell whose received latents
differ from those by no more than a tolerance stays as it is; any other is rendered anew, and what it was rendered from
is kept in its place. So a picture is never farther from what was received than the tolerance, however long a row grows.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from discover_stream.generation.canvas import Canvas, Follow, ProvenanceMap
from discover_stream.generation.sheets import FINE, Rendered, RenderJob
from discover_stream.generation.windows import Field
from discover_stream.types import Provenance, Region

TOLERANCE, LOOSE = 0.1, 0.25
"""Of a channel of a latent, where cells were received and where nothing was; docs/decoding.md has what they cost."""
MAX_KEPT = 16
"""Rows of pictures of which the last one is kept."""


@dataclass(frozen=True, eq=False)
class Basis:
    """What the places of a picture were rendered from.

    Attributes:
        latent: (1, L, h, w).
        received: (rows, columns) of cells, the provenance they were received with.
        plate: see `RenderJob`.
    """

    latent: Tensor
    received: ProvenanceMap
    plate: int = 0

    def fits(self, job: RenderJob) -> bool:
        """Whether a job is of a picture of the same size on the same plate."""
        same = self.latent.shape == job.latent.shape and self.received.shape == job.provenance.shape
        return same and self.plate == job.plate


@dataclass(frozen=True, eq=False)
class Kept:
    """The last picture of a row.

    Attributes:
        picture: the picture.
        basis: what it was rendered from.
        found: what a detector finds in it; None where nobody looked.
    """

    picture: Rendered
    basis: Basis
    found: tuple[Region, ...] | None = None


class KeptPictures:
    """The last pictures of rows of pictures (of a subscription's cameras, say), of those used last."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, row: Hashable) -> Kept | None:
        """The last picture of a row, if it is kept."""
        return self._kept.get(row)

    def put(self, row: Hashable, kept: Kept) -> None:
        """Keep a picture, and let go of the row that was not used for longest, if there are too many."""
        self._kept[row] = kept
        self._kept.move_to_end(row)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def changed_cells(
    basis: Basis, latent: Tensor, received: ProvenanceMap, tolerance: float = TOLERANCE, loose: float = LOOSE
) -> Field:
    """The cells that have to be rendered anew.

    Args:
        basis: of the picture that is there; it fits.
        latent: (1, L, h, w) z_c^ of the next one.
        received: (rows, columns) of its cells.
        tolerance: of each channel of a latent, where cells were received.
        loose: likewise where nothing was: what is generated there hardly follows what the coarse atom says.

    Returns:
        (rows, columns), true where latents differ by more, or other things were received.
    """
    rows, columns = received.shape
    apart = (latent - basis.latent).abs().amax(dim=(0, 1))[: rows * FINE, : columns * FINE]
    most = apart.reshape(rows, FINE, columns, FINE).amax(dim=(1, 3)).numpy()
    changed: Field = most > np.where(received > Provenance.GENERATED, tolerance, loose)
    changed |= received != basis.received
    return changed


def moved_basis(basis: Basis, latent: Tensor, received: ProvenanceMap, active: Field) -> Basis:
    """What a picture is rendered from once its active cells (rows, columns) are rendered anew."""
    height, width = latent.shape[2:]
    padded = np.ones((height // FINE, width // FINE), bool)
    padded[: active.shape[0], : active.shape[1]] = active
    fine = torch.from_numpy(padded.repeat(FINE, axis=0).repeat(FINE, axis=1))[None, None]
    return Basis(torch.where(fine, latent, basis.latent), received, basis.plate)


@dataclass(frozen=True, eq=False)
class Planned:
    """A job, and the basis of the picture that will come of it."""

    job: RenderJob
    basis: Basis


class ReusePlanner:
    """Plans the jobs of one call, row by row. Nothing is kept before the call has done its work.

    Args:
        kept: the last pictures of rows.
    """

    def __init__(self, kept: KeptPictures) -> None:
        self._kept = kept
        self._last: dict[Hashable, tuple[int, Basis]] = {}
        self.jobs: list[Planned] = []

    def add(self, row: Hashable, job: RenderJob) -> None:
        """Plan the next picture of a row; its job has no canvas yet."""
        before = self._last.get(row)
        kept = self._kept.get(row) if before is None else None
        basis = before[1] if before is not None else kept.basis if kept is not None else None
        fresh = Basis(job.latent, job.provenance, job.plate)
        if basis is None or not basis.fits(job):
            self._note(row, job, fresh)
            return
        active = changed_cells(basis, job.latent, job.provenance)
        fresh = moved_basis(basis, job.latent, job.provenance, active)
        if before is not None:
            self._note(row, dataclasses.replace(job, canvas=Follow(before[0], active)), fresh)
        elif kept is not None:
            canvas = Canvas(kept.picture.image, kept.picture.provenance, active)
            self._note(row, dataclasses.replace(job, canvas=canvas), fresh)

    def _note(self, row: Hashable, job: RenderJob, basis: Basis) -> None:
        self._last[row] = len(self.jobs), basis
        self.jobs.append(Planned(job, basis))


def unchanged(job: RenderJob) -> bool:
    """Whether the picture of a job is the one it is rendered into."""
    return job.canvas is not None and not job.canvas.active.any()
