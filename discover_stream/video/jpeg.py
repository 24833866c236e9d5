"""JPEG for frames on their way between stages."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

from discover_stream.types import BitstreamError, Image


def encode_jpeg(image: Image, quality: int = 95) -> bytes:
    """A picture (H, W, 3) RGB as JPEG without colour subsampling; `quality` in 1..100."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> Image:
    """The picture (H, W, 3) RGB of JPEG bytes. Raises BitstreamError where they are damaged or cut."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            return np.array(opened.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise BitstreamError(
            f"JPEG frame of {len(data)} bytes: it cannot be decoded; it is damaged or cut, send it again"
        ) from error
