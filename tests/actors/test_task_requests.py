"""One inquiry per task, once ever: many threads and processes over one log, against a real HTTP server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import GOOD_LABELS, KEY, ChatServer, Reply, labelled, refusing

from actors.task_requests import (
    Ask,
    Done,
    Lease,
    Life,
    Order,
    Refuse,
    Seen,
    Step,
    Wait,
    free_version,
    next_step,
    obtain_labels,
)
from deploy.kafka.broker import Broker
from discover_stream.codec.packet import task_key
from discover_stream.semantics.mllm import InquiryError, LabelAnswer, UnusableAnswer, ask_labels
from discover_stream.semantics.mllm_endpoint import Endpoint, Patience
from discover_stream.types import InputError, LabelSet, Task
from topics import open_log
from topics.catalogue import LABELS, CatalogueSettings, catalogue
from topics.immutable import ImmutableTable
from topics.log import Log
from topics.messages import LabelSetMessage, TaskRequest
from topics.requests import read_requests
from topics.sqlite import SqliteLog

SPAWN = multiprocessing.get_context("spawn")
ORDER = Order("vans", "count delivery vans blocking the bus lane")
QUICK = Lease(beat_s=0.1, lapse_s=1.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def asking(url: str, tries: int = 2) -> Callable[[str], LabelAnswer]:
    endpoint = Endpoint("test-model", url, KEY)
    return lambda description: ask_labels(description, endpoint, Patience(request_s=150, total_s=320, tries=tries))


def never(description: str) -> LabelAnswer:
    raise AssertionError("nobody may be asked")


def once_all_wait(waiting: list[str], count: int, reply: Reply) -> Callable[[dict[str, object]], Reply]:
    """Answers as soon as so many others have said that they wait."""

    def answer(request: dict[str, object]) -> Reply:
        deadline = time.monotonic() + 120
        while len(waiting) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return reply

    return answer


def stored(log: Log, task: str = "vans") -> LabelSetMessage | None:
    table = ImmutableTable(log, LABELS)
    try:
        return table.read_latest(LabelSetMessage, task)
    finally:
        table.close()


def versions(log: Log, task: str = "vans") -> list[int]:
    table = ImmutableTable(log, LABELS)
    try:
        return sorted(version for name, version in table.versions() if name == task)
    finally:
        table.close()


def known(**facts: object) -> TaskRequest:
    return TaskRequest(task="vans", **{"description": ORDER.description, **facts})


REFRESH = replace(ORDER, refresh=True)


@pytest.mark.parametrize(
    ("request_", "order", "seen", "step"),
    [
        (None, ORDER, Seen(), Ask()),
        (known(version=3), ORDER, Seen(3), Done(3)),
        (known(version=3, description=f"  {ORDER.description.replace(' ', '  ')}"), ORDER, Seen(3), Done(3)),
        (known(version=3, claim="a"), ORDER, Seen(3), Done(3)),  # a refresh under way keeps nobody waiting
        (known(version=3), REFRESH, Seen(3), Ask()),
        (known(version=4), REFRESH, Seen(3), Done(4)),  # that is new since the first look: somebody else's refresh
        (known(version=3, claim="a"), REFRESH, Seen(3), Wait("a")),
        (known(claim="a"), ORDER, Seen(), Wait("a")),
        (known(claim="a"), ORDER, Seen(joined="a"), Wait("a")),
        (known(claim="a"), ORDER, Seen(joined="a", lapsed="a"), Ask()),
        (known(claim="b"), ORDER, Seen(joined="a", lapsed="a"), Wait("b")),
        (known(failed="a", problem="why"), ORDER, Seen(joined="a"), Refuse("why")),
        (known(failed="a", problem="why"), REFRESH, Seen(joined="a"), Refuse("why")),
        (known(failed="a", problem="why"), ORDER, Seen(), Ask()),  # what failed before may pass now
        (known(failed="a", problem="why", disabled=True), REFRESH, Seen(), Ask()),
        (known(failed="a", disabled=True, description="other words"), ORDER, Seen(), Ask()),
    ],
)
def test_what_follows(request_: TaskRequest | None, order: Order, seen: Seen, step: Step) -> None:
    assert next_step(request_, order, seen) == step


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (known(version=3, description="other words"), "described as 'other words' already; --refresh"),
        (known(failed="a", problem="37 labels", disabled=True), "is disabled: 37 labels; --refresh asks again"),
    ],
)
def test_what_is_refused(request_: TaskRequest, words: str) -> None:
    step = next_step(request_, ORDER, Seen(request_.version))
    assert isinstance(step, Refuse)
    assert words in step.reason


def test_a_claim_lapses_a_lease_after_its_last_sign_of_life() -> None:
    life = Life(10.0)
    looks = [("a", 0, 100.0), ("a", 0, 109.0), ("a", 1, 110.5), ("a", 1, 120.0), ("b", 1, 120.6), ("b", 1, 130.5)]
    assert not any(life.lapsed(*look) for look in looks)
    assert life.lapsed("b", 1, 130.6)


def test_labels_are_asked_for_once_ever(log: SqliteLog, tmp_path: Path) -> None:
    with ChatServer([labelled()]) as server:
        assert obtain_labels(log, ORDER, asking(server.url), "test").asked
        again = obtain_labels(log, ORDER, never, "test")
        assert (again.version, again.asked) == (1, False)
        with SqliteLog(tmp_path / "log.db") as reopened:
            assert obtain_labels(reopened, ORDER, never, "test") == again
    assert len(server.requests) == 1
    message = stored(log)
    assert message is not None
    assert message.labels == GOOD_LABELS
    assert (message.description, message.profile) == (ORDER.description, "machine")


def test_what_it_took_is_recorded(log: SqliteLog) -> None:
    with ChatServer([labelled(GOOD_LABELS[:37]), labelled()]) as server:
        obtain_labels(log, ORDER, asking(server.url), "test")
        record = read_requests(log).inquiry("vans", 1)
        assert record is not None
        assert (record.model, record.place) == ("test-model-0711", server.url)
    assert (record.requests, record.tokens_in, record.tokens_out, record.problem) == (2, 800, 1200, "")
    assert record.seconds > 0


def test_50_threads_make_one_request(log: SqliteLog) -> None:
    waiting: list[str] = []

    def one(number: int) -> tuple[int, bool]:
        found = obtain_labels(log, ORDER, asking(server.url), f"caller {number}", tell=waiting.append)
        return found.version, found.asked

    with ChatServer([once_all_wait(waiting, 49, labelled())]) as server, ThreadPoolExecutor(50) as pool:
        found = list(pool.map(one, range(50)))
    assert len(server.requests) == 1
    assert sorted(found) == [(1, False)] * 49 + [(1, True)]
    assert versions(log) == [1]


def test_50_threads_refresh_with_one_request(log: SqliteLog) -> None:
    waiting: list[str] = []

    def one(number: int) -> int:
        order = replace(ORDER, refresh=True)
        return obtain_labels(log, order, asking(server.url), f"caller {number}", tell=waiting.append).version

    answers = [labelled(), once_all_wait(waiting, 49, labelled())]
    with ChatServer(answers) as server, ThreadPoolExecutor(50) as pool:
        obtain_labels(log, ORDER, asking(server.url), "test")
        assert set(pool.map(one, range(50))) == {2}
    assert len(server.requests) == 2
    assert versions(log) == [1, 2]


def test_50_threads_hear_of_one_failure(log: SqliteLog) -> None:
    waiting: list[str] = []

    def one(number: int) -> str:
        with pytest.raises(InputError, match="answered 500") as caught:
            obtain_labels(log, ORDER, asking(server.url, tries=1), f"caller {number}", tell=waiting.append)
        return str(caught.value)

    answers = [once_all_wait(waiting, 49, refusing(500)), labelled()]
    with ChatServer(answers) as server, ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(one, range(50)))) == 1
        assert len(server.requests) == 1
        assert obtain_labels(log, ORDER, asking(server.url), "later").asked  # it may be tried again


@pytest.mark.kafka
def test_threads_make_one_request_on_kafka(kafka_broker: Broker) -> None:
    waiting: list[str] = []

    def one(number: int) -> bool:
        return obtain_labels(log, ORDER, asking(server.url), f"caller {number}", tell=waiting.append).asked

    with open_log(f"kafka:{kafka_broker.bootstrap}?prefix=asked.") as log:
        log.create_topics(catalogue((), CatalogueSettings(partitions=1)))
        with ChatServer([once_all_wait(waiting, 7, labelled())]) as server, ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(one, range(8))) == 1
        assert len(server.requests) == 1
        assert versions(log) == [1]
        message = stored(log)
    assert message is not None
    assert message.labels == GOOD_LABELS


def _threads(path: str, url: str, go: float, results: multiprocessing.Queue[tuple[int, bool]]) -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    with SqliteLog(Path(path)) as log, ThreadPoolExecutor(8) as pool:
        time.sleep(max(0.0, go - time.time()))
        calls = [pool.submit(obtain_labels, log, ORDER, asking(url), f"process {os.getpid()}") for _ in range(8)]
        for call in calls:
            results.put((call.result().version, call.result().asked))


def test_processes_make_one_request_together(log: SqliteLog, tmp_path: Path) -> None:
    results: multiprocessing.Queue[tuple[int, bool]] = SPAWN.Queue()
    with ChatServer([labelled(delay_s=1.0)]) as server:
        arguments = (str(tmp_path / "log.db"), server.url, time.time() + 5, results)
        children = [SPAWN.Process(target=_threads, args=arguments) for _ in range(2)]
        for child in children:
            child.start()
        found = sorted(results.get(timeout=120) for _ in range(16))
        for child in children:
            child.join(60)
    assert len(server.requests) == 1
    assert found == [(1, False)] * 15 + [(1, True)]


def test_37_labels_twice_disable_the_task(log: SqliteLog) -> None:
    with ChatServer([labelled(GOOD_LABELS[:37])]) as server:
        with pytest.raises(UnusableAnswer, match="37 labels of use"):
            obtain_labels(log, ORDER, asking(server.url), "test")
        assert len(server.requests) == 2
        request = read_requests(log).request("vans")
        assert request is not None
        assert request.disabled
        assert request.claim == ""
        with pytest.raises(InputError, match=r"task vans is disabled: .*37 labels.*--refresh asks again"):
            obtain_labels(log, ORDER, never, "test")
        record = read_requests(log).inquiry("vans", 1)
        assert record is not None
        assert "37 labels" in record.problem
        assert stored(log) is None
        server.answers = [labelled()]
        assert obtain_labels(log, replace(ORDER, refresh=True), asking(server.url), "test").version == 1
    request = read_requests(log).request("vans")
    assert request is not None
    assert (request.disabled, request.problem) == (False, "")


def test_a_failed_refresh_leaves_the_task_as_it_was(log: SqliteLog) -> None:
    with ChatServer([labelled(), labelled(GOOD_LABELS[:37])]) as server:
        obtain_labels(log, ORDER, asking(server.url), "test")
        with pytest.raises(UnusableAnswer):
            obtain_labels(log, replace(ORDER, description="trams", refresh=True), asking(server.url), "test")
    assert obtain_labels(log, ORDER, never, "test").version == 1
    assert versions(log) == [1]


def test_a_key_that_is_refused_disables_nothing(log: SqliteLog) -> None:
    with ChatServer([refusing(401, KEY), labelled()]) as server:
        with pytest.raises(InquiryError, match="refused the key"):
            obtain_labels(log, ORDER, asking(server.url), "test")
        request = read_requests(log).request("vans")
        assert request is not None
        assert not request.disabled
        assert KEY not in request.problem
        assert obtain_labels(log, ORDER, asking(server.url), "test").asked


def test_another_description_needs_a_refresh(log: SqliteLog) -> None:
    other = replace(ORDER, description="count trams")
    with ChatServer([labelled(), labelled(GOOD_LABELS[::-1])]) as server:
        obtain_labels(log, ORDER, asking(server.url), "test")
        with pytest.raises(InputError, match="is described as"):
            obtain_labels(log, other, never, "test")
        assert obtain_labels(log, replace(other, refresh=True), asking(server.url), "test").version == 2
    message = stored(log)
    assert message is not None
    assert (message.description, message.labels) == ("count trams", GOOD_LABELS[::-1])


def _hang(path: str, url: str) -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    with SqliteLog(Path(path)) as log:
        obtain_labels(log, ORDER, asking(url), "the one that dies", QUICK)


def test_a_claimant_that_is_killed_is_taken_over(log: SqliteLog, tmp_path: Path) -> None:
    lines: list[str] = []
    with ChatServer([labelled(delay_s=60.0), labelled()]) as server:
        child = SPAWN.Process(target=_hang, args=(str(tmp_path / "log.db"), server.url))
        child.start()
        while not server.requests:  # it holds the claim, and asks
            assert child.is_alive()
            time.sleep(0.02)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        found = obtain_labels(log, ORDER, asking(server.url), "the heir", QUICK, lines.append)
    assert (found.version, found.asked) == (1, True)
    assert len(server.requests) == 2
    assert lines == ["the one that dies is asking for the labels of task vans; waiting for the answer"]


def test_a_claimant_that_works_for_long_is_not_taken_over(log: SqliteLog) -> None:
    with ChatServer([labelled(delay_s=3 * QUICK.lapse_s)]) as server, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(obtain_labels, log, ORDER, asking(server.url), "test", QUICK) for _ in range(4)]
        assert sorted(call.result().asked for call in calls) == [False, False, False, True]
    assert len(server.requests) == 1


def test_a_claimant_that_was_taken_for_dead_writes_nothing(log: SqliteLog) -> None:
    entered, awake = threading.Event(), threading.Event()

    def sleepy(description: str) -> LabelAnswer:
        entered.set()
        awake.wait(60)
        return asking(server.url)(description)

    silent = Lease(beat_s=1000.0, lapse_s=0.5)
    with ChatServer([labelled(), labelled(GOOD_LABELS[::-1])]) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(obtain_labels, log, ORDER, sleepy, "sleepy", silent)
        assert entered.wait(60)
        assert obtain_labels(log, ORDER, asking(server.url), "heir", silent).asked
        awake.set()
        late = first.result()
    assert (late.version, late.asked) == (1, False)
    assert versions(log) == [1]
    message = stored(log)
    assert message is not None
    assert message.labels == GOOD_LABELS


def test_an_interrupted_claimant_keeps_nobody_waiting(log: SqliteLog) -> None:
    def interrupted(description: str) -> LabelAnswer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain_labels(log, ORDER, interrupted, "test")
    with ChatServer([labelled()]) as server:
        assert obtain_labels(log, ORDER, asking(server.url), "test").asked


def test_labels_of_a_configuration_are_known_too(log: SqliteLog) -> None:
    (message,) = [stored(log, "vehicles")]
    assert message is not None
    assert obtain_labels(log, Order("vehicles", message.description), never, "test").version == 1


def test_a_new_version_has_a_key_of_its_own(log: SqliteLog) -> None:
    taken = {task_key(name, 1) for name in ("vehicles", "pedestrians")}
    name = next(name for name in (f"task-{n}" for n in range(200_000)) if task_key(name, 1) in taken)
    table = ImmutableTable(log, LABELS, 0)
    assert free_version(table, name) == 2
    assert free_version(table, "vehicles") == 2
    assert task_key(name, 2) not in taken
    with log.stage("registry", 0, "test").transaction() as transaction:
        table.publish(transaction, LabelSetMessage.of(Task("trams", "t", LabelSet("trams", 7, GOOD_LABELS))))
    assert free_version(table, "trams") == 8
