"""The mouth of a tunnel across the simulated road: a wall, and what drives out of the dark behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from discover_stream.types import Image
from discover_stream.video.backdrop import value_noise
from discover_stream.video.geometry import Pinhole
from discover_stream.video.raster import Light, Sprite

PORTAL_Z = 55.0
"""Where the wall stands, metres along the road."""
_HALF, _HEIGHT = 19.0, 9.0
"""Of the wall, metres."""
_MOUTH_HALF, _MOUTH_HEIGHT = 8.7, 5.4
_DEPTH = 7.0
"""Metres inside the tunnel after which a third of the daylight is left."""
_DARK = (22.0, 23.0, 26.0)


@dataclass(frozen=True)
class Portal:
    """What of the tunnel the camera sees: the wall around the mouth, to be pasted over what is inside."""

    wall: Sprite

    @classmethod
    def build(cls, backdrop: Image, camera: Pinhole, light: Light, seed: int) -> Portal:
        """Draw the dark inside into a backdrop, (H, W, 3) RGB, and the wall as a sprite of its own."""
        mouth = _outline(camera, _MOUTH_HALF, _MOUTH_HEIGHT)
        hole = np.zeros(backdrop.shape[:2], np.uint8)
        cv2.fillPoly(hole, [mouth], (255.0,), cv2.LINE_AA)
        rows, columns = np.nonzero(hole)
        _, z = camera.ground_under(np.column_stack([columns, rows]) + 0.5)
        lit = np.array([daylight(one) for one in z])[:, None]
        share = hole[rows, columns][:, None] / 255.0
        inside = backdrop[rows, columns] * lit + np.array(_DARK) * (1 - lit)
        backdrop[rows, columns] = (backdrop[rows, columns] * (1 - share) + inside * share).astype(np.uint8)

        face = np.zeros(backdrop.shape[:2], np.uint8)
        cv2.fillPoly(face, [_outline(camera, _HALF, _HEIGHT)], (255.0,), cv2.LINE_AA)
        coverage = np.asarray(cv2.subtract(face, hole), dtype=np.uint8)
        grain = value_noise(np.random.default_rng((seed, 31)), 512, 6)
        size = (backdrop.shape[1], backdrop.shape[0])
        concrete = np.array([150.0, 148, 142]) * (0.7 + 0.3 * light.strength)
        tones = concrete + 14.0 * cv2.resize(grain, size, interpolation=cv2.INTER_LINEAR)[..., None]
        colours = (np.clip(tones, 0, 255) * (coverage / 255.0)[..., None]).astype(np.uint8)
        return cls(Sprite(0, 0, colours, coverage, 1.0))


SEEN = 0.15
"""Share of daylight below which nothing is to be made out."""


def daylight(z: float) -> float:
    """The share of daylight at a position along the road, metres: falls off behind the wall."""
    return math.exp(-max(z - PORTAL_Z, 0.0) / _DEPTH)


def darkened(sprite: Sprite, z: float) -> Sprite:
    """A sprite in the light that there is at `z` metres along the road."""
    lit = daylight(z)
    share = (sprite.coverage / 255.0)[..., None]
    colours = sprite.colours * lit + share * np.array(_DARK) * (1 - lit)
    return Sprite(sprite.x, sprite.y, colours.astype(np.uint8), sprite.coverage, sprite.inside)


def _outline(camera: Pinhole, half: float, height: float) -> Image:
    """Corners (4, 2) in pixels of an upright rectangle over the road, at the wall."""
    corners = np.array([[-half, 0, PORTAL_Z], [-half, height, PORTAL_Z], [half, height, PORTAL_Z], [half, 0, PORTAL_Z]])
    return np.round(camera.to_pixels(camera.to_camera(corners))).astype(np.int32)
