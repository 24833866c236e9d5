"""What only the embedded log promises: its file, its errors, its threads and forks."""

# A transaction is a block, and its end is what raises:
# ruff: noqa: PT012

from __future__ import annotations

import fcntl
import gc
import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from topics import open_log
from topics.log import LogError, TopicSpec
from topics.sqlite import SqliteLog
from topics.sqlite_file import LogFile, explain, network_filesystem

SPECS = (TopicSpec("in", 2), TopicSpec("out", 1), TopicSpec("state", 1, compacted=True))


def values(log: SqliteLog, topic: str) -> list[bytes | None]:
    return [getattr(item, "value", None) for item in log.reader(topic).poll()]


def test_file_settings(tmp_path: Path) -> None:
    for durability, level in (("normal", 1), ("full", 2)):
        with SqliteLog(tmp_path / "new" / f"{durability}.db", durability=durability) as log:
            connection = log._file.connection
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (level,)


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "kafka://host:9092", "/tmp/log.db"])
def test_unknown_addresses_are_refused(url: str) -> None:
    with pytest.raises(LogError, match="log address"):
        open_log(url)


def test_files_that_are_not_logs_stay_untouched(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(b"these are notes, " * 100)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine(x)")
    connection.close()
    truncated = tmp_path / "truncated.db"
    SqliteLog(tmp_path / "whole.db").close()
    truncated.write_bytes((tmp_path / "whole.db").read_bytes()[:5000])
    for path, message in ((text, "not a log"), (foreign, "another program"), (truncated, "damaged")):
        before = path.read_bytes()
        with pytest.raises(LogError, match=message) as caught:
            SqliteLog(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "file" / "log.db"):
        with pytest.raises(LogError, match="log "):
            SqliteLog(path)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log._file.connection.execute("PRAGMA user_version=99")
    with pytest.raises(LogError, match="format 99"):
        SqliteLog(path)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(SPECS)
        log.append("out", "k", b"before")
        stage = log.stage("encode", 0, "a")
        connection = log._file.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 4}")
        with (
            pytest.raises(LogError, match=r"log\.db: the disk is full.*free space"),
            stage.transaction() as tx,
        ):
            tx.send("out", "k", b"small")
            tx.send("in", "k", bytes(200_000))
            tx.set_state(b"state")
        assert (values(log, "out"), values(log, "in"), stage.state) == ([b"before"], [], None)
        connection.execute(f"PRAGMA max_page_count={pages + 1000}")
        with stage.transaction() as tx:
            tx.send("out", "k", b"after")
        assert values(log, "out") == [b"before", b"after"]


def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    SqliteLog(path).close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE x(y)")
    connection.close()
    assert "read-only; give this user write permission" in str(explain(path, caught.value))


def _write_beyond_limit(path: str) -> None:
    with SqliteLog(path) as log:
        log.create_topics(SPECS)
        log.append("out", "k", b"before")
        size = 256 * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(LogError, match="disk"):
            log.append("out", "k", bytes(2 * size))
        os._exit(7)  # no clean end: closing would try to write as well


def test_a_quota_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    process = multiprocessing.get_context("spawn").Process(target=_write_beyond_limit, args=(str(path),))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    with SqliteLog(path) as log:
        assert values(log, "out") == [b"before"]


def test_a_lock_that_stays_is_reported_and_leaves_the_log_usable(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path, busy_s=0.1) as log:
        log.create_topics(SPECS)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match="locked"):
            log.append("in", "k", b"1", partition=0)
        assert values(log, "in") == []
        other.execute("ROLLBACK")
        other.close()
        with open(f"{path}-lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(LogError, match="locked"):
                log.append("in", "k", b"1", partition=0)
            assert values(log, "in") == [], "readers never wait for writers"
        log.append("in", "k", b"2", partition=0)
        assert values(log, "in") == [b"2"]


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/net nfs4 rw 0 0\n"
        f"/dev/sdb {tmp_path}/net/local xfs rw 0 0\n"
        f"server:/y {tmp_path}/with\\040space cifs rw 0 0\n"
    )
    assert network_filesystem(tmp_path / "net" / "log.db", mounts) == "nfs4"
    assert network_filesystem(tmp_path / "with space" / "log.db", mounts) == "cifs"
    assert network_filesystem(tmp_path / "net" / "local" / "log.db", mounts) is None
    assert network_filesystem(tmp_path / "network" / "log.db", mounts) is None
    assert network_filesystem(tmp_path / "log.db", tmp_path / "absent") is None
    monkeypatch.setattr("topics.sqlite_file.network_filesystem", lambda path: "nfs4")
    with pytest.raises(LogError, match=r"network file system \(nfs4\)"):
        SqliteLog(tmp_path / "log.db")


def _die_in_commit(path: str, statement: str) -> None:
    log = SqliteLog(path)
    stage = log.stage("encode", 0, "victim")

    def kill(executed: str) -> None:
        if executed.startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)

    log._file.connection.set_trace_callback(kill)
    with stage.transaction() as tx:
        tx.send("out", "k", b"lost")
        tx.send("in", "k", bytes(3_000_000))
        tx.commit_offset("in", 0, 1)
        tx.set_state(b"lost")


@pytest.mark.parametrize("statement", ["COMMIT", "UPDATE partitions", "INSERT INTO offsets"])
def test_death_inside_the_commit_itself_leaves_nothing(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log.create_topics(SPECS)
        process = multiprocessing.get_context("spawn").Process(target=_die_in_commit, args=(str(path), statement))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        for seen in (log, SqliteLog(path)):
            stage = seen.stage("encode", 0, "heir")
            assert (stage.state, dict(stage.offsets)) == (None, {})
            assert values(seen, "out") + values(seen, "in") == []
        log.append("out", "k", b"next")
        assert log.bounds("out", 0).end == 1


def test_threads_share_a_log(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(SPECS)

        def work(name: str) -> None:
            try:
                stage = log.stage(name, 0, name)
                for number in range(20):
                    with stage.transaction() as tx:
                        tx.send("out", name, b"%d" % number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        reader = log.reader("out")
        found = []
        while len(found) < 60 and not failures:
            found += reader.poll(timeout_s=10)
        for thread in threads:
            thread.join()
        assert not failures
        for name in "abc":
            assert [r.value for r in found if r.key == name] == [b"%d" % number for number in range(20)]
        late = threading.Thread(target=lambda: log.append("in", "k", b"x"))
        late.start()
        late.join()
        assert len(log._file._handles) <= 2, "connections of ended threads are closed"


def _in_fork(log: SqliteLog, inherited: sqlite3.Connection) -> None:
    assert log._file.connection is not inherited
    log.append("out", "child", b"child")
    gc.collect()


def _forks(folder: Path) -> None:
    with SqliteLog(folder / "log.db") as log:
        log.create_topics(SPECS)
        log.append("out", "parent", b"before")
        process = multiprocessing.get_context("fork").Process(target=_in_fork, args=(log, log._file.connection))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        log.append("out", "parent", b"after")
        assert values(log, "out") == [b"before", b"child", b"after"]
        assert log._file.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_forked_child_uses_connections_of_its_own(tmp_path: Path) -> None:
    # In a process of its own: a child that collects garbage ends what other tests' threads of this one still hold.
    process = multiprocessing.get_context("spawn").Process(target=_forks, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == 0


def _open_and_append(path: str, name: str) -> None:
    with SqliteLog(path) as log:
        log.create_topics(SPECS)
        log.append("out", name, name.encode())


def test_many_processes_may_create_the_same_log_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_and_append, args=(str(path), f"p{n}")) for n in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with SqliteLog(path) as log:
        assert sorted(value or b"" for value in values(log, "out")) == [b"p%d" % n for n in range(6)]


def test_a_log_created_while_another_process_looks_is_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    early = sqlite3.connect(path)
    early.execute("PRAGMA journal_mode=WAL")  # as far as the other process has come
    early.close()
    assert path.stat().st_size > 0
    identity = LogFile._identity

    def and_then_it_is_created(connection: sqlite3.Connection) -> tuple[int, int]:
        seen = identity(connection)
        monkeypatch.setattr(LogFile, "_identity", staticmethod(identity))
        SqliteLog(path)
        return seen

    monkeypatch.setattr(LogFile, "_identity", staticmethod(and_then_it_is_created))
    with SqliteLog(path) as log:
        log.create_topics(SPECS)


def test_times_never_decrease_when_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(SPECS)
        clock = [1000, 2000, 500, 1500, 3000]
        for number, now in enumerate(clock):
            monkeypatch.setattr(time, "time_ns", lambda now=now: now)
            log.append("out", "k", b"%d" % number)
        assert [item.timestamp_ns for item in log.reader("out").poll()] == [1000, 2000, 2000, 2000, 3000]
        assert log.offset_at("out", 0, 2000) == 1
        assert log.offset_at("out", 0, 2000, "at_or_before") == 3
        assert log.offset_at("out", 0, 2001) == 4


def test_space_of_expired_records_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log.create_topics(SPECS)
        sizes = []
        for _ in range(4):
            for _ in range(40):
                log.append("out", "k", bytes(50_000))
            log.trim("out", 0, log.bounds("out", 0).end)
            log._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes.append(path.stat().st_size)
        assert sizes[-1] <= sizes[0] * 1.2
        row = log._file.connection.execute("SELECT sum(bytes), count(*) FROM partitions").fetchone()
        assert row[0] == 0


def test_nothing_is_left_of_what_is_gone(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics((*SPECS, TopicSpec("table", 1, compacted=True)))
        stage = log.stage("encode", 0, "a")
        for number in range(5):
            with stage.transaction() as tx:
                tx.set_state(b"%d" % number)
            log.append("out", f"key {number}", b"x", partition=0)
        count = "SELECT count(*) FROM "
        connection = log._file.connection
        assert connection.execute(count + "records").fetchone() == (6,), "each state replaces the one before"
        log.trim("out", 0, 4)
        assert connection.execute(count + "records").fetchone() == (2,)
        log.append("table", "car", b"x")
        log.append("table", "car", None)
        assert connection.execute(count + "latest").fetchone() == (2,)
        for number in range(5):
            stage.record_attempt("in", 0, number)
        with stage.transaction() as tx:
            tx.commit_offset("in", 0, 5)
        assert connection.execute(count + "attempts").fetchone() == (0,)
