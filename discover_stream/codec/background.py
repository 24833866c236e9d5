"""The background of a fixed camera, from its pictures and from where objects move in them.

What a street looks like without its traffic is the median over some seconds of what was seen of each pixel while
no moving object was in front of it. On the first halves of three clips with traffic, that median was 40.7 to 49.2 dB
from the one over all 8 s at their end; OpenCV's MOG2 37.4 to 43.8, its KNN 27.3 to 38.7, a selective running average
38.0 to 43.5 dB, since objects that nobody found blur into these. It needs no empty street to start from: the plate
begins as the first frame, and what leaves it is filled from around and then from what is seen.

Cameras adapt to light all the time, by some grey levels and for each colour; so frames are compared with the plate,
kept, and coded *in the light of the plate* (`Seen.image`), until they differ by so much that a tone is worth its bits.
Pictures are (H, W, 3) uint8 RGB, masks (H, W) bool.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.atoms import CellMask, cell_grid
from discover_stream.codec.plate_policy import Look, PlateRules
from discover_stream.codec.plates import MAX_GAIN, MAX_OFFSET, Tone
from discover_stream.types import CELL, Box, Image

Mask = npt.NDArray[np.bool_]
Soft = npt.NDArray[np.float32]

LOOK_SIDE = 320
"""Shifts are measured on pictures of which the longer side has at most about so many pixels."""
LEAST_FREE = 0.1
"""Below this share of free cells nothing can be said of the light."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the background is followed.

    Attributes:
        window: seconds that the median covers.
        samples: pictures in the window, odd.
        margin: pixels around the box of a moving object that may belong to it, or to its shadow.
        steady: seconds for which a cell has to differ from the plate, and to look the same, to be taken for changed
            before the median says so.
        memory: share of the newest frame in what was seen lately.
        kept: seconds of looks that are remembered.
    """

    window: float = 4.5
    samples: int = 9
    margin: int = 8
    steady: float = 1.0
    memory: float = 0.3
    kept: float = 3.0


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


@dataclass(frozen=True)
class Seen:
    """What one frame shows of the background.

    Attributes:
        image: the frame in the light of the plate.
        light: how its own light differs from that.
        tone: mean difference, in grey levels, between the two.
        differing: share of the free cells that differ from the plate.
        stale: (rows, columns), cells in which the background differs from the plate.
        look: where the camera looked.
    """

    image: Image
    light: Light
    tone: float
    differing: float
    stale: CellMask
    look: Look


class Background:
    """Follows one camera's background. All that it keeps is in the light of the plate.

    Args:
        options: how.
        rules: of which `drift` and `nudge` are used here.
    """

    def __init__(self, options: Options | None = None, rules: PlateRules | None = None) -> None:
        self._options, self._rules = options or Options(), rules or PlateRules()
        self._samples: deque[Image] = deque(maxlen=self._options.samples)
        self._next = -math.inf
        self._median: Image | None = None
        self._known: Mask | None = None
        self._lately: Soft | None = None
        self._before: Image | None = None
        self._since: npt.NDArray[np.float64] | None = None
        self._looks: deque[Look] = deque()

    @property
    def looks(self) -> tuple[Look, ...]:
        """At the last frames, oldest first."""
        return tuple(self._looks)

    @property
    def picture(self) -> Image | None:
        """The background; None before the first frame."""
        return self._median

    def see(self, image: Image, plate: Image | None, moving: Sequence[Box], time: float) -> Seen:
        """Look at the next frame.

        Args:
            image: as the camera gave it.
            plate: as decoders have it; None before there is one.
            moving: boxes of objects that the plate does not show.
            time: seconds; ascending.
        """
        covered = boxes_mask(moving, image.shape[1], image.shape[0], self._options.margin)
        free = _free_cells(covered)
        against = image if plate is None else plate
        light, tone = measure_light(image, against, free)
        normal = light.removed(image)
        look = self._look(normal, plate, time)
        self._looks.append(look)
        while self._looks[0].time < time - self._options.kept:
            self._looks.popleft()
        if time >= self._next:
            self._sample(normal, covered)
            # At the start more often, so that there is a median soon.
            full = len(self._samples) == self._options.samples
            self._next = time + self._options.window / self._options.samples * (1.0 if full else 0.4)
        assert self._median is not None
        assert self._known is not None
        now = cell_difference(normal, against)
        differing = float((now[free] > self._rules.drift).mean()) if free.any() else 0.0
        stale = (cell_difference(self._median, against) > self._rules.drift) & _free_cells(~self._known)
        changed = self._changed(normal, free & (now > self._rules.drift), time)
        if changed.any():
            assert self._lately is not None
            self.replace(np.clip(np.rint(self._lately), 0, 255).astype(np.uint8), changed)
        return Seen(normal, light, tone, differing, (stale | changed) & free, look)

    def _changed(self, image: Image, differs: CellMask, time: float) -> CellMask:
        """The cells that show something else than the plate, and all the time the same, since `steady` seconds."""
        if self._lately is None or self._before is None or self._since is None:
            self._lately, self._before = image.astype(np.float32), image
            self._since = np.full(differs.shape, time)
        steady = cell_difference(image, self._before) < self._rules.drift / 4
        self._since[~(differs & steady)] = time
        fresh = self._since >= time
        cv2.accumulateWeighted(image, self._lately, self._options.memory)
        mask = np.repeat(np.repeat(fresh, CELL, 0), CELL, 1)[: image.shape[0], : image.shape[1]]
        self._lately[mask] = image[mask]
        self._before = image
        changed: CellMask = time - self._since >= self._options.steady - 1e-9
        return changed

    def restart(self, picture: Image) -> None:
        """Forget what was seen; the background is this picture. After a new scene, or a nudge."""
        self._samples.clear()
        self._samples.append(picture.copy())
        self._known = np.ones(picture.shape[:2], dtype=bool)
        self._median = picture.copy()
        self._lately = self._before = self._since = None

    def relight(self, light: Light) -> None:
        """The plate has other light now."""
        self._samples = deque((light.put_on(one) for one in self._samples), maxlen=self._options.samples)
        self._median = None if self._median is None else light.put_on(self._median)
        self._lately = self._before = self._since = None

    def replace(self, picture: Image, cells: CellMask) -> None:
        """In some cells the background is known to be this picture: what was seen there before has gone."""
        height, width = picture.shape[:2]
        mask = np.repeat(np.repeat(cells, CELL, 0), CELL, 1)[:height, :width]
        for sample in (*self._samples, self._median):
            if sample is not None:
                sample[mask] = picture[mask]

    def _sample(self, image: Image, covered: Mask) -> None:
        sample = image.copy()
        if self._samples:  # what is behind an object is what was there last
            sample[covered] = self._samples[-1][covered]
        if self._known is None:
            self._known = ~covered
        uncovered = ~(covered | self._known)
        if uncovered.any():  # for the first time
            for earlier in self._samples:
                earlier[uncovered] = image[uncovered]
            self._known |= uncovered
        self._samples.append(sample)
        count = len(self._samples)
        self._median = median_of(list(self._samples)[-(count if count % 2 else count - 1) :])

    def _look(self, image: Image, plate: Image | None, time: float) -> Look:
        if plate is None:
            return Look(time)
        step = max(1, round(max(image.shape[:2]) / LOOK_SIDE))
        shift = _shift(_small_grey(plate, step), _small_grey(image, step))
        if shift is None:
            return Look(time, sure=False)
        return Look(time, step * shift[0], step * shift[1], shift[2])


def median_of(samples: Sequence[Image]) -> Image:
    """The median of an odd number of pictures, by sorting whole pictures: no slower than the memory is."""
    sorted_ = [sample.copy() for sample in samples]
    count = len(sorted_)
    for turn in range(count):
        for low in range(turn % 2, count - 1, 2):
            smaller = np.minimum(sorted_[low], sorted_[low + 1])
            np.maximum(sorted_[low], sorted_[low + 1], out=sorted_[low + 1])
            sorted_[low] = smaller
    return sorted_[count // 2]


def boxes_mask(boxes: Sequence[Box], width: int, height: int, margin: int) -> Mask:
    """(height, width), true inside the boxes, widened by `margin` pixels on each side."""
    mask: Mask = np.zeros((height, width), dtype=bool)
    for box in boxes:
        left, top = max(0, math.floor(box.x0) - margin), max(0, math.floor(box.y0) - margin)
        mask[top : max(0, math.ceil(box.y1) + margin), left : max(0, math.ceil(box.x1) + margin)] = True
    return mask


def cells_of(boxes: Sequence[Box], width: int, height: int, margin: int = 0) -> CellMask:
    """(rows, columns), the cells that the boxes touch."""
    return ~_free_cells(boxes_mask(boxes, width, height, margin))


def _free_cells(covered: Mask) -> CellMask:
    rows, columns = cell_grid(covered.shape[1], covered.shape[0])
    padded = np.zeros((rows * CELL, columns * CELL), dtype=bool)
    padded[: covered.shape[0], : covered.shape[1]] = covered
    free: CellMask = ~padded.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
    return free


def cell_means(image: Soft | Image) -> Soft:
    """Means of the picture's cells, (rows, columns, channels) float32; those at the edges of what they have."""
    rows, columns = cell_grid(image.shape[1], image.shape[0])
    below, beside = rows * CELL - image.shape[0], columns * CELL - image.shape[1]
    padded = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REFLECT_101)
    means = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32).reshape(rows, columns, -1)


def blurred_difference(first: Image, second: Image) -> Soft:
    """(H, W), the mean over colours of the absolute difference without what is finer than some three pixels.

    Noise and sharpness count for little in it, things that are there or not for much.
    """
    apart = cv2.subtract(first, second, dtype=cv2.CV_32F)
    soft = np.abs(cv2.GaussianBlur(apart, (0, 0), 1.5))
    return np.asarray(soft.mean(axis=2), dtype=np.float32)


def cell_difference(first: Image, second: Image) -> Soft:
    """(rows, columns), the mean blurred difference of each cell."""
    return cell_means(blurred_difference(first, second))[:, :, 0]


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


def _small_grey(image: Image, step: int) -> Soft:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = (image.shape[1] // step, image.shape[0] // step)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Without slow changes, in which a cloud looks like a shift.
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), 6.0), dtype=np.float32)


def _shift(old: Soft, new: Soft) -> tuple[float, float, bool] | None:
    """By how much the new picture is shifted right and down, and whether it fits better there; None if unknown."""
    if old.shape != new.shape or min(old.shape) < 32:
        return None
    (x, y), _ = cv2.phaseCorrelate(old, new, cv2.createHanningWindow(old.shape[::-1], cv2.CV_32F))
    if math.hypot(x, y) < 0.1:
        return x, y, True
    if max(abs(x), abs(y)) > min(old.shape) / 4:
        return 0.0, 0.0, False
    moved = cv2.warpAffine(old, np.array([[1, 0, x], [0, 1, y]]), old.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
    edge = math.ceil(max(abs(x), abs(y))) + 1
    inner = (slice(edge, -edge), slice(edge, -edge))
    # The median does not mind what moves by itself, unless it is most of the picture.
    stays, fits = (float(np.median(np.abs(new[inner] - one[inner]))) for one in (old, moved))
    if fits < 0.8 * stays:
        return x, y, True
    return (0.0, 0.0, True) if stays < 2.0 else (0.0, 0.0, False)


def filled(image: Image, hidden: Mask) -> Image:
    """A picture in which some pixels are replaced by what is around them: a guess at what an object covers."""
    if not hidden.any():
        return image
    rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
    top, left = max(0, rows[0] - CELL), max(0, columns[0] - CELL)
    part = (slice(top, rows[-1] + 1 + CELL), slice(left, columns[-1] + 1 + CELL))
    result = image.copy()
    result[part] = cv2.inpaint(image[part], hidden[part].astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return result
