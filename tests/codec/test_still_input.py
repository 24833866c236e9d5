"""What still mode is asked to write and cannot: refused, in one line that says where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import MAX_REGIONS
from discover_stream.codec.still import encode_frame
from discover_stream.types import Box, Frame, Image, InputError, Region

Pictures = Callable[[int, int, int], Image]
KEYS = {"vehicles": 900, "pedestrians": 77, "everything": 40000, "signs": 5}


def frame(image: Image) -> Frame:
    return Frame("gate", 3, 1_700_000_000_000_000_123, image)


def one_region(**changes: Any) -> dict[str, list[Region]]:
    return {"vehicles": [dataclasses.replace(Region(0, 1.0, Box(0, 0, 9, 9)), **changes)]}


@pytest.mark.parametrize(
    ("scene", "options", "reason"),
    [
        (one_region(), {"quality": 0}, "quality 0"),
        (one_region(), {"quality": 9}, "quality 9"),
        (one_region(score=float("nan")), {}, "not a number"),
        (one_region(box=Box(0, float("nan"), 4, 4)), {}, "not a number"),
        (one_region(label=2**15), {}, "label 32768"),
        (one_region(label=-1), {}, "label -1"),
        (one_region(track=2**31), {}, "track"),
        ({"unknown": []}, {}, "'unknown' has no key"),
        ({f"t{i}": [] for i in range(64)}, {"keys": {f"t{i}": i for i in range(64)}}, "64 tasks"),
        ({"a": [], "b": []}, {"keys": {"a": 3, "b": 3}}, "'a' and 'b' share the key 3"),
        ({"a": []}, {"keys": {"a": 2**16}}, "no key"),
    ],
)
def test_what_the_format_cannot_say_is_refused_in_one_line(
    codec: CodecModel, picture_of: Pictures, scene: dict[str, list[Region]], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=f"camera gate, seq 3: .*{reason}") as caught:
        encode_frame(
            codec, frame(picture_of(20, 20, 0)), scene, options.get("keys", KEYS), quality=options.get("quality", 4)
        )
    assert "\n" not in str(caught.value)


def test_more_regions_than_the_format_holds_are_refused(codec: CodecModel, picture_of: Pictures) -> None:
    many = [Region(0, 1.0, Box(0, 0, 9, 9), track) for track in range(MAX_REGIONS + 1)]
    with pytest.raises(InputError, match="4097 regions"):
        encode_frame(codec, frame(picture_of(20, 20, 0)), {"vehicles": many}, KEYS, quality=4)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 8193, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(codec: CodecModel, image: Any) -> None:
    with pytest.raises(InputError, match="camera gate, seq 3"):
        encode_frame(codec, frame(image), {}, KEYS, quality=4)
