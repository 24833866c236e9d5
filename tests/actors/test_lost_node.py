"""A node of a Ray cluster is killed while a system runs on it: nothing is lost, nothing doubled, and it goes on.

Three nodes on this machine, each with a Ray of its own: one for the cameras, which stays, and two that encode and
route, of which the one that encodes is killed with everything on it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.registry import load_tasks
from actors.system import System
from benchmarks.sequential import Judge, Verdict
from discover_stream.config import parse_config
from discover_stream.types import Frame
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD
from topics.reading import read_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT, FPS, PATIENCE_S = 80, 4, 400.0
"""So many frames that none of the machines encodes them all between the third packet and the kill."""
START_NS = 1_767_225_600 * 10**9
CONFIG = """
log: {{path: {folder}/log.db, partitions: 1}}
tasks: [vehicles]
quality: 3
mode: still
cameras: [{{name: gate, source: {folder}/gate.mkv, realtime: true, starts_at: 2026-01-01T00:00:00Z}}]
ray:
  address: {address}
  packages: false
  resources:
    ingest: {{custom: {{site: 1}}}}
    ground: {{custom: {{coding: 1}}}}
    encode: {{custom: {{coding: 1}}}}
    route: {{custom: {{coding: 1}}}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "resources": {"site": 8}, "object_store_memory": 80 * 2**20},
    )
    try:
        for _ in range(2):
            made.add_node(num_cpus=2, resources={"coding": 8}, object_store_memory=80 * 2**20)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def render(folder: Path) -> list[Frame]:
    uri = f"sim://road?seed=5&width=96&height=64&fps={FPS}&seconds={COUNT / FPS}"
    with open_source(uri, camera="gate") as source, open_sink(folder / "gate.mkv", fps=FPS) as sink:
        for frame in source:
            sink.write(frame.image)
    with open_source(folder / "gate.mkv", camera="gate", start_ns=START_NS) as source:
        return list(source)


def process_of(system: System, name: str) -> int | None:
    return next(stage.pid for stage in system.progress().stages if stage.name == name)


def until(condition, what: str) -> float:
    """Seconds that it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < PATIENCE_S, f"no {what} within {PATIENCE_S:.0f} s"
        time.sleep(0.02)
    return time.monotonic() - began_s


def kill_node_of(pid: int) -> set[int]:
    """Kill the raylet that a process belongs to and everything it started, at once; their ids."""
    raylet = next(one for one in psutil.Process(pid).parents() if one.name() == "raylet")
    doomed = [raylet, *raylet.children(recursive=True)]
    for process in doomed:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return {process.pid for process in doomed}


def test_a_node_that_dies_takes_nothing_along(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = render(tmp_path)
    config = parse_config(CONFIG.format(folder=tmp_path, address=cluster.address), "test")
    told: list[str] = []
    url = config.log.url

    def end_of_archive() -> int:
        with open_log(url) as log:
            return log.bounds(ARCHIVE, 0).end

    with System(config, on_event=told.append) as system:
        until(lambda: process_of(system, "encode-0") is not None, "encoder")
        encoder = process_of(system, "encode-0")
        assert encoder is not None
        until(lambda: end_of_archive() >= 3, "packet")
        lost = kill_node_of(encoder)
        assert encoder in lost
        before = end_of_archive()
        assert before < COUNT, "everything was encoded before the node died: this machine needs a longer film"
        recovery_s = until(lambda: end_of_archive() > before, "packet after the node died")
        assert system.wait_idle(PATIENCE_S), told
        again = next(stage for stage in system.progress().stages if stage.name == "encode-0")
        assert again.pid not in lost
        assert again.restarts >= 1
    with open_log(url) as log:
        verdicts: list[Verdict] = Judge(load_tasks(["vehicles"]), 3).verdicts(log, {"gate": frames})
        assert list(read_all(log, DEAD)) == []
    assert all(verdict.ok for verdict in verdicts), verdicts
    assert {verdict.expected for verdict in verdicts} == {COUNT, COUNT + 1}
    with capsys.disabled():
        print(f"\na node with {len(lost)} processes killed; next packet after {recovery_s:.1f} s")  # noqa: T201
