"""Records that could not be processed: listing them, and sending them back to where they came from, once.

Sending back happens in a transaction of the stage ``dead-retry``, whose state holds what was sent back already:
the record is at the end of its topic and marked, or neither, however often the call is repeated or killed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from discover_stream.types import InputError
from topics.catalogue import DEAD
from topics.checks import transactional_id
from topics.log import STATE_TOPIC, Log, latest_by_key
from topics.messages import DeadMessage, RetryState, decode_as, encode
from topics.reading import read_all, record_at

STAGE = "dead-retry"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead record with its place in the dead topic. `retried`: it was sent back before."""

    partition: int
    offset: int
    message: DeadMessage
    retried: bool

    @property
    def name(self) -> str:
        """``PARTITION:OFFSET``, what people call it by."""
        return f"{self.partition}:{self.offset}"


def dead_letters(log: Log) -> Iterator[DeadLetter]:
    """Every dead record that is kept, in order within each partition. Raises InputError for a log without the topic."""
    retried = retried_offsets(log)
    for record in read_all(log, DEAD):
        message = decode_as(DeadMessage, record.value or b"")
        yield DeadLetter(record.partition, record.offset, message, record.offset in retried[record.partition])


def dead_letter(log: Log, name: str) -> DeadLetter:
    """One dead record by its name. Raises InputError where there is none."""
    partition_text, _, offset_text = name.partition(":")
    if not (partition_text.isdecimal() and offset_text.isdecimal()):
        raise InputError(f"dead record {name!r}: use PARTITION:OFFSET as `discover dead list` prints it")
    partition, offset = int(partition_text), int(offset_text)
    record = record_at(log, DEAD, partition, offset) if partition < _partitions(log) else None
    if record is None or record.value is None:
        raise InputError(f"dead record {name}: there is none (any more); `discover dead list` prints those there are")
    message = decode_as(DeadMessage, record.value)
    return DeadLetter(partition, offset, message, offset in retried_offsets(log)[partition])


def kept_value(log: Log, letter: DeadLetter) -> bytes | None:
    """The value that was dead: its copy, or, where that was too large to be copied, the record at its old place."""
    message = letter.message
    if message.value is not None:
        return message.value
    there = {spec.name: spec.partitions for spec in log.topics()}
    if message.partition >= there.get(message.topic, 0):
        return None
    record = record_at(log, message.topic, message.partition, message.offset)
    return record.value if record is not None and record.key == message.key else None


def retry(log: Log, letter: DeadLetter, *, again: bool = False, owner: str | None = None) -> None:
    """Send a dead record back to the end of the topic and partition it came from, under the same key.

    Raises InputError where it was sent back before (unless `again`), where its value is gone, and where its topic
    or partition is.
    """
    message = letter.message
    there = {spec.name: spec.partitions for spec in log.topics()}
    if message.partition >= there.get(message.topic, 0):
        raise InputError(
            f"dead record {letter.name}: came from partition {message.partition} of topic {message.topic}, which is "
            "not in this log any more; create the topic first (`discover topics apply`)"
        )
    value = kept_value(log, letter)
    if value is None:
        raise InputError(
            f"dead record {letter.name}: its value was too large to be kept with it, and retention has taken it "
            f"from {message.topic} (partition {message.partition}, offset {message.offset}); it cannot be retried"
        )
    stage = log.stage(STAGE, letter.partition, owner or f"{socket.gethostname()} {os.getpid()}")
    try:
        done = () if stage.state is None else decode_as(RetryState, stage.state).retried
        if letter.offset in done and not again:
            raise InputError(
                f"dead record {letter.name}: was sent back to {message.topic} already; --again sends it once more"
            )
        start = log.bounds(DEAD, letter.partition).start  # marks of what retention took are of no use
        marks = sorted({offset for offset in done if offset >= start} | {letter.offset})
        with stage.transaction() as transaction:
            transaction.send(message.topic, message.key, value, partition=message.partition)
            transaction.set_state(encode(RetryState(retried=tuple(marks))))
    finally:
        stage.close()


def retried_offsets(log: Log) -> dict[int, frozenset[int]]:
    """Offsets in each partition of the dead topic that were sent back, read without fencing anybody."""
    partitions = range(_partitions(log))
    states = latest_by_key(log, STATE_TOPIC)
    marks: dict[int, frozenset[int]] = {}
    for partition in partitions:
        record = states.get(transactional_id(STAGE, partition))
        value = None if record is None else record.value
        marks[partition] = frozenset(() if value is None else decode_as(RetryState, value).retried)
    return marks


def _partitions(log: Log) -> int:
    found = next((spec.partitions for spec in log.topics() if spec.name == DEAD), None)
    if found is None:
        raise InputError("this log has no dead records: it has no topic for them; start `discover run` first")
    return found
