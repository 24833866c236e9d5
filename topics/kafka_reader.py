"""Readers of a Kafka cluster: committed records, assigned by hand, buffered by partition.

A partition with records in the buffer is paused: slow work fetches nothing ahead of itself but what fits one
fetch, and a busy partition cannot starve the others. There is no group membership, so nothing ever rebalances.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, LogTruncationError, NoError, OffsetOutOfRangeError

from topics.kafka_client import ANSWER_S, KafkaClients, quietly_close
from topics.kafka_errors import explain
from topics.kafka_offsets import KafkaOffsets, reached
from topics.log import MAX_POLL_BYTES, Gap, LogError, OffsetOutOfRange, Record, TimeRule

_CHUNK = 500
_SLICE_S = 0.25
# How long an idle request waits at the broker. A new record ends it at once, but records of a partition that was
# paused when it was sent come only after it; each request costs a millisecond of a core.
_WAIT_ALONE_MS = 100
_WAIT_TOGETHER_MS = 20
_NS_PER_MS = 1_000_000


class KafkaReader:
    """The `topics.log.Reader` of a cluster. One thread at a time."""

    def __init__(  # the log hands over what the reader may do, not itself
        self,
        clients: KafkaClients,
        offsets: KafkaOffsets,
        topic: str,
        positions: dict[int, int],
        group: str | None,
    ) -> None:
        """Read `topic` (as its users call it) from `positions` (partition -> offset) on."""
        prefix = clients.settings.prefix
        self._clients = clients
        self._offsets = offsets
        self._topic = topic
        self._places = {number: TopicPartition(prefix + topic, number) for number in positions}
        self._positions = positions
        self._group = group
        self._turn = list(positions)
        self._buffers: dict[int, deque[Record]] = {number: deque() for number in positions}
        self._gaps: dict[int, Gap] = {}
        self._unchecked = set(positions)
        self._open: KafkaConsumer | None = None

    @property
    def positions(self) -> Mapping[int, int]:
        """See `topics.log.Reader.positions`."""
        return MappingProxyType(self._positions)

    def poll(
        self, max_records: int = _CHUNK, timeout_s: float = 0.0, max_bytes: int = MAX_POLL_BYTES
    ) -> list[Record | Gap]:
        """See `topics.log.Reader.poll`. Raises LogError too when no broker answers for 20 s."""
        deadline = time.monotonic() + timeout_s
        patience = deadline + ANSWER_S
        self._check_positions()
        ends: dict[TopicPartition, int] = {}
        while True:
            left = deadline - time.monotonic()
            self._fill(max_records, max(left, 0.0) if not ends else _SLICE_S)
            found = self._take(max_records, max_bytes)
            if found:
                return found
            if time.monotonic() < deadline:
                continue
            if not ends:  # only now: whether something lies there that has not come yet
                ends = self._offsets.stable_ends(self._places.values())
            if all((reached(self._consumer(), place) or 0) >= end for place, end in ends.items()):
                return self._take_gaps()
            if time.monotonic() > patience:
                raise LogError(
                    f"log kafka:{self._clients.settings.place}, topic {self._topic}: records up to "
                    f"{max(ends.values())} did not come within {ANSWER_S:.0f} s: check that its brokers run"
                )

    def seek(self, partition: int, offset: int) -> None:
        """See `topics.log.Reader.seek`."""
        self._check_assigned(partition)
        if offset < 0:
            raise LogError(f"topic {self._topic}: cannot seek to {offset}, offsets start at 0")
        self._move(partition, offset)
        self._gaps.pop(partition, None)
        self._positions[partition] = offset
        self._unchecked.add(partition)

    def seek_to_time(self, at_ns: int, rule: TimeRule = "at_or_after") -> None:
        """See `topics.log.Reader.seek_to_time`."""
        for partition, place in self._places.items():
            self.seek(partition, self._offsets.offset_at(place, at_ns, rule))

    def commit(self, positions: Mapping[int, int] | None = None) -> None:
        """See `topics.log.Reader.commit`."""
        if self._group is None:
            raise LogError(f"topic {self._topic}: this reader has no group, so it has no position to commit")
        wanted = self._positions if positions is None else positions
        for partition in wanted:
            self._check_assigned(partition)
        group = self._clients.settings.prefix + self._group
        commit_positions(self._clients, group, {self._places[p]: offset for p, offset in wanted.items()})

    def close(self) -> None:
        """See `topics.log.Reader.close`."""
        quietly_close(self._open)
        self._open = None

    def _consumer(self) -> KafkaConsumer:
        if self._open is None:
            wait_ms = _WAIT_ALONE_MS if len(self._places) == 1 else _WAIT_TOGETHER_MS
            self._open = self._clients.consumer(fetch_max_wait_ms=wait_ms)
            self._open.assign(list(self._places.values()))
            for number, place in self._places.items():
                gap = self._gaps.get(number)
                self._open.seek(place, self._positions[number] if gap is None else gap.to_offset)
        return self._open

    def _move(self, partition: int, offset: int) -> None:
        self._buffers[partition].clear()
        if self._open is not None:
            self._open.seek(self._places[partition], offset)

    def _check_positions(self) -> None:
        """Look where retention and the end are before the first fetch from a new position."""
        if not self._unchecked:
            return
        places = {number: self._places[number] for number in self._unchecked}
        starts = self._offsets.starts(places.values())
        ends = self._offsets.stable_ends(places.values())
        for number, place in places.items():
            position = self._positions[number]
            if position > max(ends[place], starts[place]):
                raise OffsetOutOfRange(
                    f"topic {self._topic}, partition {number}: position {position} is beyond the end "
                    f"{ends[place]}; the log was replaced or lost its last records: seek to a position it has"
                )
            if position < starts[place]:
                self._gaps[number] = Gap(self._topic, number, position, starts[place])
                self._move(number, starts[place])
        self._unchecked.clear()

    def _fill(self, max_records: int, wait_s: float) -> None:
        """Fetch for the partitions that have nothing buffered, and note how far each has come."""
        full = [number for number, buffer in self._buffers.items() if buffer]
        if len(full) == len(self._buffers):
            return
        consumer = self._consumer()
        self._pause(consumer, full)
        wait_ms = 0.0 if full else min(wait_s, _SLICE_S) * 1000
        try:
            batches = consumer.poll(timeout_ms=wait_ms, max_records=max(max_records, _CHUNK))
        except (OffsetOutOfRangeError, LogTruncationError):
            for number in self._positions.keys() - full - self._gaps.keys():
                self._move(number, self._positions[number])
            self._unchecked.update(self._places)
            self._check_positions()
            return
        except KafkaError as error:
            raise explain(error, f"topic {self._topic}", self._clients.settings) from error
        for place, batch in batches.items():
            self._buffers[place.partition].extend(
                Record(
                    self._topic,
                    place.partition,
                    item.offset,
                    item.timestamp * _NS_PER_MS,
                    None if item.key is None else item.key.decode(errors="replace"),
                    item.value,
                )
                for item in batch
            )
        self._note_positions(consumer)

    def _pause(self, consumer: KafkaConsumer, full: list[int]) -> None:
        wanted = {self._places[number] for number in full}
        paused = consumer.paused()
        if wanted - paused:
            consumer.pause(*(wanted - paused))
        if paused - wanted:
            consumer.resume(*(paused - wanted))

    def _note_positions(self, consumer: KafkaConsumer) -> None:
        """Markers and aborted records are passed over: a position may move without a record."""
        for number, place in self._places.items():
            if not self._buffers[number] and number not in self._gaps:
                self._positions[number] = max(self._positions[number], reached(consumer, place) or 0)

    def _take(self, max_records: int, max_bytes: int) -> list[Record | Gap]:
        found: list[Record | Gap] = []
        room, space = max_records, max_bytes
        for number in self._turn:
            buffer = self._buffers[number]
            while buffer and room > 0 and space > 0:
                found += self._take_gaps([number])
                record = buffer.popleft()
                found.append(record)
                self._positions[number] = record.offset + 1
                room -= 1
                space -= len(record.value or b"")
        if found:
            self._turn = self._turn[1:] + self._turn[:1]
            if self._open is not None:
                self._note_positions(self._open)
        return found

    def _take_gaps(self, numbers: Iterable[int] | None = None) -> list[Record | Gap]:
        taken: list[Record | Gap] = []
        for number in list(self._gaps) if numbers is None else numbers:
            gap = self._gaps.pop(number, None)
            if gap is not None:
                taken.append(gap)
                self._positions[number] = gap.to_offset
        return taken

    def _check_assigned(self, partition: int) -> None:
        if partition not in self._places:
            raise LogError(f"topic {self._topic}: this reader does not read partition {partition}")


def commit_positions(clients: KafkaClients, group: str, positions: Mapping[TopicPartition, int]) -> None:
    """Commit positions of a group that has no members. Raises LogError."""
    wanted = {place: OffsetAndMetadata(offset, "", -1) for place, offset in positions.items()}

    def commit(admin: object) -> None:
        for place, error in admin.alter_group_offsets(group, wanted).items():  # type: ignore[attr-defined]
            if error is not NoError:
                raise error(f"{place.topic}, partition {place.partition}")

    clients.ask(f"positions of group {group}", commit)
