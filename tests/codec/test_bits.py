from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.bits import BitReader, BitWriter, golomb_bits, take_varint, varint, zigzag
from discover_stream.types import BitstreamError

fields = st.integers(0, 70).flatmap(lambda bits: st.tuples(st.just(bits), st.integers(0, 2**bits - 1)))
gammas = st.integers(1, 2**40)
items = st.lists(st.one_of(st.tuples(st.just("field"), fields), st.tuples(st.just("gamma"), gammas)), max_size=40)


@given(items)
def test_whatever_is_written_comes_back(written: list[tuple[str, object]]) -> None:
    writer = BitWriter()
    size = 0
    for kind, item in written:
        if kind == "field":
            bits, value = item  # type: ignore[misc]
            writer.put(value, bits)
            size += bits
        else:
            writer.put_gamma(item)  # type: ignore[arg-type]
            size += 2 * item.bit_length() - 1  # type: ignore[attr-defined]
    data = writer.bytes()
    assert len(data) == -(-size // 8)
    reader = BitReader(data)
    for kind, item in written:
        if kind == "field":
            bits, value = item  # type: ignore[misc]
            assert reader.take(bits) == value
        else:
            assert reader.take_gamma(2**40) == item
    reader.finish()
    assert reader.consumed_bytes() == len(data)


def test_bits_come_most_significant_first() -> None:
    writer = BitWriter()
    writer.put(0b101, 3)
    writer.put_gamma(5)
    writer.put(1, 1)
    assert writer.bytes() == bytes([0b10100101, 0b10000000])


@given(st.integers(0, 2**20), st.integers(0, 20))
def test_a_value_that_does_not_fit_is_refused(value: int, bits: int) -> None:
    writer = BitWriter()
    if value < 2**bits:
        writer.put(value, bits)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            writer.put(value, bits)
    with pytest.raises(ValueError, match="does not fit"):
        writer.put(-1, bits)


@given(st.binary(max_size=12), st.lists(st.integers(0, 40), max_size=12))
def test_reading_agrees_with_the_bit_string_and_stops_at_its_end(data: bytes, sizes: list[int]) -> None:
    bits = "".join(f"{byte:08b}" for byte in data)
    reader = BitReader(data)
    for size in sizes:
        if size > len(bits):
            with pytest.raises(BitstreamError):
                reader.take(size)
            return
        assert reader.take(size) == int(bits[:size] or "0", 2)
        bits = bits[size:]


@given(st.binary(max_size=6), st.integers(1, 2**20))
def test_a_gamma_code_is_bounded_and_has_one_form(data: bytes, limit: int) -> None:
    reader = BitReader(data)
    try:
        value = reader.take_gamma(limit)
    except BitstreamError:
        return
    assert 1 <= value <= limit
    writer = BitWriter()
    writer.put_gamma(value)
    size = 2 * value.bit_length() - 1
    assert BitReader(data).take(size) == BitReader(writer.bytes()).take(size)


@given(st.integers(1, 2**20))
def test_a_gamma_code_above_its_limit_is_refused(value: int) -> None:
    writer = BitWriter()
    writer.put_gamma(value)
    assert BitReader(writer.bytes()).take_gamma(value) == value
    if value > 1:
        with pytest.raises(BitstreamError, match="bound"):
            BitReader(writer.bytes()).take_gamma(value - 1)


@given(st.integers(0, 255), st.integers(0, 8), st.binary(max_size=3))
def test_padding_must_be_zero_and_nothing_may_follow(byte: int, taken: int, rest: bytes) -> None:
    reader = BitReader(bytes([byte]) + rest)
    reader.take(taken)
    clean = taken in (0, 8) or byte & (0xFF >> taken) == 0
    if clean:
        assert reader.consumed_bytes() == (taken > 0)
    else:
        with pytest.raises(BitstreamError, match="padding"):
            reader.consumed_bytes()
    if clean and taken > 0 and not rest:
        reader.finish()
    else:
        with pytest.raises(BitstreamError):
            reader.finish()


@given(st.integers(0, 2**56 - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_varints_come_back_from_any_place(value: int, before: bytes, after: bytes) -> None:
    code = varint(value)
    assert len(code) == max(1, -(-value.bit_length() // 7))
    assert take_varint(before + code + after, len(before)) == (value, len(before) + len(code))


@pytest.mark.parametrize("value", [-1, 2**56])
def test_a_varint_has_a_range(value: int) -> None:
    with pytest.raises(ValueError, match="varint"):
        varint(value)


@given(st.binary(max_size=12))
def test_any_bytes_are_a_varint_in_its_one_form_or_refused(data: bytes) -> None:
    try:
        value, position = take_varint(data, 0)
    except BitstreamError:
        return
    assert varint(value) == data[:position]


@given(st.integers(0, 2**42 - 1), st.integers(1, 2))
def test_longer_forms_of_a_varint_are_refused(value: int, extra: int) -> None:
    code = varint(value)
    longer = code[:-1] + bytes([code[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\0"
    with pytest.raises(BitstreamError, match="longer"):
        take_varint(longer, 0)


@pytest.mark.parametrize("length", range(8))
def test_a_cut_varint_is_refused(length: int) -> None:
    with pytest.raises(BitstreamError, match="ends"):
        take_varint(b"\xff" * length, 0)


def test_a_varint_without_an_end_is_refused() -> None:
    with pytest.raises(BitstreamError, match="eight bytes"):
        take_varint(b"\xff" * 100, 0)


@given(st.integers(0, 2**40), st.integers(0, 20), st.integers(0, 2**41))
def test_exponential_golomb_numbers_come_back_within_their_bound(value: int, order: int, limit: int) -> None:
    writer = BitWriter()
    writer.put_golomb(value, order)
    assert len(writer) == golomb_bits(value, order)
    reader = BitReader(writer.bytes())
    if value <= limit:
        assert reader.take_golomb(order, limit) == value
    else:
        with pytest.raises(BitstreamError, match="bound"):
            reader.take_golomb(order, limit)


@given(st.integers(-(2**40), 2**40), st.integers(0, 20))
def test_signed_numbers_come_back_within_their_bound(value: int, order: int) -> None:
    writer = BitWriter()
    writer.put_signed(value, order)
    assert BitReader(writer.bytes()).take_signed(order, abs(value)) == value
    if value:
        with pytest.raises(BitstreamError, match="bound"):
            BitReader(writer.bytes()).take_signed(order, abs(value) - 1)


def test_signed_numbers_alternate() -> None:
    assert [zigzag(value) for value in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="negative"):
        BitWriter().put_golomb(-1, 0)
