"""What a task's own eye says of an object: as a protocol, since the codec knows no network.

Whoever builds a stream encoder may give it a critic. It looks at the frame and at what decoders would show, and says of
each object how sure it is of it in both; what follows from that is decided here, without pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from discover_stream.types import Box, Image

FAINT = 0.15
"""Score in the frame below which a critic does not know an object, and cannot judge it."""
AGREES = 0.75
"""Overlap (intersection over union) of the boxes that are seen, from which they are the same."""


class Opinion(Protocol):
    """What a critic sees of an object."""

    @property
    def original(self) -> float:
        """Score of its class in the frame, 0..1."""

    @property
    def shown(self) -> float:
        """Score of the same class, at the same place, in what decoders show."""

    @property
    def overlap(self) -> float:
        """Intersection over union of the boxes that it sees in both, 0..1."""


class Critic(Protocol):
    """Sees objects as a task does."""

    def opinions(self, original: Image, shown: Image, boxes: Sequence[Box]) -> Sequence[Opinion]:
        """Look at objects in a frame and in what decoders show of it.

        Args:
            original: (H, W, 3) uint8 RGB, the frame.
            shown: the same of what decoders show.
            boxes: of the objects, in pixels; they may reach beyond the picture.

        Returns:
            one per box, in their order.
        """
        ...


def loss(opinion: Opinion) -> float | None:
    """How much of an object is lost on the task: 0 for nothing, 1 for all of it; None where the critic cannot tell.

    The share of its score that is lost, or the share of its place where that is more.
    """
    if opinion.original < FAINT:
        return None
    score = 1.0 - min(opinion.shown, opinion.original) / opinion.original
    place = 1.0 - min(opinion.overlap, AGREES) / AGREES
    return max(score, place)
