"""The launcher of Apache Kafka: a node that answers, dies and comes back with its data, and clear refusals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.kafka import broker as broker_module
from deploy.kafka.broker import Broker, Plan, main, port_is_free, take_free_port
from deploy.kafka.java import BrokerError
from deploy.kafka.node import words_of

ROOT = Path(__file__).resolve().parents[2]


def values(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of partition 0, waiting for them as long as the test may."""
    with KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed") as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        found: list[bytes] = []
        while len(found) < count:
            found += [record.value for records in consumer.poll(500).values() for record in records]
        return found


def create_topic(bootstrap: str, topic: str, copies: int = 1) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.create_topics([NewTopic(topic, 1, copies)])


def produce(bootstrap: str, topic: str, *messages: bytes) -> None:
    with KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=5_000_000) as producer:
        for message in messages:
            producer.send(topic, message).get(60)


def test_the_session_broker_carries_a_full_sized_record(kafka_broker: Broker) -> None:
    create_topic(kafka_broker.bootstrap, "launcher.large")
    large = os.urandom(4 * 1024 * 1024)
    produce(kafka_broker.bootstrap, "launcher.large", large)
    assert values(kafka_broker.bootstrap, "launcher.large", 1) == [large]


def test_a_killed_node_comes_back_with_its_data_on_the_same_port(kafka_jars: Path, tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka") as broker:
        create_topic(broker.bootstrap, "kept")
        produce(broker.bootstrap, "kept", b"before")
        (pid,) = broker.pids.values()
        broker.stop_node(0, hard=True)
        assert broker.pids == {}
        assert not psutil.pid_exists(pid)
        broker.start_node(0)
        assert list(broker.pids) == [0]
        assert broker.pids[0] != pid
        produce(broker.bootstrap, "kept", b"after")
        assert values(broker.bootstrap, "kept", 2) == [b"before", b"after"]
    assert broker.pids == {}


@pytest.mark.slow
def test_three_nodes_go_on_when_one_is_killed(kafka_jars: Path, tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka", nodes=3) as broker:
        assert sorted(broker.pids) == [0, 1, 2]
        create_topic(broker.bootstrap, "copied", copies=3)
        produce(broker.bootstrap, "copied", b"one")
        broker.stop_node(0, hard=True)
        produce(broker.bootstrap, "copied", b"two")
        assert values(broker.bootstrap, "copied", 2) == [b"one", b"two"]
        broker.start_node(0)
        assert sorted(broker.pids) == [0, 1, 2]


def test_a_node_does_not_outlive_the_process_that_started_it(kafka_jars: Path, tmp_path: Path) -> None:
    program = "import sys; from deploy.kafka.broker import Broker; broker = Broker(sys.argv[1]); broker.start();"
    program += "print(broker.pids[0], flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        node = psutil.Process(int(owner.stdout.readline()))
        assert "kafka.Kafka" in node.cmdline()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    while node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)


def test_the_command_line_starts_and_stops_a_broker_that_stays(
    kafka_jars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = take_free_port(set())
    assert main(["status"]) == 1
    assert main(["up", "--port", str(port)]) == 0
    try:
        assert f"kafka:127.0.0.1:{port}" in capsys.readouterr().out
        assert main(["status"]) == 0
        assert "runs, pid" in capsys.readouterr().out
        assert main(["up", "--port", str(port)]) == 0, "a second up finds it running"
        create_topic(f"127.0.0.1:{port}", "there")
        assert main(["up", "--port", str(port), "--folder", "other"]) == 1
        said = capsys.readouterr().err
        assert f"port {port}" in said
        assert "taken" in said
        assert said.count("\n") == 1
        assert not Path("other").exists(), "a refused start leaves nothing behind"
    finally:
        assert main(["down"]) == 0
    assert "1 of 1" in capsys.readouterr().out
    assert port_is_free(port)
    assert main(["down"]) == 0


def test_a_pid_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    folder = tmp_path / "node-0"
    folder.mkdir()
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder / "pid").write_text(f"{other.pid}\n")
        assert broker.pids == {}
        broker.close(hard=True)
        assert other.poll() is None
        other.kill()


def test_a_process_that_is_becoming_another_is_waited_for() -> None:
    words: list[list[str]] = [["java", "server.properties"], [], []]
    becoming = Mock(spec=psutil.Process, cmdline=Mock(side_effect=words.pop))
    assert words_of(becoming) == ["java", "server.properties"]
    nameless = Mock(spec=psutil.Process, cmdline=Mock(return_value=[]))
    assert words_of(nameless, wait_s=0.02) == []


def test_numbers_of_nodes_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="2 Kafka nodes: one, or three"):
        Broker(tmp_path, nodes=2)


def test_a_folder_of_another_broker_is_refused(tmp_path: Path) -> None:
    Broker(tmp_path, nodes=3).plan.save(tmp_path / "broker.json")
    with pytest.raises(BrokerError, match="holds a broker with 3 node"):
        Broker(tmp_path)
    assert len(Broker.of_folder(tmp_path).nodes) == 3
    (tmp_path / "broker.json").write_text("{")
    with pytest.raises(BrokerError, match="not readable"):
        Broker(tmp_path)


def test_a_plan_is_the_same_after_reading(tmp_path: Path) -> None:
    plan = Broker(tmp_path, nodes=3).plan
    plan.save(tmp_path / "x" / "broker.json")
    assert Plan.load(tmp_path / "x" / "broker.json") == plan
    assert Plan.load(tmp_path / "none.json") is None
    ports = [port for node in plan.ports for port in node.values()]
    assert len(set(ports)) == 6


def test_taken_ports_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        assert not port_is_free(port)
        monkeypatch.setattr(broker_module, "FREE_PORTS", range(port, port + 1))
        monkeypatch.setattr("random.sample", lambda ports, count: [port] * count)
        with pytest.raises(BrokerError, match="all taken"):
            take_free_port(set())
    assert port_is_free(port)
