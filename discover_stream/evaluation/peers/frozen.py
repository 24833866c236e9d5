"""A clever user: SVT-AV1 on frames in which everything outside the task's boxes stands still.

Outside the dilated boxes the pixels of the frame before (or of a background picture) are repeated, so that
an ordinary video codec spends next to nothing there. The receiver needs nothing special.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from discover_stream.evaluation.peers.video import VideoPeer
from discover_stream.evaluation.systems import Clip, Coded, Decoded
from discover_stream.types import Image, Region

Fill = Literal["last", "plate"]
MARGIN = 12
"""Pixels around each box that stay live."""
PLATE_FRAMES = 31
"""A background picture is the median of at most so many frames, spread over the clip."""


def box_mask(regions: Sequence[Region], height: int, width: int, margin: int) -> npt.NDArray[np.bool_]:
    """(height, width), true inside the boxes widened by `margin` pixels on each side."""
    mask = np.zeros((height, width), dtype=bool)
    for region in regions:
        box = region.box
        left, top = max(0, int(box.x0) - margin), max(0, int(box.y0) - margin)
        mask[top : max(0, int(np.ceil(box.y1)) + margin), left : max(0, int(np.ceil(box.x1)) + margin)] = True
    return mask


def median_plate(frames: Sequence[Image]) -> Image:
    """The median over time of a clip, (H, W, 3) uint8 RGB.

    It looks ahead, which a live camera cannot: an advantage that the clever users keep.
    """
    step = max(1, -(-len(frames) // PLATE_FRAMES))
    plate: Image = np.median(np.stack(frames[::step]), axis=0).astype(np.uint8)
    return plate


def frozen_frames(clip: Clip, fill: Fill, margin: int = MARGIN) -> tuple[Image, ...]:
    """The clip with everything outside the widened boxes repeated: the first frame, or the background throughout."""
    height, width = clip.frames[0].shape[:2]
    still = median_plate(clip.frames) if fill == "plate" else clip.frames[0]
    frames: list[Image] = []
    for image, regions in zip(clip.frames, clip.regions, strict=True):
        live = box_mask(regions, height, width, margin)
        frames.append(np.where(live[:, :, None], image, still))
        if fill == "last":
            still = frames[-1]
    return tuple(frames)


@dataclass(frozen=True)
class FrozenPeer:
    """SVT-AV1 in inter mode on frozen frames."""

    video: VideoPeer
    fill: Fill = "last"

    @property
    def name(self) -> str:
        """As in tables."""
        return "frozen+svt-av1"

    def encode(self, clip: Clip) -> Coded:
        """Code a clip; see `System.encode`."""
        return self.video.encode(replace(clip, frames=frozen_frames(clip, self.fill)))

    def decode(self, coded: Coded) -> Decoded:
        """Decode a clip; see `System.decode`."""
        return self.video.decode(coded)

    def command(self) -> str:
        """The equivalent command."""
        what = "the frame before" if self.fill == "last" else "the clip's median picture"
        return f"pixels outside boxes widened by {MARGIN} px repeat {what}, then {self.video.command()}"
