"""Dead records: listed, and sent back once, on every backend."""

# A transaction is a block, and its end is what raises:

from __future__ import annotations

import os
import signal

import pytest
from log_backends import Backend, in_child, values

from discover_stream.types import InputError
from topics import open_log
from topics.catalogue import DEAD, FRAMES, CatalogueSettings, catalogue
from topics.dead_letters import STAGE, dead_letter, dead_letters, kept_value, retry
from topics.log import MAX_MESSAGE_BYTES, Log
from topics.messages import MAX_ENCODED_BYTES, dead_message, encode
from topics.reading import record_at


@pytest.fixture
def log(log: Log) -> Log:
    topics = catalogue((), CatalogueSettings(partitions=2))
    log.create_topics(spec for spec in topics if spec.name != "state")
    return log


def bury(log: Log, value: bytes, partition: int = 1, key: str = "gate") -> str:
    """Put a frame into its topic, then into the dead one; the dead record's name."""
    offset = log.append(FRAMES, key, value, partition=partition)
    record = record_at(log, FRAMES, partition, offset)
    assert record is not None
    message = encode(dead_message(record, "it killed its stage", 3, 7))
    return f"{partition}:{log.append(DEAD, key, message, partition=partition)}"


def test_what_is_dead_is_listed_with_where_it_came_from(log: Log) -> None:
    assert list(dead_letters(log)) == []
    names = [bury(log, b"a"), bury(log, b"b"), bury(log, b"c", partition=0, key="yard")]
    letters = {letter.name: letter for letter in dead_letters(log)}
    assert sorted(letters) == sorted(names)
    letter = letters[names[1]]
    assert (letter.message.reason, letter.message.deaths, letter.message.key) == ("it killed its stage", 3, "gate")
    assert (letter.message.topic, letter.message.partition) == (FRAMES, 1)
    assert not letter.retried
    assert dead_letter(log, names[1]) == letter
    assert kept_value(log, letter) == b"b"


def test_a_retry_puts_the_record_at_the_end_of_where_it_was_once(log: Log) -> None:
    name = bury(log, b"poison")
    log.append(FRAMES, "gate", b"later", partition=1)
    retry(log, dead_letter(log, name))
    assert values(log, FRAMES, 1) == [b"poison", b"later", b"poison"]
    assert values(log, FRAMES, 0) == []
    assert dead_letter(log, name).retried
    with pytest.raises(InputError, match=f"{name}: was sent back to frames already; --again"):
        retry(log, dead_letter(log, name))
    assert len(values(log, FRAMES, 1)) == 3
    retry(log, dead_letter(log, name), again=True)
    assert values(log, FRAMES, 1)[3:] == [b"poison"]


def test_each_record_has_its_own_mark(log: Log) -> None:
    first, second = bury(log, b"1"), bury(log, b"2")
    retry(log, dead_letter(log, second))
    retry(log, dead_letter(log, first))
    assert [letter.retried for letter in dead_letters(log)] == [True, True]
    assert values(log, FRAMES, 1)[2:] == [b"2", b"1"]


def _retry_and_die(url: str, name: str) -> None:
    """Killed at the last moment before the commit, then done twice."""
    with open_log(url) as log:
        stage = log.stage(STAGE, 1, "victim")
        with stage.transaction() as transaction:
            transaction.send(FRAMES, "gate", b"poison", partition=1)
            transaction.set_state(b"never seen")
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_retry_that_was_killed_can_be_repeated(log: Log, url: str, backend: Backend) -> None:
    name = bury(log, b"poison")
    assert in_child(_retry_and_die, url, name) == -signal.SIGKILL
    retry(log, dead_letter(log, name))
    assert values(log, FRAMES, 1) == [b"poison", b"poison"]


def test_what_was_too_large_to_be_kept_is_sent_back_from_its_place_or_refused(log: Log) -> None:
    value = bytes(MAX_ENCODED_BYTES + 1)
    assert len(value) < MAX_MESSAGE_BYTES
    name = bury(log, value)
    letter = dead_letter(log, name)
    assert letter.message.value is None
    assert kept_value(log, letter) == value
    log.trim(FRAMES, 1, letter.message.offset + 1)
    assert kept_value(log, letter) is None
    with pytest.raises(InputError, match=rf"{name}: its value was too large.*retention has taken it from frames") as no:
        retry(log, letter)
    assert "\n" not in str(no.value)
    assert values(log, FRAMES) == []
    assert not dead_letter(log, name).retried


def test_a_record_of_a_topic_that_is_gone_is_refused(log: Log) -> None:
    name = bury(log, b"1")
    log.delete_topic(FRAMES)
    with pytest.raises(InputError, match=r"partition 1 of topic frames, which is not in this log any more"):
        retry(log, dead_letter(log, name))


@pytest.mark.parametrize("name", ["", "0", "x:1", "0:-1", "0:99", "9:0", "1:²"])
def test_names_of_nothing(log: Log, name: str) -> None:
    bury(log, b"1")
    with pytest.raises(InputError, match="dead record"):
        dead_letter(log, name)


def test_marks_of_what_retention_took_are_dropped(log: Log) -> None:
    first, second = bury(log, b"1"), bury(log, b"2")
    retry(log, dead_letter(log, first))
    log.trim(DEAD, 1, dead_letter(log, second).offset)
    retry(log, dead_letter(log, second))
    state = log.stage(STAGE, 1, "test").state
    assert state is not None
    assert len(state) < 60
    assert [letter.retried for letter in dead_letters(log)] == [True]


def test_a_log_without_the_topic_says_so(url: str) -> None:
    with open_log(url) as empty, pytest.raises(InputError, match="no dead records"):
        list(dead_letters(empty))
