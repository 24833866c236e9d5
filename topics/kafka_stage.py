"""Stages of a Kafka cluster: transactional producers, fenced by ``stage-partition``, with their inputs' offsets.

A transaction is collected in memory and sent when its block ends: an open transaction would hold back every
reader of the partitions it has written to. Then output and state are sent, the offsets of the inputs are
added for the stage's group, and all is committed.

What a stage needs besides lies in the same offset commit, so that it is fenced and atomic with the rest: under
the partition 0 of ``_specs``, its metadata names the holder, where in the topic of states the latest state is,
and the attempts that were counted. Acquiring a stage therefore reads two things, not a topic, and does
not wait for another stage's transaction that is still open in the same partition.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError, RetriableError

from topics.checks import stage_group
from topics.failpoints import hit
from topics.kafka_card import MAX_OWNER_CHARACTERS, Card, Outgoing, StagePlace
from topics.kafka_client import ANSWER_S, KafkaClients, StageProducer, quietly_close
from topics.kafka_diagnosis import find_cause
from topics.kafka_errors import explain
from topics.kafka_offsets import KafkaOffsets
from topics.kafka_reader import KafkaReader
from topics.log import Fenced, LogError, OutcomeUnknown, Record

_HEIR_S = 1.0
_FENCED = ProducerFencedError | InvalidProducerEpochError


class KafkaTransaction:
    """Collects in memory; nothing is sent before the block has ended."""

    def __init__(self, outgoing: Callable[[str, str | None, bytes | None, int | None], Outgoing]) -> None:
        self._make_outgoing = outgoing
        self._open = True
        self.outgoing: list[Outgoing] = []
        self.offsets: dict[tuple[str, int], int] = {}
        self.state: bytes | None = None

    def send(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> None:
        """See `topics.log.Transaction.send`."""
        self._check_open()
        self.outgoing.append(self._make_outgoing(topic, key, value, partition))

    def commit_offset(self, topic: str, partition: int, next_offset: int) -> None:
        """See `topics.log.Transaction.commit_offset`."""
        self._check_open()
        self.offsets[topic, partition] = next_offset

    def set_state(self, state: bytes) -> None:
        """See `topics.log.Transaction.set_state`."""
        self._check_open()
        self.state = bytes(state)

    def end(self) -> None:
        """Refuse everything from now on."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise LogError("this transaction has ended; begin another one")


class KafkaStage:
    """The `topics.log.Stage` of a cluster. One thread at a time."""

    def __init__(  # the log hands over what the stage may do, not itself
        self,
        clients: KafkaClients,
        offsets: KafkaOffsets,
        place: StagePlace,
        owner: str,
        outgoing: Callable[[str, str | None, bytes | None, int | None], Outgoing],
        check_input: Callable[[str, int], None],
    ) -> None:
        """Acquire the stage. Raises LogError."""
        self._clients = clients
        self._log_offsets = offsets
        self._place = place
        self._make_outgoing = outgoing
        self._check_input = check_input
        self._busy = False
        self._lost: LogError | None = None
        self._refused, self._asked = "", False
        self._producer: StageProducer = clients.stage_producer(place.transactional_id)
        try:
            self._acquire(owner)
        except KafkaError as error:
            self.close()
            raise explain(error, f"acquiring stage {place.identity}", clients.settings, ANSWER_S) from error
        except BaseException:
            self.close()
            raise

    @property
    def transactional_id(self) -> str:
        """See `topics.log.Stage.transactional_id`."""
        return self._place.identity

    @property
    def group(self) -> str:
        """See `topics.log.Stage.group`."""
        return stage_group(self._place.identity)

    @property
    def offsets(self) -> Mapping[tuple[str, int], int]:
        """See `topics.log.Stage.offsets`."""
        return MappingProxyType(self._offsets)

    @property
    def state(self) -> bytes | None:
        """See `topics.log.Stage.state`."""
        return self._state

    @contextmanager
    def transaction(self) -> Iterator[KafkaTransaction]:
        """See `topics.log.Stage.transaction`.

        Raises LogError when no broker answered during the commit: whether it took place is then not known,
        and the stage is of no more use; acquiring it again settles that and tells.
        """
        if self._busy:
            raise LogError(f"stage {self._place.identity}: a transaction is open already; end it before the next")
        self._busy = True
        transaction = KafkaTransaction(self._make_outgoing)
        try:
            yield transaction
            transaction.end()
            self._commit(transaction)
        finally:
            transaction.end()
            self._busy = False

    def record_attempt(self, topic: str, partition: int, offset: int) -> int:
        """See `topics.log.Stage.record_attempt`."""
        if self._busy:
            raise LogError(f"stage {self._place.identity}: count an attempt before its transaction begins, not inside")
        self._check_input(topic, partition)
        attempt = (topic, partition, offset)
        count = self._card.attempts.get(attempt, 0) + 1
        self._write([], {}, replace(self._card, attempts={**self._card.attempts, attempt: count}))
        return count

    def forget_attempt(self, topic: str, partition: int, offset: int) -> None:
        """See `topics.log.Stage.forget_attempt`."""
        self._check_input(topic, partition)
        attempt = (topic, partition, offset)
        attempts = dict(self._card.attempts)
        left = attempts.pop(attempt, 0) - 1
        self._write([], {}, replace(self._card, attempts={**attempts, attempt: left} if left > 0 else attempts))

    def close(self) -> None:
        """See `topics.log.Stage.close`."""
        quietly_close(self._producer, timeout=2)

    def _acquire(self, owner: str) -> None:
        self._producer.init_transactions()  # fences, and ends what the last holder left open
        positions = self._positions()
        card = positions.pop(self._place.card, None)
        self._offsets = {self._name(place): item.offset for place, item in positions.items()}
        if card is None:
            self._check_never_held()
        before = Card("", "") if card is None else Card.decode(card.metadata, self._place.group)
        self._state = None if before.state is None else self._read_state(before.state)
        self._card = before
        self._write([], {}, replace(before, owner=owner[:MAX_OWNER_CHARACTERS], token=uuid.uuid4().hex))

    def _positions(self) -> dict[TopicPartition, Any]:
        group = self._place.group
        found = self._clients.ask(
            f"positions of stage {self._place.identity}", lambda admin: admin.list_group_offsets({group: None})
        )
        return {place: item for place, item in found.get(group, {}).items() if item.offset >= 0}

    def _name(self, place: TopicPartition) -> tuple[str, int]:
        return place.topic.removeprefix(self._place.prefix), place.partition

    def _read_state(self, offset: int) -> bytes:
        """The state at an offset, known to be committed: not held up by others' open transactions."""
        consumer = self._clients.consumer(isolation_level="read_uncommitted")
        deadline = time.monotonic() + ANSWER_S
        try:
            consumer.assign([self._place.states])
            consumer.seek(self._place.states, offset)
            while time.monotonic() < deadline:
                for record in consumer.poll(timeout_ms=100, max_records=1).get(self._place.states, ()):
                    if record.offset == offset and record.key == self._place.identity.encode():
                        return bytes(record.value)
                    raise self._no_state(offset)
        except KafkaError as error:
            raise self._no_state(offset) from error
        finally:
            quietly_close(consumer)
        raise self._no_state(offset)

    def _check_never_held(self) -> None:
        """A stage without positions is new, unless the broker has forgotten them: then it has a state."""
        states = self._place.states
        start = self._log_offsets.starts([states])[states]
        latest: bytes | None = None
        with closing(
            KafkaReader(self._clients, self._log_offsets, self._name(states)[0], {states.partition: start}, None)
        ) as reader:
            while items := reader.poll():
                for item in items:
                    if isinstance(item, Record) and item.key == self._place.identity:
                        latest = item.value
        if latest is not None:
            raise LogError(
                f"log kafka:{self._clients.settings.place}, stage {self._place.identity}: the broker has forgotten "
                f"the positions of group {self._place.group}, not its state: raise offsets.retention.minutes there; "
                f"to start the stage over, write a record without a value under its name to {states.topic}, "
                f"partition {states.partition}"
            )

    def _no_state(self, offset: int) -> LogError:
        place = self._place
        return LogError(
            f"log kafka:{self._clients.settings.place}, stage {place.identity}: its state at offset {offset} of "
            f"{place.states.topic}, partition {place.states.partition} is gone (topic made anew, or records lost): "
            f"to start the stage from the beginning delete the group {place.group}"
        )

    def _commit(self, transaction: KafkaTransaction) -> None:
        for topic, partition in transaction.offsets:
            self._check_input(topic, partition)
        outgoing = list(transaction.outgoing)
        if transaction.state is not None:
            outgoing.append(Outgoing(self._place.states, self._place.identity.encode(), transaction.state))
        done = transaction.offsets
        attempts = {a: n for a, n in self._card.attempts.items() if a[2] >= done.get(a[:2], 0)}
        card = replace(self._card, attempts=attempts)
        self._write(outgoing, done, card, new_state=transaction.state is not None)
        self._offsets.update(done)
        if transaction.state is not None:
            self._state = transaction.state

    def _write(
        self,
        outgoing: list[Outgoing],
        offsets: Mapping[tuple[str, int], int],
        card: Card,
        *,
        new_state: bool = False,
    ) -> None:
        """One transaction. The last of `outgoing` is the state, if there is a new one."""
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))
        card.check_size(self._place.identity)
        self._refused, self._asked = "", False
        deadline = time.monotonic() + ANSWER_S
        producer = self._producer
        positions = {TopicPartition(self._place.prefix + t, p): offset for (t, p), offset in offsets.items()}
        commits = {place: OffsetAndMetadata(offset, "", -1) for place, offset in positions.items()}
        try:
            producer.begin_transaction()
            written = self._send(outgoing, deadline)
            if new_state:
                card = replace(card, state=written[self._place.states])
            if card != self._card or not (outgoing or offsets):  # an empty transaction would not be fenced
                commits[self._place.card] = OffsetAndMetadata(0, card.encode(), -1)
            if commits:
                producer.settle_offsets(commits, self._place.group, deadline - time.monotonic())
            if outgoing or offsets:  # not where attempts are counted
                hit(self._place.identity, "before_commit")
            self._asked = True
            producer.settle_commit(deadline - time.monotonic())
        except KafkaError as error:
            self._fail(error)
        except BaseException as error:  # interrupted half-way, or a partition that is not there any more
            self._lost = LogError(
                f"stage {self._place.identity}: its commit broke off ({error!r}): acquire the stage again"
            )
            self.close()
            if isinstance(error, ValueError):
                raise self._lost from error
            raise
        self._card = card
        self._log_offsets.note_commit(self._place.group, written, positions)

    def _send(self, outgoing: list[Outgoing], deadline: float) -> dict[TopicPartition, int]:
        """Send records and wait until they have arrived: the last offset in each partition. Raises KafkaError."""
        sent: list[tuple[TopicPartition, Any]] = []
        try:
            for item in outgoing:
                place = item.place
                sent.append((place, self._producer.send(place.topic, item.value, item.key, partition=place.partition)))
            # All arrive before the commit is asked for: kafka-python would answer yes to the commit of a
            # transaction that it gave up meanwhile.
            return {
                place: future.get(timeout=max(0.0, deadline - time.monotonic()) + 1).offset for place, future in sent
            }
        except KafkaError:
            self._refused = next((p.topic for p, future in sent if future.is_done and future.failed()), "")
            raise

    def _fail(self, error: KafkaError) -> None:
        """Raise what a failed transaction means. Only one that the broker refused, and aborted, is no harm."""
        identity, settings = self._place.identity, self._clients.settings
        what = f"stage {identity}" + (f", topic {self._refused}" if self._refused else "")
        if type(error) is KafkaError:  # "an earlier request has failed": with this
            error = self._producer.last_error or error
        if not isinstance(error, RetriableError | _FENCED):
            try:
                self._producer.settle_abort(ANSWER_S)
            except KafkaError as worse:
                error = worse if isinstance(worse, _FENCED) else error
            else:
                raise explain(error, what, settings) from error
        reason = explain(find_cause(error, self._refused, self._clients), what, settings, ANSWER_S)
        if self._asked:
            self._lost = OutcomeUnknown(
                f"{reason}; whether the transaction was committed is not known: acquire the stage again"
            )
        else:
            self._lost = LogError(f"{reason}; nothing was committed: acquire the stage again")
        self.close()
        if isinstance(error, _FENCED):
            self._lost = self._find_heir()
        raise self._lost from error

    def _find_heir(self) -> LogError:
        """Who has taken over. Without an heir, the broker has ended a transaction that took too long."""
        where = f"log kafka:{self._clients.settings.place}, stage {self._place.identity}: "
        deadline = time.monotonic() + _HEIR_S
        while time.monotonic() < deadline:
            card = self._positions().get(self._place.card)
            if card is not None:
                heir = Card.decode(card.metadata, self._place.group)
                if heir.token != self._card.token:
                    return Fenced(
                        f"{where}{self._card.owner} was replaced by {heir.owner}; nothing was written, stop this one"
                    )
            time.sleep(0.05)
        return LogError(f"{where}the broker has ended its transaction, which took too long: acquire the stage again")
