"""What a topic is, as settings of a broker's topic, and back: pure functions.

A broker deletes whole closed segments only, so segments are a fraction of what a topic may keep: age is kept
to about a tenth, bytes to about an eighth (or one segment of 1 MiB, the smallest there is). Compaction leaves
the open segment alone too, so compacted topics close theirs after 16 MiB or an hour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from topics.kafka_errors import MAX_BATCH_BYTES
from topics.log import LogError, Retention, TopicSpec

_MIB = 1024 * 1024
_NS_PER_MS = 1_000_000
_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_FOREVER = "-1"
_PARTS_OF_AGE = 10
_PARTS_OF_BYTES = 8
CREATED_WITH = ("cleanup.policy", "message.timestamp.type")
"""Settings that say where records are and when they came: an existing topic must have them already."""


def broker_settings(spec: TopicSpec, replication: int) -> dict[str, str]:
    """The settings of the broker's topic for `spec`, with `replication` copies of every partition."""
    age_ms = None if spec.retention.age_ns is None else -(-spec.retention.age_ns // _NS_PER_MS)
    max_bytes = spec.retention.max_bytes
    settings = {
        "cleanup.policy": "compact" if spec.compacted else "delete",
        # Capture times of a wrong clock would expire at once, or be refused: they are in the payload.
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_BATCH_BYTES),
        "min.insync.replicas": "2" if replication >= 3 else "1",
        "retention.ms": _FOREVER if age_ms is None or spec.guarded else str(age_ms),
        "retention.bytes": _FOREVER if max_bytes is None else str(max_bytes),
        "segment.bytes": str(_clamp((max_bytes or 1024 * _MIB) // _PARTS_OF_BYTES, _MIB, 256 * _MIB)),
        "segment.ms": str(_clamp((age_ms or 7 * _DAY_MS) // _PARTS_OF_AGE, _MINUTE_MS, _DAY_MS)),
    }
    if spec.compacted:
        settings |= {
            "segment.bytes": str(16 * _MIB),
            "segment.ms": str(60 * _MINUTE_MS),
            "min.cleanable.dirty.ratio": "0.3",
            "delete.retention.ms": str(_DAY_MS),
        }
    return settings


def spec_on_broker(wanted: TopicSpec, partitions: int, settings: Mapping[str, str]) -> TopicSpec:
    """`wanted` as it is on the broker: its partitions, its compaction, and its retention where that was changed."""
    policy = settings.get("cleanup.policy", "delete")
    expected = broker_settings(wanted, 1)
    age_ns, max_bytes = wanted.retention.age_ns, wanted.retention.max_bytes
    if "delete" in policy.split(",") or not wanted.compacted:
        if settings["retention.ms"] != expected["retention.ms"]:
            age_ns = _bound(settings["retention.ms"], _NS_PER_MS)
        if settings["retention.bytes"] != expected["retention.bytes"]:
            max_bytes = _bound(settings["retention.bytes"], 1)
    return replace(
        wanted,
        partitions=partitions,
        compacted="compact" in policy.split(","),
        retention=Retention(age_ns, max_bytes),
    )


def differences(spec: TopicSpec, replication: int, settings: Mapping[str, str]) -> dict[str, str]:
    """Settings that an existing topic must be given for `spec`."""
    return {name: value for name, value in broker_settings(spec, replication).items() if settings.get(name) != value}


def encode_spec(spec: TopicSpec) -> bytes:
    """A specification as a record."""
    age_ns, max_bytes = spec.retention.age_ns, spec.retention.max_bytes
    body = {
        "partitions": spec.partitions,
        "keyed": spec.keyed,
        "compacted": spec.compacted,
        "guarded": spec.guarded,
        "age_ns": age_ns,
        "max_bytes": max_bytes,
        "purpose": spec.purpose,
    }
    return json.dumps(body).encode()


def decode_spec(name: str, record: bytes) -> TopicSpec:
    """The specification of topic `name` in a record. Raises LogError for one that was not written here."""
    try:
        body = json.loads(record)
        retention = Retention(body.pop("age_ns"), body.pop("max_bytes"))
        return TopicSpec(name, retention=retention, **body)
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(
            f"topic {name}: its specification on the broker is of another version of this program; "
            "apply the catalogue again"
        ) from error


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _bound(text: str, unit: int) -> int | None:
    return None if int(text) < 0 else int(text) * unit
