"""World and camera geometry of the simulated scene.

Convention: world axes in metres, x to the right of the road, y up, z along the road away from
the camera. A heading of 0 looks along +z and grows towards +x. Camera axes: x right, y down,
z depth. Pixels: x right, y down, the centre of the top left pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""An array of float64; the comment beside each use names its shape."""

NEAR = 0.6
"""Metres in front of the camera below which nothing is drawn."""


@dataclass(frozen=True)
class Pinhole:
    """A camera without lens distortion, mounted level and turned by `yaw`, then tilted down by `pitch`.

    `focal` is in pixels, `x`, `height` and `z` in metres, angles in radians.
    """

    width: int
    height_px: int
    focal: float
    x: float
    height: float
    z: float
    yaw: float
    pitch: float

    @cached_property
    def position(self) -> Floats:
        """Where the camera hangs, (3,) metres."""
        return np.array([self.x, self.height, self.z])

    @cached_property
    def rotation(self) -> Floats:
        """World to camera axes, (3, 3)."""
        sin_y, cos_y = math.sin(self.yaw), math.cos(self.yaw)
        sin_p, cos_p = math.sin(self.pitch), math.cos(self.pitch)
        right = np.array([cos_y, 0.0, -sin_y])
        forward = np.array([sin_y * cos_p, -sin_p, cos_y * cos_p])
        down = np.cross(right, forward)
        return np.stack([right, down, forward])

    def to_camera(self, points: Floats) -> Floats:
        """World points (N, 3) in camera axes, (N, 3)."""
        axes: Floats = (points - self.position) @ self.rotation.T
        return axes

    def to_pixels(self, camera_points: Floats) -> Floats:
        """Camera points (N, 3), all with a depth of at least `NEAR`, in pixels (N, 2)."""
        scale = self.focal / camera_points[:, 2]
        return np.stack(
            [camera_points[:, 0] * scale + self.width / 2, camera_points[:, 1] * scale + self.height_px / 2],
            axis=1,
        )

    def ground_under(self, pixels: Floats) -> tuple[Floats, Floats]:
        """World x and z (N,), (N,) of the ground seen at pixels (N, 2); infinite above the horizon."""
        rays = np.column_stack(
            [
                (pixels[:, 0] - self.width / 2) / self.focal,
                (pixels[:, 1] - self.height_px / 2) / self.focal,
                np.ones(len(pixels)),
            ]
        )
        world = rays @ self.rotation
        fall = -world[:, 1]
        reach = np.where(fall > 1e-6, self.height / np.maximum(fall, 1e-6), np.inf)
        with np.errstate(invalid="ignore"):
            return self.x + world[:, 0] * reach, self.z + world[:, 2] * reach


def clip_near(polygon: Floats) -> Floats:
    """The part of a polygon in camera axes (N, 3) with a depth of at least `NEAR`, (M, 3)."""
    kept: list[Floats] = []
    for index in range(len(polygon)):
        here, following = polygon[index], polygon[(index + 1) % len(polygon)]
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (following[2] >= NEAR):
            share = (NEAR - here[2]) / (following[2] - here[2])
            kept.append(here + share * (following - here))
    return np.array(kept).reshape(-1, 3)


def yaw_matrix(heading: float) -> Floats:
    """Columns are an object's right, up and forward axes in the world, (3, 3)."""
    sin_h, cos_h = math.sin(heading), math.cos(heading)
    return np.array([[cos_h, 0.0, sin_h], [0.0, 1.0, 0.0], [-sin_h, 0.0, cos_h]])
