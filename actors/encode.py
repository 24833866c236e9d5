"""Track+encode of one partition: coded frames to archive packets, with a state per camera.

The packet, the input offset and what a restart needs (incarnation, next track id) are committed in one
transaction per frame. Grounding is asked for ahead of time, in batches, so that it works while the frame
before is being encoded.

A record that was begun three times and never finished goes to the dead topic. So that the right one is
blamed, work after a death begins without looking ahead, until the frames that a batch may have held are past.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from actors.attempts import blameless
from actors.decisions import to_be_buried
from actors.registry import KnownTask, TaskTable
from discover_stream.types import BitstreamError, Frame, Image, InputError, LabelSet, Region
from topics.catalogue import ARCHIVE, DEAD, FRAMES
from topics.log import Gap, Log, Reader, Record, Stage
from topics.messages import CameraState, EncodeState, FrameMessage, dead_message, decode, decode_as, encode

if TYPE_CHECKING:
    from discover_stream.codec.model import CodecModel
    from discover_stream.semantics.tracking import Tracker

RegionsByTask = Mapping[str, tuple[Region, ...]]

AskGround = Callable[[list[Image], tuple[LabelSet, ...]], Callable[[], Sequence[RegionsByTask]]]
"""Starts grounding a batch of pictures, (H, W, 3) uint8 RGB each, and returns what waits for the answer."""

Decoded = Frame | InputError | BitstreamError | None
"""What a record turned out to hold: a frame, why it cannot be used, or None for anything else."""

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What encoding has done since its process started: frames encoded, records buried, frames lost to
    retention before they were encoded."""

    frames: int = 0
    buried: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """Quality 1..8 of all atoms, and how many frames one grounding call takes at most."""

    quality: int
    batch: int


@dataclass(slots=True)
class Batch:
    """Records read together. `frames` has the decoded picture of each, None where the record is not a frame,
    or the error that says why it cannot be used; `regions` waits for grounding, one entry per picture."""

    records: list[Record]
    frames: list[Decoded]
    tasks: tuple[KnownTask, ...]
    regions: Callable[[], Sequence[RegionsByTask]]
    answer: deque[RegionsByTask] | None = field(default=None)

    def next_regions(self) -> RegionsByTask:
        """Regions of the next picture in the batch; waits for the grounding pool at the first."""
        if self.answer is None:
            self.answer = deque(self.regions())
        return self.answer.popleft()


class EncodeStage:
    """The run loop of one partition. `run` once; `stop` from any thread."""

    def __init__(
        self, log: Log, partition: int, codec: CodecModel, ground: AskGround, settings: EncodeSettings, owner: str
    ) -> None:
        self._log, self._partition, self._owner = log, partition, owner
        self._codec, self._ground, self._settings = codec, ground, settings
        self._stop = threading.Event()
        self._cameras: dict[str, CameraState] = {}
        self._trackers: dict[str, Tracker] = {}
        self._careful = 1  # records still to be done without looking ahead
        self.report = EncodeReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> str:
        """Encode until stopped. Raises Fenced when another encoder took over."""
        stage = self._log.stage("encode", self._partition, self._owner)
        if stage.state is not None:
            stored = decode_as(EncodeState, stage.state).cameras
            self._cameras = {
                name: CameraState(incarnation=state.incarnation + 1, next_track=state.next_track)
                for name, state in stored.items()
            }
        reader = self._log.reader(FRAMES, [self._partition])
        # Not from the first record there is: what retention took meanwhile is to be counted.
        reader.seek(self._partition, stage.offsets.get((FRAMES, self._partition), 0))
        tasks = TaskTable(self._log, self._partition)
        ahead: deque[Batch] = deque()
        while not self._stop.is_set():
            if self._careful:
                self._one_by_one(stage, reader, tasks)
                continue
            while len(ahead) < 2:
                records = self._poll(reader, self._settings.batch, 0.0 if ahead else _POLL_S)
                if not records:
                    break
                # Counted before anything of the batch is touched, so that a restart knows to be careful.
                stage.record_attempt(FRAMES, self._partition, records[0].offset)
                ahead.append(self._begin(records, tasks.refresh()))
            if ahead:
                self._work(stage, ahead.popleft())
        reader.close()
        return "stopped"

    def _one_by_one(self, stage: Stage, reader: Reader, tasks: TaskTable) -> None:
        """Do one record, begun (and counted) before anything of it is touched."""
        for record in self._poll(reader, 1, _POLL_S):
            attempts = stage.record_attempt(FRAMES, self._partition, record.offset)
            self._careful = 2 * self._settings.batch if attempts > 1 else self._careful - 1
            if to_be_buried(attempts):
                self._bury(stage, record, f"encoding died {attempts - 1} times on this record", attempts - 1)
                continue
            batch = self._begin([record], tasks.refresh())
            self._finish(stage, record, batch.frames[0], batch)

    def _poll(self, reader: Reader, most: int, timeout_s: float) -> list[Record]:
        items = reader.poll(most, timeout_s=timeout_s)
        lost = sum(item.to_offset - item.from_offset for item in items if isinstance(item, Gap))
        if lost:
            self.report = replace(self.report, lost=self.report.lost + lost)
        return [item for item in items if isinstance(item, Record)]

    def _begin(self, records: list[Record], tasks: tuple[KnownTask, ...]) -> Batch:
        """Decode the pictures and ask for their regions."""
        frames = [read_frame(record) for record in records]
        images = [frame.image for frame in frames if isinstance(frame, Frame)]
        if not images or not tasks:
            return Batch(records, frames, tasks, lambda: [{} for _ in images])
        return Batch(records, frames, tasks, self._ground(images, tuple(task.labels for task in tasks)))

    def _work(self, stage: Stage, batch: Batch) -> None:
        for index, (record, frame) in enumerate(zip(batch.records, batch.frames, strict=True)):
            if self._stop.is_set():
                return
            if index > 0:
                stage.record_attempt(FRAMES, self._partition, record.offset)
            self._finish(stage, record, frame, batch)

    def _finish(self, stage: Stage, record: Record, frame: Decoded, batch: Batch) -> None:
        """Commit what becomes of one record, the next of its batch."""
        with blameless(stage, FRAMES, self._partition, record.offset):
            if frame is None:
                with stage.transaction() as transaction:  # a gap or an end: nothing to encode
                    transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
            elif isinstance(frame, Frame):
                try:
                    self._encode(stage, record, frame, batch)
                except (InputError, BitstreamError) as error:
                    self._bury(stage, record, str(error), 0)
            else:
                self._bury(stage, record, str(frame), 0)

    def _encode(self, stage: Stage, record: Record, frame: Frame, batch: Batch) -> None:
        from discover_stream.codec.packet import packet_bytes
        from discover_stream.codec.still import encode_frame

        height, width = frame.image.shape[:2]
        found = batch.next_regions()
        state = self._cameras.get(frame.camera, CameraState())
        tracker = self._tracker(frame.camera, state)
        regions = tracker.update({task.name: found.get(task.name, ()) for task in batch.tasks}, width, height)
        packet = encode_frame(
            self._codec,
            frame,
            regions,
            {task.name: task.key for task in batch.tasks},
            quality=self._settings.quality,
            incarnation=state.incarnation,
        )
        data = packet_bytes(packet)
        cameras = {**self._cameras, frame.camera: msgspec.structs.replace(state, next_track=tracker.next_track)}
        with stage.transaction() as transaction:
            transaction.send(ARCHIVE, frame.camera, data, partition=self._partition)
            transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
            transaction.set_state(encode(EncodeState(cameras=cameras)))
        self._cameras = cameras
        self.report = replace(self.report, frames=self.report.frames + 1)

    def _tracker(self, camera: str, state: CameraState) -> Tracker:
        from discover_stream.semantics.tracking import Tracker

        if camera not in self._trackers:
            self._trackers[camera] = Tracker(next_track=state.next_track)
        return self._trackers[camera]

    def _bury(self, stage: Stage, record: Record, reason: str, deaths: int) -> None:
        dead = encode(dead_message(record, reason, deaths, time.time_ns()))
        with stage.transaction() as transaction:
            transaction.send(DEAD, record.key, dead, partition=self._partition)
            transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
        self.report = replace(self.report, buried=self.report.buried + 1)


def read_frame(record: Record) -> Decoded:
    """The frame in a record of the frames topic, None for other messages, or why it cannot be used."""
    from discover_stream.video.jpeg import decode_jpeg

    if record.value is None:
        return None
    try:
        message = decode(record.value)
        if not isinstance(message, FrameMessage):
            return None
        return Frame(message.camera, message.seq, message.capture_ns, decode_jpeg(message.jpeg))
    except (InputError, BitstreamError) as error:
        return error
