from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.framing import (
    FRAME_BYTES,
    MODE_STILL,
    MODE_STREAM,
    check_frame,
    packet_mode,
    put_members,
    put_sized,
    sealed,
    take_members,
    take_sized,
)
from discover_stream.types import BitstreamError


@given(st.sampled_from((MODE_STILL, MODE_STREAM)), st.binary(min_size=2, max_size=30), st.integers(0, 255))
def test_a_seal_holds_for_its_bytes_only(mode: int, body: bytes, place: int) -> None:
    data = sealed(mode, b"abc", body, 1)
    assert data[FRAME_BYTES:] == body
    assert packet_mode(data) == mode
    check_frame(data, mode)
    damaged = bytearray(data)
    damaged[place % len(data)] ^= 1
    with pytest.raises(BitstreamError):
        check_frame(bytes(damaged), mode)
    with pytest.raises(BitstreamError, match="mode"):
        check_frame(data, 1 - mode)


def test_bytes_too_short_have_no_mode() -> None:
    assert packet_mode(b"\xd5") == -1


@given(
    st.integers(1, 63).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1)))
)
def test_members_cost_a_bit_a_task_and_nothing_for_one(case: tuple[int, set[int]]) -> None:
    count, members = case
    writer = BitWriter()
    put_members(writer, members, count)
    assert len(writer) == (count if count > 1 else 0)
    assert take_members(BitReader(writer.bytes()), count) == tuple(sorted(members))


@given(st.integers(0, 2**31 - 1))
def test_sized_numbers_come_back(value: int) -> None:
    writer = BitWriter()
    put_sized(writer, value, 5)
    assert take_sized(BitReader(writer.bytes()), 5) == value
    with pytest.raises(BitstreamError, match="longer"):
        take_sized(BitReader(b"\x10\x00"), 5)
