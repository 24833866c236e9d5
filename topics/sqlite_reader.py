"""Readers of the embedded log: cheap polling across processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from types import MappingProxyType

from topics import sqlite_rows as rows
from topics.log import MAX_POLL_BYTES, Gap, LogError, OffsetOutOfRange, Record, TimeRule
from topics.sqlite_file import LogFile

# Looking for a commit costs microseconds, so an idle reader may look often: this bounds the latency.
_FIRST_SLEEP_S = 0.0005
_LONGEST_SLEEP_S = 0.004


class SqliteReader:
    """The `topics.log.Reader` of the embedded log."""

    def __init__(
        self, file: LogFile, topic: str, parts: dict[int, int], positions: dict[int, int], group: str | None
    ) -> None:
        """Read `parts` (partition -> its row) of `topic` from `positions` (partition -> offset) on."""
        self._file = file
        self._topic = topic
        self._parts = parts
        self._positions = positions
        self._group = group
        self._turn = list(parts)

    @property
    def positions(self) -> Mapping[int, int]:
        """See `topics.log.Reader.positions`."""
        return MappingProxyType(self._positions)

    def poll(
        self, max_records: int = 500, timeout_s: float = 0.0, max_bytes: int = MAX_POLL_BYTES
    ) -> list[Record | Gap]:
        """See `topics.log.Reader.poll`."""
        deadline = time.monotonic() + timeout_s
        while True:
            version = self._file.data_version()  # before reading: a commit in between changes it again
            found = self._fetch(max_records, max_bytes)
            if found or not self._wait_for_commit(version, deadline):
                return found

    def seek(self, partition: int, offset: int) -> None:
        """See `topics.log.Reader.seek`."""
        self._check_assigned(partition)
        if offset < 0:
            raise LogError(f"topic {self._topic}: cannot seek to {offset}, offsets start at 0")
        self._positions[partition] = offset

    def seek_to_time(self, at_ns: int, rule: TimeRule = "at_or_after") -> None:
        """See `topics.log.Reader.seek_to_time`."""
        with self._file.reading() as connection:
            for partition, part in self._parts.items():
                self._positions[partition] = rows.offset_at(connection, part, at_ns, rule)

    def commit(self, positions: Mapping[int, int] | None = None) -> None:
        """See `topics.log.Reader.commit`."""
        if self._group is None:
            raise LogError(f"topic {self._topic}: this reader has no group, so it has no position to commit")
        wanted = self._positions if positions is None else positions
        for partition in wanted:
            self._check_assigned(partition)
        with self._file.writing() as connection:
            for partition in wanted:
                rows.check_there(connection, self._parts[partition])
            connection.executemany(
                "INSERT INTO offsets(grp, part, next) VALUES(?, ?, ?) "
                "ON CONFLICT(grp, part) DO UPDATE SET next=excluded.next",
                ((self._group, self._parts[partition], offset) for partition, offset in wanted.items()),
            )

    def close(self) -> None:
        """See `topics.log.Reader.close`."""

    def _check_assigned(self, partition: int) -> None:
        if partition not in self._parts:
            raise LogError(f"topic {self._topic}: this reader does not read partition {partition}")

    def _wait_for_commit(self, version: int, deadline: float) -> bool:
        """Sleep until something was committed (True) or the deadline has passed (False)."""
        pause = _FIRST_SLEEP_S
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_SLEEP_S)
            if self._file.data_version() != version:
                return True

    def _fetch(self, max_records: int, max_bytes: int) -> list[Record | Gap]:
        found: list[Record | Gap] = []
        room, space = max_records, max_bytes
        reached: dict[int, int] = {}
        with self._file.reading() as connection:
            for partition in self._turn:
                if room <= 0 or space <= 0:
                    break
                taken, reached[partition] = self._fetch_partition(connection, partition, room, space)
                found += taken
                records = [item for item in taken if isinstance(item, Record)]
                room -= len(records)
                space -= sum(len(item.value or b"") for item in records)
        self._positions.update(reached)  # only now: nothing is passed over if a partition cannot be read
        self._turn = self._turn[1:] + self._turn[:1]  # a busy partition must not starve the others
        return found

    def _fetch_partition(
        self, connection: sqlite3.Connection, partition: int, room: int, space: int
    ) -> tuple[list[Record | Gap], int]:
        """What a partition holds from its position on, and the position after it."""
        part = self._parts[partition]
        base = rows.row_id(part, 0)
        held = rows.bounds(connection, part)
        position = self._positions[partition]
        found: list[Record | Gap] = []
        if position > held.end:
            raise OffsetOutOfRange(
                f"topic {self._topic}, partition {partition}: position {position} is beyond the end "
                f"{held.end}; the log was replaced or lost its last records: seek to a position it has"
            )
        if position < held.start:
            found.append(Gap(self._topic, partition, position, held.start))
            position = held.start
        if position < held.end:
            cursor = connection.execute(
                "SELECT id, at_ns, key, value FROM records WHERE id>=? AND id<? ORDER BY id LIMIT ?",
                (base + position, base + held.end, room),
            )
            position = held.end  # holes that compaction left at the end are passed over
            for row, at_ns, key, value in cursor:
                found.append(Record(self._topic, partition, row - base, at_ns, key, value))
                room -= 1
                space -= len(value or b"")
                if room <= 0 or space <= 0:
                    position = row - base + 1
                    break
            cursor.close()
        return found, position
