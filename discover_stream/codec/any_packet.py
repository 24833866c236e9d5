"""Packets of either mode, for those who only pass them on, count their bytes or read what they say of regions.

Everything that asks which mode a packet has is in this module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from discover_stream.codec.framing import MODE_STREAM, packet_mode
from discover_stream.codec.packet import Packet, PacketSize, packet_bytes, packet_size, parse_packet, route, stripped
from discover_stream.codec.plates import Clock
from discover_stream.codec.stream_coding import packet_sizes, parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket, route_stream, stripped_stream
from discover_stream.codec.stream_state import MAX_HELD_PLATES

AnyPacket = Packet | StreamPacket
"""What every packet has: `model`, `seq`, `incarnation`, `tasks` (keys) and `tags` (by position of the task)."""

P = TypeVar("P", bound=Packet | StreamPacket)


def parse_any(data: bytes, *, camera: str = "?") -> AnyPacket:
    """Read a packet of either mode.

    Args:
        data: its bytes, exactly.
        camera: named in errors.

    Raises:
        BitstreamError: the bytes are damaged, foreign or beyond a bound; the message names camera, seq (where
            it could be read) and cause.
    """
    if packet_mode(data) == MODE_STREAM:
        return parse_stream_packet(data, camera=camera)
    return parse_packet(data, camera=camera)


def any_packet_bytes(packet: AnyPacket) -> bytes:
    """The packet on the wire. Raises BitstreamError for one beyond 4 MiB."""
    return packet_bytes(packet) if isinstance(packet, Packet) else stream_packet_bytes(packet)


def route_any(packet: P, tasks: Collection[int]) -> P:
    """The packet of a subscriber of `tasks` (keys), payloads as they are. Unknown keys are ignored."""
    routed = route(packet, tasks) if isinstance(packet, Packet) else route_stream(packet, tasks)
    return cast("P", routed)


def regions_only(packet: P) -> P:
    """The packet without anything of the picture: no coarse atom, no atoms, no plates but their clocks.

    Regions, tracks, tags, gaps and what tasks do stay. Routing before or after this gives the same.
    """
    left = stripped(packet) if isinstance(packet, Packet) else stripped_stream(packet)
    return cast("P", left)


def any_packet_size(packet: AnyPacket) -> PacketSize:
    """Where the bytes of a packet go; the parts add up to `len(any_packet_bytes(packet))`.

    All records of a stream packet are side information; `stream_coding.packet_sizes` tells them apart, in bits.
    """
    if isinstance(packet, Packet):
        return packet_size(packet)
    sizes = packet_sizes(packet)
    atoms = (sizes.key_payloads + sizes.refresh_payloads) // 8
    header, plates = sizes.header // 8, sizes.plate_payloads // 8
    return PacketSize(header, sizes.total - header - plates - atoms, 0, atoms, 0, plates)


def picture_sizes(packet: AnyPacket) -> Iterator[tuple[int, int]]:
    """Every (width, height) in pixels that a packet states; none where it relies on earlier ones."""
    if isinstance(packet, Packet):
        yield packet.width, packet.height
        return
    if packet.size is not None:
        yield packet.size
    yield from ((plate.width, plate.height) for plate in packet.plates)


def task_labels(packet: AnyPacket) -> Iterator[tuple[int, int]]:
    """Every (position of a task, label index) that a packet names, in regions, keys and tags."""
    if isinstance(packet, Packet):
        for region in packet.regions:
            yield from region.labels
    else:
        for key in packet.keys:
            yield from key.labels
        for sighting in packet.sightings:
            yield from sighting.labels
    for position, listed in packet.tags:
        yield from ((position, label) for label in listed)


def is_plates_alone(packet: AnyPacket) -> bool:
    """Whether it is no frame, but only brings plates: what is stored under a plate's id, valid at any time."""
    return isinstance(packet, StreamPacket) and not packet.tasks and bool(packet.plates)


@dataclass(frozen=True, slots=True)
class PlateClocks:
    """The clocks of a camera's plates, as far as they came: by which stream packets tell capture times."""

    clocks: Mapping[int, Clock] = field(default_factory=dict)

    def after(self, packet: AnyPacket) -> PlateClocks:
        """With those of the plates that a packet brings."""
        if isinstance(packet, Packet) or not packet.plates:
            return self
        clocks = dict(self.clocks)
        for plate in packet.plates:
            clock = plate.clock or clocks.get(plate.parent)
            if clock is not None:
                clocks.setdefault(plate.plate_id, clock)
        return PlateClocks({number: clocks[number] for number in sorted(clocks)[-MAX_HELD_PLATES:]})

    def capture_ns(self, packet: AnyPacket) -> int | None:
        """A packet's capture time, ns since the epoch; None where the clock it is told by has not come.

        Give it the clocks `after` the packet. Exact in still mode; in stream mode to a microsecond without
        plate, to half a tick of the plate's clock with one.
        """
        if isinstance(packet, Packet):
            return packet.capture_ns
        if packet.capture_us is not None:
            return 1000 * packet.capture_us
        clock = self.clocks.get(packet.plate_id)
        return None if clock is None or packet.drift is None else clock.capture_ns(packet.seq, packet.drift)
