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
from discover_stream.codec.plate_light import Light, Soft, cell_means, measure_light
from discover_stream.codec.plate_policy import Look, PlateRules
from discover_stream.types import CELL, Box, Image

Mask = npt.NDArray[np.bool_]

LOOK_SIDE = 320
"""Shifts are measured on pictures of which the longer side has at most about so many pixels."""


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
        passed: seconds for which a cell counts as one where objects move.
    """

    window: float = 4.5
    samples: int = 9
    margin: int = 8
    steady: float = 1.0
    memory: float = 0.3
    kept: float = 3.0
    passed: float = 60.0


@dataclass(frozen=True)
class Seen:
    """What one frame shows of the background.

    Attributes:
        image: the frame in the light of the plate.
        light: how its own light differs from that.
        tone: mean difference, in grey levels, between the two.
        apart: (rows, columns), the mean blurred difference of each cell between `image` and the plate.
        differing: share of the free cells that differ from the plate.
        stale: (rows, columns), cells in which the background differs from the plate.
        ghosts: those of them in which it differs so much that something seems to be there that is not.
        still: (rows, columns), cells that look as they did in the frame before.
        near: (rows, columns), cells that something moved in or beside lately.
        look: where the camera looked.
    """

    image: Image
    light: Light
    tone: float
    apart: Soft
    differing: float
    stale: CellMask
    ghosts: CellMask
    still: CellMask
    near: CellMask
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
        self._passed: npt.NDArray[np.float64] | None = None

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
        still = self._still(normal)
        changed = self._changed(normal, free & (now > self._rules.drift), still, time)
        if changed.any():
            assert self._lately is not None
            self.replace(np.clip(np.rint(self._lately), 0, 255).astype(np.uint8), changed)
        apart = cell_difference(self._median, against)
        stale = _grown(apart > self._rules.drift, apart > self._rules.drift / 2) & _free_cells(~self._known)
        stale = (stale | changed) & free
        ghosts = stale & (apart > self._rules.ghost)
        return Seen(normal, light, tone, now, differing, stale, ghosts, still, self._near(covered, time), look)

    def _near(self, covered: Mask, time: float) -> CellMask:
        """The cells beside which something moved lately, or that it moved in."""
        busy = cv2.dilate((~_free_cells(covered)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if self._passed is None:
            self._passed = np.full(busy.shape, -math.inf)
        self._passed[busy] = time
        near: CellMask = time - self._passed <= self._options.passed
        return near

    def _still(self, image: Image) -> CellMask:
        before, self._before = self._before, image
        if before is None:
            return np.ones(cell_grid(image.shape[1], image.shape[0]), dtype=bool)
        still: CellMask = cell_difference(image, before) < self._rules.drift / 4
        return still

    def _changed(self, image: Image, differs: CellMask, still: CellMask, time: float) -> CellMask:
        """The cells that show something else than the plate, and all the time the same, since `steady` seconds."""
        if self._lately is None or self._since is None:
            self._lately = image.astype(np.float32)
            self._since = np.full(differs.shape, time)
        self._since[~(differs & still)] = time
        fresh = self._since >= time
        cv2.accumulateWeighted(image, self._lately, self._options.memory)
        mask = np.repeat(np.repeat(fresh, CELL, 0), CELL, 1)[: image.shape[0], : image.shape[1]]
        self._lately[mask] = image[mask]
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

    def forget(self, pixels: Mask) -> None:
        """What is behind these pixels was a guess: the first that is seen there holds."""
        if self._known is not None:
            self._known &= ~pixels

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
    return cells_touched(boxes_mask(boxes, width, height, margin))


def cells_touched(pixels: Mask) -> CellMask:
    """(rows, columns), the cells that hold at least one of some pixels, (H, W)."""
    return ~_free_cells(pixels)


def _free_cells(covered: Mask) -> CellMask:
    rows, columns = cell_grid(covered.shape[1], covered.shape[0])
    padded = np.zeros((rows * CELL, columns * CELL), dtype=bool)
    padded[: covered.shape[0], : covered.shape[1]] = covered
    free: CellMask = ~padded.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
    return free


def _grown(sure: CellMask, maybe: CellMask) -> CellMask:
    """The sure cells, and those that hang together with them over cells that may be: a change has no hard edges."""
    _, labels = cv2.connectedComponents((sure | maybe).astype(np.uint8), connectivity=8)
    grown: CellMask = np.isin(labels, np.unique(labels[sure])) & (sure | maybe)
    return grown


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
