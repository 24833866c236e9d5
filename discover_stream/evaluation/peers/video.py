"""x264, x265 and SVT-AV1 as elementary streams: one encode, one decode, no container.

Bytes are those of the coded pictures and of one set of parameter sets. What carries no picture is left
out: x264's and x265's text of options (a supplemental message) and AV1's temporal delimiters (two bytes a
frame that every container drops).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
from av.codec.context import CodecContext, Flags
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from discover_stream.codec.av1_priority import open_encoder
from discover_stream.evaluation.peers.colour import (
    BT709,
    LIMITED,
    PIXEL_FORMATS,
    Chroma,
    better_chroma,
    enlarged,
    even,
    shrunk,
    to_rgb,
    to_yuv,
)
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import Image, InputError

VideoCodec = Literal["x264", "x265", "svt-av1"]

ENCODERS: dict[VideoCodec, str] = {"x264": "libx264", "x265": "libx265", "svt-av1": "libsvtav1"}
DECODERS: dict[VideoCodec, str] = {"x264": "h264", "x265": "hevc", "svt-av1": "libdav1d"}
GOP_SECONDS = 10
TEMPORAL_DELIMITER = b"\x12\x00"
SUPPLEMENTAL = 6
"""NAL unit type of H.264's supplemental messages."""


@dataclass(frozen=True)
class VideoSettings:
    """How a video codec is run.

    Attributes:
        crf: constant rate factor, the encoder's own scale.
        preset: speed, the encoder's own scale.
        tune: the encoder's own names or numbers; empty for its default.
        scale: of the picture's sides before coding; it is enlarged again after decoding.
        bits: per sample, 8 or 10.
        params: further encoder parameters, `name=value` joined by colons.
    """

    crf: int
    preset: str
    tune: str = ""
    scale: float = 1.0
    bits: int = 8
    params: str = ""


def encoder_options(codec: VideoCodec, settings: VideoSettings, gop: int) -> dict[str, str]:
    """The options as FFmpeg's command line takes them."""
    options = {"preset": settings.preset, "crf": str(settings.crf), "g": str(gop)}
    own: list[str] = list(filter(None, settings.params.split(":")))
    if codec == "svt-av1":
        # One thread: SVT-AV1 4 waits for ever on some pictures a few rows high with more, and bytes repeat.
        own = ["lp=1", *([f"tune={settings.tune}"] if settings.tune else []), *own]
        options["svtav1-params"] = ":".join(own)
    else:
        if settings.tune:
            options["tune"] = settings.tune
        if codec == "x265":
            own = ["info=0", "log-level=none", "pools=none", "frame-threads=1", f"keyint={gop}", *own]
            options["x265-params"] = ":".join(own)
        elif own:
            options["x264-params"] = ":".join(own)
    return {name: value for name, value in options.items() if value}


def command_line(codec: VideoCodec, settings: VideoSettings, gop: str) -> str:
    """The equivalent FFmpeg command; `gop` is a number or a word for it."""
    options = encoder_options(codec, settings, 0) | {"g": gop}
    words = " ".join(f"-{name} {value.replace('keyint=0', f'keyint={gop}')}" for name, value in options.items())
    size = f"scale=iw*{settings.scale:g}:ih*{settings.scale:g}:flags=area," if settings.scale != 1 else ""
    pixels = PIXEL_FORMATS[settings.bits]
    colour = f'-vf "{size}scale=out_color_matrix=bt709:out_range=tv" -pix_fmt {pixels}'
    return f"ffmpeg -i IN {colour} -c:v {ENCODERS[codec]} {words} OUT"


def _context(
    codec: VideoCodec, settings: VideoSettings, size: tuple[int, int], fps: float, apart: bool
) -> VideoCodecContext:
    # The encoder would write its settings to stderr for every clip.
    os.environ.setdefault("SVT_LOG", "1")
    context = CodecContext.create(ENCODERS[codec], "w")
    assert isinstance(context, VideoCodecContext)
    rate = Fraction(fps).limit_denominator(1001)
    context.width, context.height = size
    context.pix_fmt = PIXEL_FORMATS[settings.bits]
    context.framerate, context.time_base = rate, 1 / rate
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED
    context.thread_count = 1
    context.options = encoder_options(codec, settings, _gop(fps))
    if apart and codec != "svt-av1":  # whose sequence header stands in every key frame in any case
        context.flags |= Flags.global_header
    return context


def _gop(fps: float) -> int:
    return max(1, round(GOP_SECONDS * fps))


def without_supplement(data: bytes) -> bytes:
    """H.264 NAL units in Annex B format without the supplemental messages."""
    units = []
    starts = _start_codes(data)
    for index, (begin, length) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(data)
        if data[begin + length] & 0x1F != SUPPLEMENTAL:
            units.append(data[begin:end])
    return b"".join(units)


def _start_codes(data: bytes) -> list[tuple[int, int]]:
    """(position, length) of every start code: 00 00 01, with the zero that may stand before it."""
    found = []
    position = data.find(b"\x00\x00\x01")
    while position >= 0:
        longer = position > 0 and data[position - 1] == 0
        found.append((position - longer, 3 + longer))
        position = data.find(b"\x00\x00\x01", position + 3)
    return found


def _payload(codec: VideoCodec, data: bytes) -> bytes:
    if codec == "svt-av1":
        return data.removeprefix(TEMPORAL_DELIMITER)
    return without_supplement(data) if codec == "x264" else data


def code_frames(
    codec: VideoCodec, settings: VideoSettings, frames: Sequence[Image], fps: float, *, apart: bool = True
) -> tuple[bytes, tuple[Chunk, ...]]:
    """Code frames with even sides.

    Args:
        codec: which.
        settings: how; `scale` is not looked at.
        frames: (H, W, 3) uint8 RGB, all of one size.
        fps: frames a second.
        apart: whether parameter sets come apart from the frames, once, instead of with each key frame.

    Returns:
        the parameter sets (empty where they come with the frames), and the coded frames in coding order.

    Raises:
        InputError: the encoder refuses the settings.
    """
    height, width = frames[0].shape[:2]
    packets: list[av.Packet[VideoStream]] = []
    try:
        context = _context(codec, settings, (width, height), fps, apart)
        open_encoder(context)
        for index, image in enumerate(frames):
            frame = to_yuv(image, settings.bits)
            frame.pts, frame.time_base = index, context.time_base
            packets += context.encode(frame)
        packets += context.encode(None)
    except (av.FFmpegError, ValueError) as error:
        words = command_line(codec, settings, str(_gop(fps)))
        raise InputError(f"{codec} refused {width}x{height} frames ({error}); it was run as: {words}") from error
    chunks = tuple(Chunk(int(packet.pts or 0), _payload(codec, bytes(packet))) for packet in packets)
    return (bytes(context.extradata or b"") if context.flags & Flags.global_header else b""), chunks


def decode_frames(codec: VideoCodec, setup: bytes, chunks: Sequence[Chunk], chroma: Chroma) -> list[Image]:
    """The frames in display order, (H, W, 3) uint8 RGB each."""
    context = CodecContext.create(DECODERS[codec], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    if setup:
        context.extradata = setup
    frames = []
    for chunk in chunks:
        packet = av.Packet(chunk.data)
        packet.pts = chunk.frame
        frames += context.decode(packet)
    frames += context.decode(None)
    return [to_rgb(frame, chroma) for frame in sorted(frames, key=lambda frame: int(frame.pts or 0))]


@dataclass(frozen=True)
class VideoPeer:
    """A video codec in inter mode, key frames every `GOP_SECONDS`."""

    codec: VideoCodec
    settings: VideoSettings

    @property
    def name(self) -> str:
        """As in tables."""
        return self.codec

    def encode(self, clip: Clip) -> Coded:
        """Code a clip; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        frames = [even(shrunk(frame, self.settings.scale)) for frame in clip.frames]
        setup, chunks = code_frames(self.codec, self.settings, frames, clip.fps)
        return Coded(chunks, setup, len(frames), width, height, {"chroma": better_chroma(frames)})

    def decode(self, coded: Coded) -> Decoded:
        """Decode a clip; see `System.decode`."""
        chroma: Chroma = "nearest" if coded.notes["chroma"] == "nearest" else "cubic"
        frames = decode_frames(self.codec, coded.setup, coded.chunks, chroma)
        if self.settings.scale != 1:
            shown = tuple(enlarged(frame, coded.width, coded.height) for frame in frames)
        else:
            shown = tuple(frame[: coded.height, : coded.width] for frame in frames)
        return Decoded(shown, (None,) * len(shown))

    def command(self) -> str:
        """The equivalent command."""
        return command_line(self.codec, self.settings, f"{GOP_SECONDS}*fps")


@dataclass(frozen=True)
class IntraPeer:
    """A video codec that codes every frame as a still of its own."""

    codec: VideoCodec
    settings: VideoSettings

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.codec} intra"

    def encode(self, clip: Clip) -> Coded:
        """Code pictures; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        frames, chunks = [even(shrunk(frame, self.settings.scale)) for frame in clip.frames], []
        for index, frame in enumerate(frames):
            _, (chunk,) = code_frames(self.codec, self.settings, [frame], 1, apart=False)
            chunks.append(Chunk(index, chunk.data))
        return Coded(tuple(chunks), b"", len(chunks), width, height, {"chroma": better_chroma(frames)})

    def decode(self, coded: Coded) -> Decoded:
        """Decode pictures; see `System.decode`."""
        chroma: Chroma = "nearest" if coded.notes["chroma"] == "nearest" else "cubic"
        shown = []
        for chunk in coded.chunks:
            (frame,) = decode_frames(self.codec, b"", [Chunk(0, chunk.data)], chroma)
            if self.settings.scale != 1:
                shown.append(enlarged(frame, coded.width, coded.height))
            else:
                shown.append(frame[: coded.height, : coded.width])
        return Decoded(tuple(shown), (None,) * len(shown))

    def command(self) -> str:
        """The equivalent command."""
        return command_line(self.codec, self.settings, "1").replace("-i IN", "-i IN -frames:v 1")
