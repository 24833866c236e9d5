"""What `discover inspect` tells of stream mode: how many records of each kind, and the bits of each part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.stream_coding import StreamSizes, packet_sizes
from discover_stream.codec.stream_packet import StreamPacket

_NO_BITS = StreamSizes(*(0 for _ in dataclasses.fields(StreamSizes)))


@dataclass(frozen=True, slots=True)
class StreamRecords:
    """How often each kind of record comes.

    Attributes:
        packets: of stream mode.
        quiet: packets that only say that they are there.
        lists: packets that list all tracks.
        plates: with a payload or as a change of their parent.
        bare_plates: of which only clock and size are told.
        keys: tracks that appear or are shown anew.
        key_atoms: keys with pixels of their own.
        refreshes: moves with an atom.
        moves: without an atom.
        ends: of tracks.
        sightings: regions of one frame only.
        gaps: places where frames are lost.
    """

    packets: int = 0
    quiet: int = 0
    lists: int = 0
    plates: int = 0
    bare_plates: int = 0
    keys: int = 0
    key_atoms: int = 0
    refreshes: int = 0
    moves: int = 0
    ends: int = 0
    sightings: int = 0
    gaps: int = 0

    @classmethod
    def of(cls, packet: StreamPacket) -> StreamRecords:
        """Those of one packet."""
        bare = sum(plate.is_bare for plate in packet.plates)
        refreshes = sum(move.atom is not None for move in packet.moves)
        return cls(
            packets=1,
            quiet=int(packet.quiet),
            lists=int(packet.base is None and bool(packet.tasks)),
            plates=len(packet.plates) - bare,
            bare_plates=bare,
            keys=len(packet.keys),
            key_atoms=sum(key.atom is not None for key in packet.keys),
            refreshes=refreshes,
            moves=len(packet.moves) - refreshes,
            ends=len(packet.ends),
            sightings=len(packet.sightings),
            gaps=int(packet.gap is not None),
        )


@dataclass(frozen=True, slots=True)
class StreamPart:
    """What of a substream is in stream mode: its records, and the bits of each part of its packets."""

    records: StreamRecords = StreamRecords()
    bits: StreamSizes = _NO_BITS

    def plus(self, packet: AnyPacket) -> StreamPart:
        """With one more packet; one of still mode adds nothing."""
        if not isinstance(packet, StreamPacket):
            return self
        return StreamPart(_sum(self.records, StreamRecords.of(packet)), _sum(self.bits, packet_sizes(packet)))

    def json(self) -> dict[str, dict[str, int]]:
        """As JSON types."""
        return {"records": dataclasses.asdict(self.records), "bits": dataclasses.asdict(self.bits)}


T = TypeVar("T", StreamRecords, StreamSizes)


def _sum(first: T, second: T) -> T:
    return type(first)(*map(sum, zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)))


def stated_regions(packet: AnyPacket) -> int:
    """Regions that a packet states: in stream mode keys, moves, and what is only there in its frame.

    Tracks that glide on without being mentioned are regions as well, but cost nothing.
    """
    if isinstance(packet, StreamPacket):
        return len(packet.keys) + len(packet.moves) + len(packet.sightings)
    return len(packet.regions)


def atom_count(packet: AnyPacket) -> int:
    """Atoms of a packet: of tracks in stream mode; plates are none."""
    return sum(1 for _ in packet.atoms()) if isinstance(packet, StreamPacket) else len(packet.atoms)


def packet_quality(packet: AnyPacket) -> int | None:
    """The quality of a packet of still mode; None in stream mode, where every atom has its own."""
    return None if isinstance(packet, StreamPacket) else packet.quality


def stream_tables(parts: Mapping[str, StreamPart]) -> list[Table]:
    """Records and bytes by part for people: a row for each kind, a column for each task."""
    records = _table("stream mode: records", parts, [part.records for part in parts.values()], 1)
    return [records, _table("stream mode: bytes by part", parts, [part.bits for part in parts.values()], 8)]


def _table(
    title: str, names: Mapping[str, object], columns: list[StreamRecords] | list[StreamSizes], unit: int
) -> Table:
    """Rows that are nothing everywhere are left out."""
    table = Table("", title=title, title_justify="left")
    for name in names:
        table.add_column(Text(name), justify="right")
    for row in dataclasses.fields(columns[0]):
        values = [getattr(column, row.name) / unit for column in columns]
        if any(values):
            digits = 0 if unit == 1 else 1
            table.add_row(row.name.replace("_", " "), *(f"{value:,.{digits}f}" for value in values))
    return table
