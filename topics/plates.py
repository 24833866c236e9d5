"""Plates in their topic: what a reader looks up that comes after the packet in which a plate was sent.

A plate is stored as the packet of stream mode that brings it alone (without tasks), so that a reader of packets
needs nothing else to use it.
"""

from __future__ import annotations

import dataclasses

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.plates import MAX_CHAIN, Plate
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import BitstreamError
from topics.catalogue import PLATES
from topics.immutable import ImmutableTable
from topics.log import Log
from topics.messages import PlateMessage
from topics.partitioner import partition_for

PACKET_CODEC = "packet"
"""How the data of a plate's message is coded."""


def plate_message(camera: str, packet: StreamPacket, plate: Plate, capture_ns: int) -> PlateMessage:
    """What is published of a plate with the first packet that names it.

    Args:
        camera: its name.
        packet: which brings the plate.
        plate: one of the packet's.
        capture_ns: of the packet's frame.

    Raises BitstreamError for a plate beyond 4 MiB.
    """
    alone = StreamPacket(
        packet.model,
        packet.seq,
        packet.incarnation,
        0,
        packet.seq,
        (),
        capture_us=capture_ns // 1000,
        size=(plate.width, plate.height),
        plates=(dataclasses.replace(plate, members=()),),
        regions_only=packet.regions_only,
    )
    return PlateMessage(
        camera=camera,
        plate_id=plate.plate_id,
        parent=plate.parent or None,
        capture_ns=capture_ns,
        first_seq=packet.seq,
        codec=PACKET_CODEC,
        width=plate.width,
        height=plate.height,
        data=stream_packet_bytes(alone),
    )


def plate_messages(camera: str, packet: AnyPacket, capture_ns: int) -> tuple[PlateMessage, ...]:
    """What is published together with a packet: a record for each of the plates that it brings; see `plate_message`."""
    if not isinstance(packet, StreamPacket):
        return ()
    return tuple(plate_message(camera, packet, plate, capture_ns) for plate in packet.plates)


class PlateShelf:
    """The plates that a log keeps of its cameras. For one thread; opens nothing before the first plate is asked for.

    Args:
        log: where they are.
        partition: in which all the cameras lie that will be asked for; None to find each camera's own.
    """

    def __init__(self, log: Log, partition: int | None = None) -> None:
        self._log, self._partition = log, partition
        self._tables: dict[int, ImmutableTable] = {}
        self._partitions: int | None = None
        self._missing: dict[str, int] = {}

    def fetch(self, camera: str, plate_id: int) -> tuple[StreamPacket, ...]:
        """The packets that bring a plate and those it is a change to, first to last; as far as the log has them.

        A plate is committed before any packet of a task that names it: the last one of a camera that was not there is
        not looked for again. Raises BitstreamError for damaged bytes.
        """
        if self._missing.get(camera) == plate_id:
            return ()
        wanted = plate_id
        found: list[StreamPacket] = []
        while plate_id and len(found) <= MAX_CHAIN:
            packet = self._read(camera, plate_id)
            if packet is None:
                if plate_id == wanted:
                    self._missing[camera] = plate_id
                break
            found.append(packet)
            plate_id = packet.plates[0].parent
        return tuple(reversed(found))

    def close(self) -> None:
        """Let go of resources."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _read(self, camera: str, plate_id: int) -> StreamPacket | None:
        table = self._table(camera)
        message = None if table is None else table.read(PlateMessage, camera, plate_id)
        if message is None or message.codec != PACKET_CODEC:
            return None
        packet = parse_stream_packet(message.data, camera=camera)
        if [plate.plate_id for plate in packet.plates] != [plate_id] or packet.tasks:
            raise BitstreamError(f"camera {camera}, plate {plate_id}: its record holds something else")
        return packet

    def _table(self, camera: str) -> ImmutableTable | None:
        """The camera's; None where the log has no topic of plates."""
        if self._partitions is None:
            self._partitions = next((spec.partitions for spec in self._log.topics() if spec.name == PLATES), 0)
        if not self._partitions:
            return None
        partition = partition_for(camera, self._partitions) if self._partition is None else self._partition
        if partition not in self._tables:
            self._tables[partition] = ImmutableTable(self._log, PLATES, partition)
        return self._tables[partition]
