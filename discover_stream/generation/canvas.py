"""Pictures that are rendered into: what is there already, and how decoded windows are laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.generation.picture_decoder import SCALE
from discover_stream.generation.windows import Field, Window, feather
from discover_stream.types import Image, InputError, Provenance

ProvenanceMap = npt.NDArray[np.uint8]
"""(rows, columns) of the picture's cells, values of `Provenance`."""


class Finished(Protocol):
    """A picture that was rendered, see `sheets.Rendered`."""

    @property
    def image(self) -> Image:
        """(H, W, 3) uint8 RGB."""
        ...

    @property
    def provenance(self) -> ProvenanceMap:
        """(rows, columns) of its cells."""
        ...


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture that is there already: a camera's last picture, its decoded plate, or a composite of plate and sprites.

    Attributes:
        image: (H, W, 3) uint8 RGB; it is not changed.
        provenance: (rows, columns) of its cells.
        active: (rows, columns), true where cells are to be rendered anew.
    """

    image: Image
    provenance: ProvenanceMap
    active: Field

    def opened(self, width: int, height: int, rendered: ProvenanceMap) -> tuple[Image, ProvenanceMap]:
        """A copy to render into, and the provenance of what it will be.

        Args:
            width: of the picture that is to be rendered, in pixels.
            height: likewise.
            rendered: (rows, columns), the provenance of cells that are rendered.

        Raises:
            InputError: the canvas is of another size.
        """
        self.check(width, height, rendered)
        return self.image.copy(), np.where(self.active, rendered, self.provenance)

    def check(self, width: int, height: int, rendered: ProvenanceMap) -> None:
        """Raises InputError where the canvas is not of the picture's size; arguments as for `opened`."""
        if self.image.shape != (height, width, 3) or {self.provenance.shape, self.active.shape} != {rendered.shape}:
            raise InputError(
                f"a canvas of {self.image.shape} with provenance {self.provenance.shape} and active cells"
                f" {self.active.shape} is not one of {width}x{height} pixels; pass a picture of the same size"
            )


@dataclass(frozen=True, eq=False)
class Follow:
    """The picture of an earlier job of the same call, as a canvas.

    Attributes:
        job: its position among the jobs.
        active: (rows, columns), true where cells are to be rendered anew.
    """

    job: int
    active: Field

    def canvas(self, before: Sequence[Finished]) -> Canvas:
        """The canvas, once the jobs before are done.

        Raises:
            InputError: the job named is none of those before.
        """
        if not 0 <= self.job < len(before):
            raise InputError(f"job {self.job} is none of the {len(before)} before; a picture follows an earlier one")
        return Canvas(before[self.job].image, before[self.job].provenance, self.active)


def provenance_of(received: ProvenanceMap, generate: bool) -> ProvenanceMap:
    """The provenance of rendered cells: what was not received is generated, or missing where nothing generates."""
    there = received > Provenance.GENERATED
    return np.where(there, received, Provenance.GENERATED if generate else Provenance.MISSING).astype(np.uint8)


def to_pixels(pictures: Tensor) -> list[Image]:
    """(B, 3, H, W) RGB, about 0..1 -> B pictures (H, W, 3) uint8."""
    levels = pictures.float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return list(levels.cpu().contiguous().numpy())


def paste(image: Image, pixels: Image, window: Window, active: Field | None, margin: int) -> None:
    """Lay a decoded window over a picture, in place; what sticks out of the picture is cut off.

    Args:
        image: (H, W, 3) uint8 RGB.
        pixels: (8 * rows, 8 * columns, 3) of the window.
        window: in latents.
        active: (rows, columns) of latents that are to be replaced, the rest of the window only as far as the feather
            goes; None replaces it all.
        margin: of the feather, in latents.
    """
    rows, columns = window.slices(SCALE)
    there = image[rows, columns]
    height, width = there.shape[:2]
    if active is None:
        there[:] = pixels[:height, :width]
        return
    share = feather(window, active, margin, SCALE)[:height, :width, None]
    mixed = share * pixels[:height, :width] + (1 - share) * there
    there[:] = np.rint(mixed).astype(np.uint8)
