"""Ingest while the log cannot take records: a real log whose lock somebody else holds, or whose disk is full."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from actors.frame_buffer import AHEAD, LOG_UNAVAILABLE
from actors.ingest import IngestStage
from actors.progress import Outage, outage_line
from discover_stream.config import CameraConfig
from discover_stream.video.sink import open_sink
from topics.catalogue import FRAMES, CatalogueSettings, catalogue
from topics.log import Fenced, LogError, UnknownTopic
from topics.messages import EndMessage, FrameMessage, GapMessage, decode
from topics.sqlite import SqliteLog
from topics.sqlite_stage import SqliteStage

COUNT = 30
START_NS = 1_767_225_600 * 10**9


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 30 pictures at 20 a second that fill about 170 kB each when coded: six are a MiB."""
    path = tmp_path_factory.mktemp("clips") / "noise.mkv"
    random = np.random.default_rng(3)
    with open_sink(path, fps=20) as sink:
        for _ in range(COUNT):
            sink.write(random.integers(0, 256, (240, 320, 3), np.uint8))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db", busy_s=0.1) as opened:
        opened.create_topics(catalogue(["vehicles"], CatalogueSettings(partitions=2)))
        yield opened


def ingest(log, source: Path, **more) -> IngestStage:
    camera = CameraConfig(
        name="gate", source=str(source), starts_at="2026-01-01T00:00:00Z", **{"realtime": True, "buffer_mib": 1, **more}
    )
    return IngestStage(log, camera, 1, max_lag=1000, owner="test")


class Running:
    """A stage in a thread."""

    def __init__(self, stage: IngestStage) -> None:
        self.stage, self.outcome, self.error = stage, None, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self.stage.run()
        except BaseException as error:  # looked at by the test
            self.error = error

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.thread.is_alive(), (self.outcome, self.error)
            time.sleep(0.005)

    def end(self) -> str:
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.outcome


@contextmanager
def locked(log: SqliteLog) -> Iterator[None]:
    """Somebody else holds the log's lock, as a program does that hangs in the middle of a commit."""
    lock = os.open(f"{log.path}-lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def messages(records, log) -> list:
    return [decode(record.value) for record in records(log, FRAMES)]


def accounted(stage: IngestStage) -> int:
    """Frames that were written, wait, were left out, or are in hand."""
    report = stage.report
    return report.frames + report.buffered + dict(report.dropped).get(LOG_UNAVAILABLE, 0) + 1


def check_order(found: list, dropped: int) -> None:
    """All frames in order, once, and gaps exactly where frames are missing."""
    *items, end = found
    assert isinstance(end, EndMessage)
    seqs = [m.seq for m in items if isinstance(m, FrameMessage)]
    assert seqs == sorted(set(seqs))
    expected = 0
    missing = 0
    for item in items:
        if isinstance(item, GapMessage):
            assert item.reason == LOG_UNAVAILABLE
            following = expected if item is items[-1] else expected + item.frames  # the end's number is the next one
            assert item.next_seq == following
            assert item.from_ns == START_NS + expected * 50_000_000
            assert item.to_ns == START_NS + (expected + item.frames - 1) * 50_000_000
            missing += item.frames
            expected = item.next_seq
        else:
            assert item.seq == expected
            assert item.capture_ns == START_NS + item.seq * 50_000_000
            expected += 1
    if expected < COUNT:  # dropped at the very end: the gap stands before the end
        assert isinstance(items[-1], GapMessage)
    assert missing == dropped


@pytest.mark.parametrize("drops", ["oldest", "latest"])
def test_frames_are_kept_within_the_bound_then_dropped_and_counted(log, records, noise: Path, drops: str) -> None:
    running = Running(ingest(log, noise, when_behind=f"drop-{drops}"))
    stage = running.stage
    running.until(lambda: stage.report.frames >= 3)
    with locked(log):
        running.until(lambda: accounted(stage) == COUNT and stage.report.outage)
        report = stage.report
        assert report.outage is not None
        assert "another process kept it locked" in report.outage.error
        assert 4 <= report.buffered <= 7  # a MiB
        dropped = dict(report.dropped)[LOG_UNAVAILABLE]
        assert dropped >= 10
        line = outage_line(report.outage, report.buffered, dropped)
        assert "\n" not in line
        assert f"{report.buffered} frames buffered, {dropped} dropped: log {log.path}" in line
    assert running.end() == "ended"
    found = messages(records, log)
    check_order(found, dropped)
    last = max(m.seq for m in found if isinstance(m, FrameMessage))
    assert (last == COUNT - 1) == (drops == "oldest")
    assert stage.report.outage is None
    assert stage.report.buffered == 0
    assert stage.report.frames == COUNT - dropped
    assert stage.report.dropped == ((LOG_UNAVAILABLE, dropped),)


def test_a_source_that_waits_loses_nothing(log, records, noise: Path) -> None:
    running = Running(ingest(log, noise, when_behind="wait"))
    stage = running.stage
    running.until(lambda: stage.report.frames >= 3)
    with locked(log):
        running.until(lambda: stage.report.buffered > AHEAD)
        before = -1
        while before != (before := accounted(stage)):
            time.sleep(0.3)
        assert stage.report.buffered <= 7
        assert before < COUNT
    assert running.end() == "ended"
    check_order(messages(records, log), 0)
    assert stage.report.dropped == ()


@pytest.mark.parametrize("before", [True, False])
def test_a_commit_whose_outcome_nobody_told_is_settled(log, records, noise: Path, monkeypatch, before: bool) -> None:
    """The connection breaks now just before, now just after a commit was made."""
    whole = SqliteStage._commit
    count = 0

    def commit(self, transaction) -> None:
        nonlocal count
        count += 1
        if count % 4 == 2 and before:
            raise LogError("log: the connection was lost")
        whole(self, transaction)
        if count % 4 == 2:
            raise LogError("log: the connection was lost")

    monkeypatch.setattr(SqliteStage, "_commit", commit)
    stage = ingest(log, noise, realtime=False)
    assert stage.run() == "ended"
    assert count > COUNT
    check_order(messages(records, log), 0)
    assert (stage.report.frames, stage.report.next_seq, stage.report.gaps) == (COUNT, COUNT, 0)


@pytest.mark.parametrize("made", [True, False])
def test_the_end_too_is_written_once(log, records, noise: Path, monkeypatch, made: bool) -> None:
    whole = SqliteStage._commit
    failed: list[bool] = []

    def commit(self, transaction) -> None:
        ends = isinstance(decode(transaction.outgoing[0].value), EndMessage)
        if made or not ends or failed:
            whole(self, transaction)
        if ends and not failed:
            failed.append(True)
            raise LogError("log: the connection was lost")

    monkeypatch.setattr(SqliteStage, "_commit", commit)
    assert ingest(log, noise, realtime=False).run() == "ended"
    assert failed
    found = messages(records, log)
    assert sum(isinstance(m, EndMessage) for m in found) == 1
    check_order(found, 0)


def test_who_was_replaced_meanwhile_does_not_take_it_back(log, records, noise: Path) -> None:
    stage = ingest(log, noise, when_behind="drop-oldest")
    late = threading.Event()
    stage._stop.wait = lambda timeout: not late.wait()
    running = Running(stage)
    running.until(lambda: stage.report.frames >= 3)
    with locked(log):
        running.until(lambda: stage.report.outage)
    assert ingest(log, noise, realtime=False).run() == "ended"
    late.set()
    with pytest.raises(Fenced, match=r"stage ingest-gate-1: another ingest of this camera wrote"):
        running.end()
    check_order(messages(records, log), 0)


def test_a_full_disk_is_told_and_waited_for(log, records, noise: Path, monkeypatch) -> None:
    """SQLite's own bound on the file stands in for the disk's: it reports the same."""
    pages: list[int] = [10**6]
    connect = type(log._file)._connect

    def bounded(self):
        handle = connect(self)
        handle.database.execute(f"PRAGMA max_page_count={pages[0]}")
        return handle

    monkeypatch.setattr(type(log._file), "_connect", bounded)
    running = Running(ingest(log, noise, when_behind="drop-oldest"))
    stage = running.stage
    running.until(lambda: stage.report.frames >= 3)
    handles = lambda: [handle.database for handle in log._file._handles.values()]  # noqa: E731
    pages[0] = handles()[0].execute("PRAGMA page_count").fetchone()[0] + 10
    for database in handles():
        database.execute(f"PRAGMA max_page_count={pages[0]}")
    running.until(lambda: stage.report.outage)
    assert "the disk is full; free space" in stage.report.outage.error
    running.until(lambda: stage.report.buffered >= 3)
    for database in handles():
        database.execute("PRAGMA max_page_count=1000000")
    assert running.end() == "ended"
    check_order(messages(records, log), sum(dict(stage.report.dropped).values()))


def test_a_stop_does_not_wait_for_the_log(log, noise: Path) -> None:
    running = Running(ingest(log, noise, when_behind="drop-oldest"))
    running.until(lambda: running.stage.report.frames >= 3)
    with locked(log):
        running.until(lambda: running.stage.report.outage)
        running.stage.stop()
        assert running.end() == "stopped"
        assert running.stage.report.outage is not None


def test_a_missing_topic_is_not_waited_for(tmp_path: Path, noise: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics([spec for spec in catalogue() if spec.name != FRAMES])
        with pytest.raises(UnknownTopic, match="frames"):
            ingest(log, noise).run()


def test_the_line_about_an_outage() -> None:
    line = outage_line(Outage(START_NS + 61 * 10**9, "log x: is locked"), 12, 3)
    assert line == "log unavailable since 2026-01-01T00:01:01Z, 12 frames buffered, 3 dropped: log x: is locked"
