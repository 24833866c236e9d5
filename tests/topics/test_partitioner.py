from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.types import InputError
from topics.partitioner import murmur2, partition_for


@pytest.mark.parametrize(
    ("data", "expected"),
    # The first three are the signed values that Kafka's own Java tests list.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"", 275646681),
    ],
)
def test_known_hashes(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.text(max_size=40), st.integers(1, 64))
@settings(deadline=None)
def test_agrees_with_kafka_python(key: str, partitions: int) -> None:
    theirs = pytest.importorskip("kafka.partitioner.default", reason="kafka-python is not installed")
    assert murmur2(key.encode()) == theirs.murmur2(key.encode()) & 0xFFFFFFFF
    assert partition_for(key, partitions) == (theirs.murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def test_needs_a_partition() -> None:
    with pytest.raises(InputError, match="0 partitions"):
        partition_for("a", 0)
