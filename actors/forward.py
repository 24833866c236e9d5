"""Forwarding of one partition of an edge: what its log archived, into the core's log, each packet exactly once.

The edge's own log is the spool. The position in it is kept in the core's log, as the state of a stage there, and
commits with the packets, their plates, label sets, gaps and entries of the time index: an edge that is killed goes
on where the core's log ends. While the core cannot be reached, the spool grows within the byte bound of the edge's
archive; what it had to let go becomes one gap record per camera, and the rest goes on.

Forwarding stands where routing does in a system on one machine, so in the edge's log it holds that stage: its
position there is what retention and the figures of lag go by.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from actors.forward_plates import PlateCopier
from actors.log_view import check_topics
from actors.registry import read_label_sets
from discover_stream.codec.any_packet import AnyPacket, PlateClocks, parse_any
from discover_stream.codec.packet import task_key
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, Task
from topics.catalogue import ARCHIVE, DEAD, INDEX, LABELS, PLATES, CatalogueSettings, task_spec
from topics.failpoints import hit
from topics.fleet_messages import ForwardState
from topics.immutable import ImmutableTable
from topics.log import Gap, Log, Reader, Record, Stage, Transaction
from topics.messages import GapMessage, LabelSetMessage, dead_message, decode, decode_as, encode
from topics.partitioner import partition_for
from topics.plates import PlateShelf
from topics.reading import read_to_end
from topics.time_index import IndexWriter

MAX_PACKETS = 64
MAX_BYTES = 2**20
SPOOL_FULL = "the way to the core was away for longer than the edge's spool holds"
NOT_MET = "*"
"""Stands for cameras of which nothing was forwarded yet; no camera can be called that."""

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ForwardReport:
    """What forwarding has done since it began: packets copied, frames of gaps that the spool's bound made, damaged
    records, and offsets of the spool that were lost."""

    packets: int = 0
    lost_frames: int = 0
    buried: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet of the spool with what the core has to know of it."""

    record: Record
    packet: AnyPacket | None
    capture_ns: int = 0
    problem: str = ""

    @property
    def camera(self) -> str:
        """Its camera."""
        return self.record.key or "?"


def spool_gap(
    camera: str, before: tuple[int, int] | None, seq: int, capture_ns: int, told: Sequence[GapMessage]
) -> GapMessage | None:
    """The gap before a packet that follows something the spool lost; None where nothing of the camera was lost.

    Args:
        camera: its name.
        before: (next number, capture time) of the packet before it that was forwarded; None without one.
        seq, capture_ns: of the packet.
        told: gaps of the camera that the edge told itself; their frames are not lost here.
    """
    next_seq, last_ns = (0, capture_ns) if before is None else before
    known = sum(gap.frames for gap in told if next_seq < gap.next_seq <= seq)
    missing = seq - next_seq - known
    if missing <= 0:
        return None
    return GapMessage(camera=camera, from_ns=last_ns, to_ns=capture_ns, reason=SPOOL_FULL, next_seq=seq, frames=missing)


@dataclass(slots=True)
class Told:
    """Gaps that the edge told, in the order of its index, which are not forwarded yet, and where reading stands."""

    waiting: deque[tuple[int, GapMessage]] = field(default_factory=deque)
    known: dict[str, list[GapMessage]] = field(default_factory=dict)
    end: int = 0

    def due(self, cameras: dict[str, tuple[int, int]], *, drained: bool) -> list[GapMessage]:
        """Take those that are to be forwarded now: none before the packets that came before it, so the first ones up
        to one whose camera is not that far; all once there are no more packets."""
        found: list[GapMessage] = []
        while self.waiting:
            gap = self.waiting[0][1]
            if not drained and cameras.get(gap.camera, (0, 0))[0] < gap.next_seq:
                break
            found.append(self.waiting.popleft()[1])
        return found

    @property
    def position(self) -> int:
        """The first record of the index that is not forwarded."""
        return self.waiting[0][0] if self.waiting else self.end

    def forget(self, camera: str, seq: int) -> None:
        """Gaps before frame `seq` of a camera are settled."""
        self.known[camera] = [gap for gap in self.known.get(camera, ()) if gap.next_seq > seq]


class ForwardStage:
    """The run loop of one partition of an edge. `run` once; `stop` from any thread."""

    def __init__(self, edge: Log, core: Log, site: str, partition: int, owner: str) -> None:
        self._edge, self._core, self._site = edge, core, site
        self._partition, self._owner = partition, owner
        self._stop = threading.Event()
        self._index = IndexWriter()
        self._clocks: dict[str, PlateClocks] = {}
        self._told = Told()
        self._unsettled: set[str] = set()  # cameras before whose next packet the spool may have lost something
        self._sets: dict[int, Task] = {}
        self._known_sets: set[int] = set()
        self._homes = 1
        self._cameras: dict[str, tuple[int, int]] = {}
        self.report = ForwardReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> str:
        """Forward until stopped.

        Raises LogError for either log that cannot be used, Fenced when another edge of this name took over, and
        InputError where the core has other labels under a version that the edge uses.
        """
        check_topics(self._core, [ARCHIVE, INDEX, PLATES, LABELS, DEAD])
        self._homes = next(spec.partitions for spec in self._core.topics() if spec.name == ARCHIVE)
        with (
            closing(self._edge.stage("route", self._partition, self._owner)) as local,
            closing(self._core.stage(f"forward-{self._site}", self._partition, self._owner)) as stage,
            closing(self._edge.reader(ARCHIVE, [self._partition])) as packets,
            closing(self._edge.reader(INDEX, [self._partition])) as index,
            closing(PlateShelf(self._edge, self._partition)) as shelf,
            closing(ImmutableTable(self._core, LABELS, 0)) as labels,
            closing(PlateCopier(self._edge, self._partition, self._core, self._homes)) as plates,
        ):
            state = ForwardState(source=self._site)
            if stage.state is not None:
                state = decode_as(ForwardState, stage.state)
            packets.seek(self._partition, state.offset)
            index.seek(self._partition, max(state.index, self._edge.bounds(INDEX, self._partition).start))
            self._told.end = state.index
            self._cameras, self._unsettled = state.cameras, {*state.unsettled}
            while not self._stop.is_set():
                arrived, drained = self._read(packets, index, shelf)
                after = self._commit(stage, state, arrived, labels, plates, drained=drained)
                if after is not state:
                    with local.transaction() as transaction:  # only for retention and lag: the core's counts
                        transaction.commit_offset(ARCHIVE, self._partition, after.offset)
                state = after
        return "stopped"

    def _read(self, packets: Reader, index: Reader, shelf: PlateShelf) -> tuple[list[Arrived], bool]:
        """The next packets, and whether there are no more behind them. Gaps of the index up to then are read too."""
        items = packets.poll(MAX_PACKETS, timeout_s=_POLL_S, max_bytes=MAX_BYTES)
        drained = not items
        arrived: list[Arrived] = []
        for item in items:
            if isinstance(item, Gap):
                self._unsettled |= {*self._cameras, NOT_MET}
                self.report = replace(self.report, lost=self.report.lost + item.to_offset - item.from_offset)
            else:
                hit(f"forward-{self._site}-{self._partition}", "after_read", item.offset)
                arrived.append(self._parsed(item, shelf))
        for record in read_to_end(self._edge, INDEX, index):
            self._told.end = record.offset + 1
            message = None if record.value is None else decode(record.value)
            if isinstance(message, GapMessage):
                self._told.waiting.append((record.offset, message))
                self._told.known.setdefault(message.camera, []).append(message)
        return arrived, drained

    def _parsed(self, record: Record, shelf: PlateShelf) -> Arrived:
        camera = record.key or "?"
        try:
            packet = parse_any(record.value or b"", camera=camera)
            clocks = self._clocks.get(camera, PlateClocks()).after(packet)
            if isinstance(packet, StreamPacket) and clocks.capture_ns(packet) is None:
                for plate in shelf.fetch(camera, packet.plate_id):
                    clocks = clocks.after(plate)
            self._clocks[camera] = clocks
        except BitstreamError as error:
            return Arrived(record, None, problem=str(error))
        time_ns = clocks.capture_ns(packet)
        return Arrived(record, packet, time.time_ns() if time_ns is None else time_ns)

    def _commit(
        self,
        stage: Stage,
        state: ForwardState,
        arrived: Sequence[Arrived],
        labels: ImmutableTable,
        plates: PlateCopier,
        *,
        drained: bool,
    ) -> ForwardState:
        """Write packets that follow each other with everything that belongs to them; the state after it."""
        cameras = dict(state.cameras)
        news = self._new_sets(arrived)
        written: list[tuple[Arrived, GapMessage | None]] = []
        for item in arrived:
            gap = None
            if item.packet is not None:
                gap = self._gap_before(item, item.packet, cameras.get(item.camera))
                cameras[item.camera] = (item.packet.seq + 1, item.capture_ns)
            written.append((item, gap))
        told = self._told.due(cameras, drained=drained)
        if not arrived and not told:
            return state
        offset = arrived[-1].record.offset + 1 if arrived else state.offset
        after = ForwardState(
            source=self._site,
            offset=offset,
            index=self._told.position,
            cameras=cameras,
            unsettled=tuple(sorted(self._unsettled)),
        )
        with stage.transaction() as transaction:
            for task in news:
                labels.publish(transaction, LabelSetMessage.of(task))
            for gap in told:
                self._send_gap(transaction, gap)
            for item, lost in written:
                self._send(transaction, item, lost, plates)
            transaction.set_state(encode(after))
            hit(stage.transactional_id, "after_send", offset)
        hit(stage.transactional_id, "after_commit", offset)
        self._cameras = cameras
        self._known_sets |= {task_key(task.name, task.label_set.version) for task in news}
        frames = sum(lost.frames for _, lost in written if lost is not None)
        buried = sum(item.packet is None for item, _ in written)
        self.report = replace(
            self.report,
            packets=self.report.packets + len(arrived) - buried,
            lost_frames=self.report.lost_frames + frames,
            buried=self.report.buried + buried,
        )
        return after

    def _send(self, transaction: Transaction, item: Arrived, lost: GapMessage | None, plates: PlateCopier) -> None:
        """A packet with its plates, its gap and its entry in the index."""
        home = partition_for(item.camera, self._homes)
        if item.packet is None:
            dead = encode(dead_message(item.record, item.problem, 0, time.time_ns()))
            transaction.send(DEAD, item.record.key, dead, partition=home)
            return
        plates.copy(transaction, item.camera, item.packet, item.capture_ns)
        transaction.send(ARCHIVE, item.camera, item.record.value, partition=home)
        if lost is not None:
            self._send_gap(transaction, lost)
        entries = self._index.records(
            item.camera,
            item.packet.incarnation,
            item.packet.seq,
            item.capture_ns,
            lambda: self._core.bounds(ARCHIVE, home).end,
        )
        for entry in entries:
            transaction.send(INDEX, item.camera, encode(entry), partition=home)
        self._index.committed(entries)  # the next packet may be in the same transaction; if that fails, this ends too

    def _send_gap(self, transaction: Transaction, gap: GapMessage) -> None:
        transaction.send(INDEX, gap.camera, encode(gap), partition=partition_for(gap.camera, self._homes))

    def _gap_before(self, item: Arrived, packet: AnyPacket, before: tuple[int, int] | None) -> GapMessage | None:
        """What the spool lost before a packet; only before the first one of its camera after a loss."""
        camera, gap = item.camera, None
        if camera in self._unsettled or (before is None and NOT_MET in self._unsettled):
            gap = spool_gap(camera, before, packet.seq, item.capture_ns, self._told.known.get(camera, ()))
            self._unsettled.discard(camera)
        self._told.forget(camera, packet.seq)
        return gap

    def _new_sets(self, arrived: Sequence[Arrived]) -> list[Task]:
        """Label sets that these packets name and that were not met yet; their topics are made at the core."""
        keys = {key for item in arrived if item.packet is not None for key in item.packet.tasks} - self._known_sets
        if keys - {*self._sets}:
            self._sets = {
                task_key(name, version): task for (name, version), task in read_label_sets(self._edge).items()
            }
        news = [self._sets[key] for key in sorted(keys) if key in self._sets]
        there = {spec.name for spec in self._core.topics()} if news else set()
        specs = [task_spec(task.name, CatalogueSettings(partitions=self._homes)) for task in news]
        missing = [spec for spec in specs if spec.name not in there]
        if missing:
            self._core.create_topics(missing)
        return news
