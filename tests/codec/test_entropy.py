from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.entropy import LIMIT, SymbolCoder, SymbolReader, SymbolTables, SymbolWriter
from discover_stream.types import BitstreamError


def random_tables(count: int, seed: int) -> SymbolTables:
    """Tables of 2..40 entries, from flat to one dominant entry, some entries without a count."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 41, count).astype(np.int32)
    frequencies = np.zeros((count, 40), dtype=np.int32)
    for row, length in zip(frequencies, lengths, strict=True):
        row[:length] = random.multinomial(2**16, random.dirichlet(np.full(length, random.choice([0.05, 0.5, 5]))))
    return SymbolTables(frequencies, lengths, random.integers(-25, 3, count).astype(np.int32))


def gaussian_tables() -> SymbolTables:
    """Four bell-shaped tables around 0, with a rare escape."""
    frequencies = np.zeros((4, 82), dtype=np.int32)
    for row, scale in zip(frequencies, (0.3, 1.0, 3.0, 9.0), strict=True):
        weights = np.exp(-0.5 * (np.arange(-40, 41) / scale) ** 2)
        row[:81] = np.floor(weights / weights.sum() * (2**16 - 82)) + 1
        row[81] = 1
        row[40] += 2**16 - row.sum()
    return SymbolTables(frequencies, np.full(4, 82, np.int32), np.full(4, -40, np.int32))


TABLES = random_tables(9, 3)
CODER = SymbolCoder(TABLES)
GAUSSIAN = gaussian_tables()
GAUSSIAN_CODER = SymbolCoder(GAUSSIAN)

near = st.integers(-30, 45)
far = st.one_of(st.integers(1 - LIMIT, LIMIT - 1), st.sampled_from([1 - LIMIT, LIMIT - 1]))
pairs = st.lists(st.tuples(st.one_of(near, near, near, far), st.integers(0, 8)), max_size=200)


@given(pairs)
def test_symbols_come_back_whatever_their_tables(drawn: list[tuple[int, int]]) -> None:
    symbols = np.array([symbol for symbol, _ in drawn], dtype=np.int64)
    tables = np.array([table for _, table in drawn], dtype=np.uint8)
    data = CODER.encode(symbols, tables)
    assert not data.endswith(b"\0")
    assert np.array_equal(CODER.decode(data, tables), symbols)


@given(st.lists(pairs, max_size=6))
@settings(max_examples=60)
def test_many_strings_at_once_are_those_of_one_by_one(drawn: list[list[tuple[int, int]]]) -> None:
    symbols = [np.array([symbol for symbol, _ in one], dtype=np.int64) for one in drawn]
    tables = [np.array([table for _, table in one], dtype=np.uint8) for one in drawn]
    strings = CODER.encode_all(symbols, tables)
    assert strings == [CODER.encode(*pair) for pair in zip(symbols, tables, strict=True)]
    found = CODER.decode_all(strings, tables)
    assert len(found) == len(symbols)
    assert all(np.array_equal(*pair) for pair in zip(found, symbols, strict=True))


@given(st.lists(st.tuples(pairs, pairs), min_size=1, max_size=4), st.integers(0, 3), st.binary(min_size=1, max_size=3))
@settings(max_examples=40)
def test_strings_in_parts_and_one_damaged_string_among_them(
    drawn: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]], damaged: int, more: bytes
) -> None:
    """Escapes follow the part they belong to, not the whole string; damage to one string is found."""
    parts = [
        (
            np.array([symbol for one in drawn for symbol, _ in one[part]], dtype=np.int64),
            np.array([table for one in drawn for _, table in one[part]], dtype=np.uint8),
            [len(one[part]) for one in drawn],
        )
        for part in (0, 1)
    ]
    writer = SymbolWriter(CODER, len(drawn))
    for symbols, tables, counts in parts:
        writer.put(symbols, tables, counts)
    strings = writer.strings()
    reader = SymbolReader(CODER, strings)
    for symbols, tables, counts in parts:
        assert np.array_equal(reader.take(tables, counts), symbols)
    reader.finish()
    strings[damaged % len(strings)] += more
    reader = SymbolReader(CODER, strings)
    with pytest.raises(BitstreamError):  # noqa: PT012
        for _, tables, counts in parts:
            reader.take(tables, counts)
        reader.finish()


@given(pairs, st.integers(0, 2**32))
@settings(max_examples=60)
def test_wrong_tables_give_integers_or_an_error(drawn: list[tuple[int, int]], seed: int) -> None:
    symbols = np.array([symbol for symbol, _ in drawn], dtype=np.int64)
    data = CODER.encode(symbols, np.array([table for _, table in drawn], dtype=np.uint8))
    random = np.random.default_rng(seed)
    tables = random.integers(0, 9, random.integers(0, 220))
    try:
        decoded = CODER.decode(data, tables)
    except BitstreamError:
        return
    assert decoded.shape == tables.shape
    assert np.abs(decoded).max(initial=0) < LIMIT


@given(st.binary(max_size=80), st.lists(st.integers(0, 8), max_size=120))
def test_any_bytes_are_the_one_code_of_some_symbols_or_refused(data: bytes, drawn: list[int]) -> None:
    tables = np.array(drawn, dtype=np.int64)
    try:
        symbols = CODER.decode(data, tables)
    except BitstreamError:
        return
    assert symbols.shape == tables.shape
    assert CODER.encode(symbols, tables) == data


@given(pairs, st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=60)
def test_a_changed_byte_never_passes_for_the_same_symbols(
    drawn: list[tuple[int, int]], place: int, change: int
) -> None:
    symbols = np.array([symbol for symbol, _ in drawn], dtype=np.int64)
    tables = np.array([table for _, table in drawn], dtype=np.uint8)
    data = bytearray(CODER.encode(symbols, tables))
    if not data:
        return
    data[place % len(data)] ^= change
    try:
        decoded = CODER.decode(bytes(data), tables)
    except BitstreamError:
        return
    assert not np.array_equal(decoded, symbols)


def ideal_bits(symbols: np.ndarray, tables: np.ndarray, of: SymbolTables) -> float:
    entries = symbols - of.offsets[tables]
    escape = of.lengths[tables] - 1
    escaped = (entries < 0) | (entries >= escape)
    entries = np.where(escaped, escape, entries)
    return float(-np.log2(of.frequencies[tables, entries] / 2**16).sum() + 16 * escaped.sum())


@given(st.integers(0, 3000), st.integers(0, 2**32))
@settings(max_examples=40)
def test_a_string_costs_its_information_and_at_most_two_bytes(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    tables = random.integers(0, 4, count)
    # Now and then a symbol far outside its table, so that escapes are paid for as well.
    spread = np.array([0.3, 1.0, 3.0, 9.0])[tables] * np.where(random.random(count) < 0.01, 60, 1)
    symbols = np.rint(random.normal(0, 1, count) * spread).astype(np.int64)
    data = GAUSSIAN_CODER.encode(symbols, tables)
    assert np.array_equal(GAUSSIAN_CODER.decode(data, tables), symbols)
    assert len(data) <= ideal_bits(symbols, tables, GAUSSIAN) / 8 * 1.01 + 2


def test_the_least_information_is_that_of_the_most_probable_symbols() -> None:
    tables = np.array([0, 1, 1, 3])
    symbols = np.zeros(4, dtype=np.int64)
    assert GAUSSIAN_CODER.fewest_bits(tables) == pytest.approx(ideal_bits(symbols, tables, GAUSSIAN))


def test_the_bytes_are_the_same_as_ever() -> None:
    """Archives outlive versions of the coding library: the bytes of these symbols may never change."""
    tables = np.arange(24) % 4
    symbols = np.array([0, 1, -2, 9, 0, 0, 4, -17, 1, -1, 3, 30, 0, 2, -5, 300, 0, 0, 0, -8, -7, 0, 1, 2])
    data = GAUSSIAN_CODER.encode(symbols, tables)
    assert data.hex() == "fc9d9cf7d26ef2d222404fa2a1d00374"
    assert np.array_equal(GAUSSIAN_CODER.decode(bytes.fromhex("fc9d9cf7d26ef2d222404fa2a1d00374"), tables), symbols)


@pytest.mark.parametrize("symbol", [LIMIT, -LIMIT, 2**40])
def test_a_symbol_beyond_sixteen_bits_is_refused(symbol: int) -> None:
    with pytest.raises(BitstreamError, match="16 bits"):
        CODER.encode(np.array([0, symbol]), np.array([0, 0]))


def test_no_symbols_are_no_bytes() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert CODER.encode(nothing, nothing) == b""
    assert CODER.decode(b"", nothing).size == 0
    with pytest.raises(BitstreamError, match="empty"):
        CODER.decode(b"\1", nothing)


@pytest.mark.parametrize("more", [b"\0", b"\0\0\0\0", b"\1", b"\1\2\3\4\5\6\7\10\11"])
def test_strings_with_more_behind_them_are_refused(more: bytes) -> None:
    symbols, tables = np.array([1, -1, 0, 2, 5]), np.array([1, 2, 3, 2, 3])
    data = GAUSSIAN_CODER.encode(symbols, tables)
    with pytest.raises(BitstreamError, match="left over"):
        GAUSSIAN_CODER.decode(data + more, tables)


def test_an_escape_for_a_symbol_of_the_table_is_refused() -> None:
    """Two tables of one symbol and an escape: what escapes from the one is what the other holds."""
    halves = np.array([[2**15, 2**15]], np.int32)
    coders = [
        SymbolCoder(SymbolTables(halves, np.array([2], np.int32), np.array([first], np.int32))) for first in (0, 1)
    ]
    data = coders[0].encode(np.array([1]), np.array([0]))
    with pytest.raises(BitstreamError, match="not the coding"):
        coders[1].decode(data, np.array([0]))


def test_tables_that_are_no_distribution_are_refused() -> None:
    one = np.array([2], np.int32)
    zero = np.array([0], np.int32)
    with pytest.raises(ValueError, match="add up"):
        SymbolTables(np.array([[2**16, 1]], np.int32), one, zero)
    with pytest.raises(ValueError, match="add up"):
        SymbolTables(np.array([[2**16 + 1, -1]], np.int32), one, zero)
    with pytest.raises(ValueError, match="escape"):
        SymbolTables(np.array([[2**16, 0]], np.int32), one - 1, zero)
    with pytest.raises(ValueError, match="escape"):
        SymbolTables(np.array([[2**16 - 1, 1]], np.int32), one + 1, zero)
