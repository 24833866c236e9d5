"""Where an object's picture fits best in a frame, and how well: what the encoder decides on.

The error is that of what decoders draw, since it is drawn here the same way, on their plate: the mean over colours of
the blurred difference to the frame, over all that the object's picture covers and over what of its box the plate does
not show. Up to a few levels of it that are the same all over the object are the light's and do not count.
Pictures are (H, W, 3) uint8 RGB; boxes are in quarter pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.composing import Drawn, Grid, draw
from discover_stream.codec.quarter_box import QUARTER, QuarterBox
from discover_stream.codec.sprites import Alpha, Sprite
from discover_stream.types import Image

Soft = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

REACH = 0.15
"""Share of its size that an object is looked for away from where it is expected, each way."""
LEAST_REACH, MOST_REACH = 4, 16
"""Pixels."""
COARSE = 64
"""Pixels of a side from which an object is looked for at half the size first."""
PAD = 6
"""Pixels around an object that its blurred difference reaches."""
BLUR = 1.5
LIGHT = 8.0
"""Grey levels, the same all over an object, that are the light's."""
UNCOVERED, ENTERING = 0.15, 0.35
"""Shares of an object's box from which it counts that its picture does not reach there: of one that is whole, and of
one that the picture's edge cuts, which goes on growing."""
EDGE = 8.0
"""Pixels from the picture's edge up to which it is taken to cut an object: detectors end their boxes before it."""
DIFFERS = 12.0
"""Blurred difference from which a pixel is not the plate's."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame, as the encoder measures on it.

    Attributes:
        frame: in the light of the plate.
        plate: as decoders have it.
        soft: the frame, blurred, float32.
        apart: (H, W), the blurred difference of the two, mean over colours.
    """

    frame: Image
    plate: Image
    soft: Soft
    apart: Soft

    @classmethod
    def of(cls, frame: Image, plate: Image) -> Scene:
        """From a frame and the plate under it."""
        soft = blurred(frame)
        apart = np.abs(soft - blurred(plate)).mean(axis=2)
        return cls(frame, plate, soft, np.asarray(apart, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Fit:
    """An object's picture at a place."""

    box: QuarterBox
    error: float
    plate_error: float = 0.0


def blurred(image: Image) -> Soft:
    """As it is compared."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR).astype(np.float32), dtype=np.float32)


def _part(box: QuarterBox, shape: tuple[int, ...], pad: int) -> tuple[slice, slice]:
    edges = box.pixels
    top, bottom = max(0, math.floor(edges.y0) - pad), min(shape[0], math.ceil(edges.y1) + pad)
    left, right = max(0, math.floor(edges.x0) - pad), min(shape[1], math.ceil(edges.x1) + pad)
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def inside(box: QuarterBox, width: int, height: int) -> float:
    """The share of a box that lies in the picture."""
    edges = box.pixels
    return edges.clipped(width, height).area / edges.area


def plate_error(scene: Scene, box: QuarterBox, hidden: Mask) -> float:
    """How much the plate lacks of what the frame shows in a box.

    The mean over the quarter of the box that differs most: a box is never full of its object.
    """
    part = _part(box, scene.frame.shape, 0)
    return _most(scene.apart[part][~hidden[part]])


def _most(apart: Soft) -> float:
    """The mean over the quarter of differences (n,) that are largest; 0 where there are hardly any."""
    if apart.size < 8:
        return 0.0
    count = max(4, apart.size // 4)
    return float(np.partition(apart, apart.size - count)[-count:].mean())


def whole(box: QuarterBox, shape: tuple[int, ...]) -> bool:
    """Whether no edge of a picture (H, W, 3) cuts an object's box."""
    edges = box.pixels
    return min(edges.x0, edges.y0, shape[1] - edges.x1, shape[0] - edges.y1) > EDGE


def reaches_beyond(found: QuarterBox, drawn: QuarterBox, share: float) -> bool:
    """Whether more than a share of a box lies outside of another one."""
    width = min(found.x + found.width, drawn.x + drawn.width) - max(found.x, drawn.x)
    height = min(found.bottom, drawn.bottom) - max(found.bottom - found.height, drawn.bottom - drawn.height)
    return max(0, width) * max(0, height) < (1 - share) * found.width * found.height


def uncovered_error(scene: Scene, found: QuarterBox, drawn: QuarterBox, hidden: Mask) -> float:
    """How much is lacking of what the grounder found of an object, where its picture does not reach: an object that
    came in through the picture's edge after its picture was made.

    Args:
        scene: the frame, on what is drawn before the object.
        found: of the grounder.
        drawn: the box that its picture is drawn in.
        hidden: (H, W), what nearer objects cover: not looked at.

    Returns:
        As `plate_error`, of the part of the one box outside the other.
    """
    rows, columns = _part(found, scene.frame.shape, 0)
    covered = _part(drawn, scene.frame.shape, 0)
    open_ = ~hidden[rows, columns]
    top, left = max(0, covered[0].start - rows.start), max(0, covered[1].start - columns.start)
    open_[top : max(top, covered[0].stop - rows.start), left : max(left, covered[1].stop - columns.start)] = False
    return _most(scene.apart[rows, columns][open_])


def error(scene: Scene, sprite: Sprite, box: QuarterBox, hidden: Mask) -> tuple[float, float]:
    """The error of a picture drawn in a box, and that of the plate alone at the same place; see the module.

    Args:
        scene: what it is drawn on, and compared with.
        sprite: the picture.
        box: the object's.
        hidden: (H, W), what nearer objects cover: not looked at.
    """
    part = _part(box, scene.frame.shape, PAD)
    canvas = scene.plate[part].copy()
    if min(canvas.shape[:2]) < 2:
        return 0.0, 0.0
    alpha = _drawn(canvas, part, sprite, box)
    belongs = alpha >= 128
    inner = _part(box, scene.frame.shape, 0)
    own = (slice(inner[0].start - part[0].start, inner[0].stop - part[0].start),
           slice(inner[1].start - part[1].start, inner[1].stop - part[1].start))  # fmt: skip
    belongs[own] |= scene.apart[inner] > DIFFERS
    belongs &= ~hidden[part]
    if int(belongs.sum()) < 8:
        return 0.0, 0.0
    seen = scene.soft[part]
    return _level(seen - blurred(canvas), belongs), _level(seen - blurred(scene.plate[part]), belongs)


def _level(apart: Soft, belongs: Mask) -> float:
    chosen = apart[belongs]
    light = np.clip(chosen.mean(axis=0), -LIGHT, LIGHT)
    return float(np.abs(chosen - light).mean())


def _drawn(canvas: Image, part: tuple[slice, slice], sprite: Sprite, box: QuarterBox) -> Alpha:
    alpha = np.zeros(canvas.shape[:2], np.uint8)
    rows, columns, drawn = draw(canvas, Grid(part[1].start, part[0].start), Drawn(box, sprite))
    alpha[rows, columns] = drawn
    return alpha


def best_fit(scene: Scene, sprite: Sprite, expected: QuarterBox, found: QuarterBox | None, hidden: Mask) -> Fit:
    """The best place for a picture, near where it is expected and near where the grounder found the object.

    Sizes are the expected one, the found one, and the one between; each is looked for within `reach` pixels, exact to
    a quarter pixel.

    Args:
        scene: the frame.
        sprite: the picture.
        expected: where the box glides to.
        found: of the grounder; None where it found nothing.
        hidden: (H, W), what nearer objects cover.
    """
    fits = [Fit(expected, *error(scene, sprite, expected, hidden))]
    places = {expected.width: expected}
    if found is not None:
        for share in (0.5, 1.0):
            one = _between(expected, found, share)
            places.setdefault(one.width, one)
        if not _near(expected, found):
            places[-1] = _centred(expected, found)
    for place in places.values():
        moved = _searched(scene, sprite, place, hidden)
        fits.append(Fit(moved, *error(scene, sprite, moved, hidden)))
    return min(fits, key=lambda fit: fit.error)


def _between(first: QuarterBox, second: QuarterBox, share: float) -> QuarterBox:
    """A box on the way from one to another, of the first one's proportions and with the second one's centre."""
    growth = 1 + share * (math.sqrt(second.width * second.height / (first.width * first.height)) - 1)
    growth = min(max(growth, 0.8), 1.25)
    width, height = max(1, round(first.width * growth)), max(1, round(first.height * growth))
    x = first.x + first.width / 2 + share * (second.x + second.width / 2 - first.x - first.width / 2)
    bottom = first.bottom + share * (second.bottom - first.bottom)
    return QuarterBox(round(x - width / 2), round(bottom - height), width, height)


def _centred(size: QuarterBox, place: QuarterBox) -> QuarterBox:
    x, y = place.x + (place.width - size.width) // 2, place.y + (place.height - size.height) // 2
    return QuarterBox(x, y, size.width, size.height)


def reach(box: QuarterBox) -> int:
    """Pixels that an object is looked for away from a place, each way."""
    size = math.sqrt(box.width * box.height) / QUARTER
    return min(max(LEAST_REACH, round(REACH * size)), MOST_REACH)


def _near(first: QuarterBox, second: QuarterBox) -> bool:
    apart = _centred(first, second)
    return max(abs(apart.x - first.x), abs(apart.y - first.y)) <= reach(first) * QUARTER


def _searched(scene: Scene, sprite: Sprite, box: QuarterBox, hidden: Mask) -> QuarterBox:
    """The box, moved to where its picture fits best within `reach`; where too little of it is seen, the box itself."""
    part = _part(box, scene.frame.shape, 0)
    canvas = scene.plate[part].copy()
    if min(canvas.shape[:2]) < 4:
        return box
    alpha = _drawn(canvas, part, sprite, box)
    mask = np.where(hidden[part], np.uint8(0), alpha)
    if int((mask >= 128).sum()) < 16:
        return box
    template, weights = blurred(canvas), mask.astype(np.float32) / 255
    around, x, y = reach(box), 0, 0
    if min(canvas.shape[:2]) >= COARSE:
        half = -(-around // 2)
        found = _lowest(
            _halved(_framed(scene.soft, _widened(part, 2 * half, canvas.shape))), _halved(template), _halved(weights)
        )
        if found is None:
            return box
        x, y, around = 2 * (round(found[0]) - half), 2 * (round(found[1]) - half), 2
    moved = (slice(part[0].start + y, part[0].stop + y), slice(part[1].start + x, part[1].stop + x))
    fine = _lowest(_framed(scene.soft, _widened(moved, around, canvas.shape)), template, weights)
    if fine is None:
        return box
    right, down = x + fine[0] - around, y + fine[1] - around
    return QuarterBox(box.x + round(QUARTER * right), box.y + round(QUARTER * down), box.width, box.height)


def _halved(image: Soft) -> Soft:
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    size = (even.shape[1] // 2, even.shape[0] // 2)
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _widened(part: tuple[slice, slice], by: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = part
    return (
        slice(rows.start - by, rows.start + shape[0] + by),
        slice(columns.start - by, columns.start + shape[1] + by),
    )


def _lowest(field: Soft, template: Soft, weights: Soft) -> tuple[float, float] | None:
    """Where (right, down) in a field a template differs least, exact to less than a pixel; None if nothing tells."""
    mask = np.repeat(weights[..., None], 3, axis=2)
    costs = np.asarray(cv2.matchTemplate(field, template, cv2.TM_SQDIFF, mask=mask), dtype=np.float32)
    if not np.isfinite(costs).all():
        return None
    y, x = divmod(int(np.argmin(costs)), costs.shape[1])
    return x + _vertex(costs[y], x), y + _vertex(costs[:, x], y)


def _framed(image: Soft, part: tuple[slice, slice]) -> Soft:
    """A part of a picture that may reach beyond it; there, its edge."""
    rows = np.clip(np.arange(part[0].start, part[0].stop), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(part[1].start, part[1].stop), 0, image.shape[1] - 1)
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def _vertex(costs: Soft, place: int) -> float:
    """Where, within half a pixel, the parabola through three costs is lowest."""
    if not 0 < place < len(costs) - 1:
        return 0.0
    before, here, after = (float(costs[place + step]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return 0.0 if bend <= 0 else min(max((before - after) / (2 * bend), -0.5), 0.5)
