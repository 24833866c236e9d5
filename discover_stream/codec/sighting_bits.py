"""The bits of regions of one frame only, which no later frame refers to. docs/bitstream.md says the same in words."""

from __future__ import annotations

from collections.abc import Sequence

from discover_stream.codec.bits import BitReader, BitWriter
from discover_stream.codec.framing import MAX_SIDE, MAX_TRACK, SCORE_BITS, TRACK_ORDER
from discover_stream.codec.record_bits import Shape, put_labels, take_labels
from discover_stream.codec.records import Sighting
from discover_stream.types import BitstreamError, Box


def put_sightings(writer: BitWriter, sightings: Sequence[Sighting], shape: Shape) -> None:
    """Append all regions of this frame only."""
    writer.put_gamma(len(sightings) + 1)
    before: Sighting | None = None
    for sighting in sightings:
        x0, y0 = int(sighting.box.x0), int(sighting.box.y0)
        writer.put_golomb(x0, 8)
        writer.put_golomb(y0, 8)
        writer.put_golomb(int(sighting.box.x1) - x0 - 1, 5)
        writer.put_golomb(int(sighting.box.y1) - y0 - 1, 5)
        writer.put(sighting.score, SCORE_BITS)
        writer.put_signed(sighting.track - (before.track if before else 0), TRACK_ORDER)
        same = before is not None and before.labels == sighting.labels
        if before is not None:
            writer.put(int(same), 1)
        if not same:
            put_labels(writer, sighting.labels, shape.tasks)
        before = sighting


def take_sightings(reader: BitReader, most: int, shape: Shape) -> tuple[Sighting, ...]:
    """The next regions of this frame only."""
    sightings: list[Sighting] = []
    for _ in range(reader.take_gamma(most + 1) - 1):
        x0, y0 = reader.take_golomb(8, MAX_SIDE - 1), reader.take_golomb(8, MAX_SIDE - 1)
        x1 = x0 + 1 + reader.take_golomb(5, MAX_SIDE - 1)
        y1 = y0 + 1 + reader.take_golomb(5, MAX_SIDE - 1)
        score = reader.take(SCORE_BITS)
        before = sightings[-1] if sightings else None
        track = (before.track if before else 0) + reader.take_signed(TRACK_ORDER, MAX_TRACK)
        if before is not None and reader.take(1):
            labels = before.labels
        else:
            labels = take_labels(reader, shape.tasks)
            if before is not None and labels == before.labels:
                raise BitstreamError("a region writes out the labels of the one before")
        sightings.append(Sighting(Box(x0, y0, x1, y1), score, track, labels))
    return tuple(sightings)
