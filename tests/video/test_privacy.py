from __future__ import annotations

import numpy as np

from discover_stream.video.jpeg import decode_jpeg, encode_jpeg
from discover_stream.video.privacy import blacked_out

PICTURE = np.full((90, 160, 3), 200, np.uint8)


def test_without_zones_nothing_is_copied() -> None:
    assert blacked_out(PICTURE, ()) is PICTURE


def test_a_rectangle_is_black_to_its_corners_and_the_rest_stays() -> None:
    found = blacked_out(PICTURE, [((0.25, 0.5), (0.5, 0.5), (0.5, 1.0), (0.25, 1.0))])
    assert not found[45:, 40:80].any()
    assert (found[:36] == 200).all()
    assert (found[:, 90:] == 200).all()
    assert (PICTURE == 200).all()


def test_nothing_of_a_zone_shines_through_jpeg() -> None:
    striped = PICTURE.copy()
    striped[::2] = 0
    decoded = decode_jpeg(encode_jpeg(blacked_out(striped, [((0.3, 0.3), (0.7, 0.4), (0.5, 0.8))])))
    rows, columns = np.mgrid[0:90, 0:160]
    inside = (np.abs(rows - 42) < 5) & (np.abs(columns - 80) < 8)
    assert decoded[inside].max() < 8


def test_a_zone_without_area_still_hides_its_line() -> None:
    found = blacked_out(PICTURE, [((0.1, 0.5), (0.9, 0.5), (0.1, 0.5))])
    assert not found[44, 20:140].any()
