"""Reading the archive of a camera by capture time, which is the moment that a picture shows.

The time index tells where to look, so that clocks which are off, or were set back, do no harm. What was archived
before there was an index is searched by halving, which needs capture times that grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from discover_stream.codec.any_packet import AnyPacket, PlateClocks, is_plates_alone, parse_any
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError, InputError
from topics.catalogue import ARCHIVE, STATE
from topics.log import Log, LogError, Record, latest_by_key
from topics.messages import EncodeState, GapMessage, decode
from topics.partitioner import partition_for
from topics.plates import PlateShelf
from topics.reading import read_to_end, record_at
from topics.rewind import packets_before
from topics.time_index import Entry, TimeIndex

_CHUNK = 16
_POLL_S = 1.0
_SILENT_POLLS = 30
_END_OF_TIME_NS = 2**63
_CLOCKS_NS = 60 * 10**9
"""How far the clocks of a broker's nodes, which say when a record was written, may be apart."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A packet of the archive: all tasks of one frame, captured at `capture_ns`, and where it lies."""

    camera: str
    data: bytes
    packet: AnyPacket
    capture_ns: int
    offset: int


@dataclass(frozen=True, slots=True)
class Span:
    """Capture times of the first and the last packet that the archive holds of a camera, ns."""

    first_ns: int
    last_ns: int


Found = tuple[int, Archived]
"""A packet with its offset in the archive's partition."""


def archive_cameras(log: Log) -> tuple[str, ...]:
    """The cameras that were ever encoded, by name."""
    names: set[str] = set()
    for record in latest_by_key(log, STATE).values():
        message = decode(record.value or b"")
        if isinstance(message, EncodeState):
            names.update(message.cameras)
    return tuple(sorted(names))


def archive_span(log: Log, camera: str) -> Span:
    """Which capture times the archive holds of a camera.

    Raises InputError for a camera that it does not know, or of which nothing is kept any more.
    """
    with ArchiveOf(log, camera) as archive:
        first = archive.next_from(archive.start)
        if first is None:
            known = archive_cameras(log)
            if camera in known:
                raise InputError(f"camera {camera}: nothing of it is in the archive any more; raise the retention")
            raise InputError(f"camera {camera!r} is not in the archive; it has: {', '.join(known) or 'none yet'}")
        last = archive.last() or first
        return Span(first[1].capture_ns, last[1].capture_ns)


def read_archive(log: Log, camera: str, from_ns: int, to_ns: int) -> Iterator[Archived]:
    """Packets of a camera from an instant on, in the order of their numbers, up to the end as it is now.

    The first is the frame that shows the instant: the last one captured at or before `from_ns`, or, where there
    is none, the first one after it. The last is the one before the first captured at `to_ns` or later. Frames
    that were tried again after later ones had been archived are left out. Nothing for an empty span. Raises
    BitstreamError for damaged bytes.
    """
    if to_ns <= from_ns:
        return
    with ArchiveOf(log, camera) as archive:
        shown = archive.shown_at(from_ns)
        seq = -1
        found = shown if shown is not None else archive.next_from(archive.start)
        while found is not None and found[1].capture_ns < to_ns:
            packet = found[1].packet
            in_time = found is shown or found[1].capture_ns >= from_ns
            if in_time and packet.seq > seq:
                seq = packet.seq
                yield found[1]
            found = archive.next_from(found[0] + 1)


def archive_lead_in(log: Log, first: Archived) -> list[StreamPacket]:
    """The packets before one of stream mode that it refers to, as far as the archive still has them.

    Raises InputError for a log without an archive.
    """
    if not isinstance(first.packet, StreamPacket):
        return []
    with ArchiveOf(log, first.camera) as archive:
        record = Record(ARCHIVE, archive.partition, first.offset, 0, first.camera, first.data)
    return packets_before(log, record, first.packet)


def archive_gaps(log: Log, camera: str, from_ns: int, to_ns: int) -> tuple[GapMessage, ...]:
    """What is known to be missing in a span of capture time: outages of the camera, frames lost before encoding.

    Gaps that reach into `from_ns` <= time < `to_ns`, in the order of writing. Raises InputError for a log without
    an archive.
    """
    with ArchiveOf(log, camera) as archive:
        gaps = archive.gaps()
    # A single frame that was lost takes an instant, which is still something.
    return tuple(gap for gap in gaps if gap.from_ns < to_ns and max(gap.to_ns, gap.from_ns + 1) > from_ns)


def task_offset(log: Log, topic: str, camera: str, at_ns: int) -> int:
    """Where, in the camera's partition of a task's topic, the frame that shows an instant is, or else the next.

    A packet of a task is made from the archive's, so it was written after it: the archive's time of writing says
    where to look. Raises InputError for a log without an archive.
    """
    with ArchiveOf(log, camera) as archive:
        shown = archive.shown_at(at_ns)
        partition = archive.partition
    held = log.bounds(topic, partition)
    record = None if shown is None else record_at(log, ARCHIVE, partition, shown[0])
    if shown is None or record is None:
        return held.start
    reader = log.reader(topic, [partition])
    reader.seek(partition, max(held.start, log.offset_at(topic, partition, record.timestamp_ns - _CLOCKS_NS)))
    try:
        for candidate in read_to_end(log, topic, reader):
            if candidate.key != camera or candidate.value is None:
                continue
            if parse_any(candidate.value, camera=camera).seq >= shown[1].packet.seq:
                return candidate.offset
    finally:
        reader.close()
    return held.end


class ArchiveOf:
    """One camera's records among those of its partition, as the archive is when this is made. For one thread."""

    def __init__(self, log: Log, camera: str) -> None:
        """Raises InputError for a log without an archive."""
        partitions = next((spec.partitions for spec in log.topics() if spec.name == ARCHIVE), None)
        if partitions is None:
            raise InputError("this log has no archive yet; start `discover run` with the same configuration first")
        self._camera, self.partition = camera, partition_for(camera, partitions)
        self._index = TimeIndex(log, self.partition, camera)
        self._reader = log.reader(ARCHIVE, [self.partition])
        bounds = log.bounds(ARCHIVE, self.partition)
        self.start, self.end = bounds.start, bounds.end
        self._ahead: deque[Record] = deque()  # what lies from `_base` to the reader's position
        self._base = self._reader.positions[self.partition]
        self._clocks, self._plates = PlateClocks(), PlateShelf(log, self.partition)

    def next_from(self, offset: int, end: int | None = None) -> Found | None:
        """The camera's first packet at or after `offset` and before `end`. Raises BitstreamError if it is damaged."""
        limit = self.end if end is None else min(end, self.end)
        if not self._base <= offset <= self._reader.positions[self.partition]:
            self._ahead.clear()
            self._reader.seek(self.partition, offset)
        self._base = offset
        while True:
            while self._ahead:
                record = self._ahead[0]
                if record.offset >= limit:
                    return None
                self._ahead.popleft()
                if record.offset >= offset and record.key == self._camera and record.value is not None:
                    self._base = record.offset + 1
                    packet = parse_any(record.value, camera=self._camera)
                    if not is_plates_alone(packet):
                        time_ns = self._capture_ns(packet)
                        return record.offset, Archived(self._camera, record.value, packet, time_ns, record.offset)
            if not self._fetch(limit):
                return None

    def shown_at(self, at_ns: int) -> Found | None:
        """The frame that shows an instant: the last one captured at or before it. None where there is none."""
        camera = self._index.camera(self._camera)
        best: Found | None = None
        for entry, next_seq in camera.candidates(at_ns):
            if best is not None and entry.capture_ns + entry.covers_ns <= best[1].capture_ns:
                break  # what it covers is older, and so is everything that further ones cover
            found = self._last_covered(entry, next_seq, at_ns)
            if found is not None and (best is None or found[1].capture_ns > best[1].capture_ns):
                best = found
        if best is not None:
            return best
        unindexed_end = camera.entries[0].archive_offset if camera.entries else self.end
        return self._by_halving(at_ns, min(unindexed_end, self.end))

    def last(self) -> Found | None:
        """The packet with the highest number; those that were tried again late may lie after it."""
        for entry in reversed(self._index.camera(self._camera).entries):
            found = self._last_covered(entry, None, _END_OF_TIME_NS)
            if found is not None:
                return found
            if entry.archive_offset <= self.start:
                break
        return self._by_halving(_END_OF_TIME_NS, self.end)

    def gaps(self) -> tuple[GapMessage, ...]:
        """Every gap of the camera that is known, in the order of writing."""
        return tuple(self._index.camera(self._camera).gaps)

    def _last_covered(self, entry: Entry, next_seq: int | None, at_ns: int) -> Found | None:
        """The last packet that an entry covers (all before `next_seq`), captured at or before a time."""
        best: Found | None = None
        seq = entry.seq - 1
        found = self.next_from(max(entry.archive_offset, self.start))
        while found is not None:
            packet = found[1].packet
            if packet.seq > seq:  # else it was tried again, long after its time
                seq = packet.seq
                over = next_seq is not None and packet.seq >= next_seq
                if over or found[1].capture_ns > at_ns:
                    return best
                best = found
            found = self.next_from(found[0] + 1)
        return best

    def _by_halving(self, at_ns: int, end: int) -> Found | None:
        """Likewise among the packets before `end`, whose capture times grow."""
        low, high = self.start, end
        best: Found | None = None
        while low < high:
            middle = (low + high) // 2
            found = self.next_from(middle, high)
            if found is None or found[1].capture_ns > at_ns:
                high = middle
            else:
                best, low = found, found[0] + 1
        return best

    def _capture_ns(self, packet: AnyPacket) -> int:
        """When a packet's frame was captured. Raises BitstreamError where its plate, which tells it, is gone."""
        self._clocks = self._clocks.after(packet)
        if isinstance(packet, StreamPacket) and self._clocks.capture_ns(packet) is None:
            for plate in self._plates.fetch(self._camera, packet.plate_id):
                self._clocks = self._clocks.after(plate)
        found = self._clocks.capture_ns(packet)
        if found is None:
            raise BitstreamError(
                f"camera {self._camera}, seq {packet.seq}: it tells its time by the clock of plate"
                f" {getattr(packet, 'plate_id', 0)}, which is not among the plates; start later in the archive"
            )
        return found

    def _fetch(self, limit: int) -> bool:
        """Read on; False once everything before `limit` was handed out."""
        for _ in range(_SILENT_POLLS):
            if self._reader.positions[self.partition] >= limit:
                return False
            items = self._reader.poll(_CHUNK, timeout_s=_POLL_S)
            if items:
                self._ahead.extend(item for item in items if isinstance(item, Record))
                return True
        raise LogError(
            f"topic {ARCHIVE}, partition {self.partition}: hands out nothing before offset {limit}; "
            "check the broker, then try again"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self._index.close()
        self._plates.close()
