from __future__ import annotations

import crc32c
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discover_stream.types import BitstreamError, LabelSet, Task
from topics.log import MAX_MESSAGE_BYTES, MessageTooLarge, Record
from topics.messages import (
    MAX_ENCODED_BYTES,
    AnyMessage,
    CameraState,
    ClaimBeat,
    DeadMessage,
    EncodeState,
    FrameMessage,
    GapMessage,
    IndexMessage,
    IngestState,
    InquiryRecord,
    LabelSetMessage,
    PlateMessage,
    PointerMessage,
    RetryState,
    TaskRecord,
    TaskRequest,
    dead_message,
    decode,
    decode_as,
    encode,
)

counts = st.integers(0, 2**63 - 1)
times = st.integers(-(2**63), 2**63 - 1)
names = st.text(min_size=1, max_size=20)
messages: st.SearchStrategy[AnyMessage] = st.one_of(
    st.builds(FrameMessage, camera=names, seq=counts, capture_ns=times, jpeg=st.binary(max_size=200)),
    st.builds(GapMessage, camera=names, from_ns=times, to_ns=times, reason=names, next_seq=counts, frames=counts),
    st.builds(
        LabelSetMessage,
        task=names,
        description=st.text(max_size=20),
        version=counts,
        labels=st.lists(names, max_size=5).map(tuple),
        profile=st.sampled_from(["machine", "human"]),
    ),
    st.builds(
        PlateMessage,
        camera=names,
        plate_id=counts,
        parent=st.none() | counts,
        capture_ns=times,
        first_seq=counts,
        codec=names,
        width=st.integers(1, 65535),
        height=st.integers(1, 65535),
        data=st.binary(max_size=100),
    ),
    st.builds(PointerMessage, owner=names, version=counts),
    st.builds(
        IndexMessage,
        camera=names,
        incarnation=counts,
        seq=counts,
        capture_ns=times,
        archive_offset=counts,
        covers_ns=st.integers(1, 2**63 - 1),
    ),
    st.builds(RetryState, retried=st.lists(counts, max_size=5).map(tuple)),
    st.builds(TaskRecord, task=names, version=counts, action=st.sampled_from(["start", "stop"]), at_ns=times),
    st.builds(
        TaskRequest,
        task=names,
        description=names,
        version=counts,
        added=st.booleans(),
        claim=names,
        owner=names,
        failed=names,
        problem=names,
        disabled=st.booleans(),
    ),
    st.builds(ClaimBeat, task=names, claim=names, beat=counts),
    st.builds(
        InquiryRecord,
        task=names,
        version=counts,
        at_ns=times,
        model=names,
        place=names,
        requests=counts,
        tries=counts,
        tokens_in=st.none() | counts,
        tokens_out=st.none() | counts,
        seconds=st.floats(0, 1e6),
        problem=names,
    ),
    st.builds(IngestState, next_seq=counts, last_capture_ns=st.none() | times),
    st.builds(
        EncodeState,
        cameras=st.dictionaries(
            names,
            st.builds(CameraState, incarnation=counts, next_track=st.integers(1, 2**63 - 1)),
            max_size=3,
        ),
    ),
    st.builds(
        DeadMessage,
        reason=names,
        topic=names,
        partition=counts,
        offset=counts,
        deaths=counts,
        at_ns=times,
        key=st.none() | names,
        value=st.none() | st.binary(max_size=100),
    ),
)


@given(messages)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(message: AnyMessage) -> None:
    assert decode(encode(message)) == message
    assert decode_as(type(message), encode(message)) == message


@given(messages)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_truncation_and_every_flipped_byte_is_refused(message: AnyMessage) -> None:
    data = encode(message)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            decode(data[:length])
    for place in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= mask
            with pytest.raises(BitstreamError):
                decode(bytes(damaged))
    with pytest.raises(BitstreamError):
        decode(data + b"\0")


def sealed(body: bytes, version: int = 1) -> bytes:
    return b"DM" + bytes([version]) + crc32c.crc32c(body).to_bytes(4, "little") + body


@given(st.binary(max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_with_a_right_checksum_are_still_not_trusted(body: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode(sealed(body))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "frame", "camera": "c", "seq": -1, "capture_ns": 0, "jpeg": b""},
        {"type": "frame", "camera": "", "seq": 1, "capture_ns": 0, "jpeg": b""},
        {"type": "frame", "camera": "c", "seq": 1.5, "capture_ns": 0, "jpeg": b""},
        {"type": "task", "task": "a", "version": 1, "action": "pause", "at_ns": 0},
        {"type": "encode-state", "cameras": {"a": {"incarnation": 0, "next_track": 0}}},
        {"type": "unheard-of"},
        {"camera": "c"},
        [1, 2],
    ],
)
def test_fields_out_of_bounds_are_refused(fields: object) -> None:
    with pytest.raises(BitstreamError):
        decode(sealed(msgspec.msgpack.encode(fields)))


def test_deeply_nested_bytes_are_refused() -> None:
    with pytest.raises(BitstreamError):
        decode(sealed(b"\x81\xa1x" + b"\x91" * 100_000))


def test_errors_say_what_is_wrong() -> None:
    data = encode(IngestState(next_seq=4))
    with pytest.raises(BitstreamError, match="format 2"):
        decode(sealed(data[7:], version=2))
    with pytest.raises(BitstreamError, match="checksum"):
        decode(data[:-1] + b"\xff")
    with pytest.raises(BitstreamError, match="foreign"):
        decode(b"\xff\xd8\xff\xe0 a bare JPEG")
    with pytest.raises(BitstreamError, match="expected a FrameMessage, found a IngestState"):
        decode_as(FrameMessage, data)


def test_fields_added_later_do_not_disturb() -> None:
    later = msgspec.msgpack.encode({"type": "ingest-state", "next_seq": 3, "added": [1, 2]})
    assert decode(sealed(later)) == IngestState(next_seq=3)


def test_label_sets_come_back_as_tasks() -> None:
    task = Task("vehicles", "all vehicles", LabelSet("vehicles", 3, ("car", "bus")), "human")
    assert decode_as(LabelSetMessage, encode(LabelSetMessage.of(task))).to_task() == task


def test_a_message_too_large_is_refused_but_its_dead_one_fits() -> None:
    frame = FrameMessage(camera="c", seq=0, capture_ns=0, jpeg=bytes(MAX_ENCODED_BYTES))
    with pytest.raises(MessageTooLarge):
        encode(frame)
    largest = encode(FrameMessage(camera="c", seq=0, capture_ns=0, jpeg=bytes(MAX_ENCODED_BYTES - 200)))
    record = Record("frames", 1, 7, 0, "c", largest)
    dead = dead_message(record, "é" * 5000, 3, 99)
    data = encode(dead)
    assert len(data) + len(b"c") <= MAX_MESSAGE_BYTES
    assert decode_as(DeadMessage, data).value == largest
    beyond = dead_message(Record("archive", 1, 7, 0, "c", bytes(MAX_MESSAGE_BYTES - 1)), "", 3, 99)
    assert decode_as(DeadMessage, encode(beyond)).value is None
