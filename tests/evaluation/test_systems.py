from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.evaluation.raw import Raw
from discover_stream.evaluation.systems import Chunk, Clip, Coded, SystemSpec
from discover_stream.types import InputError


def test_all_bytes_count_in_display_order() -> None:
    coded = Coded((Chunk(0, b"abc"), Chunk(2, b"d"), Chunk(1, b"ef"), Chunk(0, b"g")), b"setup", 3, 8, 8)
    assert coded.sizes == (4, 2, 1)
    assert coded.total == 5 + 7


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=5),
        st.one_of(st.integers(-99, 99), st.floats(0.1, 9.9).map(lambda value: round(value, 3)), st.just("slow")),
        max_size=4,
    )
)
def test_a_specification_survives_being_written(settings: dict[str, str | int | float]) -> None:
    spec = SystemSpec.of("peer", **settings)
    assert SystemSpec.parse(spec.text()) == spec
    assert spec.values() == settings


@pytest.mark.parametrize("text", ["x265:crf", "x265:=3", "x265:crf="])
def test_a_setting_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a setting"):
        SystemSpec.parse(text)


def test_clips_are_checked() -> None:
    frame = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(InputError, match="no frames"):
        Clip("none", (), 10, ())
    with pytest.raises(InputError, match="lists of regions"):
        Clip("few", (frame,), 10, ())
    with pytest.raises(InputError, match="differ in size"):
        Clip("sizes", (frame, frame[:8]), 10, ((), ()))


def test_the_originals_come_back_as_they_were() -> None:
    frames = tuple(np.random.default_rng(1).integers(0, 256, (2, 10, 14, 3), dtype=np.uint8))
    clip = Clip("noise", frames, 10, ((), ()))
    coded = Raw().encode(clip)
    assert coded.total == 2 * 10 * 14 * 3
    for image, back in zip(frames, Raw().decode(coded).frames, strict=True):
        np.testing.assert_array_equal(image, back)
