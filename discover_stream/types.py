"""The vocabulary of the project: small frozen dataclasses that every layer shares.

Conventions used everywhere:

* pictures are ``uint8`` arrays of shape (H, W, 3) in RGB order;
* boxes are ``xyxy`` in pixels of the picture they were found in, x to the right, y down,
  x1 and y1 exclusive;
* times are integer nanoseconds since the Unix epoch;
* a *cell* is one position of the latent y, 16x16 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

CELL = 16
"""Pixels along one side of a cell."""

Image = npt.NDArray[np.uint8]
"""A picture, (H, W, 3) uint8 RGB."""

Profile = Literal["machine", "human"]
"""Who looks at a decode: `machine` (fewest steps) or `human` (more steps)."""

Delivery = Literal["pixels", "objects", "regions"]
"""What a task receives: regions with the pixels they show, or regions alone."""


Mode = Literal["auto", "still", "stream"]
"""How a camera is coded: each frame for itself (`still`), composed in time (`stream`), or whichever serves (`auto`)."""

Atoms = Literal["av1", "auto"]
"""How objects are coded in stream mode: by AV1, or by the learned codec where it needs fewer bits (`auto`)."""


class Provenance(IntEnum):
    """Where the content of a decoded cell comes from."""

    MISSING = 0
    GENERATED = 1
    PROPAGATED = 2
    PLATE = 3
    SENT = 4


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle, xyxy in pixels, x1 and y1 exclusive."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area(self) -> float:
        """Area in square pixels; 0 for an empty or inverted box."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)

    def clipped(self, width: int, height: int) -> Box:
        """The part of the box inside a picture of `width` x `height` pixels."""
        return Box(
            min(max(self.x0, 0.0), float(width)),
            min(max(self.y0, 0.0), float(height)),
            min(max(self.x1, 0.0), float(width)),
            min(max(self.y1, 0.0), float(height)),
        )

    def iou(self, other: Box) -> float:
        """Intersection over union with another box, 0..1."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        if width <= 0 or height <= 0:
            return 0.0
        inter = width * height
        return inter / (self.area + other.area - inter)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera. `seq` counts from 0 and never repeats for a camera."""

    camera: str
    seq: int
    capture_ns: int
    image: Image


@dataclass(frozen=True, slots=True)
class LabelSet:
    """What one MLLM answer names for a task: at least 100 distinct groundable labels."""

    task: str
    version: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is delivered; both can be changed while it is on.

    Attributes:
        deliver: what its packets hold.
        tags: whether its packets also name the labels that are present, for the text condition of a decoder.
    """

    deliver: Delivery = "pixels"
    tags: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """Something a subscriber wants from the pictures, described in words."""

    name: str
    description: str
    label_set: LabelSet
    profile: Profile = "machine"
    options: TaskOptions = TaskOptions()


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a frame that matters to one task.

    `label` is an index into the task's label set; `score` is in 0..1; `track` is a stable id
    (> 0) or 0 where the region is not tracked.
    """

    label: int
    score: float
    box: Box
    track: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """One object, as long as it is followed.

    Attributes:
        track: its id, > 0, never used again.
        first: number of the frame in which it was first found.
        last: number of the frame in which it was last found; later boxes of it are carried on, or it is hidden.
        sightings: how often it was found.
        confirmed: it was found often enough to be no mistake of one frame.
        hidden: it was not found when it was last looked for.
        box: where it is in the latest frame, found, carried on, or (hidden) expected.
    """

    track: int
    first: int
    last: int
    sightings: int
    confirmed: bool
    hidden: bool
    box: Box


TrackChange = Literal["birth", "hidden", "shown", "death"]
"""`birth`: found for the first time; `hidden`: looked for and not found; `shown`: found again; `death`: given up."""


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """What happened to a track in frame `seq`."""

    kind: TrackChange
    track: int
    seq: int


class DiscoverError(Exception):
    """Base of the errors that a user can act on. The message names what, where and the remedy."""


class InputError(DiscoverError):
    """What the user gave (a file, an option, a configuration) cannot be used."""


class BitstreamError(DiscoverError):
    """Bytes are damaged, foreign, or beyond a bound of the bitstream."""
