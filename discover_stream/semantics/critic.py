"""The shipped grounder as a critic: does it see an object in a decoded picture as it does in the original?

Each object is looked at in a square window of its own, original and decoded beside each other in one batch: an object
costs the same in a picture of any size. Pictures are (H, W, 3) uint8 RGB; boxes are xyxy in pixels of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou  # type: ignore[import-untyped]

from discover_stream.semantics.detector import PAD_VALUE, DetectOptions, decode_outputs, to_input
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.types import Box, Image

WINDOW = 96
"""Side of a window in network pixels."""
PART = 64
"""Of these, at most so many for the longer side of the object."""
SAME = 0.5
"""Overlap from which what the network sees is the object."""


class Look(NamedTuple):
    """What the network sees of an object: see `codec.critic.Opinion`."""

    original: float
    shown: float
    overlap: float


@dataclass(frozen=True)
class GrounderCritic:
    """Scores and boxes of the nano grounder, the same way the grounder looks at whole pictures.

    Attributes:
        network: a `Detector` in eval mode; use `load` to get one.
        options: how the grounder looks at whole pictures; windows are seen at the same scale.
    """

    network: nn.Module
    options: DetectOptions = field(default_factory=DetectOptions)

    @classmethod
    def load(cls, weights: Path | None = None) -> GrounderCritic:
        """The critic by a grounder's weights; None for the shipped ones. Raises InputError as `NanoGrounder.load`."""
        return cls(NanoGrounder.load(weights).network)

    @torch.inference_mode()
    def opinions(self, original: Image, shown: Image, boxes: Sequence[Box]) -> list[Look]:
        """What is seen of objects in both pictures; see `codec.critic.Critic`.

        Args:
            original: (H, W, 3) uint8 RGB.
            shown: the same of what decoders show.
            boxes: of the objects.
        """
        if not boxes:
            return []
        scale = min(self.options.enlarge, self.options.long_side / max(original.shape[:2]))
        cuts = [_Cut.around(box, scale) for box in boxes]
        batch = np.stack([cut.of(image) for image in (original, shown) for cut in cuts])
        logits, found = decode_outputs(self.network(to_input(batch)))
        scores = logits.sigmoid()
        count = len(boxes)
        return [
            _look(cut.place(box), scores[[i, count + i]], found[[i, count + i]])
            for i, (cut, box) in enumerate(zip(cuts, boxes, strict=True))
        ]


@dataclass(frozen=True)
class _Cut:
    """A square of a picture: its corner and side in pixels."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, box: Box, scale: float) -> _Cut:
        length = max(box.x1 - box.x0, box.y1 - box.y0, 1.0)
        side = round(WINDOW / min(scale, PART / length))
        return cls(round((box.x0 + box.x1 - side) / 2), round((box.y0 + box.y1 - side) / 2), side)

    def of(self, image: Image) -> Image:
        """(WINDOW, WINDOW, 3), with grey beyond the picture, as the grounder pads."""
        height, width = image.shape[:2]
        x0, y0 = min(max(self.x, 0), width), min(max(self.y, 0), height)
        x1, y1 = min(max(self.x + self.side, x0), width), min(max(self.y + self.side, y0), height)
        square = np.full((self.side, self.side, 3), PAD_VALUE, np.uint8)
        square[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x] = image[y0:y1, x0:x1]
        way = cv2.INTER_AREA if self.side > WINDOW else cv2.INTER_LINEAR
        return cv2.resize(square, (WINDOW, WINDOW), interpolation=way).astype(np.uint8, copy=False)

    def place(self, box: Box) -> Tensor:
        """A box in network pixels of the window, (1, 4)."""
        zoom = WINDOW / self.side
        corners = (box.x0 - self.x, box.y0 - self.y, box.x1 - self.x, box.y1 - self.y)
        return torch.tensor([[zoom * value for value in corners]])


def _look(place: Tensor, scores: Tensor, boxes: Tensor) -> Look:
    """One object: its place (1, 4), scores (2, cells, classes) and boxes (2, cells, 4), of the original and shown."""
    near = box_iou(boxes[0], place)[:, 0] >= SAME
    if not bool(near.any()):
        return Look(0.0, 0.0, 0.0)
    kind = int(scores[0][near].amax(0).argmax())
    first = scores[0, :, kind].masked_fill(~near, -1.0)
    best = int(first.argmax())
    seen = boxes[0, best][None]
    again = box_iou(boxes[1], seen)[:, 0]
    second = scores[1, :, kind].masked_fill(again < SAME, 0.0)
    other = int(second.argmax())
    return Look(float(first[best]), float(second[other]), float(again[other]))
