"""What a stage of a Kafka cluster keeps beside its positions: who holds it, where its state is, what it tried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka import TopicPartition

from topics.log import LogError

MAX_METADATA_BYTES = 4000
"""What brokers keep beside a position, in bytes (their offset.metadata.max.bytes, less some room)."""

MAX_OWNER_CHARACTERS = 200
"""So much of a holder's name is kept."""

Attempt = tuple[str, int, int]
"""Topic, partition and offset of a record that work began on."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way into a partition of the broker."""

    place: TopicPartition
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Card:
    """What a stage keeps beside its positions. `state` is an offset in the stage's partition of states."""

    owner: str
    token: str
    state: int | None = None
    attempts: Mapping[Attempt, int] = field(default_factory=dict)

    def encode(self) -> str:
        """As the metadata of a position."""
        attempts = [[*attempt, count] for attempt, count in self.attempts.items()]
        return json.dumps([self.owner, self.token, self.state, attempts], separators=(",", ":"))

    def check_size(self, stage: str) -> None:
        """Raise LogError when this is more than a broker keeps of `stage`."""
        if len(self.encode()) > MAX_METADATA_BYTES:
            raise LogError(
                f"stage {stage}: {len(self.attempts)} records were begun and not finished, more than can be counted: "
                "commit a position past them"
            )

    @classmethod
    def decode(cls, text: str, group: str) -> Card:
        """From the metadata of a position of `group`. Raises LogError for one that was not written here."""
        try:
            owner, token, state, attempts = json.loads(text)
            return cls(owner, token, state, {(a, b, c): count for a, b, c, count in attempts})
        except (ValueError, TypeError) as error:
            raise LogError(
                f"group {group}: what its stage keeps on the broker was written by another version of discover-stream: "
                "use that version, or delete the group to start the stage from the beginning"
            ) from error


@dataclass(frozen=True, slots=True)
class StagePlace:
    """Where a stage keeps what: its names on the broker, and the partition of states that is its own."""

    identity: str
    transactional_id: str
    group: str
    card: TopicPartition
    states: TopicPartition
    prefix: str
