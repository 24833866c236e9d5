from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.kafka_configs import broker_settings, decode_spec, differences, encode_spec, spec_on_broker
from topics.log import LogError, Retention, TopicSpec

bounds = st.none() | st.integers(0, 2**60)
specs = st.builds(
    TopicSpec,
    name=st.just("t"),
    partitions=st.integers(1, 1024),
    keyed=st.booleans(),
    guarded=st.booleans(),
    retention=st.builds(Retention, bounds, bounds),
    purpose=st.text(max_size=20),
) | st.builds(TopicSpec, name=st.just("t"), partitions=st.integers(1, 9), compacted=st.just(True))


@given(specs)
def test_a_specification_survives_its_record_and_the_broker(spec: TopicSpec) -> None:
    assert decode_spec("t", encode_spec(spec)) == spec
    assert spec_on_broker(spec, spec.partitions, broker_settings(spec, 3)) == spec
    assert differences(spec, 3, broker_settings(spec, 3)) == {}


def test_age_and_bytes_reach_the_broker_but_a_guarded_age_does_not() -> None:
    kept = Retention(age_ns=3_600 * 10**9 + 1, max_bytes=80 * 1024 * 1024)
    plain = broker_settings(TopicSpec("t", 1, retention=kept), 1)
    assert (plain["retention.ms"], plain["retention.bytes"]) == ("3600001", str(80 * 1024 * 1024))
    assert (plain["segment.ms"], plain["segment.bytes"]) == ("360000", str(10 * 1024 * 1024))
    guarded = broker_settings(TopicSpec("t", 1, guarded=True, retention=kept), 1)
    assert (guarded["retention.ms"], guarded["retention.bytes"]) == ("-1", str(80 * 1024 * 1024))
    forever = broker_settings(TopicSpec("t", 1), 1)
    assert (forever["retention.ms"], forever["retention.bytes"]) == ("-1", "-1")


def test_segments_are_never_smaller_than_a_broker_allows() -> None:
    tiny = broker_settings(TopicSpec("t", 1, retention=Retention(age_ns=1, max_bytes=1)), 1)
    assert int(tiny["segment.bytes"]) == 1024 * 1024
    assert tiny["retention.ms"] == "1"


def test_one_copy_may_be_missing_of_three() -> None:
    assert [broker_settings(TopicSpec("t", 1), copies)["min.insync.replicas"] for copies in (1, 2, 3)] == [
        "1",
        "1",
        "2",
    ]


def test_what_somebody_changed_on_the_broker_shows() -> None:
    spec = TopicSpec("t", 2, retention=Retention(age_ns=10**9))
    settings = broker_settings(spec, 1) | {"retention.ms": "5000", "retention.bytes": "77"}
    assert spec_on_broker(spec, 4, settings) == TopicSpec("t", 4, retention=Retention(5 * 10**9, 77))
    assert differences(spec, 1, settings) == {"retention.ms": "1000", "retention.bytes": "-1"}
    assert spec_on_broker(spec, 2, settings | {"cleanup.policy": "compact"}).compacted


@pytest.mark.parametrize("record", [b"", b"[]", b'{"partitions": 1}', b"\xff"])
def test_records_of_another_program_are_named(record: bytes) -> None:
    with pytest.raises(LogError, match="topic t: its specification"):
        decode_spec("t", record)
