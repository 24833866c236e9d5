"""How the light of a frame differs from that of its plate, and how it is taken away or put on.

Cameras adapt to light all the time, by some grey levels and for each colour. Pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.atoms import CellMask, cell_grid
from discover_stream.codec.plates import MAX_GAIN, MAX_OFFSET, Tone
from discover_stream.types import CELL, Image

Soft = npt.NDArray[np.float32]

LEAST_FREE = 0.1
"""Below this share of free cells nothing can be said of the light."""


@dataclass(frozen=True, slots=True)
class Light:
    """How a frame's light differs from the plate's: value' = (1 + gain) * value + offset for R, G, B."""

    gains: tuple[float, float, float] = (0.0, 0.0, 0.0)
    offsets: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, tone: Tone) -> Light:
        """What a plate record says."""
        gains, offsets = ([value / unit for value in values] for values, unit in ((tone.gains, 256), (tone.offsets, 4)))
        return cls((gains[0], gains[1], gains[2]), (offsets[0], offsets[1], offsets[2]))

    def tone(self) -> Tone | None:
        """As a plate record says it; None where that would say nothing."""
        gains = [min(max(round(256 * gain), -MAX_GAIN), MAX_GAIN) for gain in self.gains]
        offsets = [min(max(round(4 * offset), -MAX_OFFSET), MAX_OFFSET) for offset in self.offsets]
        if not any(gains + offsets):
            return None
        return Tone((gains[0], gains[1], gains[2]), (offsets[0], offsets[1], offsets[2]))

    def removed(self, image: Image) -> Image:
        """A frame as it would be in the light of the plate."""
        return _by_table(image, [(_RAMP - offset) / (1 + gain) for gain, offset in zip(*self._both, strict=True)])

    def put_on(self, image: Image) -> Image:
        """What is in the light of the plate as it would be in that of the frame."""
        return _by_table(image, [_RAMP * (1 + gain) + offset for gain, offset in zip(*self._both, strict=True)])

    @property
    def _both(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return self.gains, self.offsets


_RAMP = np.arange(256, dtype=np.float64)


def _by_table(image: Image, tables: Sequence[npt.NDArray[np.float64]]) -> Image:
    table = np.stack([np.clip(np.rint(one), 0, 255) for one in tables], axis=1).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), dtype=np.uint8)


def cell_means(image: Soft | Image) -> Soft:
    """Means of the picture's cells, (rows, columns, channels) float32; those at the edges of what they have."""
    rows, columns = cell_grid(image.shape[1], image.shape[0])
    below, beside = rows * CELL - image.shape[0], columns * CELL - image.shape[1]
    padded = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REFLECT_101)
    means = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32).reshape(rows, columns, -1)


def measure_light(image: Image, plate: Image, free: CellMask) -> tuple[Light, float]:
    """By how much a frame is brighter than the plate, and what that is in grey levels on average.

    Fitted to the means of the two thirds of the free cells whose difference is nearest to the median: what was not
    found moves too. A gain needs bright and dark cells to be told from an offset; where it is not sure, it stays near
    zero. What explains little of the difference is no light.
    """
    if float(free.mean()) < LEAST_FREE:
        return Light(), 0.0
    now, then = cell_means(image)[free].astype(np.float64), cell_means(plate)[free].astype(np.float64)
    apart = now - then
    away = np.abs(apart - np.median(apart, axis=0)).sum(axis=1)
    keep = away <= np.quantile(away, 2 / 3)
    fits = [_fit(then[keep, channel], apart[keep, channel]) for channel in range(3)]
    gains, offsets = np.array(fits).T
    change = then * gains + offsets
    left, size = np.abs(apart - change).sum(axis=1), float(np.abs(change).mean())
    if size < 0.25 or np.median(left) > 0.8 * np.median(np.abs(apart).sum(axis=1)):
        return Light(), 0.0
    return Light((gains[0], gains[1], gains[2]), (offsets[0], offsets[1], offsets[2])), size


def _fit(values: npt.NDArray[np.float64], apart: npt.NDArray[np.float64]) -> tuple[float, float]:
    mean, middle = float(values.mean()), float(apart.mean())
    around = values - mean
    # A prior as heavy as a spread of 8 grey levels keeps the gain at zero where all cells are alike.
    gain = float((around * (apart - middle)).sum() / ((around**2).sum() + 64.0 * len(values)))
    gain = min(max(gain, -0.5), 0.9)
    return gain, middle - gain * mean
