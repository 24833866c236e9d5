"""What is not answered in time is an error, never an answer; no broker is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from topics import kafka_offsets
from topics.kafka_client import KafkaClients
from topics.kafka_diagnosis import find_cause
from topics.kafka_offsets import KafkaOffsets
from topics.kafka_settings import KafkaSettings
from topics.log import LogError

PLACE = TopicPartition("archive", 0)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> KafkaClients:
    """Clients that are never connected."""
    made = KafkaClients(KafkaSettings(("h:1",)))
    monkeypatch.setattr(made, "admin", lambda: None)
    return made


class Silent:
    """A consumer that gets nothing from its broker."""

    def assign(self, places: list[TopicPartition]) -> None: ...

    def seek(self, place: TopicPartition, offset: int) -> None: ...

    def position(self, place: TopicPartition, timeout_ms: int) -> int:
        return 3

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[object]]:
        return {}


def test_records_that_do_not_come_are_not_taken_for_absent(
    clients: KafkaClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(what: str, question: Callable[[Any], object]) -> object:
        return question(Silent())

    monkeypatch.setattr(clients, "look", look)
    monkeypatch.setattr(kafka_offsets, "ANSWER_S", 0.01)
    with pytest.raises(KafkaTimeoutError, match="records up to 9"):
        KafkaOffsets(clients).last_visible(PLACE, 3, 9)


def test_what_retention_leaves_while_we_look_is_seen(clients: KafkaClients, monkeypatch: pytest.MonkeyPatch) -> None:
    class Overtaken(Silent):
        """Retention takes everything before offset 6; a record lies at 7, its marker at 8."""

        here = 0

        def seek(self, place: TopicPartition, offset: int) -> None:
            self.here = offset

        def position(self, place: TopicPartition, timeout_ms: int) -> int:
            return self.here

        def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
            if self.here < 6:
                raise OffsetOutOfRangeError
            found = [SimpleNamespace(offset=7)] if self.here <= 7 else []
            self.here = 9
            return {PLACE: found}

        def beginning_offsets(self, places: list[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 6)

    consumer = Overtaken()
    monkeypatch.setattr(clients, "look", lambda what, question: question(consumer))
    assert KafkaOffsets(clients)._last_in(PLACE, 3, 9) == 7
    assert KafkaOffsets(clients)._last_in(PLACE, 3, 6) is None
    assert KafkaOffsets(clients).last_visible(PLACE, 0, 9) == 7


def test_a_client_that_cannot_ask_says_what_it_was_asked(clients: KafkaClients) -> None:
    def question(admin: object) -> None:
        raise RuntimeError("the loop has ended")

    with pytest.raises(LogError, match="kafka:h:1, groups: the loop has ended"):
        clients.ask("groups", question, wait_s=0.05)
    clients.close()
    with pytest.raises(LogError, match="is closed"):
        clients.ask("groups", question, wait_s=60)


@pytest.mark.parametrize(("topics", "settings"), [([], {}), ([{"partitions": []}], {"topic": {}})])
def test_of_a_topic_that_was_deleted_no_cause_is_found(
    clients: KafkaClients, monkeypatch: pytest.MonkeyPatch, topics: object, settings: object
) -> None:
    answers = iter((topics, settings))
    monkeypatch.setattr(clients, "ask", lambda *question: next(answers))
    error = KafkaTimeoutError("too long")
    assert find_cause(error, "frames", cast(KafkaClients, clients)) is error
