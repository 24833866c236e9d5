"""What decoders draw beside a track: what nobody finds, or nothing shows yet, is measured on that.

Pictures are (H, W, 3) uint8 RGB in the light of the plate; boxes are in quarter pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from discover_stream.codec.composing import Drawn, Grid, draw
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Ref
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_motion import Scene, blurred, reach
from discover_stream.types import Box

ROOM = 12
"""Pixels around a track's box, and how far it is looked for, that are drawn."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A track's picture where decoders would draw it.

    Attributes:
        order: of drawing; what is drawn later covers what is drawn before.
        box: the object's.
        sprite: its picture.
    """

    order: tuple[int, Ref]
    box: QuarterBox
    sprite: Sprite


class Layers:
    """The pictures of one frame's tracks, as far as it is known where they are drawn.

    Args:
        scene: the frame, on the plate.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._layers: dict[int, tuple[Layer, frozenset[int]]] = {}

    def put(self, track: int, layer: Layer, tasks: Collection[int]) -> None:
        """From here on a track is drawn like this for its tasks."""
        self._layers[track] = layer, frozenset(tasks)

    def behind(self, track: int, box: QuarterBox, tasks: Collection[int]) -> Scene:
        """The scene with the others drawn on its plate that all of a track's tasks have, in and around its box."""
        edges, room, scene = box.pixels, ROOM + reach(box), self._scene
        height, width = scene.frame.shape[:2]
        top, bottom = max(0, math.floor(edges.y0) - room), min(height, math.ceil(edges.y1) + room)
        left, right = max(0, math.floor(edges.x0) - room), min(width, math.ceil(edges.x1) + room)
        around = Box(float(left), float(top), float(max(left + 1, right)), float(max(top + 1, bottom)))
        near = [
            one
            for other, (one, members) in self._layers.items()
            if other != track and members >= set(tasks) and one.box.pixels.iou(around) > 0
        ]
        if not near or bottom - top < 2 or right - left < 2:
            return scene
        part = (slice(top, bottom), slice(left, right))
        canvas = scene.plate[part].copy()
        for one in sorted(near, key=lambda layer: layer.order):
            draw(canvas, Grid(left, top), Drawn(one.box, one.sprite))
        plate, apart = scene.plate.copy(), scene.apart.copy()
        plate[part] = canvas
        apart[part] = np.abs(scene.soft[part] - blurred(canvas)).mean(axis=2)
        return dataclasses.replace(scene, plate=plate, apart=apart)
