"""Track+encode of one partition: coded frames to archive packets, with a state per camera.

The packet, the plates that come with it, its entry in the time index where it needs one, the input offset and what a
restart needs (incarnation, next ids of tracks and plates, mode) are committed in one transaction per frame. Grounding
is asked for ahead of time, in batches, so that it works while the frame before is being encoded.

A record during which the process died three times, with nothing else in hand, goes to the dead topic; see
`actors.decisions.Care` for how that is known without counting every frame.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from actors.attempts import begin, blameless
from actors.camera_coder import CameraCoder, RegionsByTask
from actors.captured import Captured, Decoded, read_frame
from actors.decisions import Care, grounding_due, to_be_buried
from actors.registry import KnownTask, TaskTable
from actors.steps import Steps
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.mode_policy import CoderSettings, ModeStatus
from discover_stream.types import BitstreamError, Frame, Image, InputError, LabelSet, Mode
from topics.catalogue import ARCHIVE, DEAD, FRAMES, INDEX, PLATES
from topics.failpoints import hit
from topics.immutable import ImmutableTable
from topics.log import Gap, Log, Reader, Record, Stage
from topics.messages import CameraState, EncodeState, GapMessage, dead_message, decode, decode_as, encode
from topics.plates import plate_messages
from topics.time_index import IndexWriter, encoded, is_late, lost_before, told

if TYPE_CHECKING:
    from discover_stream.codec.atom_choice import Learned
    from discover_stream.codec.critic import Critic
    from discover_stream.codec.model import CodecModel

AskGround = Callable[[list[Image], tuple[LabelSet, ...]], Callable[[], Sequence[RegionsByTask]]]
"""Starts grounding a batch of pictures, (H, W, 3) uint8 RGB each, and returns what waits for the answer."""


_POLL_S = 0.2
_BATCHES_AHEAD = 2
_LATELY = 0.1
"""Weight of a frame in what frames lately are like."""


@dataclass(frozen=True, slots=True)
class CameraTally:
    """Frames encoded of one camera: how many, the number after the last one, and its capture time."""

    camera: str
    frames: int
    next_seq: int
    capture_ns: int


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What encoding has done since its process started: frames encoded, records buried, offsets lost to
    retention before they were read, the mode of each camera's last frame, how far each camera is, and by camera and
    task how many regions its frames have lately."""

    frames: int = 0
    buried: int = 0
    lost: int = 0
    modes: tuple[tuple[str, ModeStatus], ...] = ()
    tallies: tuple[CameraTally, ...] = ()
    regions: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How frames are encoded.

    Attributes:
        quality: 1..8, of cameras that `cameras` does not name.
        batch: how many frames one grounding call takes at most.
        every: every n-th frame of a camera is grounded.
        mode: of cameras that `cameras` does not name.
        cameras: how each camera is coded, by name.
        critic: whether, in stream mode, the shipped detector judges which objects have to be sent anew.
        learned: whether objects are coded by the learned codec, in stream mode, where it is at hand and smaller.
    """

    quality: int
    batch: int
    every: int = 1
    mode: Mode = "still"
    cameras: Mapping[str, CoderSettings] = field(default_factory=dict)
    critic: bool = False
    learned: bool = False

    def of(self, camera: str) -> CoderSettings:
        """How a camera is coded."""
        return self.cameras.get(camera) or CoderSettings(self.mode, self.quality)


@dataclass(slots=True)
class Batch:
    """Records read together. `frames` has the decoded picture of each, None where the record is not a frame,
    or the error that says why it cannot be used; `due` tells which are grounded, `regions` waits for grounding, one
    entry per such picture."""

    records: list[Record]
    frames: list[Decoded]
    due: list[bool]
    tasks: tuple[KnownTask, ...]
    regions: Callable[[], Sequence[RegionsByTask]]
    answer: deque[RegionsByTask] | None = field(default=None)

    def next_regions(self) -> RegionsByTask:
        """Regions of the next picture in the batch that is due; waits for the grounding pool at the first."""
        if self.answer is None:
            self.answer = deque(self.regions())
        return self.answer.popleft()


@dataclass(frozen=True, slots=True)
class Grounded:
    """The frame of a camera that was grounded last, and for which label sets."""

    seq: int
    labels: tuple[LabelSet, ...]


class EncodeStage:
    """The run loop of one partition. `run` once; `stop` from any thread.

    Attributes:
        steps: measures what frames go through; whoever has another one sets it before `run`.
    """

    def __init__(
        self,
        log: Log,
        partition: int,
        codec: CodecModel,
        ground: AskGround,
        settings: EncodeSettings,
        owner: str,
        *,
        critic: Critic | None = None,
        learned: Learned | None = None,
    ) -> None:
        self._log, self._partition, self._owner = log, partition, owner
        self._codec, self._ground, self._settings, self._critic = codec, ground, settings, critic
        self._learned = learned
        self.steps = Steps()
        self._found: dict[str, dict[str, float]] = {}
        self._stop = threading.Event()
        self._cameras: dict[str, CameraState] = {}
        self._coders: dict[str, CameraCoder] = {}
        self._coded_as: dict[str, CoderSettings] = {}
        self._grounded: dict[str, Grounded] = {}
        self._index = IndexWriter()
        self._care = Care(_BATCHES_AHEAD * settings.batch)
        self._plates: ImmutableTable | None = None
        self._modes: dict[str, ModeStatus] = {}
        self._tallies: dict[str, CameraTally] = {}
        self.report = EncodeReport()

    def stop(self) -> None:
        """Finish the transaction in hand, then return from `run`."""
        self._stop.set()

    def configure(self, settings: EncodeSettings) -> None:
        """Encode with these settings from the next frame on; from any thread. A camera that is coded otherwise than
        before begins another incarnation."""
        self._settings = settings

    def run(self) -> str:
        """Encode until stopped. Raises Fenced when another encoder took over."""
        with (
            closing(self._log.stage("encode", self._partition, self._owner)) as stage,
            closing(self._log.reader(FRAMES, [self._partition])) as reader,
            closing(TaskTable(self._log, self._partition)) as tasks,
            closing(ImmutableTable(self._log, PLATES, self._partition)) as self._plates,
        ):
            if stage.state is not None:
                stored = decode_as(EncodeState, stage.state).cameras
                self._cameras = {
                    name: msgspec.structs.replace(state, incarnation=state.incarnation + 1)
                    for name, state in stored.items()
                }
            # Not from the first record there is: what retention took meanwhile is to be counted.
            reader.seek(self._partition, stage.offsets.get((FRAMES, self._partition), 0))
            self._follow(stage, reader, tasks)
        return "stopped"

    def _follow(self, stage: Stage, reader: Reader, tasks: TaskTable) -> None:
        ahead: deque[Batch] = deque()
        while not self._stop.is_set():
            if self._care.needed:
                self._one_by_one(stage, reader, tasks)
                continue
            while len(ahead) < _BATCHES_AHEAD:
                records = self._poll(reader, self._settings.batch, 0.0 if ahead else _POLL_S)
                if not records:
                    break
                ahead.append(self._begin(stage, records, tasks.refresh()))
            if ahead:
                self._work(stage, ahead.popleft())

    def _one_by_one(self, stage: Stage, reader: Reader, tasks: TaskTable) -> None:
        """Do one record, counted before anything of it is touched."""
        for record in self._poll(reader, 1, _POLL_S):
            attempts = begin(stage, FRAMES, self._partition, record.offset)
            with blameless(stage, FRAMES, self._partition, record.offset):
                if to_be_buried(attempts):
                    self._bury(stage, record, f"encoding died {attempts - 1} times on this record", attempts - 1)
                else:
                    batch = self._begin(stage, [record], tasks.refresh())
                    self._finish(stage, record, batch, 0)
            self._care = self._care.after(1)

    def _poll(self, reader: Reader, most: int, timeout_s: float) -> list[Record]:
        items = reader.poll(most, timeout_s=timeout_s)
        lost = sum(item.to_offset - item.from_offset for item in items if isinstance(item, Gap))
        if lost:
            self.report = replace(self.report, lost=self.report.lost + lost)
        return [item for item in items if isinstance(item, Record)]

    def _begin(self, stage: Stage, records: list[Record], tasks: tuple[KnownTask, ...]) -> Batch:
        """Decode the pictures and ask for their regions."""
        for record in records:
            hit(stage.transactional_id, "after_read", record.offset)
        frames = [self._read(record) for record in records]
        labels = tuple(task.labels for task in tasks)
        due = [isinstance(found, Captured) and self._is_due(found.frame, labels) for found in frames]
        images = [f.frame.image for f, asked in zip(frames, due, strict=True) if asked and isinstance(f, Captured)]
        if not images or not tasks:
            return Batch(records, frames, due, tasks, lambda: [{} for _ in images])
        answer = self._ground(images, labels)
        for record in records:
            hit(stage.transactional_id, "after_ask", record.offset)
        return Batch(records, frames, due, tasks, answer)

    def _read(self, record: Record) -> Decoded:
        began_ns = time.time_ns()
        found = read_frame(record)
        if isinstance(found, Captured):
            self.steps.done("queue", found.frame.camera, found.frame.seq, record.timestamp_ns)
            self.steps.done("read", found.frame.camera, found.frame.seq, began_ns)
        return found

    def _is_due(self, frame: Frame, labels: tuple[LabelSet, ...]) -> bool:
        """Whether a frame is grounded: every n-th is, and the first with other label sets."""
        last = self._grounded.get(frame.camera)
        seq = last.seq if last is not None and last.labels == labels else None
        if not grounding_due(seq, frame.seq, self._settings.every):
            return False
        self._grounded[frame.camera] = Grounded(frame.seq, labels)
        return True

    def _work(self, stage: Stage, batch: Batch) -> None:
        for position, record in enumerate(batch.records):
            if self._stop.is_set():
                return
            self._finish(stage, record, batch, position)

    def _finish(self, stage: Stage, record: Record, batch: Batch, position: int) -> None:
        """Commit what becomes of one record, the next of its batch."""
        found = batch.frames[position]
        if found is None:
            self._pass_on(stage, record)
        elif isinstance(found, Captured):
            try:
                self._encode(stage, record, found, batch, due=batch.due[position])
            except (InputError, BitstreamError) as error:
                if found.frame.camera in self._coders:
                    self._coders[found.frame.camera].unwritten()
                self._bury(stage, record, str(error), 0)
        else:
            self._bury(stage, record, str(found), 0)

    def _pass_on(self, stage: Stage, record: Record) -> None:
        """Commit a record with nothing to encode: a gap goes on to the index, an end nowhere."""
        message = None if record.value is None else decode(record.value)
        cameras = self._cameras
        if isinstance(message, GapMessage) and message.camera in cameras:
            cameras = {**cameras, message.camera: told(cameras[message.camera], message)}
        with stage.transaction() as transaction:
            if isinstance(message, GapMessage):
                transaction.send(INDEX, record.key, record.value, partition=self._partition)
            if cameras != self._cameras:
                transaction.set_state(encode(EncodeState(cameras=cameras)))
            transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
        self._cameras = cameras

    def _encode(self, stage: Stage, record: Record, captured: Captured, batch: Batch, *, due: bool) -> None:
        frame = captured.frame
        state = self._state_of(frame.camera)
        late = is_late(state, frame.seq)
        coder = self._coder(frame.camera, state)
        began_ns = time.time_ns()
        found = batch.next_regions() if due else None
        self._count_regions(frame.camera, found)
        self.steps.done("ground", frame.camera, frame.seq, began_ns)
        began_ns = time.time_ns()
        packet = coder.code(frame, batch.tasks, found, fps=captured.fps, again=late)
        data = any_packet_bytes(packet)
        self.steps.done("encode", frame.camera, frame.seq, began_ns)
        plates = plate_messages(frame.camera, packet, frame.capture_ns)
        hit(stage.transactional_id, "after_process", record.offset)
        lost = lost_before(frame.camera, state, frame.seq, frame.capture_ns)
        after = encoded(coder.state_after(state), frame.seq, frame.capture_ns)
        cameras = {**self._cameras, frame.camera: after}
        entries = []
        if not late:  # a new process would take it for the first one of its camera
            entries = self._index.records(
                frame.camera,
                state.incarnation,
                frame.seq,
                frame.capture_ns,
                lambda: self._log.bounds(ARCHIVE, self._partition).end,
            )
        began_ns = time.time_ns()
        with stage.transaction() as transaction:
            for plate in plates:
                assert self._plates is not None
                self._plates.publish(transaction, plate)
            transaction.send(ARCHIVE, frame.camera, data, partition=self._partition)
            if lost is not None:
                transaction.send(INDEX, frame.camera, encode(lost), partition=self._partition)
            for entry in entries:
                transaction.send(INDEX, frame.camera, encode(entry), partition=self._partition)
            transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
            transaction.set_state(encode(EncodeState(cameras=cameras)))
            hit(stage.transactional_id, "after_send", record.offset)
        self.steps.done("commit", frame.camera, frame.seq, began_ns)
        self.steps.done("frame to packet", frame.camera, frame.seq, record.timestamp_ns)
        hit(stage.transactional_id, "after_commit", record.offset)
        self._cameras = cameras
        self._index.committed(entries)
        self._modes[frame.camera] = coder.status
        if not late:
            before = self._tallies.get(frame.camera)
            done = 1 if before is None else before.frames + 1
            self._tallies[frame.camera] = CameraTally(frame.camera, done, frame.seq + 1, frame.capture_ns)
        self.report = replace(
            self.report,
            frames=self.report.frames + 1,
            modes=tuple(self._modes.items()),
            tallies=tuple(self._tallies.values()),
            regions=tuple((camera, tuple(found.items())) for camera, found in self._found.items()),
        )

    def _count_regions(self, camera: str, found: RegionsByTask | None) -> None:
        """Keep how many regions a frame of a camera has lately, by task."""
        if found is not None:
            before = self._found.get(camera, {})
            self._found[camera] = {
                task: before.get(task, float(len(regions))) * (1 - _LATELY) + len(regions) * _LATELY
                for task, regions in found.items()
            }

    def _state_of(self, camera: str) -> CameraState:
        """A camera's state; of the next incarnation where it is to be coded otherwise than before."""
        state = self._cameras.get(camera, CameraState())
        if camera in self._coders and self._coded_as[camera] != self._settings.of(camera):
            del self._coders[camera]
            state = msgspec.structs.replace(state, incarnation=state.incarnation + 1)
            self._cameras = {**self._cameras, camera: state}
        return state

    def _coder(self, camera: str, state: CameraState) -> CameraCoder:
        if camera not in self._coders:
            self._coded_as[camera] = self._settings.of(camera)
            self._coders[camera] = CameraCoder(self._codec, self._coded_as[camera], state, self._critic, self._learned)
        return self._coders[camera]

    def _bury(self, stage: Stage, record: Record, reason: str, deaths: int) -> None:
        dead = encode(dead_message(record, reason, deaths, time.time_ns()))
        with stage.transaction() as transaction:
            transaction.send(DEAD, record.key, dead, partition=self._partition)
            transaction.commit_offset(FRAMES, self._partition, record.offset + 1)
        self.report = replace(self.report, buried=self.report.buried + 1)
