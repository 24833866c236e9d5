"""For programs that use the streams: subscribe to a task, read a camera's archive by time.

    from discover_stream.sdk import Gap, subscribe

    with subscribe("vehicles", log="sqlite:out/discover.db", group="counter") as subscription:
        for item in subscription:
            if isinstance(item, Gap):
                continue                      # retention took packets before they were read
            print(item.camera, item.seq, len(item.regions))
            picture = item.image()            # decoded only when asked for
            subscription.commit()             # everything up to here is done

Delivery is at least once: after a crash, packets since the last commit come again, so that whoever counts
drops repeats by `TaskFrame.identity`. Nothing here needs Ray; torch is imported when a picture is asked for.

*Fixed cameras.* Packets of stream mode say what changed since earlier ones. A subscription reads on its own what
came before its first packet, so joining late shows everything at once; what is missing all the same (a packet or a
plate that the log does not have any more) is told by `TaskFrame.absent`, and mended by later packets.

*Times.* A subscription starts at a time of writing (when the packet reached the log), or, for one camera, at a
capture time (`AtCapture`). The archive is read by capture time, which is the moment the picture shows: for live
cameras both agree within the delay of the system, for files and simulated cameras, and for cameras whose clock
is off, they may be years apart. A time index in the log leads from one to the other; no clocks are compared.
Whoever starts at a capture time gets the frame that shows this instant first: the last one at or before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from discover_stream.codec.any_packet import AnyPacket, parse_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.follow import Reading
from discover_stream.codec.packet import task_key
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import Absence, Lack
from discover_stream.config import datetime_ns
from discover_stream.semantics.tags import condition_text
from discover_stream.types import BitstreamError, Image, InputError, LabelSet, Profile, Region
from topics import open_log
from topics.archive import Archived, Span, archive_gaps, archive_span, read_archive, task_offset
from topics.catalogue import LABELS, TASK_PREFIX, task_topic
from topics.log import AtOffset, AtTime, Gap, Log, Reader, Record, Start, latest_by_key
from topics.messages import GapMessage, LabelSetMessage, decode_as
from topics.partitioner import partition_for
from topics.plates import PlateShelf
from topics.rewind import packets_before

if TYPE_CHECKING:
    from discover_stream.decoding import FrameDecoder

__all__ = [
    "Absence",
    "Archived",
    "AtCapture",
    "Gap",
    "GapMessage",
    "Lack",
    "Span",
    "Subscription",
    "TaskFrame",
    "archive_gaps",
    "archive_span",
    "read_archive",
    "subscribe",
]

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class AtCapture:
    """Start a subscription of one camera with the frame that shows an instant by the camera's clock, ns since
    the epoch: the last one captured at or before it."""

    at_ns: int


class LazyDecoder:
    """The decoder of a subscription: loaded at the first picture."""

    def __init__(self, weights: Path | None = None) -> None:
        self._weights = weights
        self._decoder: FrameDecoder | None = None

    def get(self) -> FrameDecoder:
        """The decoder. Raises InputError for weights that cannot be loaded."""
        if self._decoder is None:
            from discover_stream.decoding import FrameDecoder

            self._decoder = FrameDecoder.load(self._weights)
        return self._decoder


@dataclass(frozen=True)
class TaskFrame:
    """What a task received for one frame of one camera.

    Attributes:
        task: its name.
        camera: the camera's name.
        packet: as it came, with everything it says.
        size: bytes of the packet.
        labels: the task's label set, of the version that the packet was made with; None if it is unknown.
        reading: what the packet says with those before it.
    """

    task: str
    camera: str
    packet: AnyPacket
    size: int
    labels: LabelSet | None
    reading: Reading = field(repr=False, compare=False)
    _decoder: LazyDecoder = field(repr=False, compare=False)
    _reader: CameraReader = field(repr=False, compare=False)

    @property
    def seq(self) -> int:
        """Number of the frame, from 0, once per camera."""
        return self.packet.seq

    @property
    def incarnation(self) -> int:
        """Of the encoder: track ids are unique within all of them, but tracks end with one."""
        return self.packet.incarnation

    @property
    def capture_ns(self) -> int | None:
        """Capture time, ns since the epoch. None only in stream mode, where the plate that tells it is absent."""
        return self.reading.capture_ns

    @property
    def identity(self) -> tuple[str, int, int]:
        """(camera, incarnation, seq): the same for a packet that is delivered twice, and for no other."""
        return self.camera, self.incarnation, self.seq

    @property
    def regions(self) -> tuple[Region, ...]:
        """What the task found, scores 0..1, labels as indices of `labels`.

        Boxes are xyxy in pixels: whole ones in still mode, quarters in stream mode, where they may reach beyond the
        picture. Regions are missing where something is `absent`.
        """
        return self.reading.regions

    @property
    def tags(self) -> tuple[int, ...]:
        """What is in the picture as a whole, as indices of `labels`; empty where the task has no tags."""
        return self.reading.tags

    @property
    def condition(self) -> str:
        """The tags in words, as a decoder's text condition; empty where there are none, or the labels are unknown."""
        return "" if self.labels is None else condition_text(self.tags, self.labels)

    @property
    def regions_only(self) -> bool:
        """Whether nothing of the picture came: the task is, or was at this frame, delivered as regions alone."""
        return self.packet.regions_only

    @property
    def absent(self) -> tuple[Absence, ...]:
        """What the packet refers to and is not there: earlier packets, plates, keys. Empty in still mode.

        The state of a task (`Lack.STATE`) is known again at a packet that lists all tracks.
        """
        return self.reading.absent

    @property
    def needs(self) -> tuple[StreamPacket, ...]:
        """In stream mode, the packets that a decoder elsewhere has to be given before this one: plates, then frames in
        order. Ask for it before the next item is taken."""
        return self._reader.needed.before_newest() if isinstance(self.packet, StreamPacket) else ()

    def label(self, region: Region) -> str:
        """The words for a region; its index where the label set is unknown."""
        if self.labels is None or region.label >= len(self.labels.labels):
            return f"label {region.label}"
        return self.labels.labels[region.label]

    def image(self, *, profile: Profile = "machine", steps: int | None = None, generate: bool = True) -> Image:
        """The decoded picture, (H, W, 3) uint8 RGB; decoded anew at each call.

        In stream mode it is composed from the plate and the tracks' atoms, and profile, steps and generate change
        nothing. What is `absent` is grey. Ask for it before the next item is taken.

        Raises BitstreamError for a packet of another model or that cannot be decoded, InputError for weights that
        cannot be loaded, packets of regions only, and in stream mode pictures that are asked for too late.
        """
        if self.regions_only:
            raise InputError(
                f"task {self.task}, camera {self.camera}, seq {self.seq}: it is delivered as regions only, without a"
                " picture; have it delivered with pixels (`discover task add --pixels`, or in the configuration)"
            )
        if isinstance(self.packet, StreamPacket):
            return self._reader.pictures.picture(self.incarnation, self.seq).image
        decoder = self._decoder.get()
        decoded = decoder.decode(self.packet, camera=self.camera, profile=profile, steps=steps, generate=generate)
        return decoded.image


class Subscription:
    """Packets of a task, in order within each camera: iterate, and commit what is done.

    For one thread. Ends when nothing arrived for `timeout_s`, else never; `Gap` items tell which
    records retention took before they could be read.
    """

    def __init__(self, task: str, log: Log, reader: Reader, camera: str | None, timeout_s: float | None) -> None:
        self.task = task
        self._log, self._reader, self._camera, self._timeout_s = log, reader, camera, timeout_s
        self._owned: Log | None = None
        self._waiting: deque[Record | Gap] = deque()
        self._done: dict[int, int] = {}
        self._labels: dict[int, LabelSet] = {}
        self._cameras: dict[str, CameraReader] = {}
        self._plates = PlateShelf(log)
        self._decoder = LazyDecoder()

    def __iter__(self) -> Iterator[TaskFrame | Gap]:
        return self

    def __next__(self) -> TaskFrame | Gap:
        """The next packet or gap. Raises StopIteration after the time-out, BitstreamError for damaged bytes."""
        while True:
            if not self._waiting:
                self._waiting.extend(self._wait())
            item = self._waiting.popleft()
            if isinstance(item, Gap):
                self._done[item.partition] = item.to_offset
                return item
            self._done[item.partition] = item.offset + 1
            if item.value is not None and (self._camera is None or item.key == self._camera):
                return self._frame(item, item.value)

    def commit(self) -> None:
        """Store that everything handed out so far is done: the group goes on after it.

        Raises LogError for a subscription without a group.
        """
        self._reader.commit(self._done)

    def close(self) -> None:
        """Let go of the log, if `subscribe` opened it."""
        self._reader.close()
        self._plates.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self) -> list[Record | Gap]:
        waited_s = 0.0
        while self._timeout_s is None or waited_s <= self._timeout_s:
            items = self._reader.poll(timeout_s=_POLL_S)
            if items:
                return items
            waited_s += _POLL_S
        raise StopIteration

    def _frame(self, record: Record, data: bytes) -> TaskFrame:
        camera = record.key or "?"
        packet = parse_any(data, camera=camera)
        reader = self._camera_reader(camera)
        if isinstance(packet, StreamPacket) and not reader.begun:
            for earlier in packets_before(self._log, record, packet):
                with suppress(BitstreamError):  # as if it was lost
                    reader.read(earlier)
        reading = reader.read(packet)
        labels = None
        if packet.tasks:
            if packet.tasks[0] not in self._labels:
                self._labels = label_sets(self._log)
            labels = self._labels.get(packet.tasks[0])
        return TaskFrame(self.task, camera, packet, len(data), labels, reading, self._decoder, reader)

    def _camera_reader(self, camera: str) -> CameraReader:
        if camera not in self._cameras:
            self._cameras[camera] = CameraReader(camera, lambda number: self._plates.fetch(camera, number))
        return self._cameras[camera]


def subscribe(
    task: str,
    *,
    log: str | Log,
    group: str | None = None,
    start: Start | AtCapture | datetime = "earliest",
    camera: str | None = None,
    timeout_s: float | None = None,
) -> Subscription:
    """Subscribe to a task's packets.

    Args:
        task: its name.
        log: an address such as ``sqlite:out/discover.db``, or an open log (which stays open).
        group: name under which positions are committed; a group that was here before goes on there, at the
            place where it first began where it has not committed since.
        start: where to begin otherwise; a datetime is a time of writing, `AtCapture` one of the camera's clock.
        camera: only this camera's packets.
        timeout_s: end after nothing has come for this long; None waits for ever.

    Raises InputError for a task that the log does not have and for `AtCapture` without a camera, LogError for a
    log that cannot be opened.
    """
    opened = open_existing(log) if isinstance(log, str) else log
    try:
        known = {
            spec.name.removeprefix(TASK_PREFIX): spec.partitions
            for spec in opened.topics()
            if spec.name.startswith(TASK_PREFIX)
        }
        if task not in known:
            raise InputError(f"task {task!r} is not in this log; it has: {', '.join(known) or 'none yet'}")
        at = start_of(opened, task, start, camera)
        partitions = None if camera is None else [partition_for(camera, known[task])]
        reader = opened.reader(task_topic(task), partitions, group=group, start=at)
        if group is not None:
            keep_start(opened, reader, group, task_topic(task))
        subscription = Subscription(task, opened, reader, camera, timeout_s)
    except BaseException:
        if isinstance(log, str):
            opened.close()
        raise
    subscription._owned = opened if isinstance(log, str) else None
    return subscription


def start_of(log: Log, task: str, start: Start | AtCapture | datetime, camera: str | None) -> Start:
    """Where in a task's topic a subscription starts. Raises InputError for `AtCapture` without a camera."""
    if isinstance(start, datetime):
        return AtTime(datetime_ns(start))
    if not isinstance(start, AtCapture):
        return start
    if camera is None:
        raise InputError("a subscription from a capture time needs its camera: every camera has a clock of its own")
    return AtOffset(task_offset(log, task_topic(task), camera, start.at_ns))


def keep_start(log: Log, reader: Reader, group: str, topic: str) -> None:
    """Commit where a group begins in partitions that it has not committed yet.

    Otherwise one that was killed before its first packet there would begin anew, at a later "latest".
    """
    fresh = {p: offset for p, offset in reader.positions.items() if log.committed(group, topic, p) is None}
    if fresh:
        reader.commit(fresh)


def open_existing(url: str) -> Log:
    """Open a log to read from it. Raises InputError where there is none: reading must not create one."""
    kind, _, place = url.partition(":")
    if kind == "sqlite" and place and not Path(place).exists():
        raise InputError(f"log {place}: there is none yet; start `discover run` with the same configuration first")
    return open_log(url)


def label_sets(log: Log) -> dict[int, LabelSet]:
    """Every label set in the log by the key that stands for it in packets."""
    found: dict[int, LabelSet] = {}
    for name, record in latest_by_key(log, LABELS).items():
        if "/" in name and record.value is not None:
            labels = decode_as(LabelSetMessage, record.value).to_task().label_set
            found[task_key(labels.task, labels.version)] = labels
    return found
