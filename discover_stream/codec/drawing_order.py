"""Who stands before whom: as a protocol, since the codec knows no semantics.

Decoders draw tracks by their lower edges. Whoever builds a stream encoder may give it an order, which says by how much
edges have to be lifted (that is, put lower) where that is wrong; it judges by what was found, and by what decoders
would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from discover_stream.codec.composing import Drawn, Grid, draw
from discover_stream.codec.quarter_box import QUARTER
from discover_stream.codec.records import MAX_LIFT
from discover_stream.codec.stream_motion import Scene
from discover_stream.codec.stream_tracks import Live, Sight
from discover_stream.types import Box, Image


class DrawingOrder(Protocol):
    """The order of one camera's tracks; asked once a frame, it may learn from all frames so far."""

    def lifts(
        self,
        frame: Image,
        boxes: Mapping[int, Box],
        expected: Mapping[int, Box],
        pictures: Mapping[int, Image],
        lifted: Mapping[int, float],
    ) -> Mapping[int, float]:
        """Pixels to add to lower edges, so that they tell the order; a track that is not named has none.

        Args:
            frame: (H, W, 3) uint8 RGB.
            boxes: track -> where it is, of all tracks that are drawn, in pixels; within the picture.
            expected: of those that were found in the frame, where they were expected before.
            pictures: what decoders show of a track in its box, (h, w, 3) uint8 RGB, of those that overlap others.
            lifted: lifts that decoders know. They cost nothing as long as they stay.
        """
        ...


def lifts_of(
    order: DrawingOrder, scene: Scene, sights: Mapping[int, Sight], lives: Mapping[int, Live], seq: int
) -> dict[int, int]:
    """The lifts, in quarter pixels, of all tracks that have a picture."""
    height, width = scene.frame.shape[:2]
    drawn = {track: live for track, live in lives.items() if live.sprite is not None and not live.hidden}
    places = {track: sights[track].box if track in sights else live.at(seq) for track, live in drawn.items()}
    boxes = {track: place.pixels.clipped(width, height) for track, place in places.items()}
    boxes = {track: box for track, box in boxes.items() if box.area >= 1}
    expected = {track: lives[track].at(seq).pixels.clipped(width, height) for track in boxes if track in sights}
    crowded = [one for one, box in boxes.items() if any(box.iou(boxes[other]) > 0 for other in boxes if other != one)]
    pictures = {track: _picture(scene, drawn[track], boxes[track], seq, sights.get(track)) for track in crowded}
    known = {track: drawn[track].lift / QUARTER for track in boxes}
    wanted = order.lifts(scene.frame, boxes, expected, pictures, known)
    return {track: min(round(QUARTER * wanted.get(track, 0.0)), MAX_LIFT) for track in boxes}


def _picture(scene: Scene, live: Live, box: Box, seq: int, sight: Sight | None) -> Image:
    """What decoders would show of a track alone, in the whole pixels of its box."""
    assert live.sprite is not None
    top, left = round(box.y0), round(box.x0)
    canvas = scene.plate[top : max(top + 1, round(box.y1)), left : max(left + 1, round(box.x1))].copy()
    if canvas.size:
        draw(canvas, Grid(left, top), Drawn(live.at(seq) if sight is None else sight.box, live.sprite))
    return canvas
