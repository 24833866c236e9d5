"""Draws bodies of the simulated scene as sprites: a small picture with coverage, ready to be pasted.

A sprite is drawn at a multiple of its size without smoothing and then reduced by area, so its
coverage is exact and neighbouring panels leave no seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.types import Image
from discover_stream.video.bodies import Body
from discover_stream.video.geometry import NEAR, Floats, Pinhole, clip_near, yaw_matrix

Coverage = npt.NDArray[np.uint8]
"""How much of each pixel an object covers, (H, W) uint8, 255 is all."""

_SHIFT = 4


@dataclass(frozen=True)
class Light:
    """Where the sun stands (unit vector towards it, (3,)), how strong it is, and the colour of haze."""

    sun: Floats
    strength: float
    haze: Floats
    reach: float


@dataclass(frozen=True)
class Sprite:
    """An object's pixels at (x, y): colours times coverage (h, w, 3), coverage (h, w).

    `inside` is the share of the object's outline that lies within the picture.
    """

    x: int
    y: int
    colours: Image
    coverage: Coverage
    inside: float


@dataclass(frozen=True)
class _Stamp:
    """One polygon or line in pixels of the whole picture, (N, 2); `width` is 0 for polygons."""

    points: Floats
    colour: tuple[float, float, float]
    width: float
    closed: bool


def draw_body(body: Body, place: tuple[float, float, float], camera: Pinhole, light: Light) -> Sprite | None:
    """The sprite of a body standing at `place` (x and z in metres, heading in radians).

    Returns None where the body is outside the picture.
    """
    x, z, heading = place
    axes = yaw_matrix(heading)
    origin = np.array([x, 0.0, z])
    camera_points = camera.to_camera(body.vertices @ axes.T + origin)
    if float(camera_points[:, 2].max()) < NEAR:
        return None
    if float(camera_points[:, 2].min()) >= NEAR:
        flat = camera.to_pixels(camera_points)
        low, high = flat.min(axis=0), flat.max(axis=0)
        if low[0] >= camera.width or low[1] >= camera.height_px or high[0] <= 0 or high[1] <= 0:
            return None
    stamps = _stamps(body, camera_points, (camera.position - origin) @ axes, light.sun @ axes, camera, light)
    return _rasterise(stamps, camera.width, camera.height_px) if stamps else None


def _stamps(body: Body, points: Floats, viewer: Floats, sun: Floats, camera: Pinhole, light: Light) -> list[_Stamp]:
    """What to draw, far to near. `viewer` and `sun` are in the body's axes."""
    to_viewer = viewer - body.centres
    facing = np.einsum("ij,ij->i", body.normals, to_viewer)
    strokes = ~body.normals.any(axis=1)
    distance = np.linalg.norm(to_viewer, axis=1)
    part_distance = np.linalg.norm(viewer - body.part_centres, axis=1)
    order = np.lexsort((-distance, -part_distance))
    tones = 0.62 + 0.1 * body.normals[:, 1] + 0.5 * light.strength * np.maximum(body.normals @ sun, 0.0)
    tones[strokes] = 0.72 + 0.2 * light.strength
    colours = _air(body, tones, light, float(np.linalg.norm(viewer)))
    near_free = float(points[:, 2].min()) >= NEAR
    flat = camera.to_pixels(points) if near_free else None
    hidden = ~strokes & (facing <= 0)
    firsts = np.cumsum([0, *(len(group) for group in body.items)])
    stamps: list[_Stamp] = []
    for group in order[~hidden[order]].tolist():
        for index, item in enumerate(body.items[group], start=int(firsts[group])):
            if flat is not None:
                shape = flat[item.start : item.stop]
                depth = float(points[item.start, 2])
            else:
                corners = points[item.start : item.stop]
                corners = clip_near(corners) if item.radius == 0 else corners[corners[:, 2] >= NEAR]
                if len(corners) == 0:
                    continue
                shape, depth = camera.to_pixels(corners), float(corners[0, 2])
            width = 2 * item.radius * camera.focal / depth
            stamps.append(_Stamp(shape, colours[index], width, item.closed))
    return stamps


def _air(body: Body, tones: Floats, light: Light, distance: float) -> list[tuple[float, float, float]]:
    """Colours of a body's items in the light and behind `distance` metres of haze."""
    base, owners, lit = body.paint
    clear = math.exp(-distance / light.reach)
    factor = np.where(lit, 1.0, tones[owners]) * clear
    mixed = np.minimum(base * factor[:, None] + light.haze * (1.0 - clear), 255.0)
    return [(red, green, blue) for red, green, blue in mixed.tolist()]


def _rasterise(stamps: list[_Stamp], width: int, height: int) -> Sprite | None:
    outline = np.concatenate([stamp.points for stamp in stamps])
    margin = max(stamp.width for stamp in stamps) / 2 + 1
    x0 = max(0, math.floor(outline[:, 0].min() - margin))
    y0 = max(0, math.floor(outline[:, 1].min() - margin))
    x1 = min(width, math.ceil(outline[:, 0].max() + margin))
    y1 = min(height, math.ceil(outline[:, 1].max() + margin))
    if x0 >= x1 or y0 >= y1:
        return None
    scale = 2 if (x1 - x0) * (y1 - y0) > 6000 else 4
    canvas = np.zeros(((y1 - y0) * scale, (x1 - x0) * scale, 4), np.uint8)
    offset = np.array([x0, y0])
    # A pixel's centre is at .5 for us and at whole numbers for OpenCV.
    for stamp in stamps:
        fixed = np.round(((stamp.points - offset) * scale - 0.5) * (1 << _SHIFT)).astype(np.int32)
        colour = (*stamp.colour, 255.0)
        if stamp.width == 0:
            cv2.fillPoly(canvas, [fixed], colour, cv2.LINE_8, _SHIFT)
        else:
            _draw_stroke(canvas, fixed, stamp, scale)
    small = cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    coverage = np.ascontiguousarray(small[:, :, 3])
    if not coverage.any():
        return None
    colours = np.ascontiguousarray(small[:, :, :3])
    return Sprite(x0, y0, colours, coverage, _share_inside(outline, width, height))


def _draw_stroke(canvas: Image, fixed: npt.NDArray[np.int32], stamp: _Stamp, scale: int) -> None:
    """A line with a paler core towards the light, so that limbs look round."""
    red, green, blue = stamp.colour
    thick = max(1, round(stamp.width * scale))
    if len(fixed) == 1:
        fixed = np.repeat(fixed, 2, axis=0)
    cv2.polylines(
        canvas,
        [fixed],
        stamp.closed,
        (red * 0.82, green * 0.82, blue * 0.82, 255.0),
        thick,
        cv2.LINE_8,
        _SHIFT,
    )
    if thick >= 4 and not stamp.closed:
        core = fixed - np.int32(round(thick * 0.12 * (1 << _SHIFT)))
        bright = (min(255.0, red * 1.1), min(255.0, green * 1.1), min(255.0, blue * 1.1), 255.0)
        cv2.polylines(canvas, [core], False, bright, max(1, round(thick * 0.62)), cv2.LINE_8, _SHIFT)


def _share_inside(outline: Floats, width: int, height: int) -> float:
    hull = cv2.convexHull(outline.astype(np.float32))
    whole = float(cv2.contourArea(hull))
    if whole < 1.0:
        return 1.0
    low, high = outline.min(axis=0), outline.max(axis=0)
    if low[0] >= 0 and low[1] >= 0 and high[0] <= width and high[1] <= height:
        return 1.0
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    common, _ = cv2.intersectConvexConvex(hull, frame)
    return min(1.0, float(common) / whole)


def paste(picture: Image, sprite: Sprite) -> None:
    """Draw the sprite over the picture (H, W, 3), in place."""
    height, width = sprite.coverage.shape
    under = picture[sprite.y : sprite.y + height, sprite.x : sprite.x + width]
    through = cv2.cvtColor(255 - sprite.coverage, cv2.COLOR_GRAY2RGB)
    under[:] = cv2.add(cv2.multiply(under, through, scale=1 / 255), sprite.colours)


def ground_shadows(
    body: Body, place: tuple[float, float, float], sun: Floats, camera: Pinhole
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
    """The sun's shadow of a body at `place` and the dark ground below it: two hulls in pixels (M, 1, 2).

    Returns None where the shadow reaches behind the camera.
    """
    x, z, heading = place
    corners = body.corners @ yaw_matrix(heading).T + np.array([x, 0.0, z])
    cast = corners - corners[:, 1:2] / sun[1] * sun
    below = corners * np.array([1.0, 0.0, 1.0])
    axes = camera.to_camera(np.concatenate([cast, below]))
    if float(axes[:, 2].min()) < NEAR:
        return None
    pixels = np.round(camera.to_pixels(axes)).astype(np.int32)
    return np.asarray(cv2.convexHull(pixels[:8]), np.int32), np.asarray(cv2.convexHull(pixels[8:]), np.int32)
