"""What the demo measures: bytes, rates and shares of a substream, from the packets that were received."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from discover_stream.codec.any_packet import AnyPacket, any_packet_size
from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.packet import PacketSize

ALL = "all"
"""The name of the archive's packets, which hold the atoms of every task."""


@dataclass(frozen=True, slots=True)
class Received:
    """A packet as it arrived.

    Attributes:
        camera: its name.
        size: of the packet, in bytes.
        packet: what they say.
        capture_ns: when its frame was captured.
        regions: how many there are, with those that an earlier packet told of.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    camera: str
    size: int
    packet: AnyPacket
    capture_ns: int
    regions: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One line of the demo's table.

    Attributes:
        name: the task, or `all`.
        frames: packets received, all cameras.
        size: their bytes by part, added up; `size.total` is every byte of every packet.
        kbps: kbit/s of stream time, summed over the cameras.
        bpp: bits per pixel of the pictures.
        regions: in all packets together.
        decode_ms: wall time of decoding one frame, None where nothing was decoded.
        sent_share: share of the pictures' cells that were sent, 0..1, None where nothing was decoded.
    """

    name: str
    frames: int
    size: PacketSize
    kbps: float
    bpp: float
    regions: int
    decode_ms: float | None = None
    sent_share: float | None = None

    def share_of(self, whole: TaskFigures) -> float:
        """This substream's bytes over those of `whole`, as a fraction."""
        return self.size.total / whole.size.total if whole.size.total else 0.0


def add_sizes(sizes: Iterable[PacketSize]) -> PacketSize:
    """The sum of each part."""
    parts = [dataclasses.astuple(size) for size in sizes]
    return PacketSize(*(sum(column) for column in zip(*parts, strict=True))) if parts else PacketSize(0, 0, 0, 0, 0)


def stream_seconds(packets: Sequence[Received]) -> float:
    """How long the frames of one camera last: their span, and one frame's share more; 0 without packets.

    A single packet says nothing about its duration and counts as one second.
    """
    if len(packets) < 2:
        return float(len(packets))
    times = [packet.capture_ns for packet in packets]
    return (max(times) - min(times)) / 1e9 * len(packets) / (len(packets) - 1)


def task_figures(
    name: str,
    received: Sequence[Received],
    *,
    decode_ms: float | None = None,
    sent_cells: int | None = None,
) -> TaskFigures:
    """The figures of one substream.

    Args:
        name: the task, or `all`.
        received: every packet of it, of all cameras.
        decode_ms: as measured, see `TaskFigures`.
        sent_cells: cells that decoding found to be sent, all frames together.
    """
    sizes = [any_packet_size(item.packet) for item in received]
    cameras: dict[str, list[int]] = {}
    for index, item in enumerate(received):
        cameras.setdefault(item.camera, []).append(index)
    kbps = 0.0
    for members in cameras.values():
        seconds = stream_seconds([received[index] for index in members])
        bits = 8 * sum(received[index].size for index in members)
        kbps += bits / 1000 / seconds if seconds > 0 else 0.0
    pixels = sum(item.width * item.height for item in received)
    cells = sum(_cells(item) for item in received)
    return TaskFigures(
        name=name,
        frames=len(received),
        size=add_sizes(sizes),
        kbps=kbps,
        bpp=8 * sum(item.size for item in received) / pixels if pixels else 0.0,
        regions=sum(item.regions for item in received),
        decode_ms=decode_ms,
        sent_share=sent_cells / cells if sent_cells is not None and cells else None,
    )


def _cells(item: Received) -> int:
    rows, columns = cell_grid(item.width, item.height)
    return rows * columns


def figures_table(figures: Sequence[TaskFigures], title: str) -> Table:
    """The table that the demo prints; the last line is the one that shares are of."""
    caption = "kbit/s of the cameras' time, all cameras, every byte; decode ms: one process, one frame"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for heading in ("frames", "kbit/s", "bpp", "of all", "cells sent", "regions", "decode ms"):
        table.add_column(heading, justify="right")
    for line in figures:
        table.add_row(line.name, *row_texts(line, figures[-1]).values(), end_section=line is figures[-2])
    return table


def row_texts(line: TaskFigures, whole: TaskFigures) -> Mapping[str, str]:
    """A line of the table as it is shown, by column."""
    return {
        "frames": str(line.frames),
        "kbps": f"{line.kbps:.1f}",
        "bpp": f"{line.bpp:.3f}",
        "share": f"{line.share_of(whole):.0%}",
        "cells": "-" if line.sent_share is None else f"{line.sent_share:.0%}",
        "regions": str(line.regions),
        "decode": "-" if line.decode_ms is None else f"{line.decode_ms:.0f}",
    }
