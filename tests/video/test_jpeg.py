import io

import numpy as np
import PIL.Image
import pytest

from discover_stream.types import BitstreamError
from discover_stream.video.jpeg import decode_jpeg, encode_jpeg


def scene(height=33, width=47):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 5, y * 7, 255 - x * 4], axis=2) % 256
    return np.clip(smooth * 0.6 + rng.normal(60, 3, smooth.shape), 0, 255).astype(np.uint8)


def test_round_trip_is_close_and_keeps_colour_detail():
    image = scene()
    data = encode_jpeg(image)
    back = decode_jpeg(data)
    assert back.shape == image.shape
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - image).mean() < 3
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    assert np.abs(decode_jpeg(encode_jpeg(stripes)).astype(int) - stripes).max() < 40
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert opened.layers == 3
        assert all(layer[1:3] == (1, 1) for layer in opened.layer)


def test_quality_costs_bytes():
    assert len(encode_jpeg(scene(), 60)) < len(encode_jpeg(scene(), 95))


@pytest.mark.parametrize("size", [(1, 1), (17, 33)])
def test_odd_sizes(size):
    assert decode_jpeg(encode_jpeg(scene(*size))).shape == (*size, 3)


def test_damage_is_refused():
    data = encode_jpeg(scene(64, 64))
    for wrong in (b"", b"nothing", data[:10], data[: len(data) // 2], b"\x00" + data[1:]):
        with pytest.raises(BitstreamError, match=f"JPEG frame of {len(wrong)} bytes"):
            decode_jpeg(wrong)


def test_grey_becomes_rgb():
    buffer = io.BytesIO()
    PIL.Image.new("L", (8, 8), 100).save(buffer, format="JPEG")
    assert decode_jpeg(buffer.getvalue()).shape == (8, 8, 3)
