from __future__ import annotations

import numpy as np
from street import HEIGHT, RED, SIZE, WIDTH, picture, road

from discover_stream.codec.atom_choice import picture_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Ref
from discover_stream.codec.stream_layers import Layer, Layers
from discover_stream.codec.stream_motion import Scene, plate_error
from discover_stream.codec.stream_policy import StreamRules
from discover_stream.types import Box

RULES = StreamRules.of(6)
NOTHING = np.zeros((HEIGHT, WIDTH), dtype=bool)


def box_at(x: float, y: float, width: float = SIZE[0], height: float = SIZE[1]) -> QuarterBox:
    return QuarterBox.of(Box(x, y, x + width, y + height))


def layer_of(scene: Scene, box: QuarterBox) -> Layer:
    return Layer((box.bottom, Ref(1, 0)), box, picture_of(scene, box, PlatePicture(road()), RULES).sprite)


def test_a_track_is_seen_on_what_is_drawn_of_others() -> None:
    scene = Scene.of(picture({1: (RED, 30.0, 20.0)}), road())
    layers, box, wide = Layers(scene), box_at(30, 20), box_at(20, 14, 90, 34)
    assert layers.behind(2, wide, (1,)) is scene
    layers.put(1, layer_of(scene, box), (1, 2))
    assert plate_error(scene, wide, NOTHING) > 30
    assert plate_error(layers.behind(2, wide, (1,)), wide, NOTHING) < 9
    assert layers.behind(1, box, (1,)) is scene  # without its own picture
    assert layers.behind(2, wide, (1, 3)) is scene  # a task that has not got the other one
