"""Brokers that go and come back, under stages and readers that stay."""

# A transaction is a block, and its end is what raises:

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from log_backends import SPECS, values

from deploy.kafka.broker import Broker
from topics import kafka_client, open_log
from topics.kafka import KafkaLog
from topics.log import LogError, lag


def alter(log: KafkaLog, topic: str, settings: dict[str, str]) -> None:
    with KafkaAdminClient(**log.settings.client_options()) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])


def test_a_broker_bounced_under_a_stage_and_a_reader(kafka_jars: Path, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, open_log(f"kafka:{broker.bootstrap}") as log:
        log.create_topics(SPECS)
        total, bounced = 30, threading.Event()
        failures: list[str] = []

        def run() -> None:
            stage = log.stage("encode", 0, "a")
            while (done := int(stage.state or b"0")) < total:
                try:
                    with stage.transaction() as tx:
                        tx.send("out", "k", b"%d" % done, partition=0)
                        tx.commit_offset("in", 0, done + 1)
                        tx.set_state(b"%d" % (done + 1))
                except LogError as error:
                    failures.append(str(error))
                    stage = log.stage("encode", 0, "a")
                if done == total // 3:
                    bounced.wait()
                    time.sleep(0.1)

        worker = threading.Thread(target=run)
        worker.start()
        reader = log.reader("out", [0])
        found: list[bytes | None] = []
        while len(found) < total // 3:
            found += [item.value for item in reader.poll(timeout_s=1)]
        broker.stop_node(0, hard=True)
        bounced.set()
        broker.start_node(0)
        while len(found) < total:
            found += [item.value for item in reader.poll(timeout_s=1)]
        worker.join(60)
        assert not worker.is_alive()
        assert found == [b"%d" % number for number in range(total)], failures
        assert lag(log, "stage:encode-0", "in", [0]) == {0: 0}
        assert log.append("in", "k", b"after", partition=0) == 0
        place = TopicPartition("in", 0)
        assert log._offsets.stable_ends([place]) == {place: 1}


@pytest.mark.slow
def test_three_brokers_go_on_without_one_of_them(
    kafka_jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Broker(tmp_path, nodes=3) as broker, open_log(f"kafka:{broker.bootstrap}?replication=3") as log:
        assert isinstance(log, KafkaLog)
        log.create_topics(SPECS)
        stages = [log.stage("encode", number, "a") for number in range(3)]  # coordinated by several brokers
        reader = log.reader("other")
        written = 0

        def write() -> None:
            nonlocal written
            for number, stage in enumerate(stages):
                with stage.transaction() as tx:
                    tx.send("other", "k", b"%d" % written, partition=number)
                    tx.commit_offset("in", 0, written)
                written += 1

        write()
        broker.stop_node(1, hard=True)
        for _ in range(3):
            write()
        found: list[bytes | None] = []
        while len(found) < written:
            found += [item.value for item in reader.poll(timeout_s=1)]
        assert sorted(int(value or b"") for value in found) == list(range(written))
        for number, stage in enumerate(stages):
            assert log.committed(stage.group, "in", 0) == written - 3 + number
        monkeypatch.setattr(kafka_client, "ANSWER_S", 4.0)
        with open_log(log.settings.address()) as hasty:
            alter(log, "other", {"min.insync.replicas": "3"})
            stage = hasty.stage("encode", 0, "b")
            message = r"fewer copies are in sync.*bring the missing brokers back; nothing was committed"
            with pytest.raises(LogError, match=message), stage.transaction() as tx:
                tx.send("other", "k", b"unheard", partition=0)
        broker.start_node(1)
        alter(log, "other", {"min.insync.replicas": "2"})
        assert log.stage("encode", 0, "c").offsets == {("in", 0): written - 3}
        assert len(values(log, "other")) == written
