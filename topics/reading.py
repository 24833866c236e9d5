"""Reading all there is, on logs that hand records out at once and on those that fetch them in the background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from topics.log import Log, LogError, Reader, Record

_POLL_S = 1.0
_SILENT_POLLS = 30


def read_to_end(log: Log, topic: str, reader: Reader) -> Iterator[Record]:
    """The records of `topic` from the reader's positions up to the end as it is now, without gaps' markers.

    Raises LogError where the log holds more but hands nothing out for half a minute.
    """
    ends = {partition: log.bounds(topic, partition).end for partition in reader.positions}
    silent = 0
    while behind := [p for p, end in ends.items() if reader.positions[p] < end]:
        items = reader.poll(timeout_s=_POLL_S)
        silent = 0 if items else silent + 1
        if silent == _SILENT_POLLS and any(reader.positions[p] < ends[p] for p in behind):
            partition, offset = behind[0], reader.positions[behind[0]]
            raise LogError(
                f"topic {topic}, partition {partition}: hands out nothing from offset {offset} on, "
                f"though it ends at {ends[partition]}; check the broker, then start again"
            )
        yield from (item for item in items if isinstance(item, Record))


def read_all(log: Log, topic: str, partitions: Sequence[int] | None = None) -> Iterator[Record]:
    """Every record of a topic, or of some of its partitions, up to the end as it is now."""
    reader = log.reader(topic, partitions)
    try:
        yield from read_to_end(log, topic, reader)
    finally:
        reader.close()


def record_at(log: Log, topic: str, partition: int, offset: int) -> Record | None:
    """The record at an offset, None where there is none (any more)."""
    held = log.bounds(topic, partition)
    if not held.start <= offset < held.end:
        return None
    reader = log.reader(topic, [partition])
    try:
        reader.seek(partition, offset)
        for _ in range(_SILENT_POLLS):
            items = reader.poll(1, timeout_s=_POLL_S)
            found = next((item for item in items if isinstance(item, Record)), None)
            if found is not None:
                return found if found.offset == offset else None
            if items or reader.positions[partition] >= held.end:
                return None
        return None
    finally:
        reader.close()
