"""Where things are in the partitions of a cluster: bounds, times, committed positions.

Offsets of a broker are not dense: it writes a marker at the end of every transaction and keeps aborted
records. Readers see neither. What is said here is about records that readers see, so that a position after
the last of them is a position at the end, and lag comes down to zero. The end that a broker names is its last
stable offset, before which every transaction is decided.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from functools import partial

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from topics.kafka_client import ANSWER_S, KafkaClients
from topics.log import Bounds, TimeRule

_VISIBLE_S = 0.5
"""A commit is answered before its markers are written; so long we wait for those of our own, in seconds."""

_NS_PER_MS = 1_000_000
_LATEST_MS = 2**62 // _NS_PER_MS
_STEP_GROWTH = 4


class KafkaOffsets:
    """Questions about offsets, for all threads of a log."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._written: dict[TopicPartition, int] = {}
        self._promised: dict[tuple[str, TopicPartition], int] = {}
        self._ends: dict[TopicPartition, tuple[int, int]] = {}

    def note_commit(self, group: str, written: dict[TopicPartition, int], positions: dict[TopicPartition, int]) -> None:
        """A transaction of ours was committed: its last offset by partition, and positions of its group.

        Questions that follow wait, briefly, until the broker shows it.
        """
        with self._lock:
            self._written.update(written)
            self._promised.update({(group, place): offset for place, offset in positions.items()})

    def stable_ends(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset up to which readers may read, by partition; markers and aborted records included."""
        asked = list(places)
        with self._lock:
            ours = {place: self._written[place] for place in asked if place in self._written}
        deadline = time.monotonic() + _VISIBLE_S
        while True:
            ends = self._clients.look(
                "looking for ends", lambda consumer: consumer.end_offsets(asked, timeout_ms=ANSWER_S * 1000)
            )
            late = any(ends[place] <= offset for place, offset in ours.items())
            if not late or time.monotonic() >= deadline:
                break
            time.sleep(0.001)
        with self._lock:
            for place, offset in ours.items():
                if self._written.get(place) == offset:
                    del self._written[place]
        return {place: int(ends[place]) for place in asked}

    def starts(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that retention has left, by partition."""
        asked = list(places)
        found = self._clients.look(
            "looking for starts", lambda consumer: consumer.beginning_offsets(asked, timeout_ms=ANSWER_S * 1000)
        )
        return {place: int(found[place]) for place in asked}

    def bounds(self, place: TopicPartition) -> Bounds:
        """See `topics.log.Log.bounds`: `end` is after the last record that readers see."""
        start = self.starts([place])[place]
        stable = self.stable_ends([place])[place]
        with self._lock:
            known = self._ends.get(place, (start, start))
        if known[0] > stable:  # the topic was deleted and made anew
            known = (start, start)
        if known[0] != stable:
            last = self.last_visible(place, max(start, known[0]), stable)
            known = (stable, known[1] if last is None else last + 1)
            with self._lock:
                self._ends[place] = known
        return Bounds(start, max(start, known[1]))

    def offset_at(self, place: TopicPartition, at_ns: int, rule: TimeRule) -> int:
        """See `topics.log.Log.offset_at`. Record times are whole milliseconds of the broker's clock."""
        if rule == "at_or_after":
            found = self._first_since(place, -(-at_ns // _NS_PER_MS))
            return self.bounds(place).end if found is None else found
        after = self._first_since(place, at_ns // _NS_PER_MS + 1)
        start = self.starts([place])[place]
        last = self.last_visible(place, start, self.stable_ends([place])[place] if after is None else after)
        return start if last is None else last

    def committed(self, group: str, place: TopicPartition) -> int | None:
        """The position a group has committed; None if it never did."""
        with self._lock:
            promised = self._promised.get((group, place))
        deadline = time.monotonic() + _VISIBLE_S
        while True:
            found = self.all_committed(group, [place]).get(place)
            if promised is None or found == promised or time.monotonic() >= deadline:
                break
            time.sleep(0.001)
        with self._lock:
            if promised is not None and self._promised.get((group, place)) == promised:
                del self._promised[group, place]
        return found

    def all_committed(self, group: str, places: list[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """Every position of a group, or those in some partitions."""
        found = self._clients.ask(
            f"positions of group {group}", lambda admin: admin.list_group_offsets({group: places})
        )
        return {place: item.offset for place, item in found.get(group, {}).items() if item.offset >= 0}

    def last_visible(self, place: TopicPartition, low: int, high: int) -> int | None:
        """The offset of the last record in [low, high) that readers see; None if there is none.

        Looks backwards in growing steps: mostly only the markers of the last transaction are in the way.
        """
        step = 1
        while high > low:
            middle = max(low, high - step)
            found = self._last_in(place, middle, high)
            if found is not None:
                return found
            high = middle
            step *= _STEP_GROWTH
        return None

    def _last_in(self, place: TopicPartition, low: int, high: int) -> int | None:
        while True:
            with self._scanning:
                last, gone = self._clients.look("looking for the last records", partial(_scan, place, low, high))
            start = self.starts([place])[place] if gone else low
            if not low < start < high:
                return last
            low = start  # retention was faster: look at what it has left

    def _first_since(self, place: TopicPartition, at_ms: int) -> int | None:
        times = {place: min(max(at_ms, 0), _LATEST_MS)}
        found = self._clients.look(
            "looking for times", lambda c: c.offsets_for_times(times, timeout_ms=ANSWER_S * 1000)
        )[place]
        return None if found is None or found.offset < 0 else int(found.offset)


def reached(consumer: KafkaConsumer, place: TopicPartition) -> int | None:
    """How far a consumer has come, markers included; None while it asks whether the log was cut off there."""
    found: int | None = consumer.position(place, timeout_ms=1000)
    return found


def _scan(place: TopicPartition, low: int, high: int, consumer: KafkaConsumer) -> tuple[int | None, bool]:
    """The offset of the last record in [low, high), and whether `low` is not there any more."""
    last: int | None = None
    deadline = time.monotonic() + ANSWER_S
    consumer.assign([place])
    consumer.seek(place, low)
    try:
        while (reached(consumer, place) or low) < high:
            if time.monotonic() >= deadline:  # what was not seen must not be taken for not there
                raise KafkaTimeoutError(f"records up to {high} did not come")
            for record in consumer.poll(timeout_ms=50).get(place, ()):
                if record.offset >= high:
                    return last, False
                last = record.offset
    except OffsetOutOfRangeError:
        return last, True
    return last, False
