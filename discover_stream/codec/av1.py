"""AV1 stills without what follows from their size: how small pictures are sent when AV1 codes them.

A still in AV1's low-overhead format is a temporal delimiter, a sequence header and one frame, which starts with a
header of its own; a container adds more. For a picture of 32x32 samples that can be three quarters of all bytes. Small
pictures are coded with tools whose frame header is known but for the quantizer, so a byte for that and the tiles
are sent; of others, the frame and a byte that says which tools it uses. The decoder writes anew what stands before
(AV1 Bitstream & Decoding Process Specification, sections 5.3 to 5.5 and 5.9):

::

    0x12 0x00                  temporal delimiter
    0x0A, length               sequence header; see `sequence_header`
    0x32, length               frame: its header, see `frame_header`, and its tiles

Conventions: pictures are uint8 RGB; coded are full-range BT.601 Y, Cb, Cr (JFIF's) with halved chroma, 8 bits. Sides
are extended to multiples of 8, at least 16, by repeating the last row and column, and cut after decoding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from discover_stream.codec.av1_priority import open_encoder
from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.framing import MAX_PIXELS, MAX_SIDE
from discover_stream.types import BitstreamError, Image, InputError

MAX_QUANTIZER = 63
PRESET = 4
"""SVT-AV1's: 3 and below take twice as long for 1 %, 6 and above lose 5 % and more at equal quality."""
LEAST_SIDE = 16
STEP = 8
DELIMITER = b"\x12\x00"
SEQUENCE_HEADER, FRAME = 1, 6
"""Types of AV1's units (OBUs)."""
LARGEST_LEVEL = 31
"""`seq_level_idx` that promises nothing."""
SUPERBLOCK = 64
OTHER = 0
"""First byte of what is not a small picture's tiles; a quantizer index is at least 1."""
WHOLE = 0xFF
FULL_RANGE = 2
SMALL = 2**14
"""Samples up to which a picture is coded without filters: below, their parameters cost more than they are worth."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a sequence header switches on for its frame, by the names in AV1's specification."""

    use_128x128_superblock: bool = False
    enable_filter_intra: bool = True
    enable_intra_edge_filter: bool = False
    enable_cdef: bool = False
    enable_restoration: bool = False

    @property
    def number(self) -> int:
        """Five bits, the first tool highest."""
        flags = (
            self.use_128x128_superblock,
            self.enable_filter_intra,
            self.enable_intra_edge_filter,
            self.enable_cdef,
            self.enable_restoration,
        )
        return sum(flag << shift for flag, shift in zip(flags, range(4, -1, -1), strict=True))

    @classmethod
    def of(cls, number: int) -> Tools:
        """The tools that five bits stand for."""
        return cls(*(bool(number >> shift & 1) for shift in range(4, -1, -1)))


PLAIN = Tools()
"""Those of small pictures."""


def coded_side(side: int) -> int:
    """Samples along a side of the coded picture, for `side` samples of the picture itself."""
    return max(LEAST_SIDE, -(-side // STEP) * STEP)


def sequence_header(width: int, height: int, tools: Tools = PLAIN) -> bytes:
    """The header that a still of this coded size is decoded with, without its unit's two bytes.

    Args:
        width: of the coded picture, in samples.
        height: of the coded picture, in samples.
        tools: what is switched on.
    """
    writer = BitWriter()
    writer.put(0, 3)  # seq_profile: 4:2:0, 8 bits
    writer.put(1, 1)  # still_picture
    writer.put(1, 1)  # reduced_still_picture_header
    writer.put(LARGEST_LEVEL, 5)
    sides = (width - 1, height - 1)
    for side in sides:
        writer.put(side.bit_length() - 1, 4)
    for side in sides:
        writer.put(side, side.bit_length())
    number = tools.number
    writer.put(number >> 2, 3)
    writer.put(0, 1)  # enable_superres
    writer.put(number & 3, 2)
    writer.put(0, 1)  # high_bitdepth
    writer.put(0, 1)  # mono_chrome
    writer.put(0, 1)  # color_description_present_flag
    writer.put(1, 1)  # color_range: full
    writer.put(0, 2)  # chroma_sample_position: unknown
    writer.put(0, 1)  # separate_uv_delta_q
    writer.put(0, 1)  # film_grain_params_present
    writer.put(1, 1)  # trailing bit
    return writer.bytes()


def tools_of(header: bytes, width: int, height: int) -> Tools | None:
    """Which tools an encoder's sequence header switches on; None where `sequence_header` cannot say the same.

    Level and the description of colours do not change what is decoded and may differ.
    """
    reader = BitReader(header)
    try:
        fixed = reader.take(5)
        reader.take(5)  # level
        bits = [reader.take(4) + 1 for _ in range(2)]
        size = tuple(reader.take(count) + 1 for count in bits)
        first, superres, second = reader.take(3), reader.take(1), reader.take(2)
        depth, mono, described = reader.take(1), reader.take(1), reader.take(1)
        matrix = reader.take(24) & 0xFF if described else 2
        reader.take(3)  # colour range and place of chroma
        separate, grain = reader.take(1), reader.take(1)
    except BitstreamError:
        return None
    same = fixed == 0b00011 and size == (width, height) and matrix != 0
    if not same or superres or depth or mono or separate or grain:
        return None
    return Tools.of(first << 2 | second)


def _leb128(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*data, value))


def _unit(kind: int, body: bytes) -> bytes:
    return bytes((kind << 3 | 2,)) + _leb128(len(body)) + body


def units_of(data: bytes) -> list[tuple[int, bytes]]:
    """Type and content of an encoder's units, each of which must state its size and no layer.

    Raises:
        ValueError: the bytes are something else.
    """
    found, position = [], 0
    while position < len(data):
        start = data[position]
        if start & 0x87 != 0x02:
            raise ValueError("a unit states no size, or a layer")
        kind, length, shift = start >> 3, 0, 0
        position += 1
        while True:
            if position >= len(data) or shift > 28:
                raise ValueError("a unit's size is cut off")
            byte = data[position]
            length |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
        if position + length > len(data):
            raise ValueError("a unit is cut off")
        found.append((kind, data[position : position + length]))
        position += length
    return found


def frame_header(width: int, height: int, base: int) -> bytes:
    """The first bytes of a small picture's frame: no filters, one quantizer, one tile; five bytes.

    Args:
        width: of the coded picture, in samples.
        height: of the coded picture, in samples.
        base: `base_q_idx`, 1..255.
    """
    writer = BitWriter()
    writer.put(0, 1)  # disable_cdf_update
    writer.put(0, 1)  # allow_screen_content_tools
    writer.put(0, 1)  # render_and_frame_size_different
    writer.put(1, 1)  # uniform_tile_spacing_flag
    for side in (width, height):
        if side > SUPERBLOCK:
            writer.put(0, 1)  # increment_tile_cols_log2, increment_tile_rows_log2
    writer.put(base, 8)
    writer.put(0, 3)  # differences of the quantizers of Y's DC, and of chroma's DC and AC
    writer.put(0, 1)  # using_qmatrix
    writer.put(0, 1)  # segmentation_enabled
    writer.put(0, 1)  # delta_q_present
    writer.put(0, 12)  # loop_filter_level, two of them
    writer.put(0, 3)  # loop_filter_sharpness
    writer.put(0, 1)  # loop_filter_delta_enabled
    writer.put(1, 1)  # tx_mode_select
    writer.put(0, 1)  # reduced_tx_set
    return writer.bytes()


def base_index(data: bytes) -> int | None:
    """The quantizer index (1..255) of a small picture, as sent; None for others."""
    return data[0] if data and data[0] != OTHER else None


def stripped(data: bytes, width: int, height: int) -> bytes:
    """What is sent of an encoder's still.

    The quantizer's byte and the tiles where the decoder's own headers fit; else 0 and the tools' byte before the frame;
    and where no header that the decoder would write fits, 0 and 0xFF before everything but the temporal delimiter.

    Args:
        data: of the encoder, starting with a temporal delimiter.
        width: of the coded picture, in samples.
        height: of the coded picture, in samples.
    """
    try:
        units = units_of(data)
        if [kind for kind, _ in units[1:]] == [SEQUENCE_HEADER, FRAME]:
            tools, frame = tools_of(units[1][1], width, height), units[2][1]
            if tools == PLAIN:
                reader = BitReader(frame)
                reader.take(4 + (width > SUPERBLOCK) + (height > SUPERBLOCK))
                base = reader.take(8)
                start = frame_header(width, height, base)
                if base and frame.startswith(start) and len(frame) > len(start):
                    return bytes((base,)) + frame[len(start) :]
            if tools is not None:
                return bytes((OTHER, tools.number)) + frame
    except (BitstreamError, ValueError):
        pass
    return bytes((OTHER, WHOLE)) + data.removeprefix(DELIMITER)


def restored(data: bytes, width: int, height: int) -> bytes:
    """What a decoder reads: the opposite of `stripped`.

    Args:
        data: as sent.
        width: of the coded picture, in samples.
        height: of the coded picture, in samples.

    Raises:
        BitstreamError: it does not start like anything that is sent.
    """
    if len(data) < 2 or (data[0] == OTHER and len(data) < 3):
        raise BitstreamError(f"an AV1 still of {len(data)} bytes was cut off")
    if data[0] != OTHER:
        tools, frame = PLAIN, frame_header(width, height, data[0]) + data[1:]
    elif data[1] == WHOLE:
        return DELIMITER + data[2:]
    elif data[1] < 32:
        tools, frame = Tools.of(data[1]), data[2:]
    else:
        raise BitstreamError("an AV1 still does not say how it was coded as this format does")
    header = sequence_header(width, height, tools)
    return DELIMITER + _unit(SEQUENCE_HEADER, header) + _unit(FRAME, frame)


def _to_frame(samples: Image) -> VideoFrame:
    height, width = samples.shape[:2]
    colours = cv2.cvtColor(samples, cv2.COLOR_RGB2YCrCb)
    half = (width // 2, height // 2)
    chroma = [cv2.resize(colours[..., channel], half, interpolation=cv2.INTER_AREA) for channel in (2, 1)]
    frame = VideoFrame(width, height, "yuv420p")
    for plane, values in zip(frame.planes, (colours[..., 0], *chroma), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    frame.color_range = FULL_RANGE
    return frame


def _to_samples(frame: VideoFrame) -> Image:
    planes = [
        np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]
    size = (frame.width, frame.height)
    blue, red = (cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR_EXACT) for plane in planes[1:])
    image: Image = cv2.cvtColor(np.dstack([planes[0], red, blue]), cv2.COLOR_YCrCb2RGB).astype(np.uint8)
    return image


def encode_av1(samples: Image, quantizer: int, preset: int = PRESET) -> bytes:
    """A picture as an AV1 still, stripped.

    Args:
        samples: (H, W, 3) uint8 RGB.
        quantizer: 1 (best) to 63.
        preset: SVT-AV1's speed, 0 (slow) to 13.

    Raises:
        InputError: the quantizer, the preset or the picture's size is out of range.
    """
    height, width = samples.shape[:2]
    if not 1 <= quantizer <= MAX_QUANTIZER or not 0 <= preset <= 13:
        raise InputError(f"AV1 stills take quantizers 1..{MAX_QUANTIZER} and presets 0..13, not {quantizer}, {preset}")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InputError(f"AV1 stills have sides of 1..{MAX_SIDE} samples, not {width}x{height}")
    columns, rows = coded_side(width), coded_side(height)
    whole = np.pad(samples, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    return stripped(encoder_units(whole, quantizer, preset), columns, rows)


def encoder_units(samples: Image, quantizer: int, preset: int) -> bytes:
    """What the encoder makes of a picture of coded size: a still in AV1's low-overhead format."""
    height, width = samples.shape[:2]
    # The encoder would write its settings to stderr for every picture.
    os.environ.setdefault("SVT_LOG", "1")
    context = CodecContext.create("libsvtav1", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.color_range = FULL_RANGE
    # One thread: threads cost more to start than a small picture takes.
    unfiltered = ":enable-restoration=0:enable-cdef=0:enable-dlf=0" if width * height <= SMALL else ""
    parameters = f"avif=1:lp=1{unfiltered}"
    context.options = {"crf": str(quantizer), "preset": str(preset), "svtav1-params": parameters}
    open_encoder(context)
    return b"".join(bytes(packet) for packet in context.encode(_to_frame(samples)) + context.encode(None))


def decode_av1(data: bytes, width: int, height: int) -> Image:
    """The picture of a stripped AV1 still; exact, on any machine, up to the colour conversion's rounding.

    Args:
        data: of `encode_av1`.
        width: of the picture, in samples.
        height: of the picture, in samples.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        BitstreamError: the bytes are damaged, or a picture of another size.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise BitstreamError(f"an AV1 still of {width}x{height} samples is beyond the format's bounds")
    columns, rows = coded_side(width), coded_side(height)
    whole = restored(data, columns, rows)
    context = CodecContext.create("libdav1d", "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    # A frame that states a larger size is refused before memory is taken for it.
    context.options = {"framethreads": "1", "tilethreads": "1", "max_pixels": str(columns * rows)}
    try:
        frames = context.decode(av.Packet(whole)) + context.decode(None)
    except (FFmpegError, ValueError) as error:
        raise BitstreamError(f"an AV1 still of {width}x{height} samples is damaged ({error})") from None
    if len(frames) != 1:
        raise BitstreamError(f"an AV1 still of {width}x{height} samples is damaged: {len(frames)} pictures in it")
    frame = frames[0]
    assert isinstance(frame, VideoFrame)
    if (frame.width, frame.height, frame.format.name) != (columns, rows, "yuv420p"):
        raise BitstreamError(f"an AV1 still of {width}x{height} samples is another picture: {frame}")
    return _to_samples(frame)[:height, :width]
