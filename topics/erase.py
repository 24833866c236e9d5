"""Erasing what was recorded of a camera, as far as the log can: a right of people that logs are not made for.

The embedded log empties single records in its file: packets, frames, plates and dead records of the camera and the
span; the places stay, so that offsets go on without holes. Brokers cannot: there a gap marks the span as erased, which
the gateway shows to nobody, plates are given tombstones, and the rest goes with retention.

A plate that was made in the span is erased with it. Later frames that were coded on it then lack it, until the camera's
next plate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import msgspec

from discover_stream.codec.any_packet import parse_any
from discover_stream.types import BitstreamError
from topics.archive import Archived, ArchiveOf
from topics.catalogue import ARCHIVE, DEAD, FRAMES, INDEX, PLATES, TASK_PREFIX
from topics.checks import stage_group, transactional_id
from topics.log import Log, Record
from topics.messages import DeadMessage, FrameMessage, GapMessage, PlateMessage, decode, encode
from topics.reading import read_all

Values = Mapping[int, bytes | None]
"""Offset -> what stands there from now on; None for nothing."""


@runtime_checkable
class Erasable(Protocol):
    """A log that can change what stands at a place, for good."""

    def rewrite(self, topic: str, partition: int, values: Values) -> int:
        """Put other values in places of a partition; the bytes by which it became smaller. Raises LogError."""

    def scrub(self) -> None:
        """Take what was rewritten off the disk too. Raises LogError."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What erasing came to: records emptied, plates among them, bytes; `hidden_only` where the log cannot."""

    records: int
    plates: int
    bytes: int
    hidden_only: bool
    note: str


def erase_camera(log: Log, camera: str, from_ns: int, to_ns: int, reason: str) -> Erasure:
    """Erase everything of a camera that was captured from `from_ns` on and before `to_ns`.

    What waits to be encoded or routed is not touched, and the note says so. Raises LogError, and InputError for a log
    without an archive.
    """
    with ArchiveOf(log, camera) as archive:
        partition = archive.partition
        found = {item.offset: (item.packet.incarnation, item.packet.seq) for item in _packets(archive, from_ns, to_ns)}
    seqs = frozenset(found.values())
    doomed: dict[str, dict[int, bytes | None]] = defaultdict(dict)
    doomed[ARCHIVE] = dict.fromkeys(_before(log, found, "route", ARCHIVE, partition))
    plates = _plates(log, camera, partition, from_ns, to_ns)
    names = {spec.name for spec in log.topics()}
    for name in sorted(names):
        if name.startswith(TASK_PREFIX):
            doomed[name] = dict.fromkeys(_routed(log, name, camera, partition, seqs))
    frames = [offset for offset, message in _frames(log, camera, partition) if from_ns <= message.capture_ns < to_ns]
    doomed[FRAMES] = dict.fromkeys(_before(log, frames, "encode", FRAMES, partition))
    doomed[PLATES] = dict.fromkeys(plates)
    doomed[DEAD] = _dead(log, camera, partition, from_ns, to_ns)
    waiting = len(found) - len(doomed[ARCHIVE]) + len(frames) - len(doomed[FRAMES])
    gap = GapMessage(
        camera=camera,
        from_ns=from_ns,
        to_ns=to_ns,
        reason=reason[:1000],
        next_seq=max((seq for _, seq in seqs), default=-1) + 1,
        frames=len(found),
    )
    log.append(INDEX, camera, encode(gap), partition=partition)
    later = f"{waiting} records of the span are still being processed; erase it again in a moment" if waiting else ""
    if not isinstance(log, Erasable):
        for key in plates.values():
            log.append(PLATES, key, None, partition=partition)
        note = "a broker cannot remove single records: the gateway shows them to nobody, retention takes them in time"
        return Erasure(0, len(plates), 0, True, "; ".join(filter(None, (note, later))))
    size = sum(log.rewrite(topic, partition, values) for topic, values in doomed.items() if values)
    log.scrub()
    return Erasure(sum(map(len, doomed.values())), len(plates), size, False, later)


def _packets(archive: ArchiveOf, from_ns: int, to_ns: int) -> Iterator[Archived]:
    """Every packet of the camera with such a capture time, wherever it lies: clocks may have jumped."""
    offset = archive.start
    while True:
        try:
            found = archive.next_from(offset)
        except BitstreamError:  # one whose time nobody can tell: its plate is gone
            offset += 1
            if offset >= archive.end:
                return
            continue
        if found is None:
            return
        offset = found[0] + 1
        if from_ns <= found[1].capture_ns < to_ns:
            yield found[1]


def _before(log: Log, offsets: Mapping[int, object] | list[int], stage: str, topic: str, partition: int) -> list[int]:
    """Those that the stage which reads them has done."""
    done = log.committed(stage_group(transactional_id(stage, partition)), topic, partition)
    return [offset for offset in offsets if done is None or offset < done]


def _records(log: Log, topic: str, camera: str, partition: int) -> Iterator[tuple[Record, bytes]]:
    for record in read_all(log, topic, [partition]):
        if record.key == camera and record.value is not None:
            yield record, record.value


def _routed(log: Log, topic: str, camera: str, partition: int, seqs: frozenset[tuple[int, int]]) -> Iterator[int]:
    for record, value in _records(log, topic, camera, partition):
        try:
            packet = parse_any(value, camera=camera)
        except BitstreamError:
            continue
        if (packet.incarnation, packet.seq) in seqs:
            yield record.offset


def _frames(log: Log, camera: str, partition: int) -> Iterator[tuple[int, FrameMessage]]:
    for record, value in _records(log, FRAMES, camera, partition):
        message = _decoded(value)
        if isinstance(message, FrameMessage):
            yield record.offset, message


def _plates(log: Log, camera: str, partition: int, from_ns: int, to_ns: int) -> dict[int, str]:
    """Offset -> key of the plates that were made in the span."""
    found: dict[int, str] = {}
    for record in read_all(log, PLATES, [partition]):
        message = None if record.value is None else _decoded(record.value)
        if isinstance(message, PlateMessage) and message.camera == camera and from_ns <= message.capture_ns < to_ns:
            found[record.offset] = record.key or ""
    return found


def _dead(log: Log, camera: str, partition: int, from_ns: int, to_ns: int) -> dict[int, bytes | None]:
    """Dead frames of the span, without what was in them."""
    found: dict[int, bytes | None] = {}
    for record in read_all(log, DEAD, [partition]):
        message = None if record.value is None else _decoded(record.value)
        if isinstance(message, DeadMessage) and message.key == camera and message.value is not None:
            inner = _decoded(message.value)
            if not isinstance(inner, FrameMessage) or from_ns <= inner.capture_ns < to_ns:
                found[record.offset] = encode(msgspec.structs.replace(message, value=None))
    return found


def _decoded(value: bytes) -> object:
    try:
        return decode(value)
    except BitstreamError:
        return None
