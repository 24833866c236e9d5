"""Whose boxes the modes are given: a grounder's for the task's labels, or the true ones as an upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from discover_stream.evaluation.datasets import without_whole
from discover_stream.evaluation.experiments.data import Picture
from discover_stream.types import Image, LabelSet, Region


class Grounds(Protocol):
    """A grounder; see `semantics.grounder.Grounder`."""

    def ground(self, images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
        """Regions of every label set in every picture."""
        ...


@dataclass(frozen=True)
class Grounded:
    """A grounder asked for a task's labels; what is the whole picture is a scene and no region of a task here."""

    grounder: Grounds
    labels: LabelSet

    def __call__(self, picture: Picture, image: Image) -> tuple[Region, ...]:
        """The regions of a picture."""
        (found,) = self.grounder.ground([image], [self.labels])
        return without_whole(found[self.labels.task], image)


@dataclass(frozen=True)
class Annotated:
    """The set's own boxes: what a grounder without a fault would find.

    Objects whose name is no label of the task take its first label.
    """

    labels: LabelSet

    def __call__(self, picture: Picture, image: Image) -> tuple[Region, ...]:
        """The regions of a picture."""
        places = {label: index for index, label in enumerate(self.labels.labels)}
        return tuple(Region(places.get(one.label, 0), 1.0, one.box) for one in picture.boxes if not one.crowd)
