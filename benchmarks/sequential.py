"""What the log must hold after a run, told by one process that works frame by frame without a log.

The judge of `benchmarks.chaos` and of the tests with failpoints: however often processes died, every frame of a
camera is in each topic exactly once, in order, and every packet is, byte for byte, what a sequential run makes.
Only where a restart began another incarnation is read from the packets: a tracker starts anew there.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.packet import Packet, packet_bytes, parse_packet, route, task_key
from discover_stream.codec.still import encode_frame
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.tracking import Tracker
from discover_stream.types import Frame, Task
from discover_stream.video.jpeg import decode_jpeg, encode_jpeg
from topics.catalogue import ARCHIVE, FRAMES, task_topic
from topics.log import Log
from topics.messages import EndMessage, FrameMessage, decode
from topics.reading import read_all


@dataclass(frozen=True, slots=True)
class Verdict:
    """One camera in one topic: records that are missing, there twice or more, after a later one, or with
    other bytes than a sequential run makes."""

    camera: str
    topic: str
    expected: int
    found: int
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    different: int = 0

    @property
    def ok(self) -> bool:
        """Exactly once, in order, byte for byte."""
        return not (self.lost or self.doubled or self.disordered or self.different)


def judge(
    camera: str, topic: str, expected: Mapping[int, bytes | None], found: Sequence[tuple[int, bytes | None]]
) -> Verdict:
    """Compare what a topic holds of a camera, (seq, value) in log order, with what it must; None is any value."""
    seqs = Counter(seq for seq, _ in found)
    order = [seq for seq, _ in found]
    return Verdict(
        camera,
        topic,
        len(expected),
        len(found),
        lost=sum(seq not in seqs for seq in expected),
        doubled=sum(count - 1 for count in seqs.values()),
        disordered=sum(after < before for before, after in itertools.pairwise(order)),
        different=sum(seq not in expected or expected[seq] not in (None, value) for seq, value in found),
    )


class Judge:
    """Loads the networks once; `verdicts` for as many cameras as there are."""

    def __init__(self, tasks: Sequence[Task], quality: int) -> None:
        self._tasks, self._quality = tasks, quality
        self._keys = {task.name: task_key(task.name, task.label_set.version) for task in tasks}
        self._codec: CodecModel = load_codec()
        self._grounder = NanoGrounder.load()

    def verdicts(
        self, log: Log, cameras: Mapping[str, Iterable[Frame]], buried: Mapping[str, Collection[int]] | None = None
    ) -> list[Verdict]:
        """Judge the frames, the archive and every task's packets.

        Args:
            cameras: name -> all frames of its source, with their numbers and capture times.
            buried: name -> numbers of frames that are on the dead topic instead of the archive.
        """
        topics = [FRAMES, ARCHIVE, *(task_topic(task.name) for task in self._tasks)]
        held = {topic: list(read_all(log, topic)) for topic in topics}
        found: list[Verdict] = []
        for camera, frames in cameras.items():
            mine = {topic: [record.value or b"" for record in held[topic] if record.key == camera] for topic in topics}
            found += self._of_camera(camera, list(frames), mine, (buried or {}).get(camera, ()))
        return found

    def _of_camera(
        self, camera: str, frames: list[Frame], mine: Mapping[str, list[bytes]], buried: Collection[int]
    ) -> Iterator[Verdict]:
        messages = [decode(value) for value in mine[FRAMES]]
        coded = {frame.seq: encode_jpeg(frame.image) for frame in frames}
        yield judge(
            camera,
            FRAMES,
            coded | {len(frames): None},
            [
                (message.seq, message.jpeg) if isinstance(message, FrameMessage) else (message.next_seq, None)
                for message in messages
                if isinstance(message, (FrameMessage, EndMessage))
            ],
        )
        archive = [(packet.seq, packet, value) for value in mine[ARCHIVE] for packet in [parse_packet(value)]]
        lives: dict[int, int] = {}
        for seq, packet, _ in archive:
            lives.setdefault(seq, packet.incarnation)
        pictures = [replace(frame, image=decode_jpeg(coded[frame.seq])) for frame in frames if frame.seq not in buried]
        expected = dict(self._encoded(pictures, lives))
        archived = {seq: packet_bytes(packet) for seq, packet in expected.items()}
        yield judge(camera, ARCHIVE, archived, [(seq, value) for seq, _, value in archive])
        for task in self._tasks:
            topic = task_topic(task.name)
            key = self._keys[task.name]
            routed = {seq: packet_bytes(route(packet, (key,))) for seq, packet in expected.items()}
            yield judge(camera, topic, routed, [(parse_packet(value).seq, value) for value in mine[topic]])

    def _encoded(self, frames: Iterable[Frame], lives: Mapping[int, int]) -> Iterator[tuple[int, Packet]]:
        tracker, life = Tracker(), 0
        for frame in frames:
            incarnation = lives.get(frame.seq, life)
            if incarnation != life:
                tracker, life = Tracker(next_track=tracker.next_track), incarnation
            (found,) = self._grounder.ground([frame.image], [task.label_set for task in self._tasks])
            height, width = frame.image.shape[:2]
            regions = tracker.update(found, width, height, frame.seq)
            yield (
                frame.seq,
                encode_frame(self._codec, frame, regions, self._keys, quality=self._quality, incarnation=incarnation),
            )
