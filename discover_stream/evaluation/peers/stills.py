"""JPEG, WebP and AVIF through Pillow: files as people store them, container included."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL
from PIL import Image as PillowImage

from discover_stream.evaluation.peers.colour import enlarged, shrunk
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import Image, InputError

StillFormat = Literal["jpeg", "webp", "avif"]


@dataclass(frozen=True)
class StillSettings:
    """How a still-picture format is written.

    Attributes:
        quality: 0..100, the format's own scale.
        scale: of the picture's sides before coding; it is enlarged again after decoding.
        subsampling: of chroma, `4:2:0` or `4:4:4`; WebP knows only the former.
        speed: AVIF's, 0 (slow) to 10.
        tune: AVIF's, `psnr`, `ssim` or `iq`; empty for the library's default.
    """

    quality: int
    scale: float = 1.0
    subsampling: str = "4:2:0"
    speed: int = 4
    tune: str = ""


def _arguments(form: StillFormat, settings: StillSettings) -> dict[str, object]:
    if form == "jpeg":
        return {"quality": settings.quality, "subsampling": settings.subsampling, "optimize": True, "progressive": True}
    if form == "webp":
        return {"quality": settings.quality, "method": 6, "use_sharp_yuv": True}
    advanced = {"advanced": {"tune": settings.tune}} if settings.tune else {}
    return {
        "quality": settings.quality,
        "speed": settings.speed,
        "subsampling": settings.subsampling,
        "codec": "aom",
        "max_threads": 1,
    } | advanced


@dataclass(frozen=True)
class StillPeer:
    """A still-picture format; frames are coded one by one."""

    form: StillFormat
    settings: StillSettings

    @property
    def name(self) -> str:
        """As in tables."""
        return self.form

    def encode(self, clip: Clip) -> Coded:
        """Code pictures; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        chunks = tuple(Chunk(index, self._file(frame)) for index, frame in enumerate(clip.frames))
        return Coded(chunks, b"", len(chunks), width, height)

    def decode(self, coded: Coded) -> Decoded:
        """Decode pictures; see `System.decode`."""
        frames = tuple(
            enlarged(np.asarray(PillowImage.open(io.BytesIO(chunk.data)).convert("RGB")), coded.width, coded.height)
            for chunk in coded.chunks
        )
        return Decoded(frames, (None,) * len(frames))

    def command(self) -> str:
        """The equivalent call."""
        words = ", ".join(f"{name}={value!r}" for name, value in _arguments(self.form, self.settings).items())
        size = f"shrunk to {self.settings.scale:g} of its sides, " if self.settings.scale != 1 else ""
        return f"{size}Pillow: image.save(OUT, {self.form!r}, {words})"

    def _file(self, image: Image) -> bytes:
        buffer = io.BytesIO()
        picture = PillowImage.fromarray(shrunk(image, self.settings.scale))
        try:
            picture.save(buffer, self.form, **_arguments(self.form, self.settings))
        except (KeyError, OSError, ValueError) as error:
            raise InputError(
                f"{self.form}: Pillow {PIL.__version__} cannot write it ({error}); install Pillow's own wheel"
            ) from error
        return buffer.getvalue()
