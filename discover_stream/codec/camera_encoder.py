"""One camera's frames to packets, in still or stream mode, changing from one to the other between two packets.

A stream that begins lists all its tracks and brings a plate of its own, so a reader that was handed packets of still
mode (or nothing) just before decodes on from it; packets of still mode need nothing. What a restart needs is in
`CameraEncoder.memory`: it belongs into the transaction of the packet.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.atom_choice import Learned
from discover_stream.codec.critic import Critic
from discover_stream.codec.drawing_order import DrawingOrder
from discover_stream.codec.mode_policy import (
    ENOUGH,
    CoderSettings,
    Complaint,
    ModeState,
    ModeStatus,
    after_frame,
    at_frame,
    complaint,
    other_rate,
    wants_pixels_anew,
)
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import Packet
from discover_stream.codec.still import encode_frame
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings, StreamStart
from discover_stream.codec.stream_packet import GapReason, LostFrames, StreamPacket, stripped_stream
from discover_stream.types import BitstreamError, Delivery, Frame, InputError, Region, TaskOptions

USUAL_FPS = 10.0
"""Frames a second of a camera that does not say."""


@dataclass(frozen=True, slots=True)
class CameraMemory:
    """What a restart needs; the process that restarts raises `incarnation`.

    Attributes:
        incarnation: of the encoder.
        next_plate: id of the next plate: none is used twice.
        next_seq: number after that of the last frame; None before the first.
        mode: which one, and why.
    """

    incarnation: int = 0
    next_plate: int = 1
    next_seq: int | None = None
    mode: ModeState = field(default_factory=ModeState)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a task gets of a frame: its key in packets, its regions with their tracks, how it is delivered, and the
    labels that are in the picture as a whole, where it has tags."""

    key: int
    regions: tuple[Region, ...] = ()
    options: TaskOptions = field(default_factory=TaskOptions)
    tags: tuple[int, ...] = ()


class CameraEncoder:
    """Encodes one camera; call `encode` frame by frame.

    Args:
        model: of still mode; its hash names the weights in packets of either mode.
        settings: how.
        memory: of the encoder before, with an incarnation of its own.
        critic: of streams; see `StreamEncoder`.
        learned: codes atoms of streams where that is smaller; packets of streams name its model then.
        order: makes what says, for one stream, who stands before whom; see `StreamEncoder`.
    """

    def __init__(
        self,
        model: CodecModel,
        settings: CoderSettings,
        memory: CameraMemory | None = None,
        critic: Critic | None = None,
        learned: Learned | None = None,
        order: Callable[[], DrawingOrder] | None = None,
    ) -> None:
        self._model, self._settings, self._critic, self._learned = model, settings, critic, learned
        self._order = order
        self._stream: _Stream | None = None
        self._rate: float | None = None
        self._complaint: Complaint | None = None
        self.memory = self._before = memory or CameraMemory()
        self.status = ModeStatus()

    def encode(
        self, frame: Frame, asks: Mapping[str, Ask], *, fps: float | None = None, again: bool = False
    ) -> AnyPacket:
        """The packet of a frame.

        Args:
            frame: the next one of the camera.
            asks: by task, for all tasks that run.
            fps: frames a second that the camera is said to have.
            again: the frame comes late, after later ones: it is coded by itself, and changes nothing.

        Raises:
            InputError: the picture or the regions are outside the format's bounds.
            BitstreamError: the packet would be larger than packets may be.
        """
        self._before = self.memory
        if again:
            return self._still(frame, asks)
        wanted, now = self._settings.mode, frame.capture_ns
        mode, state = at_frame(wanted, self.memory.mode, now, self._settings.rules)
        streamed = mode == "stream" and bool(asks)
        try:
            packet = self._streamed(frame, asks, fps) if streamed else self._still(frame, asks)
        except (InputError, BitstreamError):
            self._stream = None  # nobody knows how far it came
            raise
        advice = None
        if streamed:
            assert self._stream is not None
            advice = self._stream.advice
            state = after_frame(wanted, state, advice, now, self._settings.rules)
        if not streamed or state.reason:
            plate = self.memory.next_plate if self._stream is None else self._stream.next_plate
            self._stream = None
        else:
            assert self._stream is not None
            plate = self._stream.next_plate
        self.memory = dataclasses.replace(self.memory, next_plate=plate, next_seq=frame.seq + 1, mode=state)
        told = state.reason
        if streamed:
            advice = None if wanted == "auto" else advice
            self._complaint = complaint(self._complaint, advice, now, self._settings.rules)
            told = "" if self._complaint is None else self._complaint.reason
        self.status = ModeStatus("stream" if streamed else "still", told)
        return packet

    @property
    def models(self) -> bytes:
        """What names the weights in this camera's packets, as `StreamInfo.model` has it."""
        still, stream = self._model.short_hash, self._stream_model
        return still if still == stream else still + stream

    @property
    def _stream_model(self) -> bytes:
        return self._model.short_hash if self._learned is None else self._learned.name

    def unwritten(self) -> None:
        """The last packet never came anywhere: nothing may refer to it, so a stream begins anew."""
        self._stream, self.memory = None, self._before

    def _still(self, frame: Frame, asks: Mapping[str, Ask]) -> Packet:
        return encode_frame(
            self._model,
            frame,
            {task: ask.regions for task, ask in asks.items()},
            {task: ask.key for task, ask in asks.items()},
            quality=self._settings.quality,
            incarnation=self.memory.incarnation,
            options={task: ask.options for task, ask in asks.items()},
            tags={task: ask.tags for task, ask in asks.items() if ask.options.tags},
        )

    def _streamed(self, frame: Frame, asks: Mapping[str, Ask], fps: float | None) -> StreamPacket:
        size = (frame.image.shape[1], frame.image.shape[0])
        delivered: dict[int, Delivery] = {ask.key: ask.options.deliver for ask in asks.values()}
        if self._stream is not None:
            self._rate = self._stream.other_rate() or self._rate
        if self._stream is None or self._stream.is_over(frame, size, delivered, self._rate):
            rate = self._rate or fps or self._settings.fps or USUAL_FPS
            next_plate = self.memory.next_plate
            if self._stream is not None:
                next_plate = self._stream.next_plate
                self.memory = dataclasses.replace(self.memory, next_plate=next_plate)
            settings = StreamSettings(self._stream_model, rate, self._settings.quality, bitrate=self._settings.bitrate)
            start = StreamStart(self.memory.incarnation, next_plate, lost_frames(self.memory, frame.seq))
            order = None if self._order is None else self._order()
            encoder = StreamEncoder(settings, start, critic=self._critic, learned=self._learned, order=order)
            self._stream = _Stream(encoder, size, rate)
        return self._stream.encode(frame, asks, delivered)


def lost_frames(memory: CameraMemory, seq: int) -> LostFrames | None:
    """Frames between the last one of a camera and number `seq`, with which a stream begins."""
    if memory.next_seq is None or seq <= memory.next_seq:
        return None
    return LostFrames(seq - memory.next_seq, GapReason.UNKNOWN)


class _Stream:
    """A stream from its first frame on: its encoder, and what of the frames tells that another one has to begin."""

    def __init__(self, encoder: StreamEncoder, size: tuple[int, int], fps: float) -> None:
        self._encoder, self._size, self._fps = encoder, size, fps
        self._times: deque[tuple[int, int]] = deque(maxlen=ENOUGH + 1)
        self._delivered: dict[int, Delivery] = {}
        self._tags: dict[int, tuple[int, ...]] = {}

    @property
    def next_plate(self) -> int:
        return self._encoder.start.next_plate

    @property
    def advice(self) -> str | None:
        decision = self._encoder.advice
        return None if decision is None else decision.reason

    def other_rate(self) -> float | None:
        return other_rate(self._fps, self._times)

    def is_over(
        self, frame: Frame, size: tuple[int, int], delivered: Mapping[int, Delivery], rate: float | None
    ) -> bool:
        """Whether a frame needs a stream of its own: of another size, rate or time, or for a task that gets pixels
        from now on and whose packets have had none of the plate and the keys."""
        seq, capture_ns = self._times[-1]
        follows = frame.seq > seq and frame.capture_ns > capture_ns
        same_rate = rate is None or rate == self._fps
        return not (follows and same_rate and size == self._size) or wants_pixels_anew(self._delivered, delivered)

    def encode(self, frame: Frame, asks: Mapping[str, Ask], delivered: Mapping[int, Delivery]) -> StreamPacket:
        regions = {task: ask.regions for task, ask in asks.items()}
        try:
            bare = {key for key, deliver in delivered.items() if deliver == "objects"}
            packet = self._encoder.encode(frame, regions, {task: ask.key for task, ask in asks.items()}, bare)
            packet = self._tagged(packet, asks)
            if all(deliver == "regions" for deliver in delivered.values()):
                packet = stripped_stream(packet)
        except (ValueError, InputError, BitstreamError) as error:
            where = f"camera {frame.camera}, seq {frame.seq}: "
            raise InputError(where + str(error).removeprefix(where)) from error
        self._times.append((frame.seq, frame.capture_ns))
        self._delivered = dict(delivered)
        return packet

    def _tagged(self, packet: StreamPacket, asks: Mapping[str, Ask]) -> StreamPacket:
        """The packet with the tags that readers do not know yet: those of a task hold until it has others, or until a
        packet lists everything."""
        wanted = {ask.key: ask.tags if ask.options.tags else () for ask in asks.values()}
        told: list[tuple[int, tuple[int, ...]]] = []
        for position, key in enumerate(packet.tasks):
            begins = packet.base is None or position in packet.started
            known = () if begins else self._tags.get(key, ())
            if key in wanted and wanted[key] != known:
                told.append((position, wanted[key]))
        self._tags = wanted
        return dataclasses.replace(packet, tags=tuple(told)) if told else packet
