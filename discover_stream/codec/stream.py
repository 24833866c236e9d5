"""What a stream of packets is about: camera, frame size, rate, model, tasks; and the header that says so."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import crc32c
import msgspec

from discover_stream.codec.any_packet import AnyPacket, is_plates_alone, picture_sizes, task_labels
from discover_stream.codec.bits import varint
from discover_stream.codec.framing import MAX_LABEL, MAX_PIXELS, MAX_SIDE, MAX_TASKS, task_key
from discover_stream.types import BitstreamError, InputError

MAGIC = b"DSV"
FORMAT_VERSION = 1
MAX_HEADER = 2**20
"""Bytes of a header's body as it is stored."""
MAX_BODY = 2**25
"""Bytes of a header's body when unpacked: 63 label sets of the largest size."""
MAX_LABELS = MAX_LABEL + 1
"""Of one task."""
MODEL_BYTES = 3
MAX_NAME = 200
CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class StreamTask:
    """A task of a stream and what its regions' label numbers mean."""

    name: str
    version: int
    labels: tuple[str, ...]

    @property
    def key(self) -> int:
        """What stands for the task in packets."""
        return task_key(self.name, self.version)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What holds for all frames of a stream.

    Attributes:
        camera: its name.
        width: of every frame, in pixels.
        height: of every frame, in pixels.
        fps: nominal frames a second; capture times are in the packets.
        model: the three bytes that name the codec's weights; three more for those of stream mode where they are
            others.
        tasks: whose atoms the packets may hold.

    Raises:
        InputError: a value is outside the format's bounds.
    """

    camera: str
    width: int
    height: int
    fps: Fraction
    model: bytes
    tasks: tuple[StreamTask, ...]

    def __post_init__(self) -> None:
        problem = next(_problems(self), None)
        if problem is not None:
            raise InputError(f"stream of camera {self.camera!r}: {problem}")

    @property
    def keys(self) -> dict[str, int]:
        """Task name -> key in packets."""
        return {task.name: task.key for task in self.tasks}

    def only(self, names: Collection[str]) -> StreamInfo:
        """The same stream for some of its tasks: nothing of the others is left.

        Raises:
            InputError: a name is not a task of the stream.
        """
        known = [task.name for task in self.tasks]
        for name in names:
            if name not in known:
                raise InputError(f"unknown task {name!r}; known tasks: {', '.join(known)}")
        tasks = tuple(task for task in self.tasks if task.name in names)
        return StreamInfo(self.camera, self.width, self.height, self.fps, self.model, tasks)


def _problems(info: StreamInfo) -> Iterator[str]:
    """What is wrong with a stream's description."""
    names = [info.camera, *(task.name for task in info.tasks)]
    for name in names:
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            yield f"{name[:MAX_NAME]!r} is not a name of 1 to {MAX_NAME} printable characters; choose another"
    if not 1 <= info.width <= MAX_SIDE or not 1 <= info.height <= MAX_SIDE:
        yield f"frames of {info.width}x{info.height} are outside 1..{MAX_SIDE} pixels a side; resize them"
    if info.width * info.height > MAX_PIXELS:
        yield f"frames of {info.width}x{info.height} have more than {MAX_PIXELS} pixels; resize them"
    if info.fps <= 0 or max(info.fps.numerator, info.fps.denominator) >= 2**32:
        yield f"{info.fps} frames a second cannot be written; use another rate"
    if len(info.model) not in (MODEL_BYTES, 2 * MODEL_BYTES):
        yield f"a model is named by {MODEL_BYTES} bytes, not by {len(info.model)}"
    if not 1 <= len(info.tasks) <= MAX_TASKS:
        yield f"{len(info.tasks)} tasks; a stream has 1 to {MAX_TASKS}"
    for name in names[1:]:
        if names[1:].count(name) > 1:
            yield f"task {name} occurs twice; name each once"
    keys: dict[int, str] = {}
    for task in info.tasks:
        if not 0 <= task.version < 2**32 or len(task.labels) > MAX_LABELS:
            bounds = f"outside 0..2^32-1 and {MAX_LABELS}; use other ones"
            yield f"task {task.name}: version {task.version} or {len(task.labels)} labels are {bounds}"
        other = keys.setdefault(task.key, task.name)
        if other != task.name:
            yield f"tasks {other} and {task.name} have the same key; raise the version of one label set"


# Counts are checked before anything is made of them: a few bytes, unpacked, can claim millions of labels.
_Labels = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_LABELS)]


class _Body(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """`StreamInfo` as it is stored."""

    camera: str
    width: int
    height: int
    fps: tuple[int, int]
    model: bytes
    tasks: Annotated[tuple[tuple[str, int, _Labels], ...], msgspec.Meta(max_length=MAX_TASKS)]


def checksum(data: bytes, start: int = 0) -> int:
    """CRC32C of bytes that follow bytes whose checksum is `start`."""
    return int(crc32c.crc32c(data, start))


def header_bytes(info: StreamInfo) -> bytes:
    """A file's header.

    Raises:
        InputError: the label sets are too large for it.
    """
    tasks = tuple((task.name, task.version, task.labels) for task in info.tasks)
    fps = (info.fps.numerator, info.fps.denominator)
    body = msgspec.msgpack.encode(_Body(info.camera, info.width, info.height, fps, info.model, tasks))
    packed = zlib.compress(body, 9)
    if len(packed) > MAX_HEADER or len(body) > MAX_BODY:
        raise InputError(f"stream of camera {info.camera!r}: its label sets exceed the bound; use fewer tasks")
    data = MAGIC + bytes((FORMAT_VERSION,)) + varint(len(packed)) + packed
    return data + checksum(data).to_bytes(CRC_BYTES, "little")


def parse_body(packed: bytes) -> StreamInfo:
    """Read the body of a header. Raises BitstreamError."""
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(packed, MAX_BODY)
        if not unpacker.eof or unpacker.unused_data:
            raise BitstreamError("the header's body is incomplete or larger than its bound")
        stored = msgspec.msgpack.decode(body, type=_Body)
        fps = Fraction(*stored.fps)
        tasks = tuple(StreamTask(*task) for task in stored.tasks)
        return StreamInfo(stored.camera, stored.width, stored.height, fps, stored.model, tasks)
    # A name that is not UTF-8 is a UnicodeDecodeError, which is none of the library's own.
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, ZeroDivisionError, InputError) as error:
        raise BitstreamError(f"the header does not describe a stream ({error})") from None


def last_seq(packet: AnyPacket, before: int) -> int:
    """Number of the last frame after a packet; plates that come alone are no frame."""
    return before if is_plates_alone(packet) else packet.seq


def check_belongs(info: StreamInfo, packet: AnyPacket, after: int) -> None:
    """That a packet can follow in a stream whose last frame is `after`. Raises BitstreamError."""
    if packet.model not in (info.model[:MODEL_BYTES], info.model[MODEL_BYTES:]):
        raise BitstreamError(f"seq {packet.seq}: made with model {packet.model.hex()}, not {info.model.hex()}")
    for width, height in picture_sizes(packet):
        if (width, height) != (info.width, info.height):
            raise BitstreamError(
                f"seq {packet.seq}: a frame of {width}x{height} in a stream of {info.width}x{info.height}"
            )
    if packet.seq <= after and not is_plates_alone(packet):
        raise BitstreamError(f"seq {packet.seq} follows seq {after}; frames must ascend")
    labels = {task.key: len(task.labels) for task in info.tasks}
    for key in packet.tasks:
        if key not in labels:
            raise BitstreamError(f"seq {packet.seq}: task key {key} is none of the stream's tasks")
    for position, label in task_labels(packet):
        if label >= labels[packet.tasks[position]]:
            raise BitstreamError(f"seq {packet.seq}: label {label} is beyond its label set")
