from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from actors import log_view as module
from actors.log_view import LogView, TopicGone, check_topics
from topics.catalogue import ARCHIVE, FRAMES, task_topic
from topics.log import Retention, TopicSpec
from topics.sqlite_file import LogError, LogFile


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.005)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def view(log, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[LogView]:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
    made = LogView(log, log.topics(), [1], told.append)
    made.start()
    yield made
    made.stop()


@contextmanager
def unreadable(monkeypatch: pytest.MonkeyPatch, view: LogView) -> Iterator[None]:
    """The disk under the log reports errors, for the view's thread."""
    whole = LogFile.reading

    def reading(self):
        if threading.current_thread() is view._thread:
            raise LogError("log x: the disk reports an error;\n check it")
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(LogFile, "reading", reading)
        yield


def test_what_waits_for_whom(log, view: LogView) -> None:
    assert (view.figures.encode, view.figures.route) == ({1: 0}, {1: 0})
    for _ in range(3):
        log.append(FRAMES, "gate", b"x", partition=1)
    log.append(ARCHIVE, "gate", b"x", partition=1)
    log.append(ARCHIVE, "gate", b"x", partition=0)  # nobody asked
    with log.stage("encode", 1, "test").transaction() as transaction:
        transaction.commit_offset(FRAMES, 1, 2)
    now_s = time.monotonic()
    until(lambda: view.figures.began_s > now_s)
    assert (view.figures.encode, view.figures.route) == ({1: 1}, {1: 1})


def test_a_log_that_does_not_answer_is_told_once_and_so_is_its_return(
    log, view: LogView, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with unreadable(monkeypatch, view):
        until(lambda: view.outage)
        before = view.figures
        time.sleep(0.3)
        assert view.figures is before
    until(lambda: view.outage is None)
    first, second = told
    assert first == "log unavailable: log x: the disk reports an error; check it; trying again until it is back"
    assert "answers again after" in second
    assert view.failure is None


def test_a_topic_that_has_gone_does_not_come_back(log, view: LogView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY_S", 0.05)
    with pytest.raises(TopicGone, match="topic other is not in the log any more"):
        check_topics(log, [FRAMES, "other"], patience_s=0)
    log.delete_topic(task_topic("pedestrians"))  # which the view itself does not look at
    until(lambda: view.failure)
    assert str(view.failure).startswith("topic task.pedestrians is not in the log any more")


def test_a_topic_may_be_missing_for_a_moment(log) -> None:
    frames = next(spec for spec in log.topics() if spec.name == FRAMES)
    log.delete_topic(FRAMES)
    thread = threading.Timer(0.3, lambda: log.create_topics([frames]))
    thread.start()
    check_topics(log, [FRAMES])
    thread.join()


def test_what_expired_is_taken_and_what_waits_is_kept(log, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(module, "_MAINTAIN_EVERY_S", 0.05)
    log.create_topics([TopicSpec("note", 1, keyed=False, retention=Retention(age_ns=1))])
    frames = next(spec for spec in log.topics() if spec.name == FRAMES)
    log.create_topics([TopicSpec(FRAMES, 2, guarded=frames.guarded, retention=Retention(age_ns=1))])
    log.append("note", None, b"x")
    for _ in range(3):
        log.append(FRAMES, "gate", b"x", partition=1)
    with log.stage("encode", 1, "test").transaction() as transaction:
        transaction.commit_offset(FRAMES, 1, 2)
    view = LogView(log, log.topics(), [1], told.append)
    view.start()
    until(lambda: log.bounds("note", 0).start == 1 and log.bounds(FRAMES, 1).start == 2)
    time.sleep(0.2)
    view.stop()
    assert log.bounds(FRAMES, 1).start == 2  # encoding has not done it yet
    assert told == []
