"""Routing of one partition: archive packets to each task's packets. Bytes are copied; no pixel is touched."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from actors.attempts import blameless
from actors.decisions import to_be_buried
from actors.registry import TaskTable
from discover_stream.codec.packet import Packet, packet_bytes, parse_packet, route
from discover_stream.types import BitstreamError
from topics.catalogue import ARCHIVE, DEAD, task_topic
from topics.log import Gap, Log, Record, Stage
from topics.messages import dead_message, encode

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets sent to one task for one camera: how many, all their bytes, first and last capture time."""

    task: str
    camera: str
    packets: int
    bytes: int
    first_ns: int
    last_ns: int

    def joined(self, other: Tally) -> Tally:
        """With the packets of another tally of the same task and camera."""
        return replace(
            self,
            packets=self.packets + other.packets,
            bytes=self.bytes + other.bytes,
            first_ns=min(self.first_ns, other.first_ns),
            last_ns=max(self.last_ns, other.last_ns),
        )


@dataclass(frozen=True, slots=True)
class RouteReport:
    """What routing has done since its process started: archive packets routed, records buried, packets lost
    to retention before they were routed, and what each task was sent."""

    packets: int = 0
    buried: int = 0
    lost: int = 0
    tallies: tuple[Tally, ...] = ()


def split(packet: Packet, names: Mapping[int, str]) -> list[tuple[str, bytes]]:
    """(task, packet bytes) for every task of an archive packet.

    Raises BitstreamError for a packet that holds a key no known task has.
    """
    unknown = [key for key in packet.tasks if key not in names]
    if unknown:
        raise BitstreamError(f"seq {packet.seq}: no label set is known for task key {unknown[0]:#06x}; register it")
    return [(names[key], packet_bytes(route(packet, (key,)))) for key in packet.tasks]


class RouteStage:
    """The run loop of one partition. `run` once; `stop` from any thread."""

    def __init__(self, log: Log, partition: int, owner: str) -> None:
        self._log, self._partition, self._owner = log, partition, owner
        self._stop = threading.Event()
        self._names: Mapping[int, str] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        self.report = RouteReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> str:
        """Route until stopped. Raises Fenced when another router took over."""
        stage = self._log.stage("route", self._partition, self._owner)
        reader = self._log.reader(ARCHIVE, [self._partition])
        # Not from the first record there is: what retention took meanwhile is to be counted.
        reader.seek(self._partition, stage.offsets.get((ARCHIVE, self._partition), 0))
        tasks = TaskTable(self._log, self._partition)
        while not self._stop.is_set():
            for item in reader.poll(timeout_s=_POLL_S):
                if self._stop.is_set():
                    break
                if isinstance(item, Gap):
                    self.report = replace(self.report, lost=self.report.lost + item.to_offset - item.from_offset)
                else:
                    self._work(stage, item, tasks)
        reader.close()
        return "stopped"

    def _work(self, stage: Stage, record: Record, tasks: TaskTable) -> None:
        attempts = stage.record_attempt(ARCHIVE, self._partition, record.offset)
        with blameless(stage, ARCHIVE, self._partition, record.offset):
            self._finish(stage, record, attempts, tasks)

    def _finish(self, stage: Stage, record: Record, attempts: int, tasks: TaskTable) -> None:
        if to_be_buried(attempts):
            self._bury(stage, record, f"routing died {attempts - 1} times on this record", attempts - 1)
            return
        try:
            packet = parse_packet(record.value or b"", camera=record.key or "?")
            if any(key not in self._names for key in packet.tasks):
                self._names = tasks.names_by_key()
            parts = split(packet, self._names)
        except BitstreamError as error:
            self._bury(stage, record, str(error), 0)
            return
        with stage.transaction() as transaction:
            for task, data in parts:
                transaction.send(task_topic(task), record.key, data, partition=self._partition)
            transaction.commit_offset(ARCHIVE, self._partition, record.offset + 1)
        self._count(record.key or "?", packet, parts)

    def _count(self, camera: str, packet: Packet, parts: list[tuple[str, bytes]]) -> None:
        for task, data in parts:
            one = Tally(task, camera, 1, len(data), packet.capture_ns, packet.capture_ns)
            known = self._tallies.get((task, camera))
            self._tallies[task, camera] = one if known is None else known.joined(one)
        self.report = replace(self.report, packets=self.report.packets + 1, tallies=tuple(self._tallies.values()))

    def _bury(self, stage: Stage, record: Record, reason: str, deaths: int) -> None:
        dead = encode(dead_message(record, reason, deaths, time.time_ns()))
        with stage.transaction() as transaction:
            transaction.send(DEAD, record.key, dead, partition=self._partition)
            transaction.commit_offset(ARCHIVE, self._partition, record.offset + 1)
        self.report = replace(self.report, buried=self.report.buried + 1)
