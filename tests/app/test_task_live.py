"""A task that is added to `discover run` while it works: packets come, and no process is started again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import GOOD_LABELS, KEY, ChatServer, labelled

from actors.task_switch import active_by_partition
from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.packet import task_key
from topics.catalogue import ARCHIVE, task_topic
from topics.log import Record
from topics.sqlite import SqliteLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORDS = "count delivery vans blocking the bus lane"
CONFIG = """
log: {path: log.db, partitions: 1}
tasks: [vehicles]
quality: 3
cameras: [{name: gate, source: "sim://road?seed=1&width=160&height=96&fps=5", realtime: true}]
mllm: {model: small-one}
"""


def program(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "discover_stream.app.cli", *arguments, "-c", "c.yaml"]
    with (folder / f"{arguments[0]}.txt").open("ab") as out:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def packets(log: SqliteLog, topic: str) -> list[Record]:
    if topic not in {spec.name for spec in log.topics()}:
        return []
    reader = log.reader(topic)
    return [item for item in reader.poll(10_000) if isinstance(item, Record)]


def wait_for(running: subprocess.Popen[bytes], folder: Path, condition: Callable[[], object]) -> None:
    while not condition():
        assert running.poll() is None, (folder / "run.txt").read_text()
        time.sleep(0.02)


def test_a_new_task_gets_packets_and_nothing_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    vans, other = task_topic("vans"), (task_key("vehicles", 1),)
    with SqliteLog(tmp_path / "log.db") as log, ChatServer([labelled(GOOD_LABELS)]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        running = program(tmp_path, "run", "--every", "0.5")
        try:
            wait_for(running, tmp_path, lambda: len(packets(log, ARCHIVE)) > 3)
            adding = program(tmp_path, "task", "add", "vans", WORDS)
            assert adding.wait(120) == 0, (tmp_path / "task.txt").read_text()
            wait_for(running, tmp_path, lambda: packets(log, vans))
            first = packets(log, vans)[0]
            packet = parse_any(first.value or b"", camera="gate")
            assert packet.tasks == (task_key("vans", 1),)
            assert not packet.regions_only

            assert program(tmp_path, "task", "add", "vans", "--regions-only", "--tags").wait(120) == 0
            wait_for(running, tmp_path, lambda: parse_any(packets(log, vans)[-1].value or b"").regions_only)
            told = r"  vans \d+\.\d kbit/s \(regions only\)$"
            wait_for(running, tmp_path, lambda: re.search(told, (tmp_path / "run.txt").read_text(), re.MULTILINE))

            assert program(tmp_path, "task", "remove", "vans").wait(120) == 0
            wait_for(running, tmp_path, lambda: parse_any(packets(log, ARCHIVE)[-1].value or b"").tasks == other)
        finally:
            running.send_signal(signal.SIGINT)
            assert running.wait(120) == 0
        said = (tmp_path / "run.txt").read_text()
        assert "started again" not in said
        assert re.findall(r"restarts (\d+)", said)[-1] == "0"
        assert len(server.requests) == 1
        assert [set(on) for on in active_by_partition(log)] == [{"vehicles"}]
