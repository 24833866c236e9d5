"""What decodes LATENT atoms: as a protocol, since most streams have none, and readers of those load no networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from discover_stream.codec.records import Atom
from discover_stream.types import BitstreamError, Image

MAX_PAINTED = 2**14
"""Cells of a LATENT atom or plate, 4 million samples: networks take a hundred times the memory of what they draw."""


@dataclass(frozen=True, slots=True, eq=False)
class PaintJob:
    """An atom to be decoded, and what both sides know of its window.

    Attributes:
        atom: LATENT, with its payload.
        reference: (rows * 16, columns * 16, 3) uint8 RGB, what it is coded on: the plate in its window, for a refresh
            with the key drawn on it, or the key alone on grey; None where it is coded on nothing.
        plate: the same size, the plate alone; None for an atom that is not coded on it.
        refreshes: whether a key is drawn on the reference.
    """

    atom: Atom
    reference: Image | None = None
    plate: Image | None = None
    refreshes: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What networks make of an atom.

    Attributes:
        samples: (rows * 16, columns * 16, 3) uint8 RGB.
        plate: the job's plate as the same networks draw it: what the samples are compared with to tell the object from
            the plate, since networks lose the same in both; None without one.
    """

    samples: Image
    plate: Image | None = None


class Painter(Protocol):
    """Decodes LATENT atoms."""

    def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
        """Decode atoms, all at once; one answer each, in order. Raises BitstreamError for a damaged payload."""
        ...


Painters = Callable[[bytes], Painter]
"""Finds the painter for the model that a packet names. Raises BitstreamError where that model is not at hand."""


def check_size(rows: int, columns: int) -> None:
    """Refuse atoms that are larger than networks may have to decode. Raises BitstreamError."""
    if rows * columns > MAX_PAINTED:
        raise BitstreamError(f"an atom of the learned codec has {rows}x{columns} cells, more than {MAX_PAINTED}")


def no_painter(model: bytes) -> Painter:
    """The `Painters` of a decoder without networks."""
    raise BitstreamError(
        f"an atom of the learned codec (model {model.hex()}) came, and this decoder has no model for it"
    )
