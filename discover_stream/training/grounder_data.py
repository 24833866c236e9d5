"""Training examples for the nano grounder: augmentation, and which cell learns which box.

Convention: boxes are xyxy in pixels of the picture they belong to; an example's picture is
(side, side, 3) uint8 RGB; cells are in the order of `decode_outputs` (levels by stride, row by row).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.semantics.detector import PAD_VALUE, STRIDES
from discover_stream.training.pseudo_labels import FloatArray, Sample
from discover_stream.types import Image

NEGATIVE, IGNORED = -1, -2
"""Marks in `Targets.classes` for cells that learn "nothing here" and cells that learn nothing."""

LEVEL_SIDES: tuple[tuple[float, float], ...] = ((0.0, 56.0), (40.0, 128.0), (96.0, 1e9))
"""Longer side of the boxes that a level learns, in network pixels; levels share the overlap."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """How far examples stray from the pictures. Scales are relative to `long_side` in use."""

    side: int = 384
    long_side: int = 640
    scale: tuple[float, float] = (0.45, 1.6)
    mosaic: float = 0.6
    captions: float = 0.25
    min_side: float = 4.0
    min_visible: float = 0.3


@dataclass(frozen=True, slots=True)
class Targets:
    """What each cell of one example learns: `classes` (cells,) int64, `boxes` (cells, 4) float32."""

    classes: npt.NDArray[np.int64]
    boxes: FloatArray


class SampleMixer:
    """Draws samples: first a source by weight, then one of its pictures.

    Args:
        sources: name -> samples; sources must not be empty.
        weights: name -> relative share of the draws; 1 where a name is absent.
    """

    def __init__(self, sources: Mapping[str, Sequence[Sample]], weights: Mapping[str, float]) -> None:
        self._pools = [sources[name] for name in sorted(sources)]
        share = np.array([weights.get(name, 1.0) for name in sorted(sources)])
        self._share = share / share.sum()

    def draw(self, rng: np.random.Generator) -> Sample:
        """One sample at random."""
        pool = self._pools[rng.choice(len(self._pools), p=self._share)]
        return pool[rng.integers(len(pool))]


def make_example(mixer: SampleMixer, rng: np.random.Generator, options: AugmentOptions) -> Sample:
    """One augmented training picture of `options.side` pixels: a crop, or a mosaic of four."""
    side = options.side
    cx = cy = side
    if rng.random() < options.mosaic:
        cx, cy = (int(v) for v in rng.integers(round(side * 0.3), round(side * 0.7), 2))
    canvas = np.full((side, side, 3), PAD_VALUE, np.uint8)
    parts: list[Sample] = []
    for x0, y0, x1, y1 in ((0, 0, cx, cy), (cx, 0, side, cy), (0, cy, cx, side), (cx, cy, side, side)):
        if x1 <= x0 or y1 <= y0:
            continue
        part = _cut(mixer.draw(rng), (x1 - x0, y1 - y0), rng, options)
        h, w = part.image.shape[:2]
        canvas[y0 : y0 + h, x0 : x0 + w] = part.image
        shift = np.array([x0, y0, x0, y0], np.float32)
        parts.append(Sample(part.image, part.boxes + shift, part.classes, part.ignored))
    if rng.random() < options.captions:
        _burn_in(canvas, rng)
    return Sample(
        _recolour(canvas, rng),
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.ignored for p in parts]),
    )


def _cut(sample: Sample, size: tuple[int, int], rng: np.random.Generator, options: AugmentOptions) -> Sample:
    """A random window of a randomly scaled, possibly mirrored sample, at most `size` (w, h) pixels."""
    height, width = sample.image.shape[:2]
    scale = options.long_side / max(height, width) * np.exp(rng.uniform(*np.log(options.scale)))
    w, h = min(size[0], max(1, round(width * scale))), min(size[1], max(1, round(height * scale)))
    src_w, src_h = min(width, max(1, round(w / scale))), min(height, max(1, round(h / scale)))
    x, y = (int(rng.integers(width - src_w + 1)), int(rng.integers(height - src_h + 1)))
    boxes, ignored = sample.boxes, sample.ignored
    if len(boxes) and rng.random() < 0.7:  # most windows look at something
        a = boxes[_something(sample, rng)]
        x = int(np.clip(rng.uniform(a[0], a[2]) - rng.uniform(0.2, 0.8) * src_w, 0, width - src_w))
        y = int(np.clip(rng.uniform(a[1], a[3]) - rng.uniform(0.2, 0.8) * src_h, 0, height - src_h))
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    window = sample.image[y : y + src_h, x : x + src_w]
    image = np.asarray(cv2.resize(window, (w, h), interpolation=mode), np.uint8)
    moved = (boxes - np.array([x, y, x, y])) * np.array([w / src_w, h / src_h] * 2)
    if rng.random() < 0.5:
        image = image[:, ::-1]
        moved = np.stack([w - moved[:, 2], moved[:, 1], w - moved[:, 0], moved[:, 3]], 1)
    clipped = moved.clip(0, [w, h, w, h])
    before, after = np.prod(moved[:, 2:] - moved[:, :2], -1), np.prod(clipped[:, 2:] - clipped[:, :2], -1)
    here = after > 0
    hidden = (after < options.min_visible * before) & ~_touches(clipped, w, h, 0.25)
    tiny = (clipped[:, 2:] - clipped[:, :2]).max(1, initial=0) < options.min_side
    return Sample(
        image,
        clipped[here].astype(np.float32),
        sample.classes[here],
        (ignored | hidden | tiny)[here],
    )


def _something(sample: Sample, rng: np.random.Generator) -> int:
    """The index of a box to look at: of a kind that the picture shows, each as likely, so that rare ones are seen."""
    taught = sample.classes[~sample.ignored]
    if not len(taught):
        return int(rng.integers(len(sample.classes)))
    kind = rng.choice(np.unique(taught))
    return int(rng.choice(np.flatnonzero(~sample.ignored & (sample.classes == kind))))


def _touches(boxes: FloatArray, width: int, height: int, part: float) -> npt.NDArray[np.bool_]:
    """Boxes that fill at least `part` of the window: worth learning however little of the object shows."""
    out: npt.NDArray[np.bool_] = np.prod(boxes[:, 2:] - boxes[:, :2], -1) >= part * width * height
    return out


def _burn_in(canvas: Image, rng: np.random.Generator) -> None:
    """Write a few lines of letters over the picture, as cameras do: they are nothing to find."""
    side = canvas.shape[0]
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/-. "))
    for _ in range(int(rng.integers(1, 4))):
        text = "".join(rng.choice(letters, rng.integers(4, 22)))
        font = int(rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX)))
        size, thickness = float(rng.uniform(0.35, 1.3)), int(rng.integers(1, 4))
        (w, h), below = cv2.getTextSize(text, font, size, thickness)
        x, y = int(rng.integers(-w // 3, side - w // 3)), int(rng.integers(h, side))
        dark, bright = int(rng.integers(0, 70)), int(rng.integers(170, 256))
        if rng.random() < 0.5:
            cv2.rectangle(canvas, (x - 3, y - h - 3), (x + w + 3, y + below), (dark,) * 3, -1)
        ink = dark if rng.random() < 0.2 else bright
        cv2.putText(canvas, text, (x, y), font, size, (ink,) * 3, thickness, cv2.LINE_AA)


def _recolour(image: Image, rng: np.random.Generator) -> Image:
    """Random light, contrast, tint, blur, noise and JPEG damage: other cameras, weathers and codecs."""
    x = image.astype(np.float32)
    if rng.random() < 0.8:
        gain = rng.uniform(0.55, 1.3) * rng.uniform(0.9, 1.1, 3)
        x = (x - 127.5) * gain.astype(np.float32) + 127.5 + np.float32(rng.uniform(-40, 40))
    if rng.random() < 0.1:
        x = np.repeat(x.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.15:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
    if rng.random() < 0.25:
        x += rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(1, 10))
    out = x.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))])
        out = cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.uint8)
    return out


def assign(sample: Sample, side: int) -> Targets:
    """Decide which cells of a (side, side) picture learn which box.

    A level learns the boxes whose longer side fits it: there, along each axis, the cells within one and a half
    strides of the box's centre and inside the box, or the nearest if there are none. The smallest box wins a
    contested cell. Cells inside ignored boxes that learn no box learn nothing.
    """
    classes, boxes = [], []
    sides = (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(1, initial=0)
    area = np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], -1)
    # Ignored boxes first, then from large to small: whoever comes later takes the cell.
    order = np.lexsort((-area, ~sample.ignored))
    for stride, (low, high) in zip(STRIDES, LEVEL_SIDES, strict=True):
        n = side // stride
        kind = np.full((n, n), NEGATIVE, np.int64)
        target = np.zeros((n, n, 4), np.float32)
        for i in order:
            box = sample.boxes[i]
            rows, columns = (_centres_between(box[axis], box[axis + 2], stride, n) for axis in (1, 0))
            if sample.ignored[i]:
                kind[rows, columns] = IGNORED
            elif low <= sides[i] < high:
                rows, columns = (
                    _learning(box[axis], box[axis + 2], own, stride, n) for axis, own in ((1, rows), (0, columns))
                )
                kind[rows, columns] = sample.classes[i]
                target[rows, columns] = box
        classes.append(kind.reshape(-1))
        boxes.append(target.reshape(-1, 4))
    return Targets(np.concatenate(classes), np.concatenate(boxes))


def _centres_between(low: float, high: float, stride: int, n: int) -> slice:
    """The cells of one axis whose centres are in [low, high)."""
    return slice(max(0, math.ceil(low / stride - 0.5)), min(n, math.ceil(high / stride - 0.5)))


def _learning(low: float, high: float, own: slice, stride: int, n: int) -> slice:
    """The cells of one axis that learn a box: near its middle and in it, else the one that holds its middle."""
    middle = (low + high) / 2
    near = _centres_between(middle - 1.5 * stride, middle + 1.5 * stride, stride, n)
    both = slice(max(near.start, own.start), min(near.stop, own.stop))
    if both.start < both.stop:
        return both
    nearest = min(n - 1, int(middle // stride))
    return slice(nearest, nearest + 1)
