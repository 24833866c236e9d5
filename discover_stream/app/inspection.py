"""`discover inspect`: where the bytes of a file go, for each task and in all.

A task's bytes are those of the file that `extract` would write for it, made by the same code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from discover_stream.app.extract import ALL
from discover_stream.app.outputs import counted
from discover_stream.codec.container import DsvFramer, DsvReader, StreamInfo, StreamSize
from discover_stream.codec.packet import Packet, packet_size, route
from discover_stream.types import BitstreamError


@dataclass(frozen=True, slots=True)
class Share:
    """What a task, or all of them, has in a file: bytes by part, and how many regions and atoms."""

    size: StreamSize
    regions: int
    atoms: int


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame: `bytes` of its record, and per task those of the record that `extract` would write."""

    seq: int
    capture_ns: int
    quality: int
    bytes: int
    tasks: dict[str, int]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """A file. `shares` maps task names, and last `all`, to what they have in it."""

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
        span = self.frames[-1].capture_ns - self.frames[0].capture_ns
        return span / 1e9 * count / (count - 1) if span > 0 else count / float(self.info.fps)

    def kbps(self, share: Share) -> float | None:
        """Thousands of bits a second; None for a single picture."""
        return None if self.duration_s is None else share.size.total * 8 / 1000 / self.duration_s

    def bpp(self, share: Share) -> float | None:
        """Bits per pixel of all frames; None where there are none."""
        pixels = self.info.width * self.info.height * len(self.frames)
        return share.size.total * 8 / pixels if pixels else None

    @property
    def quality(self) -> int | None:
        """The quality of all frames; None where they differ."""
        found = {frame.quality for frame in self.frames}
        return found.pop() if len(found) == 1 else None


class _Meter:
    """Counts what one substream would have in a file of its own."""

    def __init__(self, info: StreamInfo) -> None:
        self._framer = DsvFramer(info)
        self._framer.header()
        self._keys = set(info.keys.values())
        self._regions = self._atoms = 0

    def add(self, packet: Packet) -> int:
        """Bytes of the record of one more packet, routed to the substream."""
        routed = route(packet, self._keys)
        self._regions += len(routed.regions)
        self._atoms += len(routed.atoms)
        return len(self._framer.record(routed))

    def share(self) -> Share:
        """The whole substream."""
        self._framer.end()
        return Share(self._framer.size, self._regions, self._atoms)


def inspect_stream(path: Path) -> StreamReport:
    """Read a file from begin to end and account for every byte.

    Raises:
        InputError: the file cannot be read.
        BitstreamError: it is damaged.
    """
    with DsvReader(path) as reader:
        info = reader.info
        meters = {task.name: _Meter(info.only((task.name,))) for task in info.tasks}
        whole, regions, atoms = StreamSize().plus(reader.header_size), 0, 0
        frames = []
        try:
            for record in reader:
                packet = record.packet
                costs = {name: meter.add(packet) for name, meter in meters.items()}
                size = record.framing + len(record.data)
                frames.append(FrameReport(packet.seq, packet.capture_ns, packet.quality, size, costs))
                whole = whole.plus(record.framing, packet_size(packet))
                regions, atoms = regions + len(packet.regions), atoms + len(packet.atoms)
        except BitstreamError as error:
            if not frames:
                raise
            raise BitstreamError(f"{error}; `discover extract --task all` saves the frames before it") from None
        whole = whole.plus(reader.size - whole.total)  # the end record
        shares = {name: meter.share() for name, meter in meters.items()}
        return StreamReport(path, info, shares | {ALL: Share(whole, regions, atoms)}, tuple(frames))


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
    quality = "mixed" if report.quality is None else str(report.quality)
    title = (
        f"{report.path}: {info.camera}, {info.width}x{info.height}, {float(info.fps):g} fps,"
        f" {counted(len(report.frames), 'frame')}{length}, quality {quality}"
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
    return [*tables, _frame_table(report)] if per_frame else tables


def _part_table(report: StreamReport) -> Table:
    # Apart from the totals, so that both fit a terminal of 80 columns.
    table = Table("task", title="bytes by part", title_justify="left")
    parts = [part.name for part in dataclasses.fields(StreamSize)]
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
        time = f"{frame.capture_ns / 1e9:.3f}"
        table.add_row(str(frame.seq), time, str(frame.quality), *costs, f"{frame.bytes:,}")
    return table


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
