"""A small made-up street for tests of the encoder: a textured background, objects that drive, their exact regions."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from discover_stream.types import Box, Frame, Image, Region

WIDTH, HEIGHT = 160, 96
RED, BLUE, GREY = (210, 40, 30), (30, 60, 200), (190, 185, 175)
Places = Mapping[int, tuple[tuple[int, int, int], float, float]]
"""Track -> colour, and the upper left corner of the object."""
SIZE = (40, 24)


def road(light: float = 0.0) -> Image:
    """The street without objects."""
    noise = np.random.default_rng(7).normal(0, 18, (HEIGHT // 4, WIDTH // 4, 1)).repeat(3, 2)
    coarse = cv2.resize(noise.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    ramp = np.linspace(80, 140, WIDTH)[None, :, None]
    return np.clip(ramp + coarse + light, 0, 255).astype(np.uint8)


def picture(places: Places, light: float = 0.0) -> Image:
    """The street with objects: boxes with windows and wheels, drawn with sub-pixel accuracy."""
    image = road(light)
    for colour, x, y in places.values():
        car = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
        car[:] = np.clip(np.array(colour, np.float32) + light, 0, 255)
        car[4:10, 8:18] = car[4:10, 22:32] = 20
        car[-5:, 5:12] = car[-5:, 28:35] = 15
        layers = np.dstack([car, np.ones(SIZE[::-1], np.float32)])
        move = np.array([[1, 0, x], [0, 1, y]], np.float64)
        moved = cv2.warpAffine(layers, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        share = moved[..., 3:]
        image = np.clip(np.rint(image * (1 - share) + moved[..., :3]), 0, 255).astype(np.uint8)
    return image


def regions(places: Places) -> tuple[Region, ...]:
    """What a perfect grounder finds."""
    found = []
    for track, (_, x, y) in places.items():
        box = Box(x, y, x + SIZE[0], y + SIZE[1]).clipped(WIDTH, HEIGHT)
        if box.area >= 16:
            found.append(Region(3, 0.9, box, track))
    return tuple(found)


def frame(seq: int, places: Places, light: float = 0.0) -> Frame:
    """Frame `seq` at 10 frames a second."""
    return Frame("street", seq, seq * 100_000_000, picture(places, light))
