"""Ingest on a real Kafka whose only node is killed under it and comes back: nothing twice, nothing in disorder,
and a gap for what was left out."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.frame_buffer import LOG_UNAVAILABLE
from actors.ingest import IngestReport, IngestStage
from deploy.kafka.broker import Broker
from discover_stream.config import CameraConfig
from topics import open_log
from topics.catalogue import FRAMES, CatalogueSettings, catalogue
from topics.log import Fenced, Log, UnknownTopic
from topics.messages import FrameMessage, GapMessage, decode
from topics.reading import read_all

pytestmark = pytest.mark.slow

SOURCE = "sim://road?seed=1&width=320&height=176&fps=10"
START_NS = 1_767_225_600 * 10**9


@pytest.fixture(scope="module")
def broker(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of our own, since it is going to be killed."""
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def address(broker: Broker) -> str:
    return f"kafka:{broker.bootstrap}?prefix={uuid.uuid4().hex[:8]}."


@pytest.fixture
def log(address: str) -> Iterator[Log]:
    with open_log(address) as opened:
        opened.create_topics(catalogue(["vehicles"], CatalogueSettings(partitions=2)))
        yield opened


def camera(**more) -> CameraConfig:
    return CameraConfig(name="gate", source=SOURCE, starts_at="2026-01-01T00:00:00Z", realtime=True, **more)


class Running:
    """A stage in a thread."""

    def __init__(self, stage: IngestStage) -> None:
        self.stage, self.error = stage, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.stage.run()
        except BaseException as error:  # looked at by the test
            self.error = error

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.thread.is_alive(), self.error
            time.sleep(0.02)

    def end(self) -> None:
        self.stage.stop()
        self.thread.join()
        if self.error is not None:
            raise self.error


def check(log: Log, report) -> None:
    """Every frame once and in order, a gap wherever some are missing, and figures that agree with it."""
    expected = missing = 0
    frames = 0
    for record in read_all(log, FRAMES):
        message = decode(record.value or b"")
        if isinstance(message, GapMessage):
            assert message.reason == LOG_UNAVAILABLE
            assert message.next_seq == expected + message.frames
            missing += message.frames
            expected = message.next_seq
        else:
            assert isinstance(message, FrameMessage)
            assert (message.seq, message.capture_ns) == (expected, START_NS + expected * 10**8)
            expected += 1
            frames += 1
    assert (frames, expected) == (report.frames, report.next_seq)
    assert missing == dict(report.dropped).get(LOG_UNAVAILABLE, 0)


@pytest.mark.parametrize("when_behind", ["wait", "drop-oldest"])
def test_a_broker_that_is_killed_and_comes_back(broker: Broker, log: Log, when_behind: str) -> None:
    running = Running(IngestStage(log, camera(when_behind=when_behind, buffer_mib=1), 1, max_lag=10_000, owner="test"))
    stage = running.stage
    running.until(lambda: stage.report.frames >= 10)
    broker.stop_node(0, hard=True)
    try:
        running.until(lambda: stage.report.outage)
        outage = stage.report.outage
        assert outage is not None
        assert broker.bootstrap in outage.error
        assert "check the address and that the broker runs" in outage.error
        held = stage.report.buffered
        running.until(lambda: stage.report.buffered >= 10 and stage.report.buffered >= held)
        if when_behind == "drop-oldest":
            running.until(lambda: dict(stage.report.dropped).get(LOG_UNAVAILABLE, 0) >= 20)
            assert stage.report.buffered <= 60  # a MiB
    finally:
        broker.start_node(0)
    running.until(lambda: stage.report.outage is None and stage.report.buffered <= 3)
    after = stage.report.frames
    running.until(lambda: stage.report.frames >= after + 10)
    running.end()
    report = stage.report
    assert (report.dropped == ()) == (when_behind == "wait")
    with open_log_of(log) as fresh:
        check(fresh, report)


def open_log_of(log) -> Log:
    return open_log(log.settings.address())


def test_another_ingest_fences_this_one(log: Log) -> None:
    running = Running(IngestStage(log, camera(), 1, max_lag=10_000, owner="ingest of gate, process 1"))
    running.until(lambda: running.stage.report.frames >= 3)
    with open_log_of(log) as other:
        second = Running(IngestStage(other, camera(), 1, max_lag=10_000, owner="ingest of gate, process 2"))
        running.thread.join()
        with pytest.raises(Fenced, match=r"ingest-gate-1.*process 1 was replaced by .*process 2") as caught:
            running.end()
        assert "\n" not in str(caught.value)
        second.until(lambda: second.stage.report.frames >= 3)
        second.end()
        check(
            other,
            IngestReport(
                frames=running.stage.report.frames + second.stage.report.frames, next_seq=second.stage.report.next_seq
            ),
        )


def test_topics_that_are_deleted_under_it_end_it(log: Log) -> None:
    running = Running(IngestStage(log, camera(), 1, max_lag=10_000, owner="test"))
    running.until(lambda: running.stage.report.frames >= 3)
    with open_log_of(log) as other:
        other.delete_topic(FRAMES)
    running.thread.join()
    assert isinstance(running.error, UnknownTopic), running.error
    assert "frames" in str(running.error)
