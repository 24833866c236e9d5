"""Segments of fragmented MP4 (CMAF), each made on its own, in any order, of one continuous clock.

Every segment is one group of pictures: an H.264 encoder of its own with the same settings, so that one
initialisation segment, made without any picture of the film, goes with all of them. Times are in 1/90000 s.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from discover_stream.types import DiscoverError, Image
from discover_stream.video.sink import mp4_encoder

CLOCK = 90_000
"""Ticks a second."""

_NOMINAL_FPS = 30  # written into every segment, whatever comes: the initialisation segment knows no rate
# Without `frag_discont` and with the usual care for negative times, every segment's clock would start at 0.
_MUXING = {
    "movflags": "cmaf+frag_keyframe+empty_moov+frag_discont+default_base_moof",
    "avoid_negative_ts": "disabled",
    "use_editlist": "0",
}
_X264 = {"preset": "veryfast", "crf": "21", "bf": "0", "x264-params": "scenecut=0:rc-lookahead=0:sync-lookahead=0"}
_HEAD_BOXES = (b"ftyp", b"moov")
_BODY_BOXES = (b"styp", b"moof", b"mdat")


@dataclass(frozen=True, slots=True)
class Timed:
    """A picture (H, W, 3) with even sides, shown from one tick to another."""

    image: Image
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a player gets once (`head`), and for the segment."""

    head: bytes
    body: bytes


def even(width: int, height: int) -> tuple[int, int]:
    """The size of a film for pictures of this size: H.264 with subsampled colours wants even sides."""
    return width + width % 2, height + height % 2


def initialisation(width: int, height: int) -> bytes:
    """The initialisation segment of films of this (even) size."""
    return segment([Timed(np.zeros((height, width, 3), np.uint8), 0, CLOCK)]).head


def segment(pictures: Sequence[Timed], number: int = 0) -> Boxes:
    """A segment of pictures that follow each other, all of one size. `number` counts segments from 0."""
    height, width = pictures[0].image.shape[:2]
    buffer = io.BytesIO()
    options = {**_MUXING, "fragment_index": str(number + 1)}
    with av.open(buffer, "w", format="mp4", options=options) as container:
        name, _ = mp4_encoder()
        stream = container.add_stream(name, rate=_NOMINAL_FPS, options=_X264 if name == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.gop_size = 100_000
        stream.codec_context.colorspace = int(Colorspace.ITU601)
        stream.codec_context.color_range = int(ColorRange.MPEG)
        stream.codec_context.thread_count = 1
        ends = {picture.begin: picture.end for picture in pictures}
        for picture in [*pictures, None]:
            frame = None if picture is None else _frame(picture)
            for packet in stream.encode(frame):
                assert packet.pts is not None
                packet.duration = ends[packet.pts] - packet.pts
                container.mux(packet)
    return _taken_apart(buffer.getvalue())


def _frame(picture: Timed) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.image), format="rgb24")
    frame.pts, frame.time_base = picture.begin, Fraction(1, CLOCK)
    return frame


def _taken_apart(film: bytes) -> Boxes:
    head, body, place = bytearray(), bytearray(), 0
    while place + 8 <= len(film):
        size, kind = int.from_bytes(film[place : place + 4], "big"), film[place + 4 : place + 8]
        if size < 8 or place + size > len(film):
            raise DiscoverError("a segment of a film was written in a way that is not understood; report this")
        if kind in _HEAD_BOXES:
            head += film[place : place + size]
        elif kind in _BODY_BOXES:
            body += film[place : place + size]
        place += size
    return Boxes(bytes(head), bytes(body))
