"""Pictures of one camera's packets of stream mode for those who only ask for some: decoded as far as is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discover_stream.codec.needed_packets import NeededPackets
from discover_stream.codec.painter import Painters, no_painter
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import InputError

if TYPE_CHECKING:
    from discover_stream.codec.composing import Composite
    from discover_stream.codec.stream_pictures import StreamPictures


class LatePictures:
    """Takes every packet, and decodes none (nor loads what that takes) before a picture is asked for.

    It keeps what the newest packet refers to: whoever asks for the picture of every packet when it comes gets all;
    whoever asks seldom pays for what is shown, not for what passed by.

    Args:
        painters: for atoms and plates of the learned codec.
        camera: named in errors.
    """

    def __init__(self, painters: Painters = no_painter, *, camera: str = "?") -> None:
        self._camera, self._painters = camera, painters
        self._pictures: StreamPictures | None = None
        self._waiting = NeededPackets()

    def __len__(self) -> int:
        """How many packets wait to be decoded."""
        return len(self._waiting)

    def add(self, packet: StreamPacket) -> None:
        """The next packet, or plates that were fetched."""
        self._waiting.add(packet)

    def picture(self, incarnation: int, seq: int) -> Composite:
        """The picture of a frame whose packet came, of all its tasks.

        Raises:
            BitstreamError: a packet it needs is damaged; it counts as lost then.
            InputError: frames after it were decoded already, or it is older than what is kept; or nothing was sent
                but regions.
        """
        where, pictures = f"camera {self._camera}, seq {seq}", self._decoder()
        while (packet := self._waiting.pop(incarnation, seq)) is not None:
            pictures.take(packet)
        state = pictures.state
        if (state.incarnation, state.seq) != (incarnation, seq):
            raise InputError(f"{where}: its picture is gone; ask for pictures in the order of their frames, at once")
        if any(task.regions_only for task in state.tasks.values() if task.seq == seq):
            raise InputError(
                f"{where}: this packet holds regions only and nothing of the picture; decode one of a task that is"
                " delivered with pixels"
            )
        return pictures.compose()

    def _decoder(self) -> StreamPictures:
        if self._pictures is None:
            from discover_stream.codec.stream_pictures import StreamPictures

            self._pictures = StreamPictures(self._painters, camera=self._camera)
        return self._pictures
