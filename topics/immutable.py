"""Immutable records: one value for ever under ``owner/version``, and a pointer to the latest under ``owner``.

Plates (``camera/plate_id``) and label sets (``task/version``) are kept this way, in compacted topics. Both
records of a publication, and whatever else the transaction writes, become visible together.

A table trusts what the log shows, so two processes that publish for the same owner at the same time need the
fencing of one stage between them, as everything exactly-once does here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from discover_stream.types import InputError
from topics.log import Log, LogError, Record, Transaction
from topics.message_base import Message
from topics.messages import (
    AnyMessage,
    LabelSetMessage,
    PlateMessage,
    PointerMessage,
    decode,
    decode_as,
    encode,
)
from topics.reading import read_to_end, record_at

M = TypeVar("M", bound=Message)

Immutable = LabelSetMessage | PlateMessage


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is, and what it is known by."""

    partition: int
    offset: int
    digest: bytes


def identity(message: Immutable) -> tuple[str, int]:
    """(owner, version) that a message is published under."""
    if isinstance(message, PlateMessage):
        return message.camera, message.plate_id
    return message.task, message.version


def immutable_key(owner: str, version: int) -> str:
    """The key of one version: ``owner/version``."""
    return f"{owner}/{version}"


class ImmutableTable:
    """What a topic of immutable records holds. Keeps no values in memory; for one thread."""

    def __init__(self, log: Log, topic: str, partition: int | None = None) -> None:
        """Over one partition of the topic, or all. Raises UnknownTopic."""
        self._log, self._topic, self._partition = log, topic, partition
        self._reader = log.reader(topic, None if partition is None else [partition])
        self._places: dict[tuple[str, int], Place] = {}
        self._latest: dict[str, int] = {}
        self._unsettled: tuple[Transaction | None, dict[tuple[str, int], bytes]] = (None, {})

    def versions(self) -> Mapping[tuple[str, int], Place]:
        """(owner, version) -> where it is, of everything that is there now."""
        self._refresh()
        return self._places

    def latest(self, owner: str) -> int | None:
        """The version that was published last; None for an unknown owner."""
        self._refresh()
        return self._latest.get(owner)

    def read(self, kind: type[M], owner: str, version: int) -> M | None:
        """One version; None if it was never published, or was retired. Raises BitstreamError for damaged bytes."""
        self._refresh()
        place = self._places.get((owner, version))
        record = record_at(self._log, self._topic, place.partition, place.offset) if place is not None else None
        return decode_as(kind, record.value) if record is not None and record.value is not None else None

    def read_latest(self, kind: type[M], owner: str) -> M | None:
        """The version published last; None for an unknown owner."""
        version = self.latest(owner)
        return None if version is None else self.read(kind, owner, version)

    def publish(self, transaction: Transaction, message: Immutable) -> bool:
        """Send a version and the pointer to it; False, sending nothing, where the log has exactly this already.

        Raises InputError where it has something else under that version, LogError where the version is being
        published twice, differently, in one transaction.
        """
        owner, version = place = identity(message)
        value = encode(message)
        digest = hashlib.sha256(value).digest()
        if self._unsettled[0] is not transaction:
            self._unsettled = transaction, {}  # what another one sent is in the log by now, or never will be
        sent = self._unsettled[1].get(place)
        if sent is not None:
            if sent != digest:
                raise LogError(f"topic {self._topic}, {owner}/{version}: sent twice, differently, in one transaction")
            return False
        if self._has(message, digest):
            return False
        # Several partitions may hold an owner's records only where the topic has one, or the caller named one.
        transaction.send(self._topic, immutable_key(owner, version), value, partition=self._target())
        pointer = encode(PointerMessage(owner=owner, version=version))
        transaction.send(self._topic, owner, pointer, partition=self._target())
        self._unsettled[1][place] = digest
        return True

    def close(self) -> None:
        """Let go of resources."""
        self._reader.close()

    def _target(self) -> int:
        partitions = list(self._reader.positions)
        if len(partitions) != 1:
            raise LogError(f"topic {self._topic}: publish through a table of one partition, not of {len(partitions)}")
        return partitions[0]

    def _has(self, message: Immutable, digest: bytes) -> bool:
        """Whether the log has this version, with this value. Raises InputError if with another."""
        self._refresh()
        owner, version = identity(message)
        place = self._places.get((owner, version))
        if place is None:
            return False
        # Bytes may differ where another release wrote fields that this one leaves out: the content decides.
        stored = message if place.digest == digest else self.read(type(message), owner, version)
        if stored is None or stored == message:
            return stored is not None
        names = [name for name in message.__struct_fields__ if getattr(stored, name) != getattr(message, name)]
        raise InputError(
            f"topic {self._topic}, {owner}/{version}: the log already has another record under this version "
            f"(other {', '.join(names)}), and versions never change; use a new version"
        )

    def _refresh(self) -> None:
        for record in read_to_end(self._log, self._topic, self._reader):
            self._note(record)

    def _note(self, record: Record) -> None:
        owner, _, version = (record.key or "").rpartition("/")
        if not owner:  # a pointer
            if record.value is None:
                self._latest.pop(version, None)
            else:
                self._latest[version] = _pointed(decode(record.value))
        elif record.value is None:
            self._places.pop((owner, int(version)), None)
        else:
            digest = hashlib.sha256(record.value).digest()
            self._places[owner, int(version)] = Place(record.partition, record.offset, digest)


def _pointed(message: AnyMessage) -> int:
    if isinstance(message, PointerMessage):
        return message.version
    if isinstance(message, LabelSetMessage):  # how pointers were written before there was a message for them
        return message.version
    raise LogError(f"a {type(message).__name__} stands where a pointer to the latest version belongs; use another log")
