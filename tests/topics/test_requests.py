"""Requests for tasks, and deciding alone, on every backend."""

from __future__ import annotations

import threading

import pytest

from topics.catalogue import REQUESTS, CatalogueSettings, catalogue
from topics.log import Fenced, Log, OutcomeUnknown, Stage
from topics.messages import InquiryRecord, TaskRequest, encode
from topics.requests import REGISTRY, RequestTable, decided, read_requests, send_beat


@pytest.fixture
def log(log: Log) -> Log:
    topics = catalogue((), CatalogueSettings(partitions=2))
    log.create_topics(spec for spec in topics if spec.name != "state")
    return log


def inquiry(version: int) -> InquiryRecord:
    return InquiryRecord(
        task="vans", version=version, at_ns=1, model="m", place="p", requests=1, tries=1, seconds=float(version)
    )


def write(log: Log, request: TaskRequest, *inquiries: InquiryRecord) -> None:
    def decide(stage: Stage) -> None:
        with stage.transaction() as transaction:
            transaction.send(REQUESTS, request.task, encode(request))
            for record in inquiries:
                transaction.send(REQUESTS, f"{record.task}/{record.version}", encode(record))

    decided(log, "test", decide)


def test_the_latest_of_everything_is_known(log: Log) -> None:
    table = RequestTable(log)
    assert table.requests() == {}
    write(log, TaskRequest(task="vans", claim="a"), inquiry(1))
    write(log, TaskRequest(task="vans", version=2), inquiry(2))
    write(log, TaskRequest(task="trams", version=7))
    send_beat(log, "vans", "a", 1)
    send_beat(log, "vans", "a", 2)
    table.refresh()
    for known in (table, read_requests(log)):
        assert known.requests() == {
            "vans": TaskRequest(task="vans", version=2),
            "trams": TaskRequest(task="trams", version=7),
        }
        assert known.request("buses") is None
        assert known.inquiry("vans", 1) == inquiry(1)
        assert known.inquiry("vans", 3) is None
        beat = known.beat("vans")
        assert beat is not None
        assert (beat.claim, beat.beat) == ("a", 2)
    table.close()


def test_what_is_decided_alone_is_counted_right(log: Log) -> None:
    """Everybody reads, adds one and writes; each of them is fenced by the next ones, and tries again."""

    def count() -> None:
        def decide(stage: Stage) -> None:
            known = read_requests(log).request("vans") or TaskRequest(task="vans")
            with stage.transaction() as transaction:
                transaction.send(REQUESTS, "vans", encode(TaskRequest(task="vans", version=known.version + 1)))

        decided(log, "counter", decide)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    request = read_requests(log).request("vans")
    assert request is not None
    assert request.version == 6


def test_a_decision_that_is_fenced_is_made_again(log: Log) -> None:
    tries = []

    def decide(stage: Stage) -> int:
        tries.append(1)
        if len(tries) < 3:
            log.stage(REGISTRY, 0, "intruder").close()
        with stage.transaction() as transaction:
            transaction.send(REQUESTS, "vans", encode(TaskRequest(task="vans", version=len(tries))))
        return len(tries)

    assert decided(log, "test", decide) == 3
    request = read_requests(log).request("vans")
    assert request is not None
    assert request.version == 3


def test_a_decision_that_is_always_fenced_ends(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topics.requests._PATIENCE_S", 0.0)

    def decide(stage: Stage) -> None:
        log.stage(REGISTRY, 0, "intruder").close()
        with stage.transaction():
            pass

    with pytest.raises(Fenced):
        decided(log, "test", decide)


def test_a_stage_that_may_or_may_not_be_ours_is_acquired_again(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire, asked = log.stage, []

    def stage(*place, **options) -> Stage:
        asked.append(place)
        if len(asked) == 1:
            raise OutcomeUnknown("the broker did not say")
        return acquire(*place, **options)

    monkeypatch.setattr(log, "stage", stage)
    assert decided(log, "test", lambda stage: stage.state) is None
    assert len(asked) == 2


def test_a_decision_of_which_nobody_knows_whether_it_holds_is_told(log: Log) -> None:
    def decide(stage: Stage) -> None:
        raise OutcomeUnknown("the broker did not say")

    with pytest.raises(OutcomeUnknown):
        decided(log, "test", decide)


def test_a_log_without_the_topic_has_no_requests(log: Log) -> None:
    log.delete_topic(REQUESTS)
    table = read_requests(log)
    assert table.requests() == {}
    table.wait(0.0)
