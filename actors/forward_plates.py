"""Plates on their way from an edge's log to the core's: a plate comes with, or before, the first packet that names it,
also where the packet that brought it was lost."""

from __future__ import annotations

from discover_stream.codec.any_packet import AnyPacket
from discover_stream.codec.plates import MAX_CHAIN
from discover_stream.codec.stream_packet import StreamPacket
from topics.catalogue import PLATES
from topics.immutable import ImmutableTable
from topics.log import Log, Transaction
from topics.messages import PlateMessage
from topics.partitioner import partition_for
from topics.plates import plate_messages


class PlateCopier:
    """For one thread. Reads the plates of one partition of the edge, writes where each camera lies at the core."""

    def __init__(self, edge: Log, partition: int, core: Log, homes: int) -> None:
        self._edge = ImmutableTable(edge, PLATES, partition)
        self._core, self._homes = core, homes
        self._tables: dict[int, ImmutableTable] = {}

    def copy(self, transaction: Transaction, camera: str, packet: AnyPacket, capture_ns: int) -> None:
        """Send the plates that a packet brings or stands on, with those they change, where the core lacks them."""
        if not isinstance(packet, StreamPacket):
            return
        brought = {message.plate_id: message for message in plate_messages(camera, packet, capture_ns)}
        wanted = [*brought, packet.plate_id]
        table = self._table(partition_for(camera, self._homes))
        chain: list[PlateMessage] = []
        seen: set[int] = set()
        while wanted and len(seen) <= 2 * MAX_CHAIN + len(brought):
            plate_id = wanted.pop()
            if not plate_id or plate_id in seen:
                continue
            seen.add(plate_id)
            if (camera, plate_id) in table.versions():
                continue
            message = self._edge.read(PlateMessage, camera, plate_id) or brought.get(plate_id)
            if message is not None:
                chain.append(message)
                wanted.append(message.parent or 0)
        for message in sorted(chain, key=lambda found: found.plate_id):  # the latest is the one sent last
            table.publish(transaction, message)

    def close(self) -> None:
        """Let go of resources."""
        self._edge.close()
        for table in self._tables.values():
            table.close()

    def _table(self, home: int) -> ImmutableTable:
        if home not in self._tables:
            self._tables[home] = ImmutableTable(self._core, PLATES, home)
        return self._tables[home]
