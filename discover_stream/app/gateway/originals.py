"""Frames as the camera sent them, as long as the log keeps them: for comparing, and never for a subscriber."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from discover_stream.types import BitstreamError
from topics.catalogue import FRAMES
from topics.log import Log, Reader, Record
from topics.messages import FrameMessage, decode
from topics.partitioner import partition_for

_NEAR = 64
_FEW = 8
_SILENT_POLLS = 30


def original_frames(log: Log, camera: str, seqs: Collection[int]) -> dict[int, FrameMessage]:
    """The frames of a camera with these numbers, those that are still there. Raises LogError."""
    partitions = next((spec.partitions for spec in log.topics() if spec.name == FRAMES), 0)
    if not seqs or not partitions:
        return {}
    partition = partition_for(camera, partitions)
    held = log.bounds(FRAMES, partition)
    reader = log.reader(FRAMES, [partition])
    try:
        # A camera's frames lie in the order of their numbers: halve the partition until the first is near.
        first, last = min(seqs), max(seqs)
        low, high = held.start, held.end
        while high - low > _NEAR:
            middle = (low + high) // 2
            found = _next_frame(log, reader, partition, middle, camera)
            if found is None or found.seq >= first:
                high = middle
            else:
                low = middle
        kept: dict[int, FrameMessage] = {}
        reader.seek(partition, low)
        for record in _records(log, reader, partition):
            message = _frame(record, camera)
            if message is not None and message.seq in seqs:
                kept[message.seq] = message
            if message is not None and message.seq >= last:
                break
        return kept
    finally:
        reader.close()


def newest_frames(log: Log, camera: str, most: int) -> list[FrameMessage]:
    """The newest frames of a camera, up to `most`, oldest first. Raises LogError."""
    partitions = next((spec.partitions for spec in log.topics() if spec.name == FRAMES), 0)
    if not partitions:
        return []
    partition = partition_for(camera, partitions)
    held = log.bounds(FRAMES, partition)
    reader = log.reader(FRAMES, [partition])
    found: list[FrameMessage] = []
    begin, step = held.end, 2 * most
    try:
        while begin > held.start and len(found) < most:
            begin, step = max(held.start, held.end - step), 2 * step
            reader.seek(partition, begin)
            found = [m for r in _records(log, reader, partition) if (m := _frame(r, camera)) is not None]
    finally:
        reader.close()
    return found[-most:]


def _next_frame(log: Log, reader: Reader, partition: int, offset: int, camera: str) -> FrameMessage | None:
    reader.seek(partition, offset)
    for record in _records(log, reader, partition):
        message = _frame(record, camera)
        if message is not None:
            return message
    return None


def _records(log: Log, reader: Reader, partition: int) -> Iterator[Record]:
    """Up to the end as it is now, a few at a time: frames are large. Ends where the log hands out nothing."""
    end, silent = log.bounds(FRAMES, partition).end, 0
    while reader.positions[partition] < end and silent < _SILENT_POLLS:
        items = reader.poll(_FEW, timeout_s=1.0)
        silent = 0 if items else silent + 1
        yield from (item for item in items if isinstance(item, Record))


def _frame(record: Record, camera: str) -> FrameMessage | None:
    if record.key != camera or record.value is None:
        return None
    try:
        message = decode(record.value)
    except BitstreamError:  # the stages put it aside and say so
        return None
    return message if isinstance(message, FrameMessage) else None
