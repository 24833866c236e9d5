"""What a camera's pictures would take as H.264: measured, by coding its newest originals."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from discover_stream.app.gateway.models import H264
from discover_stream.app.gateway.originals import newest_frames
from discover_stream.app.replay import frame_rate
from discover_stream.types import Image
from discover_stream.video.jpeg import decode_jpeg
from discover_stream.video.sink import mp4_encoder
from topics.log import Log

_FRAMES = 40
_OPTIONS = {"preset": "medium", "crf": "28"}
METHOD = "libx264, preset medium, crf 28, one group of pictures, over the newest originals that the log keeps"


def h264_rate(log: Log, camera: str) -> H264:
    """kbit/s of the newest frames of a camera; None where fewer than two are kept. Raises LogError."""
    frames = newest_frames(log, camera, _FRAMES)
    times = [frame.capture_ns for frame in frames]
    fps = frame_rate(times)
    seconds = len(frames) / fps
    if len(frames) < 2:
        return H264(kbps=None, frames=len(frames), seconds=seconds, method=METHOD)
    size = coded_bytes([decode_jpeg(frame.jpeg) for frame in frames], fps)
    return H264(kbps=round(8 * size / 1000 / seconds, 2), frames=len(frames), seconds=round(seconds, 3), method=METHOD)


def coded_bytes(images: list[Image], fps: float) -> int:
    """Bytes of pictures (H, W, 3) of one size as H.264."""
    name, _ = mp4_encoder()
    coder = av.CodecContext.create(name, "w")
    assert isinstance(coder, av.VideoCodecContext)
    rate = Fraction(fps).limit_denominator(1000)
    height, width = images[0].shape[:2]
    coder.width, coder.height, coder.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
    coder.framerate, coder.time_base, coder.gop_size = rate, 1 / rate, len(images)
    coder.options = dict(_OPTIONS) if name == "libx264" else {}
    total = 0
    for number, image in enumerate(images):
        even = np.ascontiguousarray(image[: coder.height, : coder.width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = number, coder.time_base
        total += sum(packet.size for packet in coder.encode(frame))
    return total + sum(packet.size for packet in coder.encode(None))
