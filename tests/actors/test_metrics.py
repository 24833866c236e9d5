"""Figures for Prometheus: every one has its value, and the dashboard asks for none that does not exist."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.metrics import MetricsServer, metrics_text
from discover_stream.config import MetricsConfig
from discover_stream.types import InputError
from topics.catalogue import STATUS
from topics.fleet_messages import CameraStatus, PoolStatus, StageStatus, SystemStatus
from topics.messages import encode
from topics.sqlite import SqliteLog
from topics.status import SYSTEM_KEY, StatusTable

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboard.json"
SECOND = 10**9
SYSTEM = SystemStatus(
    at_ns=5 * SECOND, role="all", host="h", pid=1, version="1", state="running", started_ns=SECOND, interval_s=2.0
)
CAMERA = CameraStatus(
    camera="gate", at_ns=1, partition=0, health="running", picture="frozen", fps=9.5, frames=120, lag_frames=3,
    lag_s=0.4, dropped={"encoding fell behind": 7}, gaps=2, kbps={"vehicles": 41.5}, regions={"vehicles": 3.25},
)  # fmt: skip
STAGE = StageStatus(
    stage="encode-0", kind="encode", at_ns=1, pid=9, health="running", restarts=1, done=100, lag=4, deaths=2,
    latency_ms={"frame to packet p95": 250.0, "encode mean": 40.0},
)  # fmt: skip
POOL = PoolStatus(
    pool="subscriber", at_ns=1, wanted=3, running=2, waiting=11, starts=5, cold_starts=2, decode_ms=80.0, invention=0.25
)
TABLE = StatusTable(SYSTEM, (CAMERA,), (STAGE,), (POOL,), 4 * SECOND)


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Name and labels' values, in order of the labels' names, to the value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def names(text: bytes) -> set[str]:
    found = set()
    for family in text_string_to_metric_families(text.decode()):
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


def test_every_figure_has_its_value() -> None:
    found = values(metrics_text(TABLE, 6 * SECOND))
    expected = {
        ("discover_up",): 1.0,
        ("discover_status_age_seconds",): 2.0,
        ("discover_camera_fps", "gate"): 9.5,
        ("discover_camera_frames_total", "gate"): 120,
        ("discover_camera_dropped_frames_total", "gate", "encoding fell behind"): 7,
        ("discover_camera_gaps_total", "gate"): 2,
        ("discover_camera_lag_frames", "gate"): 3,
        ("discover_camera_lag_seconds", "gate"): 0.4,
        ("discover_camera_health", "gate", "running"): 1,
        ("discover_camera_health", "gate", "failed"): 0,
        ("discover_camera_picture", "gate", "frozen"): 1,
        ("discover_task_kbps", "gate", "vehicles"): 41.5,
        ("discover_task_regions", "gate", "vehicles"): 3.25,
        ("discover_stage_running", "encode", "encode-0"): 1,
        ("discover_stage_done_total", "encode", "encode-0"): 100,
        ("discover_stage_lag", "encode", "encode-0"): 4,
        ("discover_stage_restarts_total", "encode", "encode-0"): 1,
        ("discover_stage_deaths_total", "encode", "encode-0"): 2,
        ("discover_stage_step_seconds", "p95", "encode", "encode-0", "frame to packet"): 0.25,
        ("discover_stage_step_seconds", "mean", "encode", "encode-0", "encode"): 0.04,
        ("discover_pool_wanted", "subscriber"): 3,
        ("discover_pool_running", "subscriber"): 2,
        ("discover_pool_waiting", "subscriber"): 11,
        ("discover_pool_starts_total", "subscriber"): 5,
        ("discover_pool_cold_starts_total", "subscriber"): 2,
        ("discover_pool_decode_seconds", "subscriber"): 0.08,
        ("discover_pool_invention", "subscriber"): 0.25,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_names_are_there_before_any_value_is() -> None:
    assert names(metrics_text(StatusTable(), 0)) == names(metrics_text(TABLE, 0))


def test_the_dashboard_asks_for_what_there_is_and_leaves_nothing_out() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for expression in asked for name in re.findall(r"discover_[a-z_]+", expression)}
    there = names(metrics_text(TABLE, 0))
    assert used - there == set()
    assert there - used == set()
    variables = [entry["query"] for entry in dashboard["templating"]["list"] if entry["type"] == "query"]
    assert {name for query in variables for name in re.findall(r"discover_[a-z_]+", query)} <= there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    labels = {"camera", "task", "health", "reason", "picture", "kind", "step", "figure", "pool"}
    for expression in asked:
        grouped = [name.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(",")]
        assert set(grouped) <= labels


def test_the_endpoint_reads_the_log_each_time_it_is_asked(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/log.db"
    with SqliteLog(tmp_path / "log.db") as log, MetricsServer(url, MetricsConfig(port=0)) as server:

        def read() -> dict[tuple[str, ...], float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
                return values(answer.read())

        from topics.catalogue import catalogue

        log.create_topics(catalogue(["vehicles"]))
        assert ("discover_up",) not in read()
        log.append(STATUS, SYSTEM_KEY, encode(SYSTEM))
        log.append(STATUS, "camera/gate", encode(CAMERA))
        assert read()[("discover_up",)] == 1.0
        assert read()[("discover_camera_fps", "gate")] == 9.5
        with pytest.raises(InputError, match=r"metrics: cannot listen on 127.0.0.1:\d+ .*choose another port"):
            MetricsServer(url, MetricsConfig(port=server.port))
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", server.port)) != 0


def test_a_system_that_was_killed_is_not_up() -> None:
    assert values(metrics_text(TABLE, 12 * SECOND))[("discover_up",)] == 1.0
    found = values(metrics_text(TABLE, 13 * SECOND))  # heard at 4 s; it writes every two
    assert found[("discover_up",)] == 0.0
    assert found[("discover_status_age_seconds",)] == 9.0


def test_a_log_that_is_away_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"no database" * 1000)
    with (
        MetricsServer(f"sqlite:{tmp_path}/log.db", MetricsConfig(port=0)) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer,
    ):
        assert values(answer.read()) == {("discover_up",): 0.0}
