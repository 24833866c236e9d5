from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec import av1
from discover_stream.codec.av1 import (
    DELIMITER,
    OTHER,
    PLAIN,
    WHOLE,
    Tools,
    base_index,
    coded_side,
    decode_av1,
    encode_av1,
    encoder_units,
    frame_header,
    restored,
    sequence_header,
    stripped,
    tools_of,
    units_of,
)
from discover_stream.types import BitstreamError, Image, InputError


def picture(width: int, height: int) -> Image:
    """Smooth, with an edge, in colour."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red = 128 + 80 * np.sin(x / 9 + y / 17)
    green = 110 + 60 * np.cos(y / 11)
    blue = np.where(x + y > (width + height) / 2, 190.0, 60.0)
    return np.stack([red, green, blue], -1).astype(np.uint8)


def psnr(one: Image, other: Image) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (16, 16), (17, 33), (8, 72), (64, 64), (65, 16), (48, 96), (128, 128), (16, 512)]
)
def test_small_pictures_are_a_quantizer_and_tiles(width: int, height: int) -> None:
    """What is sent decodes to what the encoder's own bytes decode to, at every quantizer."""
    columns, rows = coded_side(width), coded_side(height)
    for quantizer in (1, 20, 44, 63):
        samples = picture(width, height)
        sent = encode_av1(samples, quantizer)
        whole = np.pad(samples, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
        own = encoder_units(whole, quantizer, av1.PRESET)
        assert base_index(sent) is not None
        assert len(sent) <= len(own) - 16
        by_itself = bytes((OTHER, WHOLE)) + own.removeprefix(DELIMITER)
        assert np.array_equal(decode_av1(sent, width, height), decode_av1(by_itself, width, height))


def test_a_picture_of_nothing_costs_next_to_nothing() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    assert len(encode_av1(grey, 30)) <= 5
    assert np.abs(decode_av1(encode_av1(grey, 30), 32, 32).astype(int) - 128).max() <= 1


def test_larger_pictures_use_filters() -> None:
    samples = picture(160, 128)
    sent = encode_av1(samples, 40)
    assert base_index(sent) is None
    assert sent[0] == OTHER
    assert Tools.of(sent[1]).enable_cdef
    assert decode_av1(sent, 160, 128).shape == (128, 160, 3)


@pytest.mark.parametrize("preset", [3, 5, 8, 12])
def test_any_preset_can_be_decoded(preset: int) -> None:
    samples = picture(48, 40)
    assert psnr(decode_av1(encode_av1(samples, 8, preset), 48, 40), samples) > 31


def test_quality_follows_the_quantizer() -> None:
    samples = picture(96, 64)
    coded = [encode_av1(samples, quantizer) for quantizer in (4, 24, 48)]
    good = [psnr(decode_av1(data, 96, 64), samples) for data in coded]
    assert good[0] > 35
    assert good == sorted(good, reverse=True)
    assert sorted(map(len, coded), reverse=True) == [len(data) for data in coded]


def test_what_was_coded_once_stays_decodable() -> None:
    """The bytes of a packet from another machine and another encoder: 24x16, a bright bar on a ramp."""
    frozen = bytes.fromhex(GOLDEN)
    expected = np.full((16, 24, 3), 40.0) + 4 * np.arange(24)[None, :, None]
    expected[:, 8:12] = (220, 60, 60)
    decoded = decode_av1(frozen, 24, 16)
    assert np.abs(decoded[4:12, 14:] - expected[4:12, 14:]).max() < 12
    assert np.abs(decoded[8, 9:11].astype(int) - (220, 60, 60)).max() < 40
    assert base_index(frozen) == 80


GOLDEN = "50c673b21d6d0de260a873a1deb4f2d9c24b0152a3b7ee7e91f78f0ff1b25d271e4f76d32260"


def test_headers_byte_by_byte() -> None:
    """As docs/bitstream.md gives them."""
    assert sequence_header(16, 16).hex() == "1fccffd01080"
    assert sequence_header(48, 96).hex() == "1fd5afbe8084"
    assert tools_of(sequence_header(640, 352, Tools(True, False, True, True, True)), 640, 352) == Tools(
        True, False, True, True, True
    )
    assert frame_header(16, 16, 0xAB).hex() == "1ab0000020"
    assert frame_header(128, 128, 0xFF).hex() == "13fc000008"


def test_tools_have_a_number() -> None:
    assert [Tools.of(number).number for number in range(32)] == list(range(32))
    assert PLAIN.number == 0b01000


def test_other_headers_are_sent_whole() -> None:
    """An encoder whose headers the decoder cannot write still gets through."""
    own = encoder_units(picture(32, 32), 30, av1.PRESET)
    units = units_of(own)
    header = bytearray(units[1][1])
    header[0] ^= 0x20  # another profile
    changed = DELIMITER + bytes((0x0A, len(header))) + bytes(header) + own[2 + 2 + len(header) :]
    sent = stripped(changed, 32, 32)
    assert sent[:2] == bytes((OTHER, WHOLE))
    assert restored(sent, 32, 32) == changed
    assert stripped(b"nonsense", 32, 32) == bytes((OTHER, WHOLE)) + b"nonsense"
    assert np.array_equal(
        decode_av1(bytes((OTHER, WHOLE)) + own[2:], 32, 32), decode_av1(stripped(own, 32, 32), 32, 32)
    )


@given(st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_an_error_or_a_picture_of_that_size(seed: int, data: st.DataObject) -> None:
    coded = bytearray(SAMPLE)
    random = np.random.default_rng(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        coded[int(random.integers(len(coded)))] = int(random.integers(256))
    cut = data.draw(st.integers(0, len(coded)))
    try:
        assert decode_av1(bytes(coded[:cut]), 40, 40).shape == (40, 40, 3)
    except BitstreamError as error:
        assert "\n" not in str(error)  # noqa: PT017


SAMPLE = encode_av1(picture(40, 40), 25)


@pytest.mark.parametrize(
    "data", [b"", b"\x10", b"\x00", b"\x00\x08", b"\x00\x20abc", b"\x00\xff", b"\x00\xffabc", b"\xff" * 40]
)
def test_foreign_bytes_are_refused_or_decode(data: bytes) -> None:
    try:
        decode_av1(data, 16, 16)
    except BitstreamError:
        return
    assert data[0] != OTHER


def test_a_frame_of_another_size_is_refused() -> None:
    """Before memory is taken for it, where it is larger."""
    large = bytes((OTHER, WHOLE)) + encoder_units(picture(64, 64), 30, av1.PRESET)[2:]
    with pytest.raises(BitstreamError, match="16x16"):
        decode_av1(large, 16, 16)
    with pytest.raises(BitstreamError, match="128x128"):
        decode_av1(large, 128, 128)
    with pytest.raises(BitstreamError, match="bounds"):
        decode_av1(large, 8192, 8192)


def test_two_frames_are_refused() -> None:
    own = encoder_units(picture(32, 32), 30, av1.PRESET)
    with pytest.raises(BitstreamError, match="2 pictures"):
        decode_av1(bytes((OTHER, WHOLE)) + own[2:] + own, 32, 32)


def test_arguments_are_checked() -> None:
    with pytest.raises(InputError, match=r"quantizers 1\.\.63"):
        encode_av1(picture(16, 16), 0)
    with pytest.raises(InputError, match="sides"):
        encode_av1(np.zeros((0, 5, 3), np.uint8), 5)
