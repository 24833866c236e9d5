"""Which partition a key belongs to: one rule for every backend.

The rule is the one Kafka's own clients use (MurmurHash2, 32 bits, little-endian, Kafka's seed, sign bit
dropped), so a record written by any Kafka client lands where this project looks for it.
"""

from __future__ import annotations

from discover_stream.types import InputError

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """MurmurHash2 of `data` with Kafka's seed: an unsigned 32-bit integer."""
    whole = len(data) & ~3
    value = (_SEED ^ len(data)) & _MASK
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MIX & _MASK
        word = (word ^ word >> 24) * _MIX & _MASK
        value = (value * _MIX & _MASK) ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MIX & _MASK
    value = (value ^ value >> 13) * _MIX & _MASK
    return value ^ value >> 15


def partition_for(key: str, partitions: int) -> int:
    """The partition, 0..`partitions`-1, that records with `key` go to.

    Raises InputError when `partitions` is less than one.
    """
    if partitions < 1:
        raise InputError(f"cannot place key {key!r} in {partitions} partitions: at least one is needed")
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
