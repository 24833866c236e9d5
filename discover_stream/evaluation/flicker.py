"""Temporal flicker: how much decoded pictures change where the originals stand still.

The idea is that of X. Fan et al., "Flicking reduction in all intra frame coding", JVT-E070 (2002): look only at
blocks in which the original hardly changes. Ours compares energies, so that a decoder that removes the sensor's
noise is not blamed and one that redraws noise of the same strength as the camera's is not either:

    static blocks   B = { (t, b) : mean over b of |o_t - o_{t-1}| <= still }
    flicker           = sqrt( mean over B of max(0, mean (d_t - d_{t-1})^2 - mean (o_t - o_{t-1})^2) )

o and d are the luma (BT.601) of original and decoded picture in levels 0..255, b blocks of 8x8 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.evaluation.pictures import check_pair
from discover_stream.types import Image, InputError

BLOCK = 8
"""Side of a block in pixels."""

STILL = 4.0
"""Mean absolute change in levels up to which a block counts as still: above the noise of street cameras."""


@dataclass(frozen=True, slots=True)
class Flicker:
    """What a clip's static blocks did.

    Attributes:
        level: the flicker in levels of luma, 0 for none; 0 where nothing stands still, too.
        static: share (0..1) of blocks that stood still, on which `level` rests.
        pairs: pairs of consecutive pictures.
    """

    level: float
    static: float
    pairs: int


def measure_flicker(originals: Iterable[Image], decoded: Iterable[Image], still: float = STILL) -> Flicker:
    """The flicker of a clip; holds two pictures at a time.

    Args:
        originals: consecutive pictures, (H, W, 3) uint8 RGB.
        decoded: as many decoded ones, of the same size.
        still: see the module.

    Raises:
        InputError: fewer than two pictures, or pictures that differ in size or number.
    """
    before: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    excess, static, blocks, pairs = 0.0, 0, 0, 0
    for original, picture in zip_longest(originals, decoded):
        if original is None or picture is None:
            raise InputError("flicker: not as many decoded pictures as originals; pair them up")
        check_pair(original, picture)
        now = _luma(original), _luma(picture)
        if before is not None:
            if now[0].shape != before[0].shape:
                raise InputError("flicker: the pictures of a clip differ in size; measure clips of one size")
            true_change, change = now[0] - before[0], now[1] - before[1]
            calm = _block_means(np.abs(true_change)) <= still
            more = np.maximum(_block_means(change**2) - _block_means(true_change**2), 0.0)
            excess += float(more[calm].sum(dtype=np.float64))
            static += int(calm.sum())
            blocks += calm.size
            pairs += 1
        before = now
    if pairs == 0:
        raise InputError("flicker: needs at least two consecutive pictures")
    return Flicker(math.sqrt(excess / static) if static else 0.0, static / blocks, pairs)


def flicker(originals: Iterable[Image], decoded: Iterable[Image], still: float = STILL) -> float:
    """The level of `measure_flicker`: 0 is perfect, a few levels are plainly visible."""
    return measure_flicker(originals, decoded, still).level


def _luma(image: Image) -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.float32)


def _block_means(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Means over whole blocks, (rows, columns); pixels of a part of a block at the right or below are left out.

    A picture smaller than a block is one block.
    """
    height, width = values.shape
    rows, columns = max(1, height // BLOCK), max(1, width // BLOCK)
    cut = values[: rows * BLOCK, : columns * BLOCK]
    means = cut.reshape(rows, cut.shape[0] // rows, columns, cut.shape[1] // columns).mean((1, 3))
    return np.asarray(means, dtype=np.float32)
