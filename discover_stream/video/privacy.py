"""Privacy zones: parts of a camera's picture that nobody is to see."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from discover_stream.types import Image

_MARGIN = 8
"""Pixels around a zone that go with it: JPEG codes blocks of 8, and zones are drawn by hand."""


def blacked_out(image: Image, zones: Sequence[Sequence[tuple[float, float]]]) -> Image:
    """The picture (H, W, 3) with its zones black, and a margin around them; the picture itself where there are none.

    Args:
        image: stays as it is.
        zones: polygons in fractions of width and height, from the top left corner.
    """
    if not zones:
        return image
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for zone in zones:
        corners = np.rint(np.asarray(zone, dtype=np.float64) * (width - 1, height - 1)).astype(np.int32)
        cv2.fillPoly(mask, [corners], (255,))
        # A polygon that crosses itself has holes; its outline is drawn too, so that a thin one hides something.
        cv2.polylines(mask, [corners], True, (255,))
    mask = cv2.dilate(mask, np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)).astype(np.uint8)
    found = image.copy()
    found[mask > 0] = 0
    return found
