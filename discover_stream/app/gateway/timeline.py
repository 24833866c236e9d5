"""Which objects there are when in a replay: read from packets, without a picture."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, suppress
from itertools import islice

from discover_stream.app.gateway.catalog import erased_at, erased_spans, gaps_between
from discover_stream.app.gateway.making import Wanted, seen_region
from discover_stream.app.gateway.models_replays import Bucket, Timeline
from discover_stream.app.gateway.shots import Film
from discover_stream.codec.any_packet import AnyPacket, route_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.packet import Packet
from discover_stream.decoding import packet_regions
from discover_stream.sdk import Archived, read_archive
from discover_stream.types import BitstreamError, LabelSet, Region
from topics.archive import archive_lead_in
from topics.log import Log
from topics.plates import PlateShelf

_BUCKETS = 240
_MOST_PACKETS = 20_000


def timeline(log: Log, wanted: Wanted, film: Film, labels: dict[int, LabelSet]) -> Timeline:
    """Objects of each label at most at once, in each part of a film's span. Raises LogError, BitstreamError."""
    end_ns = film.end_ns if film.end_ns is not None else 2**63 - 1
    step_ns = max(10**9, -(-(end_ns - film.begin_ns) // _BUCKETS)) if film.end_ns is not None else 10**9
    erased = erased_spans(gaps_between(log, wanted.camera, 0, end_ns))
    found: dict[int, Counter[str]] = {}
    count = 0
    with closing(PlateShelf(log)) as shelf:
        reader = CameraReader(wanted.camera, lambda number: shelf.fetch(wanted.camera, number))
        for item in islice(read_archive(log, wanted.camera, film.begin_ns, end_ns), _MOST_PACKETS):
            count += 1
            if wanted.keys is not None and wanted.keys.isdisjoint(item.packet.tasks):
                continue
            there = _regions(log, reader, item, wanted.keys)  # also of erased ones: later packets refer to them
            if erased_at(erased, item.capture_ns):
                continue
            seen = Counter(
                seen_region(labels, key, region).label for key, regions in there.items() for region in regions
            )
            bucket = found.setdefault(max(0, item.capture_ns - film.begin_ns) // step_ns, Counter())
            for label, number in seen.items():
                bucket[label] = max(bucket[label], number)
    return Timeline(
        step_s=step_ns / 1e9,
        buckets=[Bucket(t=bucket * step_ns / 1e9, counts=dict(counts)) for bucket, counts in sorted(found.items())],
        truncated=count == _MOST_PACKETS,
    )


def _regions(
    log: Log, reader: CameraReader, item: Archived, keys: frozenset[int] | None
) -> dict[int, tuple[Region, ...]]:
    if isinstance(item.packet, Packet):
        return {key: found for key, found in packet_regions(item.packet).items() if keys is None or key in keys}
    if not reader.begun:
        for earlier in archive_lead_in(log, item):
            with suppress(BitstreamError):  # as if it was lost
                reader.read(_of(earlier, keys))
    state = reader.read(_of(item.packet, keys)).state
    return {key: task.regions() for key, task in state.tasks.items() if keys is None or key in keys}


def _of(packet: AnyPacket, keys: frozenset[int] | None) -> AnyPacket:
    return packet if keys is None else route_any(packet, keys)
