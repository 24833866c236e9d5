"""Integers to bytes and back: range coding (the `constriction` library) with tables that ship as integers.

Both sides know the table of every symbol before the first one is decoded (see `exact`), so symbols
are coded table by table: one library call per table in use, none per symbol. Many strings (the atoms of
a frame, or of frames of several cameras) are sorted and looked up together.

A coder string is a binary fraction, most significant byte first: the shortest one that lies in the
interval of its symbols. It ends without zero bytes, and ending it costs at most two bytes. (The
library's ANS coder would take about three: it starts from 24 bits. `docs/entropy.md` compares coders.)
Values beyond a table are coded as the table's last entry (the escape) and follow, 16 bits each, after all
other symbols of the part of the string that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
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
Numbers = npt.NDArray[np.integer[Any]]
"""Numbers of tables."""


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
        self.escapes = (tables.lengths - 1).astype(np.int32)
        self.offsets = tables.offsets.astype(np.int32)
        # Counts over 2**16 are exact in float64, and the library's fixed point (24 bits) is finer.
        self.models: list[Any] = [
            constriction.stream.model.Categorical(row[:length].astype(np.float64) / 2**PRECISION, perfect=False)
            for row, length in zip(tables.frequencies, tables.lengths, strict=True)
        ]
        self._fewest = PRECISION - np.log2(tables.frequencies.max(axis=1).astype(np.float64))

    def fewest_bits(self, tables: Numbers) -> float:
        """Bits of the most probable symbols with these tables: what no honest string falls far below."""
        return float(self._fewest[tables].sum())

    def encode(self, symbols: Integers, tables: Numbers) -> bytes:
        """Code `symbols` (n,), the i-th with table `tables[i]`.

        Raises:
            BitstreamError: a symbol does not fit 16 bits.
        """
        return self.encode_all([symbols], [tables])[0]

    def decode(self, data: bytes, tables: Numbers) -> Integers:
        """The symbols (n,) that were coded with these tables.

        Raises:
            BitstreamError: the bytes are not the coding of that many symbols.
        """
        return self.decode_all([data], [tables])[0]

    def encode_all(self, symbols: Sequence[Integers], tables: Sequence[Numbers]) -> list[bytes]:
        """One string for each of several arrays of symbols, the same as `encode` gives. Raises BitstreamError."""
        writer = SymbolWriter(self, len(symbols))
        if symbols:
            writer.put(np.concatenate(symbols), np.concatenate(tables), [len(part) for part in symbols])
        return writer.strings()

    def decode_all(self, data: Sequence[bytes], tables: Sequence[Numbers]) -> list[Integers]:
        """The symbols of several strings, the same as `decode` gives.

        Raises:
            BitstreamError: one of them is not the coding of its number of symbols.
        """
        reader = SymbolReader(self, data)
        if not data:
            return []
        counts = [len(part) for part in tables]
        symbols = reader.take(np.concatenate(tables), counts)
        reader.finish()
        return np.split(symbols, np.cumsum(counts)[:-1])

    def encode_planes(self, symbols: Integers) -> bytes:
        """Code symbols (N, h, w), each channel with the table of its number. Raises BitstreamError."""
        return self.encode(symbols.ravel(), plane_tables(symbols.shape))

    def decode_planes(self, data: bytes, shape: tuple[int, ...]) -> Integers:
        """The symbols of shape (N, h, w) that `encode_planes` coded. Raises BitstreamError."""
        return self.decode(data, plane_tables(shape)).reshape(shape)


def plane_tables(shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """The table of every symbol of (N, h, w): the number of its channel."""
    return np.repeat(np.arange(shape[0], dtype=np.uint16), shape[1] * shape[2])


class _Order:
    """Symbols of a part of several strings in the order in which they are coded.

    Attributes:
        order: (n,) where in the part each coded symbol stands: string by string, sorted by table.
        strings: string of each run, that is a stretch of one string and one table.
        models: of each run.
        lengths: symbols of each run.
        ends: where in `order` each string ends.
        escapes: (n,) the entry that says that a value is beyond its table.
        offsets: (n,) the integer of entry 0.
    """

    def __init__(self, coder: SymbolCoder, tables: Numbers, counts: Sequence[int]) -> None:
        # Sorting by radix, which is what "stable" is for small integers, is several times as fast.
        tables = tables.astype(np.uint8 if len(coder.models) <= 256 else np.uint16, copy=False)
        totals = np.empty((len(counts), len(coder.models)), dtype=np.intp)
        self.order = np.empty(len(tables), dtype=np.intp)
        self.ends = np.cumsum(counts)
        for string, (end, count) in enumerate(zip(self.ends, counts, strict=True)):
            own = slice(end - count, end)
            np.add(tables[own].argsort(kind="stable"), end - count, out=self.order[own])
            totals[string] = np.bincount(tables[own], minlength=len(coder.models))
        strings, used = np.nonzero(totals)
        lengths = totals[strings, used]
        self.escapes = np.repeat(coder.escapes[used], lengths)
        self.offsets = np.repeat(coder.offsets[used], lengths)
        # Plain integers: they are looped over, a run at a time.
        self.strings: list[int] = strings.tolist()
        self.models = [coder.models[table] for table in used.tolist()]
        self.lengths: list[int] = lengths.tolist()


_RAW = constriction.stream.model.Uniform(2**ESCAPE_BITS)


class SymbolWriter:
    """Writes one or several coder strings in parts: the tables of a part may follow from the parts before it."""

    def __init__(self, coder: SymbolCoder, strings: int = 1) -> None:
        self._coder = coder
        self._ranges = [constriction.stream.queue.RangeEncoder() for _ in range(strings)]

    def put(self, symbols: Integers, tables: Numbers, counts: Sequence[int]) -> None:
        """Append `symbols` (n,), the i-th with table `tables[i]`: the first `counts[0]` to the first string, and so on.

        Raises:
            BitstreamError: a symbol does not fit 16 bits.
        """
        if symbols.size == 0:
            return
        largest = max(int(symbols.max()), -int(symbols.min()))
        if largest >= LIMIT:
            raise BitstreamError(f"a symbol of size {largest} does not fit {ESCAPE_BITS} bits")
        order = _Order(self._coder, tables, counts)
        values = symbols.astype(np.int32)[order.order]
        entries = values - order.offsets
        escaped = _beyond(entries, order.escapes)
        if escaped.any():
            entries = np.where(escaped, order.escapes, entries)
        parts, start = [], 0
        for length in order.lengths:
            parts.append(entries[start : start + length])
            start += length
        self.put_sorted(order, parts, values, escaped)

    def put_sorted(
        self,
        order: _Order,
        parts: Sequence[npt.NDArray[np.int32]],
        values: npt.NDArray[np.int32],
        escaped: npt.NDArray[np.bool_],
    ) -> None:
        """Append what `put` has sorted, or what a reader has just read: entries of each run, and all values."""
        ranges = self._ranges
        for string, model, part in zip(order.strings, order.models, parts, strict=True):
            ranges[string].encode(part, model)
        for string, where in _of_strings(order, escaped):
            ranges[string].encode(values[where] + np.int32(LIMIT), _RAW)

    def strings(self) -> list[bytes]:
        """The strings so far, each as short as it can be."""
        return [_shortest(encoder) for encoder in self._ranges]


class SymbolReader:
    """Reads coder strings in the parts they were written in; `finish` says whether they were such strings."""

    def __init__(self, coder: SymbolCoder, data: Sequence[bytes]) -> None:
        self._coder, self._data = coder, data
        self._ranges = [
            constriction.stream.queue.RangeDecoder(
                np.frombuffer(string + b"\0" * (-len(string) % 4), dtype=">u4").astype(np.uint32)
            )
            for string in data
        ]
        self._taken = [False] * len(data)
        # Symbols have one code. Coding them once more finds cut and padded strings, and costs little.
        self._again = SymbolWriter(coder, len(data))

    def take(self, tables: Numbers, counts: Sequence[int]) -> Integers:
        """The next symbols (n,), the i-th with table `tables[i]`, the first `counts[0]` of the first string, and so on.

        Raises:
            BitstreamError: a string cannot hold them.
        """
        if tables.size == 0:
            return np.zeros(0, dtype=np.int64)
        order = _Order(self._coder, tables, counts)
        ranges = self._ranges
        try:
            parts = [
                ranges[string].decode(model, length)
                for string, model, length in zip(order.strings, order.models, order.lengths, strict=True)
            ]
            entries = np.concatenate(parts)
            values = entries + order.offsets
            escaped = entries == order.escapes
            for string, where in _of_strings(order, escaped):
                values[where] = ranges[string].decode(_RAW, len(where)) - np.int32(LIMIT)
        except AssertionError:
            # The library's way to say that the fraction lies in no symbol's interval.
            raise BitstreamError("a coder string is not a coding of anything") from None
        self._check_escapes(order, values, escaped)
        self._again.put_sorted(order, parts, values, escaped)
        for string, count in enumerate(counts):
            self._taken[string] |= count > 0
        # Most symbols are zero: only the others are moved to their places.
        symbols = np.zeros(len(values), dtype=np.int64)
        some = np.flatnonzero(values)
        symbols[order.order[some]] = values[some]
        return symbols

    def _check_escapes(self, order: _Order, values: npt.NDArray[np.int32], escaped: npt.NDArray[np.bool_]) -> None:
        where = np.flatnonzero(escaped)
        if where.size and not _beyond(values[where] - order.offsets[where], order.escapes[where]).all():
            raise BitstreamError("a coder string is not the coding of its symbols: it escapes one of its table")
        if where.size and int(values[where].min()) <= -LIMIT:
            raise BitstreamError(f"a symbol of size {LIMIT} does not fit {ESCAPE_BITS} bits")

    def finish(self) -> None:
        """Raise BitstreamError unless the strings are exactly the coding of what was taken."""
        for data, again, taken in zip(self._data, self._again.strings(), self._taken, strict=True):
            if not taken and data:
                raise BitstreamError(f"{len(data)} bytes where an empty string was expected")
            if again != data:
                raise BitstreamError("a coder string is not the coding of its symbols; bytes are missing or left over")


def _beyond(entries: npt.NDArray[np.int32], escapes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which entries are not in their table: negative ones become large without their sign."""
    return entries.view(np.uint32) >= escapes.view(np.uint32)


def _of_strings(order: _Order, escaped: npt.NDArray[np.bool_]) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """(string, places in the order) of escaped symbols, for strings that have any."""
    places = np.flatnonzero(escaped)
    if not places.size:
        return []
    parts = np.split(places, np.searchsorted(places, order.ends[:-1]))
    return [(string, part) for string, part in enumerate(parts) if part.size]


def _shortest(coder: Any) -> bytes:
    """The shortest fraction in a range encoder's interval, as bytes without trailing zeros."""
    position, (lower, span) = coder.pos()
    size = 4 * position + 8
    words = coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0")
    # The library gives the interval's lower end by its last 64 bits, and some point of the interval.
    point = int.from_bytes(words[-8:], "big")
    for dropped in range(8, -1, -1):
        unit = 256**dropped
        rounded = -(-lower // unit) * unit
        if rounded < lower + span:
            break
    # All but the last 64 bits are those of the point, unless the point or the rounding passed a multiple of 2**64.
    carry = (rounded >> 64) - (point < lower)
    head = words[:-8]
    if carry:
        head = (int.from_bytes(head, "big") + carry).to_bytes(len(head), "big")
    return bytes(head + (rounded % 2**64).to_bytes(8, "big")).rstrip(b"\0")
