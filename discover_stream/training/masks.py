"""Masks of sent cells, as subscribers see them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def random_mask(random: np.random.Generator, cells: int) -> npt.NDArray[np.float32]:
    """A mask as subscribers see them: everything, or the union of a few boxes, or its complement.

    Up to 99 % of the cells are missing.
    """
    mask = np.zeros((cells, cells), dtype=np.float32)
    draw = random.random()
    if draw < 0.3:
        return np.ones_like(mask)
    for _ in range(int(random.integers(1, 6))):
        height, width = random.integers(1, cells * 2 // 3, size=2)
        top = int(random.integers(0, cells - height + 1))
        left = int(random.integers(0, cells - width + 1))
        mask[top : top + height, left : left + width] = 1
    return 1 - mask if draw > 0.8 and mask.mean() < 0.95 else mask
