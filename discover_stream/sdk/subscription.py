"""A task's packets, one after another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.painting import learned_painter
from discover_stream.sdk.frames import LocalPictures, Pictures, TaskFrame
from discover_stream.sdk.starts import From, default_log, keep_start, label_sets, open_existing, seek, start_of
from discover_stream.types import BitstreamError, InputError, LabelSet
from topics.catalogue import TASK_PREFIX, task_topic
from topics.log import Gap, Log, Reader, Record
from topics.partitioner import partition_for
from topics.plates import PlateShelf
from topics.rewind import packets_before

_POLL_S = 0.2


class Subscription:
    """Packets of a task, in order within each camera: iterate, and commit what is done.

    For one thread. Ends when nothing arrived for `timeout_s`, else never; `Gap` items tell which
    records retention took before they could be read.
    """

    def __init__(
        self, task: str, log: Log, reader: Reader, camera: str | None, timeout_s: float | None, pictures: Pictures
    ) -> None:
        self.task = task
        self._log, self._reader, self._camera, self._timeout_s = log, reader, camera, timeout_s
        self._pictures = pictures
        self._began = dict(reader.positions)
        self._owned: Log | None = None
        self._waiting: deque[Record | Gap] = deque()
        self._done: dict[int, int] = {}
        self._labels: dict[int, LabelSet] = {}
        self._cameras: dict[str, CameraReader] = {}
        self._plates = PlateShelf(log)

    def __iter__(self) -> Iterator[TaskFrame | Gap]:
        return self

    def __next__(self) -> TaskFrame | Gap:
        """The next packet or gap. Raises StopIteration after the time-out, BitstreamError for damaged bytes."""
        waited_s = 0.0
        while self._timeout_s is None or waited_s <= self._timeout_s:
            item = self.poll(_POLL_S)
            if item is not None:
                return item
            waited_s += _POLL_S
        raise StopIteration

    def poll(self, timeout_s: float = 0.0) -> TaskFrame | Gap | None:
        """The next packet or gap; None where none came within a time, whatever other cameras sent meanwhile, and what
        the log holds is read. Raises BitstreamError for damaged bytes."""
        deadline = time.monotonic() + timeout_s
        while True:
            if not self._waiting:
                self._waiting.extend(self._reader.poll(timeout_s=max(0.0, deadline - time.monotonic())))
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            if isinstance(item, Gap):
                self._done[item.partition] = item.to_offset
                return item
            self._done[item.partition] = item.offset + 1
            if item.value is not None and (self._camera is None or item.key == self._camera):
                return self._frame(item, item.value)

    @property
    def positions(self) -> dict[int, int]:
        """Partition -> offset of the next packet, after everything handed out so far.

        Who stores them in one transaction with what came of the packets, and later subscribes with `start=positions`,
        has every packet exactly once.
        """
        return self._began | self._done

    def commit(self, positions: Mapping[int, int] | None = None) -> None:
        """Store that everything handed out so far (or up to earlier `positions`) is done: the group goes on after it.

        Raises LogError for a subscription without a group.
        """
        self._reader.commit(self._done if positions is None else positions)

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
        return TaskFrame(
            self.task,
            camera,
            packet,
            len(data),
            labels,
            record.partition,
            record.offset,
            reading,
            self._pictures,
            reader,
        )

    def _camera_reader(self, camera: str) -> CameraReader:
        if camera not in self._cameras:
            self._cameras[camera] = CameraReader(
                camera, lambda number: self._plates.fetch(camera, number), learned_painter
            )
        return self._cameras[camera]


def subscribe(
    task: str,
    *,
    log: str | Log | None = None,
    group: str | None = None,
    start: From = "earliest",
    camera: str | None = None,
    timeout_s: float | None = None,
    pictures: Pictures | None = None,
) -> Subscription:
    """Subscribe to a task's packets.

    Args:
        task: its name.
        log: an address such as ``sqlite:out/discover.db``, or an open log (which stays open); None for `default_log`.
        group: name under which positions are committed; a group that was here before goes on there, at the
            place where it first began where it has not committed since.
        start: where to begin otherwise, see `From`.
        camera: only this camera's packets.
        timeout_s: end after nothing has come for this long; None waits for ever.
        pictures: who decodes; None for this process, with the shipped weights.

    Raises InputError for a task that the log does not have, for `AtCapture` without a camera and for positions that are
    not this log's, LogError for a log that cannot be opened.
    """
    if group is not None and isinstance(start, Mapping):
        raise InputError("a subscription goes on from a group's positions or from given ones; leave one of both out")
    address = default_log() if log is None else log
    opened = open_existing(address) if isinstance(address, str) else address
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
        if isinstance(start, Mapping):
            seek(reader, start)
        if group is not None:
            keep_start(opened, reader, group, task_topic(task))
        subscription = Subscription(task, opened, reader, camera, timeout_s, pictures or LocalPictures())
    except BaseException:
        if isinstance(address, str):
            opened.close()
        raise
    subscription._owned = opened if isinstance(address, str) else None
    return subscription
