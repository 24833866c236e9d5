"""Reading one camera's packets, of either mode, for regions and, where somebody asks, for pictures."""

from __future__ import annotations

from collections.abc import Sequence

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.follow import FetchPlates, Reading, read_packet
from discover_stream.codec.late_pictures import LatePictures
from discover_stream.codec.needed_packets import NeededPackets
from discover_stream.codec.painter import Painters, no_painter
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import StreamState


class CameraReader:
    """One camera's packets in order: what each says with those before it, and the pictures of those of stream mode.

    For packets of still mode it needs nothing; those of stream mode are kept as long as pictures may need them, for
    `pictures` of its own and for a decoder elsewhere, which is given what is `needed`. `painters` are for atoms of the
    learned codec.
    """

    def __init__(self, camera: str, fetch: FetchPlates, painters: Painters = no_painter) -> None:
        self._camera, self._fetch = camera, fetch
        self._state = StreamState()
        self.pictures = LatePictures(painters, camera=camera)
        self.needed = NeededPackets()
        self.begun = False

    def read(self, packet: AnyPacket) -> Reading:
        """Take in the next packet. Raises BitstreamError for one that contradicts what came before."""
        reading = read_packet(self._state, packet, self._plates, camera=self._camera)
        if isinstance(packet, StreamPacket):
            self.begun = True
            if reading.state is not self._state:  # else it came after later ones
                self._keep(packet)
            self._state = reading.state
        return reading

    def _plates(self, number: int) -> Sequence[StreamPacket]:
        found = self._fetch(number)
        for packet in found:
            self._keep(packet)
        return found

    def _keep(self, packet: StreamPacket) -> None:
        self.pictures.add(packet)
        self.needed.add(packet)
