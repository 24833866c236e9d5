"""A camera whose view sways by some pixels from frame to frame, as a hand does."""

from __future__ import annotations

import cv2
import numpy as np

from discover_stream.types import Image


def hand_held(seq: int, width: int, height: int) -> Image:
    """Frame `seq` at 10 frames a second, (height, width, 3) uint8 RGB; at most 240 x 140 pixels."""
    scene = np.random.default_rng(1).integers(0, 255, (24, 36, 3), dtype=np.uint8)
    large = cv2.resize(scene, (288, 192), interpolation=cv2.INTER_CUBIC)
    move = np.array([[1, 0, -20 - 7 * np.sin(0.9 * seq)], [0, 1, -20 - 5 * np.sin(0.7 * seq + 1)]])
    return np.asarray(cv2.warpAffine(large, move, (width, height)), np.uint8)
