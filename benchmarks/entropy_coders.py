"""Coders beside one another on short strings: bytes over the ideal, and time per symbol. See `benchmarks.entropy`."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import compressai.ans
import constriction
import numpy as np

from discover_stream.codec.entropy import SymbolCoder, SymbolTables

LENGTHS = (10, 30, 100, 300, 1000, 5000)
STRINGS = 60

Strings = Sequence[tuple[np.ndarray, np.ndarray]]
"""Symbols (n,) and table numbers (n,) of each string."""


@dataclass(frozen=True)
class Coder:
    """Maps strings to bytes and back; `decode` is None for one that only gives a floor."""

    name: str
    encode: Callable[[Strings], list[bytes]]
    decode: Callable[[Strings, list[bytes]], list[np.ndarray]] | None


def ideal_bits(tables: SymbolTables, symbols: np.ndarray, numbers: np.ndarray) -> float:
    """Information content of symbols under their tables, escapes with their 16 bits."""
    entries = symbols - tables.offsets[numbers]
    last = tables.lengths[numbers] - 1
    escaped = (entries < 0) | (entries >= last)
    counts = tables.frequencies[numbers, np.where(escaped, last, entries)]
    return float((16 - np.log2(counts)).sum() + 16 * escaped.sum())


def coders(tables: SymbolTables) -> list[Coder]:
    """All coders that are compared, over the same integer tables."""
    coder = SymbolCoder(tables)
    return [
        Coder(
            "ours, all strings at once",
            lambda strings: coder.encode_all([s for s, _ in strings], [t for _, t in strings]),
            lambda strings, data: coder.decode_all(data, [t for _, t in strings]),
        ),
        Coder(
            "ours, one by one",
            lambda strings: [coder.encode(symbols, numbers) for symbols, numbers in strings],
            lambda strings, data: [coder.decode(d, t) for d, (_, t) in zip(data, strings, strict=True)],
        ),
        _constriction(tables, coder, ans=False),
        _constriction(tables, coder, ans=True),
        _compressai(tables),
        Coder("zlib 9 of int8, no tables", lambda strings: [_zlib(symbols) for symbols, _ in strings], None),
    ]


def _zlib(symbols: np.ndarray) -> bytes:
    return zlib.compress(np.clip(symbols, -128, 127).astype(np.int8).tobytes(), 9)


def _constriction(tables: SymbolTables, coder: SymbolCoder, ans: bool) -> Coder:
    """The library's coders as they end their strings by themselves; no check of what is decoded."""
    stream = constriction.stream

    def runs(numbers: np.ndarray) -> tuple[np.ndarray, list[tuple[Any, int, int]]]:
        order = np.argsort(numbers.astype(np.uint8), kind="stable")
        totals = np.bincount(numbers)
        ends = np.cumsum(totals)
        used = np.flatnonzero(totals)
        return order, [(coder.models[table], ends[table] - totals[table], ends[table]) for table in used]

    def encode(strings: Strings) -> list[bytes]:
        found = []
        for symbols, numbers in strings:
            order, parts = runs(numbers)
            entries = (symbols - tables.offsets[numbers]).astype(np.int32)[order]
            writer = stream.stack.AnsCoder() if ans else stream.queue.RangeEncoder()
            for model, start, end in reversed(parts) if ans else parts:
                (writer.encode_reverse if ans else writer.encode)(entries[start:end], model)
            found.append(writer.get_compressed().tobytes())
        return found

    def decode(strings: Strings, data: list[bytes]) -> list[np.ndarray]:
        found = []
        for (_, numbers), string in zip(strings, data, strict=True):
            words = np.frombuffer(string, dtype=np.uint32)
            reader = stream.stack.AnsCoder(words) if ans else stream.queue.RangeDecoder(words)
            order, parts = runs(numbers)
            symbols = np.empty(len(order), dtype=np.int64)
            symbols[order] = np.concatenate([reader.decode(model, int(end - start)) for model, start, end in parts])
            found.append(symbols + tables.offsets[numbers])
        return found

    return Coder("constriction ANS" if ans else "constriction range coder, its own ending", encode, decode)


def _compressai(tables: SymbolTables) -> Coder:
    """CompressAI's rANS as its models call it: lists in, lists out, the cumulative tables with every call."""
    widths = tables.lengths.tolist()
    cumulative = [
        [0, *np.cumsum(row[:length]).tolist()] for row, length in zip(tables.frequencies, widths, strict=True)
    ]
    sizes, offsets = [width + 1 for width in widths], tables.offsets.tolist()

    def encode(strings: Strings) -> list[bytes]:
        writer = compressai.ans.RansEncoder()
        return [
            writer.encode_with_indexes(symbols.tolist(), numbers.tolist(), cumulative, sizes, offsets)
            for symbols, numbers in strings
        ]

    def decode(strings: Strings, data: list[bytes]) -> list[np.ndarray]:
        reader = compressai.ans.RansDecoder()
        return [
            np.array(reader.decode_with_indexes(string, numbers.tolist(), cumulative, sizes, offsets))
            for (_, numbers), string in zip(strings, data, strict=True)
        ]

    return Coder("CompressAI rANS", encode, decode)


def cut(tables: SymbolTables, symbols: np.ndarray, numbers: np.ndarray, length: int) -> Strings:
    """Strings of so many symbols, cut from real ones anywhere; none has an escape, which coders treat differently."""
    random = np.random.default_rng(length)
    entries = symbols - tables.offsets[numbers]
    inside = (entries >= 0) & (entries < tables.lengths[numbers] - 1)
    symbols, numbers = symbols[inside], numbers[inside]
    starts = random.integers(0, len(symbols) - length, STRINGS)
    return [(symbols[start : start + length], numbers[start : start + length].astype(np.int64)) for start in starts]


def nanoseconds(work: Callable[[], object], length: int) -> float:
    """Median processor time per symbol of a call that works on all strings."""
    times = []
    for _ in range(9):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times)) / STRINGS / length * 1e9


def coders_table(tables: SymbolTables, symbols: np.ndarray, numbers: np.ndarray) -> list[str]:
    """The comparison as lines of Markdown; `symbols` (n,) with their table numbers in the order of a real string."""
    lines = [
        "| coder | " + " | ".join(f"{length} symbols" for length in LENGTHS) + " |",
        "|---" * (len(LENGTHS) + 1) + "|",
    ]
    strings = {length: cut(tables, symbols, numbers, length) for length in LENGTHS}
    ideal = {length: [ideal_bits(tables, s, t) / 8 for s, t in strings[length]] for length in LENGTHS}
    lines.append("| ideal, bytes | " + " | ".join(f"{np.mean(ideal[length]):.1f}" for length in LENGTHS) + " |")
    for coder in coders(tables):
        cells = []
        for length in LENGTHS:
            some = strings[length]
            data = coder.encode(some)
            over = np.mean([len(string) for string in data]) - np.mean(ideal[length])
            cell = f"{over:+.2f} B, {nanoseconds(partial(coder.encode, some), length):.0f}"
            if coder.decode is not None:
                found = coder.decode(some, data)
                if not all(np.array_equal(a, b) for a, (b, _) in zip(found, some, strict=True)):
                    raise RuntimeError(f"{coder.name}: what was decoded is not what was coded")
                cell += f" / {nanoseconds(partial(coder.decode, some, data), length):.0f}"
            cell += " ns"
            cells.append(cell)
        lines.append(f"| {coder.name} | " + " | ".join(cells) + " |")
    return lines
