"""The originals themselves, uncompressed: the ceiling of every measure."""

from __future__ import annotations

import numpy as np

from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import Image


class Raw:
    """Sends every pixel as it is."""

    name = "original"

    def encode(self, clip: Clip) -> Coded:
        """See `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        chunks = tuple(Chunk(index, frame.tobytes()) for index, frame in enumerate(clip.frames))
        return Coded(chunks, b"", len(chunks), width, height)

    def decode(self, coded: Coded) -> Decoded:
        """See `System.decode`."""
        shape = (coded.height, coded.width, 3)
        frames: tuple[Image, ...] = tuple(np.frombuffer(chunk.data, np.uint8).reshape(shape) for chunk in coded.chunks)
        return Decoded(frames, (None,) * len(frames))

    def command(self) -> str:
        """Nothing is done."""
        return "uncompressed, 24 bits a pixel"
