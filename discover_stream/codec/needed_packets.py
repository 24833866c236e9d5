"""Which of a camera's packets of stream mode the newest one refers to: what a decoder elsewhere has to be given."""

from __future__ import annotations

import dataclasses

from discover_stream.codec.any_packet import is_plates_alone
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import MAX_HELD_PLATES


class NeededPackets:
    """Takes every packet, and keeps plates and frames as long as the newest packet may refer to them."""

    def __init__(self) -> None:
        self._plates: list[StreamPacket] = []
        self._frames: list[StreamPacket] = []

    def __len__(self) -> int:
        """How many packets are kept."""
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

    def before_newest(self) -> tuple[StreamPacket, ...]:
        """What a decoder that knows nothing needs before the newest packet: plates, then frames in order."""
        parents = {p.plate_id: p.parent for packet in (*self._plates, *self._frames) for p in packet.plates}
        wanted: set[int] = set()
        for frame in self._frames:
            number = frame.plate_id
            while number and number not in wanted:
                wanted.add(number)
                number = parents.get(number, 0)
        plates = [packet for packet in self._plates if any(plate.plate_id in wanted for plate in packet.plates)]
        return (*plates, *self._frames[:-1])

    def pop(self, incarnation: int, seq: int) -> StreamPacket | None:
        """The next packet that is kept, plates first, of those up to a frame; it is kept no longer. None after that."""
        if self._plates:
            return self._plates.pop(0)
        if self._frames and (self._frames[0].incarnation, self._frames[0].seq) <= (incarnation, seq):
            return self._frames.pop(0)
        return None

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
