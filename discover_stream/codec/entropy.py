"""Integers to bytes and back: ANS coding (the `constriction` library) with tables that ship as integers.

Both sides know the table of every symbol before the first one is decoded (see `exact`), so symbols
are coded table by table: one library call per table in use, none per symbol.

A coder string is the coder's 32-bit words, least significant byte first, without the trailing zero
bytes: at most one byte is spent on ending a string. Values beyond a table are coded as the table's
last entry (the escape) and follow, 16 bits each, after all other symbols of the string.
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
"""Symbols are -32768..32767."""

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
        self._raw = constriction.stream.model.Uniform(2**ESCAPE_BITS)

    def encode(self, symbols: Integers, tables: npt.NDArray[np.integer[Any]]) -> bytes:
        """Code `symbols` (n,), the i-th with table `tables[i]`.

        Raises:
            BitstreamError: a symbol does not fit 16 bits.
        """
        if symbols.size == 0:
            return b""
        if int(np.abs(symbols).max()) >= LIMIT:
            raise BitstreamError(f"a symbol of size {int(np.abs(symbols).max())} does not fit {ESCAPE_BITS} bits")
        order = np.argsort(tables, kind="stable")
        sorted_tables = tables[order].astype(np.int64)
        values = symbols[order]
        entries = values - self._offsets[sorted_tables]
        escape = self._lengths[sorted_tables] - 1
        escaped = (entries < 0) | (entries >= escape)
        entries = np.where(escaped, escape, entries).astype(np.int32)
        coder = constriction.stream.stack.AnsCoder()
        # The coder is a stack: what is decoded first is pushed last.
        if escaped.any():
            coder.encode_reverse((values[escaped] + LIMIT).astype(np.int32), self._raw)
        used, starts = np.unique(sorted_tables, return_index=True)
        ends = [*starts[1:], len(entries)]
        for table, start, end in reversed(list(zip(used, starts, ends, strict=True))):
            coder.encode_reverse(entries[start:end], self._models[table])
        return bytes(coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0"))

    def decode(self, data: bytes, tables: npt.NDArray[np.integer[Any]]) -> Integers:
        """The symbols (n,) that were coded with these tables.

        Raises:
            BitstreamError: the bytes are not the coding of that many symbols.
        """
        if tables.size == 0:
            if data:
                raise BitstreamError(f"{len(data)} bytes where an empty string was expected")
            return np.zeros(0, dtype=np.int64)
        if data.endswith(b"\0"):
            raise BitstreamError("a coder string ends in a zero byte")
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype="<u4").astype(np.uint32)
        coder = constriction.stream.stack.AnsCoder(words)
        order = np.argsort(tables, kind="stable")
        sorted_tables = tables[order].astype(np.int64)
        used, counts = np.unique(sorted_tables, return_counts=True)
        parts = [coder.decode(self._models[table], int(count)) for table, count in zip(used, counts, strict=True)]
        entries = np.concatenate(parts).astype(np.int64)
        values = entries + self._offsets[sorted_tables]
        escaped = entries == self._lengths[sorted_tables] - 1
        if escaped.any():
            values[escaped] = coder.decode(self._raw, int(escaped.sum())).astype(np.int64) - LIMIT
        if not coder.is_empty():
            raise BitstreamError("bytes are left over after the last symbol")
        symbols = np.empty(len(values), dtype=np.int64)
        symbols[order] = values
        return symbols
