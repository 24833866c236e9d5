"""Why a node ended, from its log; steps side by side; folders that cannot hold a node."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deploy.kafka import node as node_module
from deploy.kafka.java import BrokerError
from deploy.kafka.node import Node, explain, together
from deploy.kafka.settings import NodePlan


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("java.net.BindException: Address already in use\n\tat x", "port of it is taken"),
        ("[x] ERROR Error while writing\njava.io.IOException: No space left on device", "disk is full; make room"),
        ("java.lang.UnsupportedClassVersionError: kafka/Kafka", "install Java 17"),
        ("Failed to acquire lock on file .lock in /x.", "another Kafka runs on this folder"),
        ("Error: Could not find or load main class kafka.Kafka", "delete the folder .kafka"),
        ("INFO fine\nERROR it broke (x.Y)\nINFO bye", "ERROR it broke"),
        ("INFO only this", "only this"),
        ("", "said nothing"),
    ],
)
def test_why_a_node_ended(said: str, meaning: str) -> None:
    assert meaning in explain(said)
    assert "\n" not in explain(said)


def test_steps_run_at_the_same_time_and_errors_come_last() -> None:
    both = threading.Barrier(2, timeout=60)
    done = []

    def fail() -> None:
        both.wait()
        raise BrokerError("first")

    def work() -> None:
        both.wait()
        done.append(True)

    with pytest.raises(BrokerError, match="first"):
        together([fail, work])
    assert done == [True]
    together([])


def test_a_full_disk_is_said_before_java_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "MIN_FREE_BYTES", 2**70)
    node = Node(NodePlan(0, tmp_path / "node-0", {}))
    with pytest.raises(BrokerError, match=r"has \d+ MiB left: make room or choose another folder"):
        node.format(["false"], "cluster", {}, {})


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"cannot keep its files in .*: Not a directory"):
        Node(NodePlan(0, tmp_path / "file" / "node-0", {})).format(["false"], "cluster", {}, {})


def test_settings_hold_passwords_and_are_nobody_elses_to_read(tmp_path: Path) -> None:
    node = Node(NodePlan(0, tmp_path / "node-0", {}))
    with pytest.raises(BrokerError, match="cannot prepare"):
        node.format(["false"], "cluster", {"a": "b"}, {"anna": "s3cret"})
    assert node.settings.read_text() == "a=b\n"
    assert node.settings.stat().st_mode & 0o777 == 0o600


def test_a_node_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    node = Node(NodePlan(0, tmp_path, {}))
    node.settings.write_text("")
    node.log.write_text("Kafka Server started\n")
    node.launch(["sh", "-c", "echo 'ERROR no good'; exit 1", "sh"])
    with pytest.raises(BrokerError, match=r"node 0 ended at its start: ERROR no good \(.*server.log\)"):
        node.wait_ready(60)
    node.stop(hard=True)
