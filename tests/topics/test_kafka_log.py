"""What only a Kafka cluster can do to a log: open transactions, markers, topics and groups of others."""

# A transaction is a block, and its end is what raises:
# ruff: noqa: PT012

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaTimeoutError
from kafka.record import util as checksums
from log_backends import SPECS, in_child, records, values

from topics import kafka_client, open_log
from topics.kafka import KafkaLog
from topics.kafka_stage import KafkaStage
from topics.log import (
    AtOffset,
    Fenced,
    Gap,
    LogError,
    MessageTooLarge,
    OffsetOutOfRange,
    Record,
    Retention,
    TopicSpec,
    UnknownTopic,
    lag,
    latest_by_key,
)


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    with open_log(kafka_url) as opened:
        assert isinstance(opened, KafkaLog)
        opened.create_topics(SPECS)
        yield opened


def admin_of(log: KafkaLog) -> KafkaAdminClient:
    return KafkaAdminClient(**log.settings.client_options())


def alter(log: KafkaLog, topic: str, settings: dict[str, str]) -> None:
    with admin_of(log) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, log.settings.prefix + topic, settings)])


# --- without a broker -------------------------------------------------------------------------------------


def test_checksums_in_python_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_client.check_checksums()
    monkeypatch.setattr(checksums.calc_crc32c, "__defaults__", (checksums.crc32c_py,))
    with pytest.raises(LogError, match=r"pip install 'kafka-python\[crc32c\]'"):
        open_log("kafka:localhost:9092")


def test_a_broker_that_is_absent_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_S", 0.3)
    with open_log("kafka:localhost:1") as log:
        for use in (lambda: log.append("in", "k", b""), lambda: log.create_topics(SPECS), log.topics):
            with pytest.raises(LogError, match=r"no answer from localhost:1 .*check the address") as caught:
                use()
            assert "\n" not in str(caught.value)


# --- topics -------------------------------------------------------------------------------------------------


def test_a_topic_shows_what_the_broker_has(log: KafkaLog) -> None:
    kept = TopicSpec("kept", 2, keyed=False, guarded=True, retention=Retention(10**15, 10**8), purpose="a purpose")
    log.create_topics([kept])
    with open_log(log.settings.address()) as other:
        assert kept in other.topics()
        alter(log, "kept", {"retention.bytes": "123456789"})
        alter(log, "in", {"retention.ms": "60000"})
        seen = {spec.name: spec for spec in other.topics()}
        assert seen["kept"].retention == Retention(10**15, 123456789)
        assert seen["in"].retention == Retention(60 * 10**9, None)
        other.create_topics([kept, *SPECS])
        assert {spec.name: spec for spec in log.topics()} == {spec.name: spec for spec in (kept, *SPECS)}


def test_topics_of_other_programs_are_neither_listed_nor_taken(log: KafkaLog) -> None:
    name = log.settings.prefix + "theirs"
    with admin_of(log) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    assert "theirs" not in {spec.name for spec in log.topics()}
    with pytest.raises(UnknownTopic, match="theirs"):
        log.append("theirs", "k", b"")
    with pytest.raises(LogError, match=r"theirs: exists with message.timestamp.type=CreateTime"):
        log.create_topics([TopicSpec("theirs", 1)])


def test_no_client_has_a_broker_create_topics(log: KafkaLog) -> None:
    log.append("in", "k", b"", partition=0)
    clients = log._clients
    clusters = [clients.lookup()._cluster, clients.producer()._metadata, log.stage("s", 0, "a")._producer._metadata]
    assert [cluster.metadata_request().allow_auto_topic_creation for cluster in clusters] == [False] * 3


def test_more_copies_than_brokers(log: KafkaLog) -> None:
    with (
        open_log(log.settings.address() + "&replication=3") as wanting,
        pytest.raises(LogError, match="fewer brokers than the address asks"),
    ):
        wanting.create_topics([TopicSpec("copied", 1)])


def test_prefixes_keep_systems_apart(log: KafkaLog, kafka_url: str) -> None:
    log.append("in", "k", b"ours", partition=0)
    log.reader("in", group="viewer").commit({0: 1})
    with open_log(kafka_url + "other.") as other:
        assert other.topics() == ()
        other.create_topics([TopicSpec("in", 1), TopicSpec("state", 1, compacted=True)])
        assert values(other, "in") == []
        assert other.groups() == ()
        assert other.committed("viewer", "in", 0) is None
        mine, theirs = log.stage("encode", 0, "a"), other.stage("encode", 0, "b")
        for stage in (mine, theirs):
            with stage.transaction() as tx:
                tx.set_state(b"not fenced")
    assert values(log, "in") == [b"ours"]


# --- markers and open transactions ----------------------------------------------------------------------------


def test_an_erased_log_leaves_nothing_on_the_broker(log: KafkaLog, kafka_url: str) -> None:
    stage = log.stage("encode", 0, "a")
    with stage.transaction() as tx:
        tx.send("out", "k", b"v")
        tx.set_state(b"s")
    with open_log(kafka_url.replace("prefix=", "prefix=other-")) as other:
        other.create_topics(SPECS[:1])
        assert log.erase() == len(SPECS)
        assert log.topics() == ()
        assert log.erase() == 0
        with admin_of(log) as admin:
            prefix = log.settings.prefix
            assert [name for name in admin.list_topics() if name.startswith(prefix)] == []
            positions = admin.list_group_offsets({prefix + stage.group: None})[prefix + stage.group]
        assert not any(item.offset >= 0 for item in positions.values())
        assert [spec.name for spec in other.topics()] == ["in"]
        assert isinstance(other, KafkaLog)
        other.erase()
    log.create_topics(SPECS)
    assert log.stage("encode", 0, "b").state is None


def test_positions_pass_markers_and_aborted_records(log: KafkaLog) -> None:
    stage = log.stage("s", 0, "a")
    for number in range(3):
        with stage.transaction() as tx:
            tx.send("out", "k", b"%d" % number, partition=0)
    abort(stage, log, b"aborted")
    reader = log.reader("out", [0], group="viewer")
    found = reader.poll()
    assert [item.value for item in found] == [b"0", b"1", b"2"]
    assert reader.poll() == []
    last = found[-1].offset
    assert log.bounds("out", 0).end == last + 1, "markers and aborted records are nothing to wait for"
    assert reader.positions[0] > last + 1
    reader.commit({0: last + 1})
    assert lag(log, "viewer", "out", [0]) == {0: 0}
    reader.commit()
    assert lag(log, "viewer", "out", [0]) == {0: 0}
    assert values(log, "out", 0, AtOffset(reader.positions[0])) == []
    assert log.offset_at("out", 0, time.time_ns(), "at_or_before") == last
    assert latest_by_key(log, "out")["k"].value == b"2"


def abort(stage: KafkaStage, log: KafkaLog, value: bytes) -> None:
    """Have a transaction sent, and then aborted."""
    producer = stage._producer
    producer.begin_transaction()
    producer.send(log.settings.prefix + "out", value, b"k", partition=0).get(timeout=30)
    producer.settle_abort(30)


def _die_before_the_commit(url: str) -> None:
    with open_log(url) as log:
        stage = log.stage("encode", 0, "victim")
        assert isinstance(stage, KafkaStage)
        with stage.transaction() as tx:
            tx.send("out", "k", b"committed", partition=0)
            tx.commit_offset("in", 0, 1)
            tx.set_state(b"committed")
        stage._producer.settle_commit = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        with stage.transaction() as tx:
            tx.send("out", "k", b"lost", partition=0)
            tx.send("other", "k", bytes(1_000_000), partition=0)
            tx.commit_offset("in", 0, 2)
            tx.set_state(b"lost")


def test_an_open_transaction_of_a_dead_process_ends_with_its_heir(log: KafkaLog, kafka_url: str) -> None:
    assert in_child(_die_before_the_commit, kafka_url) == -signal.SIGKILL
    log.append("out", "k", b"after", partition=0)
    reader = log.reader("out", [0])
    assert [item.value for item in reader.poll()] == [b"committed"], "nobody knows yet what becomes of the rest"
    neighbour = log.stage("route", 0, "same partition of states")
    with neighbour.transaction() as tx:
        tx.set_state(b"is not held up")
    assert log.stage("route", 0, "again").state == b"is not held up"
    heir = log.stage("encode", 0, "heir")
    assert (heir.state, dict(heir.offsets)) == (b"committed", {("in", 0): 1})
    assert [item.value for item in reader.poll(timeout_s=10)] == [b"after"]
    assert values(log, "other") == []
    with heir.transaction() as tx:
        tx.commit_offset("in", 0, 2)
    assert log.committed(heir.group, "in", 0) == 2


def test_a_zombie_between_its_sends_and_its_commit_is_fenced(log: KafkaLog) -> None:
    zombie = log.stage("encode", 0, "zombie")
    commit = zombie._producer.settle_commit

    def commit_late(wait_s: float) -> None:
        heir = log.stage("encode", 0, "heir")
        with heir.transaction() as tx:
            tx.send("out", "k", b"heir", partition=0)
        commit(wait_s)

    zombie._producer.settle_commit = commit_late
    with pytest.raises(Fenced, match=r"zombie was replaced by heir"), zombie.transaction() as tx:
        tx.send("out", "k", b"zombie", partition=0)
        tx.commit_offset("in", 0, 1)
        tx.set_state(b"zombie")
    with pytest.raises(Fenced, match="heir"), zombie.transaction():
        pass
    assert values(log, "out", 0) == [b"heir"]
    last = log.stage("encode", 0, "last")
    assert (last.state, dict(last.offsets)) == (None, {})


def test_a_commit_without_an_answer_is_settled_by_acquiring_again(log: KafkaLog) -> None:
    for answered in (False, True):
        stage = log.stage("encode", 0, "a")
        commit = stage._producer.settle_commit

        def no_answer(wait_s: float, commit=commit, answered=answered) -> None:  # type: ignore[no-untyped-def]
            if answered:
                commit(wait_s)
            raise KafkaTimeoutError("no answer within 20 s")

        stage._producer.settle_commit = no_answer
        with pytest.raises(LogError, match="not known: acquire the stage again"), stage.transaction() as tx:
            tx.send("out", "k", b"%d" % answered, partition=0)
            tx.set_state(b"%d" % answered)
        with pytest.raises(LogError, match="acquire the stage again"), stage.transaction():
            pass
    assert log.stage("encode", 0, "b").state == b"1"
    assert values(log, "out", 0) == [b"1"]


def test_a_record_the_broker_refuses_leaves_the_stage_usable(log: KafkaLog) -> None:
    alter(log, "out", {"max.message.bytes": "1000"})
    stage = log.stage("encode", 0, "a")
    with pytest.raises(MessageTooLarge, match=r"out.*max.message.bytes"), stage.transaction() as tx:
        tx.send("in", "k", b"fits", partition=0)
        tx.send("out", "k", bytes(2000), partition=0)
        tx.set_state(b"bad")
    with pytest.raises(MessageTooLarge):
        log.append("out", "k", bytes(2000))
    with stage.transaction() as tx:
        tx.send("out", "k", b"good", partition=0)
        tx.set_state(b"good")
    assert values(log, "out") + values(log, "in") == [b"good"]
    assert log.stage("encode", 0, "b").state == b"good"


def test_a_broker_that_forgot_positions_is_not_believed(log: KafkaLog) -> None:
    stage = log.stage("encode", 1, "a")
    with stage.transaction() as tx:
        tx.commit_offset("in", 1, 5)
        tx.set_state(b"ids up to 7")
    with admin_of(log) as admin:
        admin.delete_groups([log.settings.prefix + stage.group])
    with pytest.raises(LogError, match=r"forgotten the positions.*offsets.retention.minutes"):
        log.stage("encode", 1, "b")
    log.append("state", "encode-1", None, partition=1)
    assert log.stage("encode", 1, "c").state is None


# --- readers ------------------------------------------------------------------------------------------------


def test_retention_that_overtakes_a_reader_shows_as_a_gap(log: KafkaLog) -> None:
    offsets = [log.append("in", "k", b"%d" % number, partition=0) for number in range(6)]
    reader = log.reader("in", [0])
    assert [item.value for item in reader.poll(max_records=6)] == [b"%d" % number for number in range(6)]
    offsets += [log.append("in", "k", b"%d" % number, partition=0) for number in range(6, 9)]
    with open_log(log.settings.address()) as other:
        other.trim("in", 0, offsets[8])
    gap, record = reader.poll(timeout_s=5)
    assert gap == Gap("in", 0, offsets[6], offsets[8])
    assert isinstance(record, Record)
    assert record.value == b"8"


def test_a_position_of_a_log_that_was_replaced(log: KafkaLog) -> None:
    for number in range(5):
        log.append("in", "k", b"%d" % number, partition=0)
    reader = log.reader("in", [0], group="viewer")
    reader.poll()
    reader.commit()
    log.delete_topic("in")
    log.create_topics([TopicSpec("in", 2)])
    log.append("in", "k", b"new", partition=0)
    late = log.reader("in", [0], start=AtOffset(5))
    with pytest.raises(OffsetOutOfRange, match="5"):
        late.poll()
    assert values(log, "in") == [b"new"]


def test_keys_of_other_programs_need_not_be_text(log: KafkaLog) -> None:
    producer = KafkaProducer(**log.settings.client_options())
    producer.send(log.settings.prefix + "in", b"v", b"\xff\xfe", partition=0).get(timeout=30)
    producer.close()
    assert [record.value for record in records(log, "in")] == [b"v"]


# --- threads and processes ----------------------------------------------------------------------------------


def test_threads_share_a_log(log: KafkaLog) -> None:
    def work(name: str) -> None:
        stage = log.stage(name, 0, name)
        for number in range(5):
            log.append("in", name, b"%d" % number, partition=0)
            with stage.transaction() as tx:
                tx.send("out", name, b"%d" % number, partition=0)
            assert log.bounds("out", 0).end > 0
        done.append(name)

    done: list[str] = []
    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list("abcd")
    for topic in ("in", "out"):
        found = records(log, topic, 0)
        for name in "abcd":
            assert [r.value for r in found if r.key == name] == [b"%d" % number for number in range(5)]


def _append(log: KafkaLog) -> None:
    log.append("in", "k", b"child", partition=0)
    assert values(log, "in", 0) == [b"parent", b"child"]
    log.create_topics([TopicSpec("fresh", 1)])
    with log.stage("encode", 1, "child").transaction() as tx:
        tx.set_state(b"child")
    os._exit(0)


def test_a_forked_child_makes_its_own_connections(log: KafkaLog) -> None:
    log.append("in", "k", b"parent", partition=0)
    assert log.bounds("in", 0).end == 1
    stage = log.stage("encode", 0, "parent")
    child = multiprocessing.get_context("fork").Process(target=_append, args=(log,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    log.append("in", "k", b"again", partition=0)
    assert values(log, "in", 0) == [b"parent", b"child", b"again"]
    with stage.transaction() as tx:
        tx.send("fresh", "k", b"")
    assert log.stage("encode", 1, "parent").state == b"child"
