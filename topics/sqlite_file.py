"""The file under the embedded log: connections, schema, locking, and errors that say what to do."""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from topics.log import LogError

Durability = Literal["normal", "full"]

_APPLICATION_ID = 0x44534C47  # "DSLG", so that a foreign database is never written to
_SCHEMA_VERSION = 2
_OLDEST_VERSION = 1
_PAGE_BYTES = 8192
_CHECKPOINT_PAGES = 2000  # 16 MiB: fewer fsyncs than the default when frames of 100 kB pass through
_WAL_LIMIT_BYTES = 64 * 1024 * 1024
_NETWORK_FILESYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smbfs",
        "smb3",
        "afs",
        "ceph",
        "lustre",
        "beegfs",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
    ]
)

# A record's row id is (partition row << 40) + offset: records lie in the file in reading order, and
# neither offsets nor times (which never decrease within a partition) need an index of their own.
OFFSET_BITS = 40

_SCHEMA = (
    """CREATE TABLE topics(
        name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, keyed INTEGER NOT NULL,
        compacted INTEGER NOT NULL, age_ns INTEGER, max_bytes INTEGER,
        purpose TEXT NOT NULL, guarded INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    """CREATE TABLE partitions(
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
        start INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        last_ns INTEGER NOT NULL DEFAULT 0, UNIQUE(topic, number))""",
    """CREATE TABLE records(
        id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, key TEXT, value BLOB)""",
    """CREATE TABLE latest(
        part INTEGER NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL,
        PRIMARY KEY(part, key)) WITHOUT ROWID""",
    """CREATE TABLE stages(
        id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, owner TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE offsets(
        grp TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY(grp, part)) WITHOUT ROWID""",
    """CREATE TABLE attempts(
        grp TEXT NOT NULL, part INTEGER NOT NULL, offset INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY(grp, part, offset)) WITHOUT ROWID""",
)

# What turns a file of one version into one of the next.
_UPGRADES = {1: ("ALTER TABLE topics ADD COLUMN guarded INTEGER NOT NULL DEFAULT 0",)}

_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free space or move the log to a larger disk, then start again",
    sqlite3.SQLITE_READONLY: "it is read-only; give this user write permission on the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and may be written to",
    sqlite3.SQLITE_NOTADB: "it is not a log but some other file; name another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a copy, or move it away to start an empty log",
    sqlite3.SQLITE_BUSY: "another process kept it locked; stop what holds the file open, then try again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check its space, quota and health",
    sqlite3.SQLITE_PERM: "access is denied; give this user permission on the file and its folder",
}

_T = TypeVar("_T")


def explain(path: Path, error: sqlite3.Error) -> LogError:
    """The error a user can act on for what SQLite reported about the log at `path`."""
    code = getattr(error, "sqlite_errorcode", None)
    remedy = _REMEDIES.get(code & 0xFF) if isinstance(code, int) else None
    return LogError(f"log {path}: {remedy or 'the database refused an operation'} ({error})")


def network_filesystem(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the network file system that `path` lies on; None for local ones and where unknown."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    best, kind = "", ""
    target = str(path.resolve())
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):  # the last mount on a path hides earlier ones
            best, kind = mount, fields[2]
    return kind if kind in _NETWORK_FILESYSTEMS else None


@dataclass(frozen=True, slots=True)
class _Handle:
    """What one thread works with: its connection, and its descriptor of the lock file."""

    database: sqlite3.Connection
    lock: int

    def close(self) -> None:
        self.database.close()
        os.close(self.lock)


class LogFile:
    """One SQLite database in WAL mode, with one connection per thread and process.

    Writers also take turns on a lock file beside it (``-lock``), which the kernel frees when its holder
    dies. A commit may checkpoint, so checkpoints never run beside another write: SQLite before 3.51.3
    could, in rare cases, damage the file when they did (its "WAL-reset" bug). And waiting for a turn is
    ours to pace: SQLite's own handler sleeps for up to 100 ms between tries, which would be the latency
    of every contended commit.
    """

    def __init__(self, path: Path, durability: Durability, busy_s: float) -> None:
        """Open or create the log at `path`; wait up to `busy_s` seconds for other writers.

        Raises LogError for a path that is not a log, of another version, or not usable.
        """
        self.path = path
        self._durability = durability
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._handles: dict[threading.Thread, _Handle] = {}
        self._closed = False
        filesystem = network_filesystem(path)
        if filesystem is not None:
            raise LogError(
                f"log {path}: lies on a network file system ({filesystem}), where locks and the write-ahead "
                "log do not work; choose a local disk"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogError(f"log {path}: its folder cannot be made ({error.strerror}); name another path") from error
        with self._explained():
            self._retry(self._prepare)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        return self._handle.database

    @property
    def _handle(self) -> _Handle:
        """This thread's handle; a forked child never touches its parent's."""
        if self._closed:
            raise LogError(f"log {self.path}: is closed; open it again")
        thread = threading.current_thread()
        if os.getpid() != self._pid:
            self._pid, self._lock = os.getpid(), threading.Lock()
            # Dropping them would close them, and closing a parent's connection here would drop its locks.
            _inherited.append(self._handles)
            for handle in self._handles.values():
                os.close(handle.lock)  # or a turn that the parent held would outlive it here
            self._handles = {}
        found = self._handles.get(thread)
        if found is None:
            with self._explained():
                found = self._retry(self._connect)
            with self._lock:
                for old in [other for other in self._handles if not other.is_alive()]:
                    self._handles.pop(old).close()
                self._handles[thread] = found
        return found

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of everything committed."""
        connection = self.connection
        with self._explained():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The write lock; everything is committed when the block ends, or rolled back if it raises."""
        handle = self._handle
        connection = handle.database
        with self._explained(), self._turn(handle):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def data_version(self) -> int:
        """A number that changes when another connection has committed; costs microseconds."""
        with self._explained():
            version: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def scrub(self) -> None:
        """Move everything from the write-ahead log into the file, and empty it: what was overwritten is in neither."""
        handle = self._handle
        with self._explained(), self._turn(handle):
            handle.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the connections of all threads of this process."""
        self._closed = True
        if os.getpid() != self._pid:
            return
        with self._lock:
            while self._handles:
                self._handles.popitem()[1].close()

    def _connect(self) -> _Handle:
        connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._durability.upper()}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
            lock = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except sqlite3.Error:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            raise LogError(
                f"log {self.path}: its lock file {self.path}-lock cannot be opened ({error.strerror}); "
                "give this user write permission on it and its folder"
            ) from error
        return _Handle(connection, lock)

    def _prepare(self) -> None:
        self._refuse_foreign()
        handle = self._connect()
        try:
            with self._turn(handle):
                connection = handle.database
                connection.execute("BEGIN IMMEDIATE")
                self._bring_up_to_date(connection)
                connection.execute("COMMIT")
        finally:
            handle.close()

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        application, version = self._identity(connection)
        if (application, version) == (0, 0):
            statements: tuple[str, ...] = _SCHEMA
        elif version in _UPGRADES:
            statements = tuple(line for step in range(version, _SCHEMA_VERSION) for line in _UPGRADES[step])
        else:
            return
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    def _refuse_foreign(self) -> None:
        """Look before anything is written: even switching to WAL would change another program's file."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        connection = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None)
        try:
            connection.execute("BEGIN")  # one view: another process may be creating the log right now
            application, version = self._identity(connection)
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            connection.close()
        if application != _APPLICATION_ID and (tables or application or version):
            raise LogError(f"log {self.path}: is a database of another program; name another path")
        if application == _APPLICATION_ID and not _OLDEST_VERSION <= version <= _SCHEMA_VERSION:
            raise LogError(
                f"log {self.path}: has format {version}, this version of discover-stream reads formats "
                f"{_OLDEST_VERSION} to {_SCHEMA_VERSION}; use the version that wrote it, or start a new log "
                "at another path"
            )

    @staticmethod
    def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
        application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return application, version

    @contextmanager
    def _turn(self, handle: _Handle) -> Iterator[None]:
        """Be the only writer, of all threads and processes."""
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                fcntl.flock(handle.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise LogError(f"log {self.path}: {_REMEDIES[sqlite3.SQLITE_BUSY]}") from error
            # A commit takes about a millisecond; short random sleeps are fair enough among writers.
            time.sleep(random.uniform(0.0002, 0.002))
        try:
            yield
        finally:
            fcntl.flock(handle.lock, fcntl.LOCK_UN)

    def _retry(self, action: Callable[[], _T]) -> _T:
        # Switching a new file to WAL needs it exclusively, and SQLite then does not wait by itself.
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(0.002, 0.02))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(self.path, error) from error


_inherited: list[dict[threading.Thread, _Handle]] = []


def _is_busy(error: sqlite3.OperationalError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_BUSY
