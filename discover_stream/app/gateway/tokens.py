"""Tokens, hashed, and the record of who did what: one small SQLite file that only its owner may read.

A token is ``dsk_ID_SECRET``. The secret has 256 random bits, so its SHA-256 is all that has to be kept: there is
nothing to guess that a slow hash would protect. What was recorded is never changed: the file refuses it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from discover_stream.app.gateway.access import Principal
from discover_stream.app.gateway.models import Role
from discover_stream.types import InputError

_PREFIX = "dsk"
_USED_EVERY_NS = 60 * 10**9
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, cameras TEXT, tasks TEXT, hash BLOB NOT NULL,
  made_ns INTEGER NOT NULL, expires_ns INTEGER, revoked_ns INTEGER, used_ns INTEGER);
CREATE TABLE IF NOT EXISTS audit(
  number INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
  detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secret(one INTEGER PRIMARY KEY CHECK(one = 1), value BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_unchanged BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the record is never changed'); END;
CREATE TRIGGER IF NOT EXISTS audit_kept BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the record is never shortened'); END;
"""


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What is kept of a token. Times in ns since the epoch."""

    principal: Principal
    made_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    used_ns: int | None

    def live(self, now_ns: int) -> bool:
        """Whether it opens anything."""
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record."""

    at_ns: int
    who: str
    what: str
    detail: str


class GatewayState:
    """The file. Threads and processes may share it; what one writes, the others see at once."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises InputError where that is not possible."""
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with self._connection() as connection:
                connection.executescript(_SCHEMA)
                connection.execute("INSERT OR IGNORE INTO secret VALUES(1, ?)", (secrets.token_bytes(32),))
                (self.secret,) = connection.execute("SELECT value FROM secret").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"gateway state {path}: cannot be used ({error}); name another file as gateway.state"
            ) from error

    def make(
        self,
        name: str,
        role: Role,
        *,
        cameras: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        days: float | None = None,
    ) -> str:
        """A new token; this is the only time that anybody sees it.

        Raises InputError for limits that do not belong to the role.
        """
        _check_limits(role, cameras, tasks)
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        now = time.time_ns()
        row = (
            identity,
            name,
            role,
            None if cameras is None else json.dumps(sorted(set(cameras))),
            None if tasks is None else json.dumps(sorted(set(tasks))),
            _hash(secret),
            now,
            None if days is None else now + round(days * 86400e9),
        )
        with self._connection() as connection:
            connection.execute("INSERT INTO tokens VALUES(?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", row)
        self.record("command line", "token made", f"{identity} {name} {role}")
        return f"{_PREFIX}_{identity}_{secret}"

    def revoke(self, identity: str) -> None:
        """End a token. Raises InputError for one that is not there."""
        with self._connection() as connection:
            found = connection.execute(
                "UPDATE tokens SET revoked_ns=coalesce(revoked_ns, ?) WHERE id=?", (time.time_ns(), identity)
            ).rowcount
        if not found:
            raise InputError(f"token {identity}: there is none; `discover token list` tells which there are")
        self.record("command line", "token revoked", identity)

    def tokens(self) -> list[TokenFacts]:
        """All tokens ever made, oldest first."""
        rows = self._rows(
            "SELECT id, name, role, cameras, tasks, made_ns, expires_ns, revoked_ns, used_ns FROM tokens "
            "ORDER BY made_ns"
        )
        return [_facts(row) for row in rows]

    @property
    def open(self) -> bool:
        """Whether no token was ever made. Once there was one, the gateway never is open again."""
        return not self._rows("SELECT 1 FROM tokens LIMIT 1")

    def holder(self, token: str) -> Principal | None:
        """Who holds a token; None for one that opens nothing."""
        prefix, _, rest = token.partition("_")
        identity, _, secret = rest.partition("_")
        if prefix != _PREFIX or not identity or not secret or not token.isascii():
            return None
        rows = self._rows("SELECT hash FROM tokens WHERE id=?", identity)
        if not rows or not hmac.compare_digest(rows[0][0], _hash(secret)):
            return None
        return self.live(identity)

    def live(self, identity: str) -> Principal | None:
        """Who a token of this id is for, while it is live; marks it as used."""
        rows = self._rows(
            "SELECT id, name, role, cameras, tasks, made_ns, expires_ns, revoked_ns, used_ns FROM tokens WHERE id=?",
            identity,
        )
        now = time.time_ns()
        if not rows or not (facts := _facts(rows[0])).live(now):
            return None
        if facts.used_ns is None or now - facts.used_ns > _USED_EVERY_NS:
            with self._connection() as connection:
                connection.execute("UPDATE tokens SET used_ns=? WHERE id=?", (now, identity))
        return facts.principal

    def record(self, who: str, what: str, detail: str) -> None:
        """Add a line to the record."""
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO audit(at_ns, who, what, detail) VALUES(?, ?, ?, ?)",
                (time.time_ns(), who[:200], what[:200], detail[:2000]),
            )

    def entries(self, limit: int) -> list[Entry]:
        """The newest lines of the record, newest first."""
        rows = self._rows("SELECT at_ns, who, what, detail FROM audit ORDER BY number DESC LIMIT ?", limit)
        return [Entry(*row) for row in rows]

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else has meanwhile; each statement is a transaction of its own.

        Threads come and go, so there are only as many connections as were ever at work at once.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connected()
        try:
            yield connection
        finally:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _facts(row: tuple[object, ...]) -> TokenFacts:
    identity, name, role, cameras, tasks, made, expires, revoked, used = row
    assert role in get_args(Role)
    principal = Principal(
        str(identity),
        str(name),
        cast("Role", role),
        None if cameras is None else frozenset(json.loads(str(cameras))),
        None if tasks is None else frozenset(json.loads(str(tasks))),
    )
    times = (None if at is None else int(str(at)) for at in (expires, revoked, used))
    return TokenFacts(principal, int(str(made)), *times)


def _check_limits(role: Role, cameras: Sequence[str] | None, tasks: Sequence[str] | None) -> None:
    if role != "viewer" and cameras is not None:
        raise InputError(f"a token of role {role} cannot be limited to cameras; only viewers are")
    if role != "subscriber" and tasks is not None:
        raise InputError(f"a token of role {role} cannot be limited to tasks; only subscribers are")
    if role == "subscriber" and not tasks:
        raise InputError("a subscriber needs the tasks that it may see; name them with --task")
    if tasks is not None and "all" in tasks:
        raise InputError("`all` is no task: who may see everything is an operator, or a viewer of cameras")
