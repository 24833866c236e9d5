"""RGB to the YUV 4:2:0 that video codecs take, and back: one conversion for all of them.

BT.709 matrix (ITU-R BT.709-6, item 3), limited range (Y 16..235, C 16..240 at 8 bits), chroma halved by area
averaging. swscale's fast paths lose up to 4 dB of colour on the way, which no codec should be charged for,
so the arithmetic is done here in float32 and rounded once.

Chroma comes back either smoothly (`cubic`) or by repetition (`nearest`). Frames of a clip that was itself
4:2:0 and had its chroma repeated when it was decoded are served best by repetition, lossless pictures by
`cubic`; `better_chroma` chooses per clip and coded size, for all codecs alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from discover_stream.types import Image, InputError

Chroma = Literal["cubic", "nearest"]
"""How halved chroma is brought back to full size."""

KR, KB = 0.2126, 0.0722
KG = 1.0 - KR - KB
PIXEL_FORMATS = {8: "yuv420p", 10: "yuv420p10le"}
BT709, LIMITED = 1, 1
"""Code points of ITU-T H.273 (matrix, primaries, transfer) and FFmpeg's range."""

_UPSAMPLING = {"cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}

Plane = npt.NDArray[np.float32]


def even(image: Image) -> Image:
    """The picture with its last column and row repeated where a side is odd. (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def to_yuv(image: Image, bits: int = 8) -> VideoFrame:
    """A picture with even sides as a frame for an encoder.

    Args:
        image: (H, W, 3) uint8 RGB.
        bits: per sample, 8 or 10.

    Raises:
        InputError: other numbers of bits.
    """
    if bits not in PIXEL_FORMATS:
        raise InputError(f"peers code with 8 or 10 bits a sample, not {bits}; change the setting `bits`")
    height, width = image.shape[:2]
    red, green, blue = (image[..., channel].astype(np.float32) for channel in range(3))
    luma = KR * red + KG * green + KB * blue
    halves = [
        cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        for plane in ((blue - luma) / (2 - 2 * KB), (red - luma) / (2 - 2 * KR))
    ]
    scale = 1 << (bits - 8)
    planes = [(luma * (219 / 255) + 16) * scale, *((half * (224 / 255) + 128) * scale for half in halves)]
    kind = np.uint8 if bits == 8 else np.uint16
    frame = VideoFrame(width, height, PIXEL_FORMATS[bits])
    for plane, values in zip(frame.planes, planes, strict=True):
        samples = np.clip(np.rint(values), 0, 256 * scale - 1).astype(kind)
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), kind)
        rows[:, : plane.width] = samples
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = BT709, LIMITED
    return frame


def to_rgb(frame: VideoFrame, chroma: Chroma) -> Image:
    """A decoded frame as a picture, (H, W, 3) uint8 RGB.

    Raises:
        InputError: the frame is not 4:2:0 with 8 or 10 bits.
    """
    bits = {name: bits for bits, name in PIXEL_FORMATS.items()}.get(frame.format.name)
    if bits is None:
        raise InputError(f"a decoder gave {frame.format.name} pictures; only 4:2:0 with 8 or 10 bits is known here")
    scale, kind = 1 << (bits - 8), np.uint8 if bits == 8 else np.uint16
    planes: list[Plane] = []
    for plane in frame.planes:
        line = plane.line_size // np.dtype(kind).itemsize
        samples = np.frombuffer(bytes(plane), kind).reshape(plane.height, line)[:, : plane.width]
        planes.append(samples.astype(np.float32) / scale)
    luma = (planes[0] - 16) * (255 / 219)
    size, way = (luma.shape[1], luma.shape[0]), _UPSAMPLING[chroma]
    blue_off, red_off = (
        cv2.resize((plane - 128) * (255 / 224), size, interpolation=way).astype(np.float32) for plane in planes[1:]
    )
    red, blue = luma + (2 - 2 * KR) * red_off, luma + (2 - 2 * KB) * blue_off
    green = (luma - KR * red - KB * blue) / KG
    stacked = np.stack([red, green, blue], axis=-1)
    image: Image = np.clip(np.rint(stacked), 0, 255).astype(np.uint8)
    return image


def better_chroma(frames: Sequence[Image]) -> Chroma:
    """The upsampling that loses less on a few of these frames when nothing is coded at all."""

    def loss(way: Chroma) -> float:
        chosen = [even(frame) for frame in frames[:: max(1, len(frames) // 3)]]
        errors = [to_rgb(to_yuv(image), way).astype(np.float32) - image for image in chosen]
        return float(np.mean([np.square(error).mean() for error in errors]))

    return "nearest" if loss("nearest") < loss("cubic") else "cubic"


def shrunk(image: Image, scale: float) -> Image:
    """The picture at `scale` (0..1] of its sides, averaged; both sides stay even and at least 16 pixels."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = (max(16, 2 * round(width * scale / 2)), max(16, 2 * round(height * scale / 2)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def enlarged(image: Image, width: int, height: int) -> Image:
    """The picture brought back to `width` x `height` pixels with a Lanczos filter."""
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4).astype(np.uint8)
