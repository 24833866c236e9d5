"""What the critic says of one frame: it is shown what decoders would show, with and without a new picture of a track.

Pictures are (H, W, 3) uint8 RGB in the light of the plate; boxes are in quarter pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from discover_stream.codec.composing import WHOLE, Drawn, draw
from discover_stream.codec.critic import Critic, loss
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.stream_layers import Layer
from discover_stream.codec.stream_motion import Scene
from discover_stream.types import Image


class Critique:
    """A critic on one frame.

    Args:
        critic: who looks.
        scene: the frame and the plate under it.
        layers: track -> its picture, of all tracks that have one.
    """

    def __init__(self, critic: Critic, scene: Scene, layers: Mapping[int, Layer]) -> None:
        self._critic, self._scene, self._layers = critic, scene, dict(layers)

    def losses(self, boxes: Mapping[int, QuarterBox]) -> dict[int, float | None]:
        """What is lost of objects, by track, as they would be shown; None where the critic cannot tell."""
        if not boxes:
            return {}
        return dict(
            zip(boxes, self._asked(self._shown(list(self._layers.values())), list(boxes.values())), strict=True)
        )

    def loss(self, track: int, layer: Layer) -> float | None:
        """The same for a new picture of one track."""
        others = [one for number, one in self._layers.items() if number != track]
        return self._asked(self._shown((*others, layer)), [layer.box])[0]

    def send(self, track: int, layer: Layer | None) -> None:
        """From here on, decoders have this picture of a track; None for none."""
        self._layers.pop(track, None)
        if layer is not None:
            self._layers[track] = layer

    def _asked(self, shown: Image, boxes: Sequence[QuarterBox]) -> list[float | None]:
        seen = self._critic.opinions(self._scene.frame, shown, [box.pixels for box in boxes])
        return [loss(opinion) for opinion in seen]

    def _shown(self, layers: Sequence[Layer]) -> Image:
        canvas = self._scene.plate.copy()
        for one in sorted(layers, key=lambda layer: layer.order):
            draw(canvas, WHOLE, Drawn(one.box, one.sprite))
        return canvas
