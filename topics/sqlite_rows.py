"""Records as rows: appending, searching by time, trimming and compacting, inside a caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from topics.log import Bounds, TimeRule, UnknownTopic
from topics.sqlite_file import OFFSET_BITS

TOMBSTONE_NS = 24 * 3600 * 10**9
"""How long a tombstone stays readable, so that a slow reader of a compacted topic still meets it."""

_SIZE = "coalesce(length(CAST(key AS BLOB)), 0) + coalesce(length(value), 0)"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way into partition row `part`."""

    part: int
    compacted: bool
    key: str | None
    value: bytes | None

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key.encode() if self.key is not None else b"") + len(self.value or b"")


def row_id(part: int, offset: int) -> int:
    """The row of a record: partitions one after the other, offsets in order within them."""
    return (part << OFFSET_BITS) + offset


DELETED = ""
"""The topic of the rows that deleted partitions leave behind, so that no other partition gets their number:
a process that still knows the number must meet an error, never another topic's records."""


def bounds(connection: sqlite3.Connection, part: int) -> Bounds:
    """The offsets that a partition row holds. Raises UnknownTopic for one that was deleted meanwhile."""
    start, end, _ = _ends(connection, part)
    return Bounds(start, end)


def _ends(connection: sqlite3.Connection, part: int) -> tuple[int, int, int]:
    """Start, next offset and last append time of a partition. Raises UnknownTopic for a deleted one."""
    found: tuple[int, int, int] | None = connection.execute(
        "SELECT start, next, last_ns FROM partitions WHERE id=? AND topic<>?", (part, DELETED)
    ).fetchone()
    if found is None:
        raise UnknownTopic("a topic was deleted while this process used it; start the process again")
    return found


def check_there(connection: sqlite3.Connection, part: int) -> None:
    """Raise UnknownTopic for a partition that was deleted while this process used it."""
    _ends(connection, part)


def usage(connection: sqlite3.Connection, part: int, compacted: bool) -> tuple[int, int]:
    """Records of a partition, and bytes of their keys and values."""
    held = bounds(connection, part)
    count = held.end - held.start  # there are no holes but those that compaction makes
    if compacted:
        span = (row_id(part, held.start), row_id(part, held.end))
        count = connection.execute("SELECT count(*) FROM records WHERE id>=? AND id<?", span).fetchone()[0]
    return count, connection.execute("SELECT bytes FROM partitions WHERE id=?", (part,)).fetchone()[0]


def delete_partition(connection: sqlite3.Connection, part: int) -> None:
    """Forget a partition with everything it still holds and what is committed in it."""
    span = (row_id(part, 0), row_id(part + 1, 0))
    connection.execute("DELETE FROM records WHERE id>=? AND id<?", span)
    for table in ("latest", "offsets", "attempts"):
        connection.execute(f"DELETE FROM {table} WHERE part=?", (part,))
    connection.execute("UPDATE partitions SET topic=?, number=id, bytes=0 WHERE id=?", (DELETED, part))


def append(connection: sqlite3.Connection, outgoing: Iterable[Outgoing], now_ns: int) -> list[int]:
    """Write records at the ends of their partitions; offsets in the order written (by partition)."""
    offsets: list[int] = []
    for part, group in groupby(sorted(outgoing, key=lambda item: item.part), key=lambda item: item.part):
        items = list(group)  # sorting is stable, so the order within a partition is the caller's
        _, first, last_ns = _ends(connection, part)
        at_ns = max(now_ns, last_ns)  # a clock set back must not break the order of times
        connection.executemany(
            "INSERT INTO records(id, at_ns, key, value) VALUES(?, ?, ?, ?)",
            ((row_id(part, first + i), at_ns, item.key, item.value) for i, item in enumerate(items)),
        )
        connection.executemany(
            "INSERT INTO latest(part, key, offset) VALUES(?, ?, ?) "
            "ON CONFLICT(part, key) DO UPDATE SET offset=excluded.offset",
            ((part, item.key, first + i) for i, item in enumerate(items) if item.compacted),
        )
        connection.execute(
            "UPDATE partitions SET next=next+?, bytes=bytes+?, last_ns=? WHERE id=?",
            (len(items), sum(item.size for item in items), at_ns, part),
        )
        offsets.extend(range(first, first + len(items)))
    return offsets


def latest(connection: sqlite3.Connection, part: int, key: str) -> tuple[int, bytes | None] | None:
    """(offset, value) of the latest record of a key in a compacted partition."""
    found = connection.execute("SELECT offset FROM latest WHERE part=? AND key=?", (part, key)).fetchone()
    if found is None:
        return None
    row = connection.execute("SELECT value FROM records WHERE id=?", (row_id(part, found[0]),)).fetchone()
    return (found[0], row[0]) if row is not None else None


def remove(connection: sqlite3.Connection, part: int, rows: list[tuple[int, int]]) -> None:
    """Delete (row id, size) pairs of one partition."""
    connection.executemany("DELETE FROM records WHERE id=?", ((row,) for row, _ in rows))
    connection.execute("UPDATE partitions SET bytes=bytes-? WHERE id=?", (sum(s for _, s in rows), part))


def rewrite(connection: sqlite3.Connection, part: int, values: Iterable[tuple[int, bytes | None]]) -> int:
    """Put values in places (offset, value) that hold records; the bytes by which the partition became smaller.

    What stood there is overwritten in the file, not only let go.
    """
    smaller = 0
    connection.execute("PRAGMA secure_delete=ON")
    for offset, value in values:
        row = row_id(part, offset)
        found = connection.execute("SELECT coalesce(length(value), 0) FROM records WHERE id=?", (row,)).fetchone()
        if found is not None:
            connection.execute("UPDATE records SET value=? WHERE id=?", (value, row))
            smaller += found[0] - len(value or b"")
    connection.execute("UPDATE partitions SET bytes=bytes-? WHERE id=?", (smaller, part))
    return smaller


def offset_at(connection: sqlite3.Connection, part: int, at_ns: int, rule: TimeRule) -> int:
    """See `Log.offset_at`. Times never decrease within a partition, so a binary search finds it."""
    held = bounds(connection, part)
    base, last = row_id(part, 0), row_id(part, held.end)
    wanted = at_ns if rule == "at_or_after" else at_ns + 1
    low, high = held.start, held.end
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT id, at_ns FROM records WHERE id>=? AND id<? ORDER BY id LIMIT 1", (base + middle, last)
        ).fetchone()
        if row is None or row[1] >= wanted:
            high = middle
        else:
            low = row[0] - base + 1
    if rule == "at_or_after":
        query, span, fallback = "SELECT min(id)", (base + low, last), held.end
    else:
        query, span, fallback = "SELECT max(id)", (base + held.start, base + low), held.start
    found = connection.execute(f"{query} FROM records WHERE id>=? AND id<?", span).fetchone()[0]
    return fallback if found is None else int(found) - base


def expired_below(
    connection: sqlite3.Connection, part: int, oldest_ns: int | None, floor: int | None, max_bytes: int | None
) -> int:
    """The offset below which a partition's records are older than `oldest_ns` and before `floor` (None: any
    place will do), or beyond `max_bytes` wherever they are."""
    before = bounds(connection, part).start
    if oldest_ns is not None:
        aged = offset_at(connection, part, oldest_ns, "at_or_after")
        before = max(before, aged if floor is None else min(aged, floor))
    if max_bytes is not None:
        total: int = connection.execute("SELECT bytes FROM partitions WHERE id=?", (part,)).fetchone()[0]
        rows = connection.execute(
            f"SELECT id, {_SIZE} FROM records WHERE id>=? AND id<? ORDER BY id",
            (row_id(part, 0), row_id(part + 1, 0)),
        )
        for row, size in rows:
            if total <= max_bytes:
                break
            total -= size
            before = max(before, row - row_id(part, 0) + 1)
        rows.close()
    return before


def raise_start(connection: sqlite3.Connection, part: int, before: int) -> None:
    """Hide everything below an offset (clamped to the bounds); `delete_hidden` then frees the space."""
    held = bounds(connection, part)
    start = min(max(before, held.start), held.end)
    connection.execute("UPDATE partitions SET start=? WHERE id=?", (start, part))
    connection.execute("DELETE FROM latest WHERE part=? AND offset<?", (part, start))


def delete_hidden(connection: sqlite3.Connection, part: int, limit: int) -> int:
    """Delete up to `limit` records below the start of a partition; how many there were."""
    rows = connection.execute(
        f"SELECT id, {_SIZE} FROM records WHERE id>=? AND id<? ORDER BY id LIMIT ?",
        (row_id(part, 0), row_id(part, bounds(connection, part).start), limit),
    ).fetchall()
    if rows:
        remove(connection, part, rows)
    return len(rows)


def compact(connection: sqlite3.Connection, part: int, now_ns: int, limit: int) -> int:
    """Delete up to `limit` records that a later one of their key replaces, and old tombstones."""
    base = row_id(part, 0)
    rows = connection.execute(
        f"SELECT id, {_SIZE}, key, value IS NULL FROM records WHERE id>=:base AND id<:last AND "
        "(id - :base IS NOT (SELECT offset FROM latest WHERE part=:part AND latest.key=records.key) "
        "OR (value IS NULL AND at_ns<:old)) LIMIT :limit",
        {
            "base": base,
            "last": row_id(part + 1, 0),
            "part": part,
            "old": now_ns - TOMBSTONE_NS,
            "limit": limit,
        },
    ).fetchall()
    if rows:
        remove(connection, part, [(row, size) for row, size, _, _ in rows])
        connection.executemany(
            "DELETE FROM latest WHERE part=? AND key=? AND offset=?",
            ((part, key, row - base) for row, _, key, dead in rows if dead),
        )
    return len(rows)


def first_hidden(connection: sqlite3.Connection, part: int) -> int | None:
    """The row of the oldest record below the start of a partition, if one is left."""
    span = (row_id(part, 0), row_id(part, bounds(connection, part).start))
    found: int | None = connection.execute("SELECT min(id) FROM records WHERE id>=? AND id<?", span).fetchone()[0]
    return found
