"""Stages of the embedded log: a lease epoch, checked in every commit, and buffered transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from topics import sqlite_rows as rows
from topics.checks import stage_group
from topics.failpoints import hit
from topics.log import Fenced, LogError
from topics.sqlite_file import LogFile

MakeOutgoing = Callable[[str, str | None, bytes | None, int | None], rows.Outgoing]
FindPart = Callable[[str, int], int]


class SqliteTransaction:
    """Collects in memory; nothing touches the file before the commit, so nothing can be left behind."""

    def __init__(self, outgoing: MakeOutgoing, part: FindPart) -> None:
        self._make_outgoing = outgoing
        self._find_part = part
        self._open = True
        self.outgoing: list[rows.Outgoing] = []
        self.offsets: dict[tuple[str, int], int] = {}
        self.parts: dict[tuple[str, int], int] = {}
        self.state: bytes | None = None

    def send(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> None:
        """See `topics.log.Transaction.send`."""
        self._check_open()
        self.outgoing.append(self._make_outgoing(topic, key, value, partition))

    def commit_offset(self, topic: str, partition: int, next_offset: int) -> None:
        """See `topics.log.Transaction.commit_offset`."""
        self._check_open()
        self.parts[topic, partition] = self._find_part(topic, partition)
        self.offsets[topic, partition] = next_offset

    def set_state(self, state: bytes) -> None:
        """See `topics.log.Transaction.set_state`."""
        self._check_open()
        self.state = bytes(state)

    def end(self) -> None:
        """Refuse everything from now on."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise LogError("this transaction has ended; begin another one")


class SqliteStage:
    """The `topics.log.Stage` of the embedded log."""

    def __init__(  # the log hands over what the stage may do, not itself
        self,
        file: LogFile,
        identity: str,
        owner: str,
        state_part: int,
        outgoing: MakeOutgoing,
        part: FindPart,
    ) -> None:
        self._file = file
        self._id = identity
        self._owner = owner
        self._state_part = state_part
        self._make_outgoing = outgoing
        self._find_part = part
        self._busy = False
        with file.writing() as connection:  # one transaction: no commit of a zombie falls in between
            connection.execute(
                "INSERT INTO stages(id, epoch, owner) VALUES(?, 1, ?) "
                "ON CONFLICT(id) DO UPDATE SET epoch=epoch+1, owner=excluded.owner",
                (identity, owner),
            )
            row = connection.execute("SELECT epoch FROM stages WHERE id=?", (identity,)).fetchone()
            self._epoch: int = row[0]
            self._offsets: dict[tuple[str, int], int] = {
                (topic, number): offset
                for topic, number, offset in connection.execute(
                    "SELECT topic, number, offsets.next FROM offsets JOIN partitions ON id=part WHERE grp=?",
                    (self.group,),
                )
            }
            latest = rows.latest(connection, state_part, identity)
            self._state = latest[1] if latest is not None else None

    @property
    def transactional_id(self) -> str:
        """See `topics.log.Stage.transactional_id`."""
        return self._id

    @property
    def group(self) -> str:
        """See `topics.log.Stage.group`."""
        return stage_group(self._id)

    @property
    def offsets(self) -> Mapping[tuple[str, int], int]:
        """See `topics.log.Stage.offsets`."""
        return MappingProxyType(self._offsets)

    @property
    def state(self) -> bytes | None:
        """See `topics.log.Stage.state`."""
        return self._state

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """See `topics.log.Stage.transaction`."""
        if self._busy:
            raise LogError(f"stage {self._id}: a transaction is open already; end it before the next")
        self._busy = True
        transaction = SqliteTransaction(self._make_outgoing, self._find_part)
        try:
            yield transaction
            transaction.end()
            self._commit(transaction)
        finally:
            transaction.end()
            self._busy = False

    def record_attempt(self, topic: str, partition: int, offset: int) -> int:
        """See `topics.log.Stage.record_attempt`."""
        if self._busy:
            raise LogError(f"stage {self._id}: count an attempt before its transaction begins, not inside")
        place = (self.group, self._find_part(topic, partition), offset)
        with self._file.writing() as connection:
            self._check_lease(connection)
            rows.check_there(connection, place[1])
            connection.execute(
                "INSERT INTO attempts(grp, part, offset, count) VALUES(?, ?, ?, 1) "
                "ON CONFLICT(grp, part, offset) DO UPDATE SET count=count+1",
                place,
            )
            row = connection.execute("SELECT count FROM attempts WHERE grp=? AND part=? AND offset=?", place).fetchone()
            return int(row[0])

    def forget_attempt(self, topic: str, partition: int, offset: int) -> None:
        """See `topics.log.Stage.forget_attempt`."""
        place = (self.group, self._find_part(topic, partition), offset)
        with self._file.writing() as connection:
            self._check_lease(connection)
            connection.execute(
                "UPDATE attempts SET count=count-1 WHERE grp=? AND part=? AND offset=? AND count>0", place
            )

    def close(self) -> None:
        """See `topics.log.Stage.close`."""

    def _commit(self, transaction: SqliteTransaction) -> None:
        with self._file.writing() as connection:
            self._check_lease(connection)
            now_ns = time.time_ns()
            rows.append(connection, transaction.outgoing, now_ns)
            for place, offset in transaction.offsets.items():
                part = transaction.parts[place]
                rows.check_there(connection, part)
                connection.execute(
                    "INSERT INTO offsets(grp, part, next) VALUES(?, ?, ?) "
                    "ON CONFLICT(grp, part) DO UPDATE SET next=excluded.next",
                    (self.group, part, offset),
                )
                connection.execute(
                    "DELETE FROM attempts WHERE grp=? AND part=? AND offset<?", (self.group, part, offset)
                )
            if transaction.state is not None:
                self._replace_state(connection, transaction.state, now_ns)
            hit(self._id, "before_commit")
        self._offsets.update(transaction.offsets)
        if transaction.state is not None:
            self._state = transaction.state

    def _replace_state(self, connection: sqlite3.Connection, state: bytes, now_ns: int) -> None:
        # Only the latest state is ever read, and there is one per transaction: compact at once.
        old = rows.latest(connection, self._state_part, self._id)
        outgoing = rows.Outgoing(self._state_part, True, self._id, state)
        rows.append(connection, [outgoing], now_ns)
        if old is not None:
            size = rows.Outgoing(self._state_part, True, self._id, old[1]).size
            rows.remove(connection, self._state_part, [(rows.row_id(self._state_part, old[0]), size)])

    def _check_lease(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT epoch, owner FROM stages WHERE id=?", (self._id,)).fetchone()
        if row is None or row[0] != self._epoch:
            holder = "nobody" if row is None else row[1]
            raise Fenced(
                f"log {self._file.path}, stage {self._id}: {self._owner} was replaced by {holder}; "
                "nothing was written, stop this one"
            )
