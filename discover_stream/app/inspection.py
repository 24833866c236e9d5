"""`discover inspect`: where the bytes of a file go, for each task and in all.

A task's bytes are those of the file that `extract` would write for it, made by the same code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from discover_stream.app.extract import ALL
from discover_stream.app.inspection_stream import (
    StreamPart,
    atom_count,
    packet_quality,
    stated_regions,
    stream_tables,
)
from discover_stream.app.outputs import counted
from discover_stream.codec.any_packet import AnyPacket, PlateClocks, any_packet_size, is_plates_alone, route_any
from discover_stream.codec.container import DsvFramer, DsvReader, StreamInfo, StreamSize
from discover_stream.types import BitstreamError


@dataclass(frozen=True, slots=True)
class Share:
    """What a task, or all of them, has in a file: bytes by part, how many regions packets state, how many atoms
    they hold, and what of it is in stream mode."""

    size: StreamSize
    regions: int = 0
    atoms: int = 0
    stream: StreamPart = field(default_factory=StreamPart)

    def plus(self, size: StreamSize, packet: AnyPacket) -> Share:
        """With one more packet, after which it has this size."""
        regions, atoms = self.regions + stated_regions(packet), self.atoms + atom_count(packet)
        return Share(size, regions, atoms, self.stream.plus(packet))


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One packet: `bytes` of its record, and per task those of the record that `extract` would write.

    `capture_ns` is None where a plate's clock tells the time that is not in the file, `quality` in stream mode,
    where every atom has its own.
    """

    seq: int
    capture_ns: int | None
    quality: int | None
    bytes: int
    tasks: dict[str, int]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """A file. `shares` maps task names, and last `all`, to what they have in it; `frames` leaves out plates that
    come alone."""

    path: Path
    info: StreamInfo
    shares: dict[str, Share]
    frames: tuple[FrameReport, ...]

    @property
    def duration_s(self) -> float | None:
        """Seconds, by capture times, the last frame as long as the others on average; None below two frames."""
        count = len(self.frames)
        if count < 2:
            return None
        first_ns, last_ns = self.frames[0].capture_ns, self.frames[-1].capture_ns
        span = 0 if first_ns is None or last_ns is None else last_ns - first_ns
        return span / 1e9 * count / (count - 1) if span > 0 else count / float(self.info.fps)

    def kbps(self, share: Share) -> float | None:
        """Thousands of bits a second; None for a single picture."""
        return None if self.duration_s is None else share.size.total * 8 / 1000 / self.duration_s

    def bpp(self, share: Share) -> float | None:
        """Bits per pixel of all frames; None where there are none."""
        pixels = self.info.width * self.info.height * len(self.frames)
        return share.size.total * 8 / pixels if pixels else None

    @property
    def has_stream(self) -> bool:
        """Whether some packet is of stream mode."""
        return self.shares[ALL].stream.records.packets > 0

    @property
    def quality(self) -> int | None:
        """The quality of all frames; None where they differ or are in stream mode."""
        found = {frame.quality for frame in self.frames}
        return found.pop() if len(found) == 1 else None


class _Meter:
    """Counts what one substream would have in a file of its own."""

    def __init__(self, info: StreamInfo) -> None:
        self._framer = DsvFramer(info)
        self._framer.header()
        self._keys = set(info.keys.values())
        self._share = Share(self._framer.size)

    def add(self, packet: AnyPacket) -> int:
        """Bytes of the record of one more packet, routed to the substream."""
        routed = route_any(packet, self._keys)
        size = len(self._framer.record(routed))
        self._share = self._share.plus(self._framer.size, routed)
        return size

    def share(self) -> Share:
        """The whole substream."""
        self._framer.end()
        return dataclasses.replace(self._share, size=self._framer.size)


def inspect_stream(path: Path) -> StreamReport:
    """Read a file from begin to end and account for every byte.

    Raises:
        InputError: the file cannot be read.
        BitstreamError: it is damaged.
    """
    with DsvReader(path) as reader:
        info = reader.info
        meters = {task.name: _Meter(info.only((task.name,))) for task in info.tasks}
        whole, clocks = Share(StreamSize().plus(reader.header_size)), PlateClocks()
        frames: list[FrameReport] = []
        try:
            for record in reader:
                packet = record.packet
                clocks = clocks.after(packet)
                costs = {name: meter.add(packet) for name, meter in meters.items()}
                size = record.framing + len(record.data)
                if not is_plates_alone(packet):
                    time, quality = clocks.capture_ns(packet), packet_quality(packet)
                    frames.append(FrameReport(packet.seq, time, quality, size, costs))
                whole = whole.plus(whole.size.plus(record.framing, any_packet_size(packet)), packet)
        except BitstreamError as error:
            if not frames:
                raise
            raise BitstreamError(f"{error}; `discover extract --task all` saves the frames before it") from None
        whole = dataclasses.replace(whole, size=whole.size.plus(reader.size - whole.size.total))  # the end record
        shares = {name: meter.share() for name, meter in meters.items()}
        return StreamReport(path, info, shares | {ALL: whole}, tuple(frames))


def report_json(report: StreamReport, *, per_frame: bool = False) -> dict[str, Any]:
    """The report as JSON types; `tasks` holds every task and `all`."""
    info = report.info
    result: dict[str, Any] = {
        "file": str(report.path),
        "camera": info.camera,
        "model": info.model.hex(),
        "width": info.width,
        "height": info.height,
        "fps": float(info.fps),
        "frames": len(report.frames),
        "duration_s": report.duration_s,
        "quality": report.quality,
        "tasks": {
            name: {
                "bytes": share.size.total,
                "kbps": report.kbps(share),
                "bpp": report.bpp(share),
                "parts": dataclasses.asdict(share.size),
                "regions": share.regions,
                "atoms": share.atoms,
                "stream": share.stream.json() if report.has_stream else None,
            }
            for name, share in report.shares.items()
        },
    }
    if per_frame:
        result["per_frame"] = [dataclasses.asdict(frame) for frame in report.frames]
    return result


def report_tables(report: StreamReport, *, per_frame: bool = False) -> list[Table]:
    """The report for people."""
    info = report.info
    length = "" if report.duration_s is None else f", {report.duration_s:.2f} s"
    quality = f"quality {'mixed' if report.quality is None else report.quality}"
    if report.has_stream:
        count = report.shares[ALL].stream.records.packets
        quality = "stream mode" if count >= len(report.frames) else f"{counted(count, 'packet')} in stream mode"
    title = (
        f"{report.path}: {info.camera}, {info.width}x{info.height}, {float(info.fps):g} fps,"
        f" {counted(len(report.frames), 'frame')}{length}, {quality}"
    )
    # Text, not str: names may hold brackets, which rich would take for markup.
    table = Table("task", title=Text(title), title_justify="left")
    for head in ("bytes", "share", "kbit/s", "bpp", "regions", "atoms"):
        table.add_column(head, justify="right")
    everything = report.shares[ALL].size.total
    for name, share in report.shares.items():
        table.add_row(
            Text(name),
            f"{share.size.total:,}",
            f"{share.size.total / everything:.1%}",
            _shown(report.kbps(share), 1),
            _shown(report.bpp(share), 4),
            f"{share.regions:,}",
            f"{share.atoms:,}",
        )
    tables = [table, _part_table(report)]
    if report.has_stream:
        tables += stream_tables({name: share.stream for name, share in report.shares.items()})
    return [*tables, _frame_table(report)] if per_frame else tables


def _part_table(report: StreamReport) -> Table:
    # Apart from the totals, so that both fit a terminal of 80 columns.
    table = Table("task", title="bytes by part", title_justify="left")
    # Only still mode has coarse atoms, only stream mode has plates, and a terminal has 80 columns.
    whole = report.shares[ALL].size
    parts = [part.name for part in dataclasses.fields(StreamSize) if getattr(whole, part.name)]
    for part in parts:
        table.add_column(part.replace("_", " "), justify="right")
    for name, share in report.shares.items():
        table.add_row(Text(name), *(f"{getattr(share.size, part):,}" for part in parts))
    return table


def _frame_table(report: StreamReport) -> Table:
    table = Table("seq", "capture time, s", "quality", title="bytes by frame", title_justify="left")
    names = [name for name in report.shares if name != ALL]
    for name in [*names, ALL]:
        table.add_column(Text(name), justify="right")
    for frame in report.frames:
        costs = [f"{frame.tasks[name]:,}" for name in names]
        time = "–" if frame.capture_ns is None else f"{frame.capture_ns / 1e9:.3f}"
        quality = "–" if frame.quality is None else str(frame.quality)
        table.add_row(str(frame.seq), time, quality, *costs, f"{frame.bytes:,}")
    return table


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
