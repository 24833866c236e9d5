"""What every backend refuses, decided before anything is sent."""

from __future__ import annotations

import re

from topics.log import MAX_MESSAGE_BYTES, LogError, MessageTooLarge, TopicSpec, UnknownTopic
from topics.partitioner import partition_for

MAX_PARTITIONS = 1024
_TOPIC_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_GROUP_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def check_topic(spec: TopicSpec) -> None:
    """Raise LogError unless a topic with this specification can exist on every backend."""
    if not _TOPIC_NAME.fullmatch(spec.name):
        raise LogError(f"topic name {spec.name!r}: use 1 to 200 lower-case letters, digits, '.', '_' or '-'")
    if not 1 <= spec.partitions <= MAX_PARTITIONS:
        raise LogError(f"topic {spec.name}: {spec.partitions} partitions; use 1 to {MAX_PARTITIONS}")
    if spec.compacted and not spec.keyed:
        raise LogError(f"topic {spec.name}: a compacted topic must be keyed")
    for bound in (spec.retention.age_ns, spec.retention.max_bytes):
        if bound is not None and bound < 0:
            raise LogError(f"topic {spec.name}: retention {bound} is negative; use None for no bound")


def check_group(group: str) -> None:
    """Raise LogError for a name that cannot be a subscriber's group."""
    if not _GROUP_NAME.fullmatch(group):
        raise LogError(f"group name {group!r}: use 1 to 200 letters, digits, '.', '_' or '-'")


def check_partition(spec: TopicSpec, partition: int) -> None:
    """Raise UnknownTopic for a partition that the topic does not have."""
    if not 0 <= partition < spec.partitions:
        raise UnknownTopic(f"topic {spec.name}: there is no partition {partition}, only 0 to {spec.partitions - 1}")


def check_trimmable(spec: TopicSpec) -> None:
    """Raise LogError for a compacted topic: brokers refuse to cut those, so no backend does."""
    if spec.compacted:
        raise LogError(
            f"topic {spec.name}: is compacted, so its records go by key; write tombstones for what is not needed"
        )


def transactional_id(stage: str, partition: int) -> str:
    """``stage-partition``, the name that fencing goes by. Raises LogError for an unusable stage name."""
    if not 1 <= len(stage) <= 200 or not stage.isprintable():
        raise LogError(f"stage name {stage!r}: use 1 to 200 printable characters")
    if partition < 0:
        raise LogError(f"stage {stage}: partition {partition} is negative")
    return f"{stage}-{partition}"


def stage_group(transactional: str) -> str:
    """The group of a stage's input offsets: apart from every subscriber's, since those hold no colon."""
    return f"stage:{transactional}"


def place(spec: TopicSpec, key: str | None, value: bytes | None, partition: int | None) -> int:
    """The partition for a record, once the topic has accepted it.

    Raises MessageTooLarge, UnknownTopic (no such partition), or LogError (a key or value is missing).
    """
    if key is None and spec.keyed:
        raise LogError(f"topic {spec.name}: is keyed, so every record needs a key")
    if value is None and not spec.compacted:
        raise LogError(f"topic {spec.name}: only compacted topics take a record without a value")
    size = len(key.encode() if key is not None else b"") + len(value or b"")
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"topic {spec.name}, key {key!r}: a record of {size} bytes is larger than {MAX_MESSAGE_BYTES}; "
            "send smaller pictures or a higher compression"
        )
    if partition is None:
        return partition_for(key, spec.partitions) if key is not None else 0
    check_partition(spec, partition)
    return partition
