"""Pictures of one camera's packets of stream mode for those who only ask for some: decoded as far as is asked for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from discover_stream.codec.any_packet import is_plates_alone
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import MAX_HELD_PLATES
from discover_stream.types import InputError

if TYPE_CHECKING:
    from discover_stream.codec.atom_sprites import Painter
    from discover_stream.codec.composing import Composite
    from discover_stream.codec.stream_pictures import StreamPictures


class LatePictures:
    """Takes every packet, and decodes none (nor loads what that takes) before a picture is asked for.

    It keeps what the newest packet refers to: whoever asks for the picture of every packet when it comes gets all;
    whoever asks seldom pays for what is shown, not for what passed by.

    Args:
        painter: for atoms and plates of the learned codec.
        camera: named in errors.
    """

    def __init__(self, painter: Painter | None = None, *, camera: str = "?") -> None:
        self._camera, self._painter = camera, painter
        self._pictures: StreamPictures | None = None
        self._plates: list[StreamPacket] = []
        self._frames: list[StreamPacket] = []

    def __len__(self) -> int:
        """How many packets wait to be decoded."""
        return len(self._plates) + len(self._frames)

    def add(self, packet: StreamPacket) -> None:
        """The next packet, or plates that were fetched."""
        if is_plates_alone(packet):
            self._keep_plates(packet)
            return
        self._frames.append(packet)
        needed = [frame for frame in self._frames if _needed(frame, packet)]
        for frame in self._frames[: len(self._frames) - len(needed)]:
            if frame.plates:
                self._keep_plates(_plates_of(frame))
        self._frames = needed

    def picture(self, incarnation: int, seq: int) -> Composite:
        """The picture of a frame whose packet came, of all its tasks.

        Raises:
            BitstreamError: a packet it needs is damaged; it counts as lost then.
            InputError: frames after it were decoded already, or it is older than what is kept; or nothing was sent
                but regions.
        """
        where, pictures = f"camera {self._camera}, seq {seq}", self._decoder()
        while self._plates:
            pictures.take(self._plates.pop(0))
        while self._frames and (self._frames[0].incarnation, self._frames[0].seq) <= (incarnation, seq):
            pictures.take(self._frames.pop(0))
        state = pictures.state
        if (state.incarnation, state.seq) != (incarnation, seq):
            raise InputError(f"{where}: its picture is gone; ask for pictures in the order of their frames, at once")
        if any(task.regions_only for task in state.tasks.values()):
            raise InputError(
                f"{where}: this packet holds regions only and nothing of the picture; decode one of a task that is"
                " delivered with pixels"
            )
        return pictures.compose()

    def _decoder(self) -> StreamPictures:
        if self._pictures is None:
            from discover_stream.codec.stream_pictures import StreamPictures

            self._pictures = StreamPictures(self._painter, camera=self._camera)
        return self._pictures

    def _keep_plates(self, packet: StreamPacket) -> None:
        self._plates = [*self._plates, packet][-MAX_HELD_PLATES:]


def _needed(frame: StreamPacket, newest: StreamPacket) -> bool:
    return frame.incarnation == newest.incarnation and frame.seq >= newest.oldest_ref


def _plates_of(frame: StreamPacket) -> StreamPacket:
    """A packet that brings a frame's plates and nothing else."""
    plates = tuple(dataclasses.replace(plate, members=()) for plate in frame.plates)
    size = plates[0].width, plates[0].height
    return StreamPacket(
        frame.model,
        frame.seq,
        frame.incarnation,
        0,
        frame.seq,
        (),
        capture_us=0,
        size=size,
        plates=plates,
        regions_only=frame.regions_only,
    )
