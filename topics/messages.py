"""The messages that flow through topics, and their bytes.

Archive and task topics carry packets, which are bytes already and prove themselves; everything else is one
of the structs below. On the wire a message is

    magic "DM" | format version, 1 byte | CRC32C of the rest, 4 bytes little-endian | MessagePack map

The map names its type and its fields, so a field can be added (with a default) without a new format.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import crc32c
import msgspec

from discover_stream.types import BitstreamError, Delivery, LabelSet, Profile, Task, TaskOptions
from topics.fleet_messages import FleetMessage
from topics.log import MAX_MESSAGE_BYTES, MessageTooLarge, Record
from topics.message_base import Count, Message, Name, Reason

MAX_ENCODED_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""The largest encoded message: it leaves room for its key, and for the envelope of a dead one."""

FORMAT_VERSION = 1
_MAGIC = b"DM"
_HEADER = len(_MAGIC) + 1 + 4


class FrameMessage(Message, frozen=True, kw_only=True, tag="frame"):
    """One frame of a camera as its camera or ingest coded it. `jpeg` is a complete JPEG file, `fps` the frames a
    second that its source says it has, 0 where that is not known."""

    camera: Name
    seq: Count
    capture_ns: int
    jpeg: bytes
    fps: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0


class GapMessage(Message, frozen=True, kw_only=True, tag="gap"):
    """Nothing usable of a camera is there between two capture times: it delivered nothing, or it was lost.

    `frames` counts what is known to be lost (0 where nobody can know), `next_seq` is the sequence number of
    the next frame.
    """

    camera: Name
    from_ns: int
    to_ns: int
    reason: Reason
    next_seq: Count
    frames: Count = 0


class EndMessage(Message, frozen=True, kw_only=True, tag="end"):
    """A finite source of a camera was read to its end at capture time `at_ns`.

    `next_seq` is how far the camera's numbers have come; `problem` tells in one line what of the source could
    not be read, None where everything could.
    """

    camera: Name
    next_seq: Count
    at_ns: int
    problem: Reason | None = None


class LabelSetMessage(Message, frozen=True, kw_only=True, tag="label-set"):
    """One version of a task's label set, with the words it came from."""

    task: Name
    description: str
    version: Count
    labels: tuple[str, ...]
    profile: Profile = "machine"

    @classmethod
    def of(cls, task: Task) -> LabelSetMessage:
        """The message that says what a task is."""
        return cls(
            task=task.name,
            description=task.description,
            version=task.label_set.version,
            labels=task.label_set.labels,
            profile=task.profile,
        )

    def to_task(self) -> Task:
        """The task that the message describes."""
        return Task(self.task, self.description, LabelSet(self.task, self.version, self.labels), self.profile)


class PlateMessage(Message, frozen=True, kw_only=True, tag="plate"):
    """A camera's background: coded once, never changed, the picture that packets from frame `first_seq` on
    compose on.

    `codec` names how `data` is coded, `width` and `height` count pixels. A partial refresh names the plate that
    it is a change to as `parent`; None stands for a plate that is complete by itself.
    """

    camera: Name
    plate_id: Count
    parent: Count | None = None
    capture_ns: int
    first_seq: Count
    codec: Name
    width: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    height: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    data: bytes


class PointerMessage(Message, frozen=True, kw_only=True, tag="pointer"):
    """Which version of its owner (a camera's plate, a task's label set) is the latest."""

    owner: Name
    version: Count


class IndexMessage(Message, frozen=True, kw_only=True, tag="index"):
    """Where a capture time is in the archive.

    The packet of frame `seq`, captured at `capture_ns`, lies at `archive_offset` or after it in the archive's
    partition; so do the camera's next ones, up to the camera's next entry, and all of them were captured before
    `capture_ns + covers_ns`.
    """

    camera: Name
    incarnation: Count
    seq: Count
    capture_ns: int
    archive_offset: Count
    covers_ns: Annotated[int, msgspec.Meta(ge=1)]


class RetryState(Message, frozen=True, kw_only=True, tag="retry-state"):
    """Which records of a partition of the dead topic were sent back to where they came from, by offset."""

    retried: tuple[Count, ...] = ()


class TaskRecord(Message, frozen=True, kw_only=True, tag="task"):
    """A task starts or stops, for the cameras of the partition that the record lies in.

    A start of what is on already changes how it is delivered.
    """

    task: Name
    version: Count
    action: Literal["start", "stop"]
    at_ns: int
    deliver: Delivery = "pixels"
    tags: bool = False

    @property
    def options(self) -> TaskOptions:
        """How the task is delivered from this start on."""
        return TaskOptions(self.deliver, self.tags)


class TaskRequest(Message, frozen=True, kw_only=True, tag="task-request"):
    """How far a task that somebody asked for has come: its labels, who is asking for them now, and what failed.

    `version` is the label set that belongs to the description and profile, 0 where there is none yet; `added` tells
    that the task is to be on in every system with this log, whatever its configuration lists, `deliver` and `tags` how.

    `claim` is held by whoever asks the language model right now, in words `owner`; empty where nobody does. A claim
    that ended without labels is `failed`, because of `problem`; where that was the model's answer, and not the way to
    it, the task is `disabled` until somebody asks for a refresh.
    """

    task: Name
    description: str = ""
    profile: Profile = "machine"
    version: Count = 0
    added: bool = False
    claim: str = ""
    owner: str = ""
    failed: str = ""
    problem: str = ""
    disabled: bool = False
    deliver: Delivery = "pixels"
    tags: bool = False

    @property
    def options(self) -> TaskOptions:
        """How the task is delivered."""
        return TaskOptions(self.deliver, self.tags)


class ClaimBeat(Message, frozen=True, kw_only=True, tag="claim-beat"):
    """A sign of life of whoever holds a claim."""

    task: Name
    claim: str
    beat: Count


class InquiryRecord(Message, frozen=True, kw_only=True, tag="inquiry"):
    """What it took to get one version of a task's labels from a language model, or to fail at it (`problem`).

    `requests` were answered by the model, `tries` includes those that failed; tokens are as the endpoint reported
    them, None where it did not.
    """

    task: Name
    version: Count
    at_ns: int
    model: str
    place: str
    requests: Count
    tries: Count
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    seconds: float
    problem: str = ""


class IngestState(Message, frozen=True, kw_only=True, tag="ingest-state"):
    """Where ingest of one camera goes on: the next sequence number, and the last capture time if any.

    `source` says which input the position belongs to: its first frame got the number `base_seq`, its time 0 is
    `origin_ns`, and `ended` is set once it was read to its end.
    """

    next_seq: Count = 0
    last_capture_ns: int | None = None
    source: str = ""
    base_seq: Count = 0
    origin_ns: int = 0
    ended: bool = False


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """What encoding needs of one camera: ids of tracks and plates are never reused, within or across incarnations.

    `next_seq` is the number after the latest frame that was encoded, and after those that gaps since then have
    counted, `last_ns` that frame's capture time; both None until there is one. A later number than `next_seq`
    tells that frames were lost on the way.

    `still_reason` says why the camera is in still mode though it may be in stream mode (empty where it is not),
    `mode_since_ns` since when it is in its mode, `setbacks` how often in a row stream mode was given up.
    """

    incarnation: Count = 0
    next_track: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = 1
    next_seq: Count | None = None
    last_ns: int | None = None
    next_plate: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = 1
    still_reason: str = ""
    mode_since_ns: int | None = None
    setbacks: Count = 0


class EncodeState(Message, frozen=True, kw_only=True, tag="encode-state"):
    """What track and encode needs to restart, for every camera of its partition."""

    cameras: dict[str, CameraState] = msgspec.field(default_factory=dict)


class DeadMessage(Message, frozen=True, kw_only=True, tag="dead"):
    """A record that could not be processed. `value` is None where it was too large to be copied:
    it is then still at its place in `topic`, until retention takes it."""

    reason: Reason
    topic: Name
    partition: Count
    offset: Count
    deaths: Count
    at_ns: int
    key: str | None = None
    value: bytes | None = None


AnyMessage = (
    FrameMessage
    | GapMessage
    | EndMessage
    | LabelSetMessage
    | PlateMessage
    | PointerMessage
    | IndexMessage
    | TaskRecord
    | TaskRequest
    | ClaimBeat
    | InquiryRecord
    | IngestState
    | EncodeState
    | RetryState
    | DeadMessage
    | FleetMessage
)
M = TypeVar("M", bound=Message)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The bytes of a message. Raises MessageTooLarge beyond `MAX_ENCODED_BYTES` (dead messages beyond
    `MAX_MESSAGE_BYTES`, so that every message still fits when it is dead)."""
    body = _encoder.encode(message)
    bound = MAX_MESSAGE_BYTES if isinstance(message, DeadMessage) else MAX_ENCODED_BYTES
    if _HEADER + len(body) > bound:
        raise MessageTooLarge(
            f"a {type(message).__name__} of {_HEADER + len(body)} bytes is larger than {bound}; "
            "send smaller pictures or a higher compression"
        )
    return _MAGIC + bytes([FORMAT_VERSION]) + crc32c.crc32c(body).to_bytes(4, "little") + body


def decode(data: bytes) -> AnyMessage:
    """The message in `data`. Raises BitstreamError for damaged, foreign or newer bytes."""
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEADER:
        raise BitstreamError(f"message of {len(data)} bytes: does not start as one; it is foreign or cut off")
    if data[2] != FORMAT_VERSION:
        raise BitstreamError(
            f"message of format {data[2]}: this version reads format {FORMAT_VERSION}; update discover-stream"
        )
    body = memoryview(data)[_HEADER:]
    if crc32c.crc32c(body) != int.from_bytes(data[3:_HEADER], "little"):
        raise BitstreamError(f"message of {len(data)} bytes: the checksum differs; it is damaged or cut off")
    try:
        message: AnyMessage = _decoder.decode(body)
        return message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BitstreamError(f"message of {len(data)} bytes: cannot be read ({error})") from error


def decode_as(kind: type[M], data: bytes) -> M:
    """The message in `data`, which must be a `kind`. Raises BitstreamError as `decode`, or for another."""
    message = decode(data)
    if not isinstance(message, kind):
        raise BitstreamError(f"expected a {kind.__name__}, found a {type(message).__name__}")
    return message


def dead_message(record: Record, reason: str, deaths: int, at_ns: int) -> DeadMessage:
    """What to send to the dead topic for `record`, with its value where that fits."""
    value = record.value
    return DeadMessage(
        reason=reason[:1000] or "no reason given",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        deaths=deaths,
        at_ns=at_ns,
        key=record.key,
        value=value if value is None or len(value) <= MAX_ENCODED_BYTES else None,
    )
