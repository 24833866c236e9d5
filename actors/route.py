"""Routing of one partition: archive packets to each task's packets. Bytes are copied; no pixel is touched.

What one poll returned is committed together, within a bound: routing a packet is quick, a commit is not.
`actors.decisions.Care` says when packets are done one by one instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from actors.attempts import begin, blameless
from actors.decisions import Care, to_be_buried
from actors.registry import TaskTable
from actors.steps import Steps
from discover_stream.codec.any_packet import (
    AnyPacket,
    PlateClocks,
    any_packet_bytes,
    parse_any,
    regions_only,
    route_any,
)
from discover_stream.codec.packet import Packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, Delivery
from topics.catalogue import ARCHIVE, DEAD, task_topic
from topics.failpoints import hit
from topics.log import Gap, Log, Reader, Record, Stage
from topics.messages import dead_message, encode
from topics.plates import PlateShelf

MAX_PACKETS = 32
MAX_BYTES = 2**20
"""What one transaction takes at most: packets, and bytes of the archive (reached, not exceeded, by the last)."""

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets sent to one task for one camera: how many, all their bytes, first and last capture time.

    Packets of stream mode whose plate, which tells their time, is not in the log any more are left out.
    """

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
    """What routing has done since its process started: archive packets routed, records buried, offsets lost
    to retention before they were read, and what each task was sent."""

    packets: int = 0
    buried: int = 0
    lost: int = 0
    tallies: tuple[Tally, ...] = ()


def was_without_pixels(packet: AnyPacket, key: int) -> bool:
    """Whether a packet was encoded while a task of it was delivered as regions alone.

    In still mode every region of a task with pixels is covered by atoms of it. So whoever takes pixels since, and not
    from this packet on, is not sent what somebody would take for an empty street. In stream mode pixels are kept for
    all tasks as long as one of them has pixels.
    """
    if not isinstance(packet, Packet):
        return packet.regions_only
    task = packet.tasks.index(key)
    found = any(task == other for region in packet.regions for other, _ in region.labels)
    return packet.regions_only or (found and not any(task in atom.tasks for atom in packet.atoms))


def still_bare(packet: AnyPacket, wanted: Collection[int], bare: Collection[int]) -> set[int]:
    """The tasks (keys) whose packets hold regions alone now, and until their stream begins anew.

    Packets of stream mode refer to plates and keys of earlier ones. Whoever was sent regions alone so far has none of
    them, so gets pixels from the packet on that needs nothing earlier; the encoder makes one for that.

    Args:
        packet: of the archive.
        wanted: keys of the tasks that want regions alone.
        bare: keys of those that were sent regions alone with the camera's packet before.
    """
    mine = set(packet.tasks)
    alone = mine & set(wanted)
    if isinstance(packet, StreamPacket) and packet.oldest_ref < packet.seq:
        alone |= mine & set(bare) - {packet.tasks[position] for position in packet.started}
    return alone | (set(bare) - mine)


def split(packet: AnyPacket, names: Mapping[int, str], alone: Collection[int] = ()) -> list[tuple[str, bytes]]:
    """(task, packet bytes) for every task of an archive packet, without pixels for the keys that want regions alone.

    Raises BitstreamError for a packet that holds a key no known task has.
    """
    unknown = [key for key in packet.tasks if key not in names]
    if unknown:
        raise BitstreamError(f"seq {packet.seq}: no label set is known for task key {unknown[0]:#06x}; register it")
    parts = []
    for key in packet.tasks:
        part = route_any(packet, (key,))
        stripped = key in alone or was_without_pixels(packet, key)
        parts.append((names[key], any_packet_bytes(regions_only(part) if stripped else part)))
    return parts


@dataclass(frozen=True, slots=True)
class Routed:
    """What becomes of an archive record: a packet for each task, or where it cannot be routed, why not."""

    record: Record
    packet: AnyPacket | None = None
    parts: tuple[tuple[str, bytes], ...] = ()
    problem: str = ""
    deaths: int = 0


class RouteStage:
    """The run loop of one partition. `run` once; `stop` from any thread."""

    def __init__(self, log: Log, partition: int, owner: str, steps: Steps | None = None) -> None:
        self._log, self._partition, self._owner, self._steps = log, partition, owner, steps or Steps()
        self._stop = threading.Event()
        self._names: Mapping[int, str] = {}
        self._delivered: dict[int, Delivery] = {}  # also of tasks that are off by now, and have packets to be routed
        self._bare: dict[str, set[int]] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._care = Care(MAX_PACKETS)
        self._clocks: dict[str, PlateClocks] = {}
        self._plates = PlateShelf(log, partition)
        self.report = RouteReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> str:
        """Route until stopped. Raises Fenced when another router took over."""
        with (
            closing(self._log.stage("route", self._partition, self._owner)) as stage,
            closing(self._log.reader(ARCHIVE, [self._partition])) as reader,
            closing(TaskTable(self._log, self._partition)) as tasks,
            closing(self._plates),
        ):
            # Not from the first record there is: what retention took meanwhile is to be counted.
            reader.seek(self._partition, stage.offsets.get((ARCHIVE, self._partition), 0))
            self._follow(stage, reader, tasks)
        return "stopped"

    def _follow(self, stage: Stage, reader: Reader, tasks: TaskTable) -> None:
        while not self._stop.is_set():
            items = reader.poll(1 if self._care.needed else MAX_PACKETS, timeout_s=_POLL_S, max_bytes=MAX_BYTES)
            lost = sum(item.to_offset - item.from_offset for item in items if isinstance(item, Gap))
            if lost:
                self.report = replace(self.report, lost=self.report.lost + lost)
            records = [item for item in items if isinstance(item, Record)]
            if records:
                self._delivered.update({task.key: task.options.deliver for task in tasks.refresh()})
            if records and self._care.needed:
                for record in records:
                    self._alone(stage, record, tasks)
            elif records:
                self._commit(stage, [self._work(stage, record, tasks) for record in records])

    def _alone(self, stage: Stage, record: Record, tasks: TaskTable) -> None:
        """Do one record, counted before anything of it is touched."""
        attempts = begin(stage, ARCHIVE, self._partition, record.offset)
        with blameless(stage, ARCHIVE, self._partition, record.offset):
            if to_be_buried(attempts):
                problem = f"routing died {attempts - 1} times on this record"
                routed = Routed(record, problem=problem, deaths=attempts - 1)
            else:
                routed = self._work(stage, record, tasks)
            self._commit(stage, [routed])
        self._care = self._care.after(1)

    def _work(self, stage: Stage, record: Record, tasks: TaskTable) -> Routed:
        hit(stage.transactional_id, "after_read", record.offset)
        began_ns = time.time_ns()
        try:
            packet = parse_any(record.value or b"", camera=record.key or "?")
            if any(key not in self._names for key in packet.tasks):
                self._names = tasks.names_by_key()
            camera = record.key or "?"
            wanted = {key for key, deliver in self._delivered.items() if deliver == "regions"}
            self._bare[camera] = still_bare(packet, wanted, self._bare.get(camera, ()))
            parts = tuple(split(packet, self._names, self._bare[camera]))
        except BitstreamError as error:
            return Routed(record, problem=str(error))
        self._steps.done("route", camera, packet.seq, began_ns)
        hit(stage.transactional_id, "after_process", record.offset)
        return Routed(record, packet, parts)

    def _commit(self, stage: Stage, done: Sequence[Routed]) -> None:
        """Send what became of records that follow each other, and commit that they are done."""
        last, began_ns = done[-1].record.offset, time.time_ns()
        with stage.transaction() as transaction:
            for routed in done:
                record = routed.record
                for task, data in routed.parts:
                    transaction.send(task_topic(task), record.key, data, partition=self._partition)
                if routed.problem:
                    dead = encode(dead_message(record, routed.problem, routed.deaths, time.time_ns()))
                    transaction.send(DEAD, record.key, dead, partition=self._partition)
            transaction.commit_offset(ARCHIVE, self._partition, last + 1)
            hit(stage.transactional_id, "after_send", last)
        hit(stage.transactional_id, "after_commit", last)
        for routed in done:
            if routed.packet is not None:
                self._steps.done("deliver", routed.record.key or "?", routed.packet.seq, began_ns, shared_by=len(done))
                self._count(routed.record.key or "?", routed.packet, routed.parts)
        buried = sum(bool(routed.problem) for routed in done)
        self.report = replace(
            self.report,
            packets=self.report.packets + len(done) - buried,
            buried=self.report.buried + buried,
            tallies=tuple(self._tallies.values()),
        )

    def _count(self, camera: str, packet: AnyPacket, parts: Sequence[tuple[str, bytes]]) -> None:
        time_ns = self._capture_ns(camera, packet)
        if time_ns is None:
            return
        for task, data in parts:
            one = Tally(task, camera, 1, len(data), time_ns, time_ns)
            known = self._tallies.get((task, camera))
            self._tallies[task, camera] = one if known is None else known.joined(one)

    def _capture_ns(self, camera: str, packet: AnyPacket) -> int | None:
        """A packet's capture time; None where its plate's clock is neither in memory nor in the log."""
        clocks = self._clocks.get(camera, PlateClocks()).after(packet)
        if isinstance(packet, StreamPacket) and clocks.capture_ns(packet) is None:
            with suppress(BitstreamError):  # a damaged plate is told to whoever wants its picture
                for plate in self._plates.fetch(camera, packet.plate_id):
                    clocks = clocks.after(plate)
        self._clocks[camera] = clocks
        return clocks.capture_ns(packet)
