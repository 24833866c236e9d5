"""Which versions of the peers' libraries are at work here."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import PIL
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from PIL import features

from discover_stream.evaluation.peers.colour import to_yuv

_NAMES = {"x264": rb"x264 - (core \d+[ -~]*?) - H", "x265": rb"x265 (\(build \d+\) - [ -~]*?):"}
_FILES = {"SVT-AV1": r"libSvtAv1Enc[^/\s]*\.so\.([\d.]+)", "dav1d": r"libdav1d[^/\s]*\.so\.([\d.]+)"}


@cache
def _introduction(codec: str) -> bytes:
    """The bytes of one tiny picture, in which x264 and x265 introduce themselves."""
    context = CodecContext.create(f"lib{codec}", "w")
    assert isinstance(context, VideoCodecContext)
    context.width = context.height = 64
    context.pix_fmt, context.framerate, context.time_base = "yuv420p", Fraction(1), Fraction(1)
    context.options = {"x265-params": "info=1:log-level=none"} if codec == "x265" else {}
    frame = to_yuv(np.zeros((64, 64, 3), np.uint8))
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def peer_versions() -> dict[str, str]:
    """Name -> version of PyAV, FFmpeg's libraries, the encoders and the still formats.

    SVT-AV1 and dav1d tell theirs only by the names of their files, which are looked up where the system shows
    them (Linux), else left out.
    """
    found = {"PyAV": av.__version__}
    for library, numbers in av.library_versions.items():
        found[library] = ".".join(map(str, numbers))
    for name, pattern in _NAMES.items():
        said = re.search(pattern, _introduction(name))
        found[name] = said[1].decode() if said else "unknown"
    maps = Path("/proc/self/maps")
    loaded = maps.read_text(encoding="utf-8", errors="replace") if maps.exists() else ""
    for name, form in _FILES.items():
        if file := re.search(form, loaded):
            found[name] = f"library {file[1]}"
    found["Pillow"] = PIL.__version__
    for title, name in (("libjpeg-turbo", "libjpeg_turbo"), ("libwebp", "webp"), ("libavif", "avif")):
        found[title] = str(features.version(name) or "absent")
    return found
