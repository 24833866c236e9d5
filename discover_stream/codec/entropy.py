"""Integers to bytes and back: range coding (the `constriction` library) with tables that ship as integers.

Both sides know the table of every symbol before the first one is decoded (see `exact`), so symbols
are coded table by table: one library call per table in use, none per symbol.

A coder string is a binary fraction, most significant byte first: the shortest one that lies in the
interval of its symbols. It ends without zero bytes, and ending it costs at most two bytes. (The
library's ANS coder would take about three: it starts from 24 bits.) Values beyond a table are coded
as the table's last entry (the escape) and follow, 16 bits each, after all other symbols of the string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from discover_stream.types import BitstreamError

PRECISION = 16
"""Frequencies of a table add up to 2**16."""

ESCAPE_BITS = 16
LIMIT = 2 ** (ESCAPE_BITS - 1)
"""Symbols are -32767..32767."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SymbolTables:
    """Probability tables over consecutive integers, as they ship with a model.

    Attributes:
        frequencies: (tables, width) counts, zero beyond a table's length; each row adds up to 2**16.
        lengths: (tables,) entries in use, the escape included as the last one.
        offsets: (tables,) the integer that entry 0 stands for.
    """

    frequencies: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        """Refuse tables that are not probability tables."""
        if not (self.frequencies.sum(axis=1) == 2**PRECISION).all() or (self.frequencies < 0).any():
            raise ValueError(f"every table must add up to {2**PRECISION} counts")
        if (self.lengths < 2).any() or (self.lengths > self.frequencies.shape[1]).any():
            raise ValueError("a table needs a symbol and an escape, and must fit its row")


class SymbolCoder:
    """Codes arrays of integers, each with the number of its table."""

    def __init__(self, tables: SymbolTables) -> None:
        self._lengths = tables.lengths.astype(np.int64)
        self._offsets = tables.offsets.astype(np.int64)
        # Counts over 2**16 are exact in float64, and the library's fixed point (24 bits) is finer.
        self._models: list[Any] = [
            constriction.stream.model.Categorical(row[:length].astype(np.float64) / 2**PRECISION, perfect=False)
            for row, length in zip(tables.frequencies, tables.lengths, strict=True)
        ]
        self._fewest = PRECISION - np.log2(tables.frequencies.max(axis=1).astype(np.float64))
        self._raw = constriction.stream.model.Uniform(2**ESCAPE_BITS)

    def fewest_bits(self, tables: npt.NDArray[np.integer[Any]]) -> float:
        """Bits of the most probable symbols with these tables: what no honest string falls far below."""
        return float(self._fewest[tables].sum())

    def encode(self, symbols: Integers, tables: npt.NDArray[np.integer[Any]]) -> bytes:
        """Code `symbols` (n,), the i-th with table `tables[i]`.

        Raises:
            BitstreamError: a symbol does not fit 16 bits.
        """
        writer = SymbolWriter(self)
        writer.put(symbols, tables)
        return writer.bytes()

    def decode(self, data: bytes, tables: npt.NDArray[np.integer[Any]]) -> Integers:
        """The symbols (n,) that were coded with these tables.

        Raises:
            BitstreamError: the bytes are not the coding of that many symbols.
        """
        reader = SymbolReader(self, data)
        symbols = reader.take(tables)
        reader.finish()
        return symbols

    def put(self, coder: Any, symbols: Integers, tables: npt.NDArray[np.integer[Any]]) -> None:
        """Hand symbols to a range encoder, table by table; escaped values follow. Raises BitstreamError."""
        if int(np.abs(symbols).max()) >= LIMIT:
            raise BitstreamError(f"a symbol of size {int(np.abs(symbols).max())} does not fit {ESCAPE_BITS} bits")
        order = np.argsort(tables, kind="stable")
        sorted_tables = tables[order].astype(np.int64)
        values = symbols[order]
        entries = values - self._offsets[sorted_tables]
        escape = self._lengths[sorted_tables] - 1
        escaped = (entries < 0) | (entries >= escape)
        entries = np.where(escaped, escape, entries).astype(np.int32)
        used, starts = np.unique(sorted_tables, return_index=True)
        ends = [*starts[1:], len(entries)]
        for table, start, end in zip(used, starts, ends, strict=True):
            coder.encode(entries[start:end], self._models[table])
        if escaped.any():
            coder.encode((values[escaped] + LIMIT).astype(np.int32), self._raw)

    def take(self, coder: Any, tables: npt.NDArray[np.integer[Any]]) -> Integers:
        """The next symbols of a range decoder, see `put`. Raises AssertionError where there are none."""
        order = np.argsort(tables, kind="stable")
        sorted_tables = tables[order].astype(np.int64)
        used, counts = np.unique(sorted_tables, return_counts=True)
        entries = np.concatenate(
            [coder.decode(self._models[table], int(count)) for table, count in zip(used, counts, strict=True)]
        )
        escaped = entries == self._lengths[sorted_tables] - 1
        values = entries + self._offsets[sorted_tables]
        if escaped.any():
            values[escaped] = coder.decode(self._raw, int(escaped.sum())).astype(np.int64) - LIMIT
        symbols = np.empty(len(values), dtype=np.int64)
        symbols[order] = values
        return symbols


class SymbolWriter:
    """Writes one coder string in parts: the tables of a part may follow from the parts before it."""

    def __init__(self, coder: SymbolCoder) -> None:
        self._coder = coder
        self._range = constriction.stream.queue.RangeEncoder()
        self.empty = True

    def put(self, symbols: Integers, tables: npt.NDArray[np.integer[Any]]) -> None:
        """Append `symbols` (n,), the i-th with table `tables[i]`. Raises BitstreamError for one beyond 16 bits."""
        if symbols.size:
            self._coder.put(self._range, symbols, tables)
            self.empty = False

    def bytes(self) -> bytes:
        """The string so far, as short as it can be."""
        return b"" if self.empty else _shortest(self._range)


class SymbolReader:
    """Reads one coder string in the parts it was written in; `finish` says whether it was one."""

    def __init__(self, coder: SymbolCoder, data: bytes) -> None:
        self._coder, self._data = coder, data
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype=">u4").astype(np.uint32)
        self._range = constriction.stream.queue.RangeDecoder(words)
        # Symbols have one code. Coding them once more finds cut and padded strings, and costs little.
        self._again = SymbolWriter(coder)

    def take(self, tables: npt.NDArray[np.integer[Any]]) -> Integers:
        """The next symbols (n,), the i-th with table `tables[i]`.

        Raises:
            BitstreamError: the string cannot hold them.
        """
        if tables.size == 0:
            return np.zeros(0, dtype=np.int64)
        try:
            symbols = self._coder.take(self._range, tables)
        except AssertionError:
            # The library's way to say that the fraction lies in no symbol's interval.
            raise BitstreamError("a coder string is not a coding of anything") from None
        self._again.put(symbols, tables)
        return symbols

    def finish(self) -> None:
        """Raise BitstreamError unless the string is exactly the coding of what was taken."""
        if self._again.empty and self._data:
            raise BitstreamError(f"{len(self._data)} bytes where an empty string was expected")
        if self._again.bytes() != self._data:
            raise BitstreamError("a coder string is not the coding of its symbols; bytes are missing or left over")


def _shortest(coder: Any) -> bytes:
    """The shortest fraction in a range encoder's interval, as bytes without trailing zeros."""
    position, (lower, span) = coder.pos()
    size = 4 * position + 8
    point = int.from_bytes(coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0"), "big")
    # The library gives the interval's lower end by its last 64 bits, and some point of the interval.
    start = point - (point - lower) % 2**64
    for dropped in range(8, -1, -1):
        unit = 256**dropped
        rounded = -(-start // unit) * unit
        if rounded < start + span:
            return bytes(rounded.to_bytes(size, "big").rstrip(b"\0"))
    raise AssertionError("unreachable: the start itself lies in the interval")
