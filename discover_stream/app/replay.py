"""`discover replay`: a part of a camera's archive, decoded to a film or pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from actors.route import was_without_pixels
from actors.stream_jobs import Item, JobPlanner
from discover_stream.app.decode import write_frame
from discover_stream.app.decode_report import DecodeReport
from discover_stream.app.decoders import decoding, session_of
from discover_stream.app.moments import iso, parse_moment
from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config import Config, load_config
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import (
    Archived,
    GapMessage,
    Span,
    archive_gaps,
    archive_span,
    label_sets,
    open_existing,
    read_archive,
)
from discover_stream.types import InputError, Profile
from topics.archive import archive_lead_in
from topics.log import Log
from topics.plates import PlateShelf

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame

_SAMPLE = 100
_FALLBACK_FPS = 10.0


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What the command line asks for; times as they were written."""

    camera: str
    output: str
    start: str
    end: str | None
    task: str
    profile: Profile
    steps: int | None
    generate: bool
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """Capture times of the first and last frame, what else there is to say, and what the frames are made of."""

    first: str
    last: str
    note: str | None
    report: DecodeReport


def replay_archive(
    path: Path | None, order: ReplayOrder, tell: Callable[[DecodedFrame], None] = lambda frame: None
) -> Replayed:
    """Decode the packets of a camera between two capture times, from the frame that shows the first one on.

    `tell` gets every frame once it is written. The film runs at the median rate of the frames, whatever lies between
    them. Raises InputError for an unknown camera or task, a span without frames, or an output that cannot be written.
    """
    config = load_config(path)
    with open_existing(config.log.url) as log:
        span = archive_span(log, order.camera)
        from_ns = parse_moment(order.start, span.first_ns)
        to_ns = span.last_ns + 1 if order.end is None else parse_moment(order.end, span.first_ns)
        keys = task_keys(log, order.task)
        # The first picture is the one that shows the instant; but an instant after the last one shows nothing.
        found = read_archive(log, order.camera, from_ns, to_ns) if from_ns <= span.last_ns else iter(())
        head = list(itertools.islice(found, _SAMPLE))
        if not head:
            raise InputError(
                f"camera {order.camera}: no frames from {iso(from_ns)} to {iso(to_ns)}; the archive holds {_told(span)}"
            )
        with closing(PlateShelf(log)) as plates:
            done = _write(config, order, keys, Stretch(log, plates, head, found), tell)
        return with_gaps(done, archive_gaps(log, order.camera, from_ns, to_ns))


def with_gaps(done: Replayed, gaps: Sequence[GapMessage]) -> Replayed:
    """The same, and a word about what is known to be missing in the span."""
    if not gaps:
        return done
    first, count = gaps[0], len(gaps)
    told = f"from {iso(first.from_ns)} to {iso(first.to_ns)} frames are missing: {first.reason}"
    more = f", and {count - 1} more gaps" if count > 1 else ""
    return replace(done, note="; ".join(filter(None, (done.note, told + more))))


@dataclass(frozen=True)
class Stretch:
    """The packets to replay: the first ones, and those that follow; and where what they refer to is."""

    log: Log
    plates: PlateShelf
    head: Sequence[Archived]
    rest: Iterator[Archived]

    def lead(self, first: Item) -> Sequence[StreamPacket]:
        """The packets before the first one that is replayed, which it refers to."""
        return archive_lead_in(self.log, Archived(first.camera, b"", first.packet, first.capture_ns, first.offset))


def _write(
    config: Config,
    order: ReplayOrder,
    keys: frozenset[int] | None,
    stretch: Stretch,
    tell: Callable[[DecodedFrame], None],
) -> Replayed:
    from discover_stream.video.sink import open_sink

    ungrounded: list[int] = []
    bare: list[int] = []

    def grounded() -> Iterator[Item]:
        for item in itertools.chain(stretch.head, stretch.rest):
            if keys is not None and keys.isdisjoint(item.packet.tasks):
                ungrounded.append(item.capture_ns)
                continue
            shown = not lacks_pixels(item.packet, keys)
            if not shown:
                bare.append(item.capture_ns)
            yield Item(item.camera, item.packet, item.capture_ns, shown, item.offset)

    times: list[int] = []
    report = DecodeReport(config.decoding.warn_at)
    options = DecodeOptions.of(config.decoding, order.profile, order.steps, generate=order.generate)
    planner = JobPlanner(stretch.plates.fetch, stretch.lead, tasks=keys, session=session_of(config), first=1)
    with (
        decoding(config) as decode,
        open_sink(order.output, fps=frame_rate([item.capture_ns for item in stretch.head])) as sink,
    ):
        for frame in decode(planner.jobs(grounded()), options):
            write_frame(sink, frame, order.provenance)
            times.append(frame.capture_ns)
            report.add(frame)
            tell(frame)
        if not times and bare:
            raise InputError(
                f"camera {order.camera}: until {iso(bare[-1])} task {order.task} was delivered as regions only, and no "
                "pixels were kept for it; choose another span or task"
            )
        if not times:
            raise InputError(
                f"camera {order.camera}: task {order.task} was not grounded before {iso(ungrounded[-1])}; "
                "choose a later span, or --task all"
            )
    reasons = ((ungrounded, "was not grounded then"), (bare, "was delivered as regions only then"))
    notes = [f"{len(left)} frames are left out, task {order.task} {why}" for left, why in reasons if left]
    if planner.not_whole:
        first, count = planner.not_whole[0][1], len(planner.not_whole)
        notes.append(f"{count} frames from {iso(first)} on are not whole: the archive has not all that they refer to")
    return Replayed(iso(times[0]), iso(times[-1]), "; ".join(notes) or None, report)


def lacks_pixels(packet: AnyPacket, keys: frozenset[int] | None) -> bool:
    """Whether all the tasks that are asked for were delivered as regions alone when a packet was encoded."""
    mine = [key for key in packet.tasks if keys is None or key in keys]
    return bool(mine) and all(was_without_pixels(packet, key) for key in mine)


def _told(span: Span) -> str:
    seconds = (span.last_ns - span.first_ns) / 1e9
    return f"{iso(span.first_ns)} to {iso(span.last_ns)} (+0s to +{seconds:g}s)"


def task_keys(log: Log, task: str) -> frozenset[int] | None:
    """The keys of all versions of a task; None for ``all``. Raises InputError for an unknown one."""
    if task == "all":
        return None
    known = label_sets(log)
    keys = frozenset(key for key, labels in known.items() if labels.task == task)
    if not keys:
        names = ", ".join(sorted({labels.task for labels in known.values()})) or "none yet"
        raise InputError(f"task {task!r} is not in this log; it has: {names} (or all)")
    return keys


def frame_rate(times_ns: Sequence[int]) -> float:
    """Frames a second of a film whose frames were captured at these times: from the median distance."""
    apart = [later - earlier for earlier, later in itertools.pairwise(times_ns)]
    return min(240.0, max(0.1, 1e9 / median(apart))) if apart else _FALLBACK_FPS
