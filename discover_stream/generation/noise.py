"""The noise that sampling starts from: a function of the place alone, so that what stands still does not flicker."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=16)
def cell_noise(camera: str, plate: int, channels: int, rows: int, columns: int) -> Tensor:
    """Standard normal noise of a picture's latents. Shared between callers: not to be changed in place.

    Each position has its own, whatever the size of the picture: a window has the noise of its place.

    Args:
        camera: its name.
        plate: id of the plate that the picture stands on; 0 for none.
        channels: of the latent.
        rows: of the latent.
        columns: of the latent.

    Returns:
        (1, channels, rows, columns) float32.
    """
    key = np.array([zlib.crc32(camera.encode()), plate], dtype=np.uint64)
    lines = []
    for row in range(rows):
        # Every row has a stream of its own, and every position a fixed place in it.
        counter = np.array([0, 0, row, channels], dtype=np.uint64)
        stream = np.random.Generator(np.random.Philox(key=key, counter=counter))
        lines.append(stream.standard_normal((columns, channels), dtype=np.float32))
    return torch.from_numpy(np.stack(lines)).permute(2, 0, 1)[None].contiguous()
