"""How much flows: bytes and packets of every substream over the last minutes, by time of writing.

Followed when somebody asks, from where the last look ended: nothing runs while nobody looks.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from topics.catalogue import ARCHIVE, TASK_PREFIX
from topics.checks import stage_group, transactional_id
from topics.log import AtTime, Log, LogError, Reader, Record, lag

STEP_NS = 5 * 10**9
KEPT_S = 600
WINDOW_S = 60
_LOOK_EVERY_S = 1.0

Name = tuple[str, str]
"""A task (``all`` for the archive) and a camera."""


@dataclass(slots=True)
class Flow:
    """One substream: per step (its number since the epoch) packets and bytes, and when the last packet came."""

    steps: dict[int, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    last_ns: int = 0

    def add(self, at_ns: int, size: int) -> None:
        """Count a packet."""
        packets, total = self.steps[at_ns // STEP_NS]
        self.steps[at_ns // STEP_NS] = packets + 1, total + size
        self.last_ns = max(self.last_ns, at_ns)

    def forget(self, before: int) -> None:
        """Drop steps before one."""
        for step in [step for step in self.steps if step < before]:
            del self.steps[step]


@dataclass(frozen=True, slots=True)
class Rate:
    """What one substream took in a window: packets, bytes, kbit/s, packets a second; when the last packet came."""

    packets: int
    bytes: int
    kbps: float
    fps: float
    last_ns: int


def rate_of(steps: Mapping[int, tuple[int, int]], last_ns: int, now_ns: int, window_s: float) -> Rate:
    """The rate over the last seconds."""
    first = (now_ns - round(window_s * 1e9)) // STEP_NS
    found = [counts for step, counts in steps.items() if step > first]
    packets, size = sum(n for n, _ in found), sum(b for _, b in found)
    return Rate(packets, size, 8 * size / 1000 / window_s, packets / window_s, last_ns)


class Rates:
    """Follows the archive and all tasks. Shared by threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._readers: dict[str, Reader] = {}
        self._flows: dict[Name, Flow] = {}
        self._looked_s = float("-inf")
        self._waiting: dict[int, int] = {}

    def now(self, window_s: float = WINDOW_S) -> dict[Name, Rate]:
        """Rates of all substreams that have had a packet in the last minutes. Raises LogError."""
        with self._lock:
            self._look()
            now_ns = time.time_ns()
            return {name: rate_of(flow.steps, flow.last_ns, now_ns, window_s) for name, flow in self._flows.items()}

    def history(self, seconds: int) -> tuple[int, dict[Name, list[float]]]:
        """(time of the first step in ns, kbit/s of each substream step by step). Raises LogError."""
        with self._lock:
            self._look()
            end = time.time_ns() // STEP_NS
            begin = end - max(1, seconds * 10**9 // STEP_NS)
            found = {
                name: [8 * flow.steps[step][1] / 1000 / (STEP_NS / 1e9) if step in flow.steps else 0.0
                       for step in range(begin, end)]
                for name, flow in self._flows.items()
            }  # fmt: skip
            return begin * STEP_NS, found

    def clock_ns(self) -> int:
        """Now, by the clock that packets are written by on this machine."""
        return time.time_ns()

    def waiting(self, partition: int) -> int:
        """Archived packets of a partition that are not routed yet, as of the last look."""
        return self._waiting.get(partition, 0)

    def _look(self) -> None:
        since_s = time.monotonic() - self._looked_s
        if since_s < _LOOK_EVERY_S:
            return
        if since_s > KEPT_S:  # to read on would be to read all that came since, for nothing
            while self._readers:
                self._readers.popitem()[1].close()
        now_ns = time.time_ns()
        topics = {spec.name: spec for spec in self._log.topics()}
        for name in topics:
            if name == ARCHIVE or name.startswith(TASK_PREFIX):
                self._follow(name, now_ns)
        for flow in self._flows.values():
            flow.forget((now_ns - KEPT_S * 10**9) // STEP_NS)
        if ARCHIVE in topics:
            for partition in range(topics[ARCHIVE].partitions):
                group = stage_group(transactional_id("route", partition))
                self._waiting[partition] = lag(self._log, group, ARCHIVE, [partition])[partition]
        self._looked_s = time.monotonic()

    def _follow(self, topic: str, now_ns: int) -> None:
        task = "all" if topic == ARCHIVE else topic.removeprefix(TASK_PREFIX)
        reader = self._readers.get(topic)
        if reader is None:
            start = AtTime(now_ns - KEPT_S * 10**9)
            reader = self._readers[topic] = self._log.reader(topic, start=start)
            for name, flow in self._flows.items():
                if name[0] == task:
                    flow.steps.clear()  # they are counted again
        try:
            while items := reader.poll():
                for item in items:
                    if isinstance(item, Record) and item.key is not None and item.value is not None:
                        self._flows.setdefault((task, item.key), Flow()).add(item.timestamp_ns, len(item.value))
        except LogError:
            self._readers.pop(topic).close()
            raise
