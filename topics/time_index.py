"""Where in the archive a capture time is: a few bytes per camera and ten seconds, written with the packets.

Offsets follow the order of writing; capture times follow the camera's clock, which may be hours off, jump, or
start again. So each entry says: from here on, up to the camera's next entry, lie packets captured at `capture_ns`
or less than `covers_ns` after it. An entry is written

* for the first packet of a camera in a process (encoders restart), and of every incarnation,
* when a packet was captured `covers_ns` or more after the entry before it,
* when it was captured before the packet before it: a clock was set back.

Frames are numbered in order once per camera; one that was tried again long after its time (`discover dead
retry`) comes among later numbers. It gets no entry (`is_late`), and a reader passes over it.

The place is a lower bound, since a broker tells the offset of a packet only after it was sent: where the archive
ended before the transaction began. A reader scans on from there. Losing the writer's memory, or aborting its
transaction, costs an entry more and nothing else.

Beside the entries lie the gaps of the archive: what a camera did not deliver (`GapMessage` of its ingest, passed
on), and frames that were lost between ingest and encoding (`lost_before`).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from topics.catalogue import INDEX
from topics.log import Log, Reader
from topics.messages import CameraState, GapMessage, IndexMessage, decode
from topics.reading import read_to_end

COVERS_NS = 10 * 10**9
"""How much capture time one entry covers."""


class IndexWriter:
    """Decides which packets of one partition get an entry. For one thread.

    entries = writer.records(camera, incarnation, seq, capture_ns, archive_end)
    with stage.transaction() as transaction:
        transaction.send(ARCHIVE, camera, packet, partition=partition)
        for entry in entries:
            transaction.send(INDEX, camera, encode(entry), partition=partition)
    writer.committed(entries)
    """

    def __init__(self, covers_ns: int = COVERS_NS) -> None:
        """With entries that cover `covers_ns` of capture time each."""
        self._covers_ns = covers_ns
        self._entries: dict[str, IndexMessage] = {}
        self._packets: dict[str, tuple[int, int]] = {}  # number and capture time of the latest one

    def records(
        self, camera: str, incarnation: int, seq: int, capture_ns: int, archive_end: Callable[[], int]
    ) -> list[IndexMessage]:
        """The entries to send in the transaction of a packet: none, or one.

        `archive_end` tells where the archive's partition ends, and is called only where it is needed, about
        every ten seconds: ``lambda: log.bounds(ARCHIVE, partition).end``, before the transaction begins.
        """
        entry = self._entries.get(camera)
        latest_seq, latest_ns = self._packets.get(camera, (-1, capture_ns))
        if seq < latest_seq:
            return []
        self._packets[camera] = seq, capture_ns
        if (
            entry is not None
            and entry.incarnation == incarnation
            and latest_ns <= capture_ns < entry.capture_ns + entry.covers_ns
        ):
            return []
        return [
            IndexMessage(
                camera=camera,
                incarnation=incarnation,
                seq=seq,
                capture_ns=capture_ns,
                archive_offset=archive_end(),
                covers_ns=self._covers_ns,
            )
        ]

    def committed(self, entries: Iterable[IndexMessage]) -> None:
        """The transaction with these entries was committed."""
        for entry in entries:
            self._entries[entry.camera] = entry


def is_late(state: CameraState, seq: int) -> bool:
    """Whether a frame comes after later ones of its camera: it was tried again."""
    return state.next_seq is not None and seq < state.next_seq


def encoded(state: CameraState, seq: int, capture_ns: int) -> CameraState:
    """A camera's state once a frame of it was encoded; one that was tried again late changes nothing."""
    if is_late(state, seq):
        return state
    return msgspec.structs.replace(state, next_seq=seq + 1, last_ns=capture_ns)


def told(state: CameraState, gap: GapMessage) -> CameraState:
    """A camera's state once a gap of it was passed on: the frames that it counts are not lost a second time."""
    if state.next_seq is None:
        return state
    return msgspec.structs.replace(state, next_seq=max(state.next_seq, min(state.next_seq + gap.frames, gap.next_seq)))


def lost_before(camera: str, state: CameraState, seq: int, capture_ns: int) -> GapMessage | None:
    """The gap in front of a camera's frame that nobody has told yet, given its encoder's state after what came
    before (`encoded`, `told`); None if there is none.

    To be sent to the index in the transaction of the frame.
    """
    if state.next_seq is None or seq <= state.next_seq:
        return None
    return GapMessage(
        camera=camera,
        from_ns=capture_ns if state.last_ns is None else state.last_ns,
        to_ns=capture_ns,
        reason="lost before encoding: retention took the frames, or they are among the dead records",
        next_seq=seq,
        frames=seq - state.next_seq,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is searched. `at_ns` is its append time."""

    seq: int
    capture_ns: int
    archive_offset: int
    covers_ns: int
    at_ns: int


@dataclass(slots=True)
class CameraIndex:
    """The entries and gaps of one camera, in the order of writing."""

    entries: list[Entry] = field(default_factory=list)
    gaps: list[GapMessage] = field(default_factory=list)
    _sorted: list[tuple[int, int]] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take in an entry, in log order; one of a packet that was tried again late is passed over."""
        if self.entries and entry.seq < self.entries[-1].seq:
            return
        insort(self._sorted, (entry.capture_ns, len(self.entries)))
        self.entries.append(entry)

    def candidates(self, at_ns: int) -> Iterator[tuple[Entry, int | None]]:
        """Entries at or before a capture time, the nearest first, of equal ones the latest.

        With the number of the first packet that the entry does not cover any more, None for the last entry.
        """
        for index in range(bisect_right(self._sorted, at_ns, key=lambda item: item[0]) - 1, -1, -1):
            here = self._sorted[index][1]
            yield self.entries[here], self.entries[here + 1].seq if here + 1 < len(self.entries) else None


class TimeIndex:
    """Reads the index of one partition; what came since is read when something is asked. For one thread."""

    def __init__(self, log: Log, partition: int, only: str | None = None) -> None:
        """Of the cameras of `partition`, or (quicker) of one of them. A log without the topic has no entries."""
        self._log, self._partition, self._only = log, partition, only
        self._reader: Reader | None = None
        self._cameras: dict[str, CameraIndex] = {}

    def camera(self, camera: str) -> CameraIndex:
        """The entries of a camera up to now; none for one that has none."""
        self._refresh()
        return self._cameras.get(camera, CameraIndex())

    def start_for(self, camera: str, at_ns: int) -> int | None:
        """Where to begin reading the archive so that the camera's frame at or before a capture time is met.

        None where the index does not know: the frame, if there is one, lies before the camera's first entry.
        Where a clock ran over the same time twice, the frame may be met from other `candidates` too.
        """
        for entry, _ in self.camera(camera).candidates(at_ns):
            return entry.archive_offset
        return None

    def close(self) -> None:
        """Let go of resources."""
        if self._reader is not None:
            self._reader.close()

    def _refresh(self) -> None:
        if self._reader is None:
            if INDEX not in {spec.name for spec in self._log.topics()}:
                return
            self._reader = self._log.reader(INDEX, [self._partition])
        for record in read_to_end(self._log, INDEX, self._reader):
            if record.value is None or (self._only is not None and record.key != self._only):
                continue
            found = decode(record.value)
            camera = self._cameras.setdefault(record.key or "", CameraIndex())
            if isinstance(found, GapMessage):
                camera.gaps.append(found)
            elif isinstance(found, IndexMessage):
                camera.add(
                    Entry(found.seq, found.capture_ns, found.archive_offset, found.covers_ns, record.timestamp_ns)
                )
