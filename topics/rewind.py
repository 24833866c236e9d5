"""Where a reader begins in the middle of a camera's packets of stream mode: what came before that they refer to."""

from __future__ import annotations

from collections.abc import Iterator

from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError
from topics.log import Log, LogError, Record

_FIRST_STEP = 256
_POLL_S = 1.0
_SILENT_POLLS = 30


def packets_before(log: Log, record: Record, packet: StreamPacket) -> list[StreamPacket]:
    """The camera's packets before a record from the `oldest_ref` of its packet on, as far as they are still there.

    Damaged records are left out, as if they were lost. It looks back in steps that double: nobody knows how many
    records of other cameras lie between. Raises LogError where the log hands nothing out.

    Args:
        log: that holds the record.
        record: of a task's topic or the archive.
        packet: what it holds.
    """
    start = log.bounds(record.topic, record.partition).start
    step, found = _FIRST_STEP, list[StreamPacket]()
    begin = record.offset
    while begin > start and packet.oldest_ref < packet.seq:
        end, begin = begin, max(start, record.offset - step)
        part = list(_packets(log, record, begin, end))
        found = part + found
        if any(one.seq <= packet.oldest_ref or one.incarnation < packet.incarnation for one in part):
            break
        step *= 2
    # Each once and in order: some may have been tried again after later ones.
    mine = {one.seq: one for one in found if one.incarnation == packet.incarnation}
    return [mine[seq] for seq in sorted(mine) if packet.oldest_ref <= seq < packet.seq]


def _packets(log: Log, record: Record, begin: int, end: int) -> Iterator[StreamPacket]:
    """The camera's packets of stream mode that lie from one offset to another."""
    for earlier in _records(log, record, begin, end):
        if earlier.key == record.key and earlier.value is not None:
            try:
                packet = parse_any(earlier.value, camera=record.key or "?")
            except BitstreamError:
                continue
            if isinstance(packet, StreamPacket):
                yield packet


def _records(log: Log, record: Record, begin: int, end: int) -> Iterator[Record]:
    reader = log.reader(record.topic, [record.partition])
    try:
        reader.seek(record.partition, begin)
        silent = 0
        while reader.positions[record.partition] < end:
            items = reader.poll(timeout_s=_POLL_S)
            silent = 0 if items else silent + 1
            if silent == _SILENT_POLLS:
                raise LogError(
                    f"topic {record.topic}, partition {record.partition}: hands out nothing before offset {end};"
                    " check the broker, then try again"
                )
            for item in items:
                if isinstance(item, Record) and item.offset < end:
                    yield item
    finally:
        reader.close()
