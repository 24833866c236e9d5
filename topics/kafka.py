"""The log on an Apache Kafka cluster: the same promises as the embedded log, for several hosts.

What a commit guarantees: it is on every copy that is in sync (acks=all; two of three, with replication=3)
before it is answered, and outputs, offsets and states of a stage are visible together or not at all. It is
visible to readers of this log at once, to others as soon as its markers are written, milliseconds later.

What differs from the embedded log, within what `topics.log` promises: offsets have holes; record times are
the broker's, in milliseconds; age and bytes are kept by deleting closed segments, so records stay somewhat
longer than asked; `trim` counts offsets, holes included. Brokers must keep positions of groups for longer
than a stage may rest (offsets.retention.minutes), see docs/kafka.md.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, NoError

from topics.checks import check_group, check_partition, check_trimmable, place, stage_group, transactional_id
from topics.kafka_card import Outgoing, StagePlace
from topics.kafka_client import ANSWER_S, KafkaClients
from topics.kafka_diagnosis import find_cause
from topics.kafka_errors import explain
from topics.kafka_offsets import KafkaOffsets
from topics.kafka_reader import KafkaReader
from topics.kafka_settings import KafkaSettings
from topics.kafka_stage import KafkaStage
from topics.kafka_topics import SPECS, KafkaTopics
from topics.log import (
    STATE_TOPIC,
    AtOffset,
    AtTime,
    Bounds,
    LogError,
    Maintained,
    Start,
    TimeRule,
    TopicSpec,
)

_LOOK_AGAIN_S = 1.0
_ABANDONED: list[object] = []


class KafkaLog:
    """The `topics.log.Log` on a cluster. Threads may share it; every process opens its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Nothing is connected before the first use. Raises LogError without compiled checksums."""
        self.settings = settings
        self._begin()
        _OPEN.add(self)

    def _begin(self) -> None:
        self._clients = KafkaClients(self.settings)
        self._offsets = KafkaOffsets(self._clients)
        self._topics = KafkaTopics(self._clients, self._offsets)
        self._held: weakref.WeakSet[KafkaReader | KafkaStage] = weakref.WeakSet()

    def begin_in_child(self) -> None:
        """Start anew in a forked child: connections and their threads are the parent's."""
        # Kept, since what nobody holds any more is closed, and that would disturb the parent.
        _ABANDONED.extend((self._clients, self._topics, *self._held))
        self._begin()

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """See `topics.log.Log.create_topics`."""
        self._topics.create(specs)

    def topics(self) -> tuple[TopicSpec, ...]:
        """See `topics.log.Log.topics`."""
        return self._topics.current()

    def delete_topic(self, name: str) -> None:
        """See `topics.log.Log.delete_topic`."""
        self._topics.refresh(name)
        self._forget_positions(name)
        self._topics.delete(name)

    def erase(self) -> int:
        """Delete every topic below the prefix with the positions in it, and what says what they are; how many there
        were. The log is as new then, and nobody else may be using it."""
        names = [spec.name for spec in self.topics()]
        for name in names:
            self.delete_topic(name)
        self._forget_positions(SPECS)
        self._topics.delete_specs()
        return len(names)

    def groups(self) -> tuple[str, ...]:
        """See `topics.log.Log.groups`."""
        names = self._topics.names()
        held = [group for group, places in self._positions().items() if any(at.topic in names for at in places)]
        return tuple(sorted(group.removeprefix(self.settings.prefix) for group in held))

    def append(self, topic: str, key: str | None, value: bytes | None, *, partition: int | None = None) -> int:
        """See `topics.log.Log.append`."""
        item = self._outgoing(topic, key, value, partition)
        try:
            sent = self._clients.producer().send(item.place.topic, item.value, item.key, partition=item.place.partition)
            while True:
                try:
                    return int(sent.get(timeout=_LOOK_AGAIN_S).offset)
                except KafkaTimeoutError:
                    if sent.is_done:
                        raise
                    self._topics.refresh(topic)  # a producer tries for long when its topic was deleted elsewhere
        except KafkaError as error:
            cause = find_cause(error, item.place.topic, self._clients)
            raise explain(cause, f"topic {topic}", self.settings, ANSWER_S) from error
        except ValueError as error:
            raise explain(error, f"topic {topic}", self.settings) from error

    def stage(self, name: str, partition: int, owner: str) -> KafkaStage:
        """See `topics.log.Log.stage`."""
        identity = transactional_id(name, partition)
        states = self._topics.spec(STATE_TOPIC).partitions
        prefix = self.settings.prefix
        where = StagePlace(
            identity,
            prefix + identity,
            prefix + stage_group(identity),
            self._topics.place(SPECS, 0),
            self._topics.place(STATE_TOPIC, partition % states),
            prefix,
        )
        stage = KafkaStage(self._clients, self._offsets, where, owner, self._outgoing, self._check)
        self._held.add(stage)
        return stage

    def reader(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        group: str | None = None,
        start: Start = "earliest",
    ) -> KafkaReader:
        """See `topics.log.Log.reader`."""
        if group is not None:
            check_group(group)
        spec = self._topics.spec(topic)
        numbers = list(range(spec.partitions) if partitions is None else partitions)
        places = {number: self._place(topic, number) for number in numbers}
        held = self._group_positions(group, list(places.values()))
        rest = [at for at in places.values() if at not in held]
        held |= self._resolve(topic, rest, start) if rest else {}
        reader = KafkaReader(self._clients, self._offsets, topic, {n: held[at] for n, at in places.items()}, group)
        self._held.add(reader)
        return reader

    def bounds(self, topic: str, partition: int) -> Bounds:
        """See `topics.log.Log.bounds`."""
        return self._offsets.bounds(self._place(topic, partition))

    def offset_at(self, topic: str, partition: int, at_ns: int, rule: TimeRule = "at_or_after") -> int:
        """See `topics.log.Log.offset_at`."""
        return self._offsets.offset_at(self._place(topic, partition), at_ns, rule)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """See `topics.log.Log.committed`."""
        return self._offsets.committed(self.settings.prefix + group, self._place(topic, partition))

    def trim(self, topic: str, partition: int, before_offset: int) -> int:
        """See `topics.log.Log.trim`; counts offsets."""
        at = self._place(topic, partition)
        check_trimmable(self._topics.spec(topic))
        start = self._offsets.starts([at])[at]
        before = min(before_offset, self._offsets.stable_ends([at])[at])
        if before <= start:
            return 0
        self._clients.ask(f"trimming topic {topic}", lambda admin: admin.delete_records({at: before}))
        return before - start

    def maintain(self, now_ns: int | None = None, floors: Mapping[tuple[str, int], int] | None = None) -> Maintained:
        """See `topics.log.Log.maintain`: the age of guarded topics, counted in offsets; the broker does the rest."""
        now = time.time_ns() if now_ns is None else now_ns
        expired = 0
        for spec in self._topics.current():
            age_ns = spec.retention.age_ns
            if not spec.guarded or age_ns is None:
                continue
            for partition in range(spec.partitions):
                floor = (floors or {}).get((spec.name, partition))
                if floor is not None:
                    old = self.offset_at(spec.name, partition, now - age_ns)
                    expired += self.trim(spec.name, partition, min(old, floor))
        return Maintained(expired)

    def close(self) -> None:
        """See `topics.log.Log.close`."""
        for held in list(self._held):
            held.close()
        self._topics.close()
        self._clients.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget_positions(self, topic: str) -> None:
        """Of all groups in a topic: a broker does so too, but in its own time."""
        for group, places in self._positions().items():
            gone = [at for at in places if at.topic == self._topics.place(topic, 0).topic]
            if gone:
                self._clients.ask(f"positions of group {group}", partial(_forget, group, gone))

    def _positions(self) -> dict[str, list[TopicPartition]]:
        """The partitions that each group below our prefix has positions in."""
        found = self._clients.ask("groups", lambda admin: admin.list_groups())
        ours = {g["group_id"]: None for g in found if g["group_id"].startswith(self.settings.prefix)}
        if not ours:
            return {}
        positions = self._clients.ask("positions of groups", lambda admin: admin.list_group_offsets(ours))
        return {group: [at for at, item in held.items() if item.offset >= 0] for group, held in positions.items()}

    def _group_positions(self, group: str | None, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if group is None:
            return {}
        return self._offsets.all_committed(self.settings.prefix + group, places)

    def _resolve(self, topic: str, places: list[TopicPartition], start: Start) -> dict[TopicPartition, int]:
        if isinstance(start, AtOffset):
            if start.offset < 0:
                raise LogError(f"topic {topic}: cannot start at {start.offset}, offsets start at 0")
            return dict.fromkeys(places, start.offset)
        if isinstance(start, AtTime):
            return {at: self._offsets.offset_at(at, start.at_ns, start.rule) for at in places}
        return self._offsets.starts(places) if start == "earliest" else self._offsets.stable_ends(places)

    def _place(self, topic: str, partition: int) -> TopicPartition:
        self._check(topic, partition)
        return self._topics.place(topic, partition)

    def _check(self, topic: str, partition: int) -> None:
        check_partition(self._topics.spec(topic), partition)

    def _outgoing(self, topic: str, key: str | None, value: bytes | None, partition: int | None) -> Outgoing:
        number = place(self._topics.spec(topic), key, value, partition)
        return Outgoing(self._topics.place(topic, number), None if key is None else key.encode(), value)


def _forget(group: str, places: list[TopicPartition], admin: KafkaAdminClient) -> None:
    for at, error in admin.delete_group_offsets(group, places).items():
        if error is not NoError:
            raise error(f"{at.topic}, partition {at.partition}")


_OPEN: weakref.WeakSet[KafkaLog] = weakref.WeakSet()


def _begin_in_child() -> None:
    for log in list(_OPEN):
        log.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)
