"""Frames as encoding reads them from the log."""

from __future__ import annotations

from dataclasses import dataclass

from discover_stream.types import BitstreamError, Frame, InputError
from topics.log import Record
from topics.messages import FrameMessage, decode


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame as ingest wrote it, and the frames a second that its source says it has; None where it does not."""

    frame: Frame
    fps: float | None = None


Decoded = Captured | InputError | BitstreamError | None
"""What a record turned out to hold: a frame, why it cannot be used, or None for anything else."""


def read_frame(record: Record) -> Decoded:
    """The frame in a record of the frames topic, None for other messages, or why it cannot be used."""
    from discover_stream.video.jpeg import decode_jpeg

    if record.value is None:
        return None
    try:
        message = decode(record.value)
        if not isinstance(message, FrameMessage):
            return None
        frame = Frame(message.camera, message.seq, message.capture_ns, decode_jpeg(message.jpeg))
        return Captured(frame, message.fps or None)
    except (InputError, BitstreamError) as error:
        return error
