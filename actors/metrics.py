"""Figures of a system for Prometheus, from what it says in its log (`topics.status`): any process can tell them.

metrics_text(read_status(log))      # the text format, for whoever serves HTTP already
with MetricsServer(url, config): ...    # http://host:port/metrics, of a process of its own thread
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from discover_stream.config import MetricsConfig
from discover_stream.types import InputError
from topics import open_log
from topics.log import LogError
from topics.status import StatusTable, read_status, silent_s

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

_HEALTHS = ("starting", "running", "restarting", "ended", "failed", "stopped")


def families(table: StatusTable, now_ns: int) -> Iterator[Metric]:
    """Every figure, also those without a value so far: a dashboard finds all names at once."""
    yield from _system(table, now_ns)
    yield from _cameras(table)
    yield from _stages(table)
    yield from _pools(table)


def _system(table: StatusTable, now_ns: int) -> Iterator[Metric]:
    up = GaugeMetricFamily("discover_up", "1 while a system runs on this log and its log answers")
    age = GaugeMetricFamily("discover_status_age_seconds", "Since the system was last heard")
    if table.system is not None and table.heard_ns is not None:
        heard = silent_s(table, now_ns) is None  # a system that was killed does not say that it runs no more
        up.add_metric([], float(table.system.state == "running" and not table.system.outage and heard))
        age.add_metric([], max(0.0, (now_ns - table.heard_ns) / 1e9))
    yield from (up, age)


def _cameras(table: StatusTable) -> Iterator[Metric]:
    fps = GaugeMetricFamily("discover_camera_fps", "Frames encoded a second", labels=["camera"])
    frames = CounterMetricFamily(
        "discover_camera_frames",
        "Frames up to the last one that the log took, over all runs, with those left out",
        labels=["camera"],
    )
    dropped = CounterMetricFamily(
        "discover_camera_dropped_frames", "Frames left out before encoding, by reason", labels=["camera", "reason"]
    )
    gaps = CounterMetricFamily("discover_camera_gaps", "Gaps in this run", labels=["camera"])
    waiting = GaugeMetricFamily("discover_camera_lag_frames", "Frames that wait for encoding", labels=["camera"])
    late = GaugeMetricFamily("discover_camera_lag_seconds", "Stream time that waits for encoding", labels=["camera"])
    health = GaugeMetricFamily("discover_camera_health", "1 for the state a camera is in", labels=["camera", "health"])
    picture = GaugeMetricFamily(
        "discover_camera_picture", "1 for what its picture looks like", labels=["camera", "picture"]
    )
    kbps = GaugeMetricFamily(
        "discover_task_kbps", "Kilobits per second of stream time sent to a task", labels=["camera", "task"]
    )
    regions = GaugeMetricFamily("discover_task_regions", "Regions found in a frame", labels=["camera", "task"])
    for camera in table.cameras:
        name = camera.camera
        fps.add_metric([name], camera.fps)
        frames.add_metric([name], camera.frames)
        gaps.add_metric([name], camera.gaps)
        waiting.add_metric([name], camera.lag_frames)
        late.add_metric([name], camera.lag_s)
        picture.add_metric([name, camera.picture], 1)
        for state in _HEALTHS:
            health.add_metric([name, state], float(camera.health == state))
        for reason, count in camera.dropped.items():
            dropped.add_metric([name, reason], count)
        for task, rate in camera.kbps.items():
            kbps.add_metric([name, task], rate)
        for task, found in camera.regions.items():
            regions.add_metric([name, task], found)
    yield from (fps, frames, dropped, gaps, waiting, late, health, picture, kbps, regions)


def _stages(table: StatusTable) -> Iterator[Metric]:
    labels = ["stage", "kind"]
    running = GaugeMetricFamily("discover_stage_running", "1 while a stage's process works", labels=labels)
    done = CounterMetricFamily("discover_stage_done", "Records done in this run", labels=labels)
    lag = GaugeMetricFamily("discover_stage_lag", "Records that wait for a stage", labels=labels)
    restarts = CounterMetricFamily("discover_stage_restarts", "Starts after a death, in this run", labels=labels)
    deaths = CounterMetricFamily("discover_stage_deaths", "Deaths over all runs", labels=labels)
    latency = GaugeMetricFamily(
        "discover_stage_step_seconds",
        "What a step of a stage takes: p50, p95 and mean of the latest frames",
        labels=[*labels, "step", "figure"],
    )
    for stage in table.stages:
        here = [stage.stage, stage.kind]
        running.add_metric(here, float(stage.health == "running"))
        done.add_metric(here, stage.done)
        lag.add_metric(here, stage.lag)
        restarts.add_metric(here, stage.restarts)
        deaths.add_metric(here, stage.deaths)
        for name, milliseconds in stage.latency_ms.items():
            step, _, figure = name.rpartition(" ")
            latency.add_metric([*here, step, figure], milliseconds / 1000)
    yield from (running, done, lag, restarts, deaths, latency)


def _pools(table: StatusTable) -> Iterator[Metric]:
    wanted = GaugeMetricFamily("discover_pool_wanted", "Processes that a pool is to have", labels=["pool"])
    running = GaugeMetricFamily("discover_pool_running", "Processes that it has", labels=["pool"])
    waiting = GaugeMetricFamily("discover_pool_waiting", "Requests or packets that wait", labels=["pool"])
    starts = CounterMetricFamily("discover_pool_starts", "Processes started", labels=["pool"])
    cold = CounterMetricFamily("discover_pool_cold_starts", "Starts while there was no process", labels=["pool"])
    decode = GaugeMetricFamily("discover_pool_decode_seconds", "What a picture takes a process", labels=["pool"])
    invention = GaugeMetricFamily(
        "discover_pool_invention", "How sure a detector is of things that were made up, 0 to 1", labels=["pool"]
    )
    for pool in table.pools:
        wanted.add_metric([pool.pool], pool.wanted)
        running.add_metric([pool.pool], pool.running)
        waiting.add_metric([pool.pool], pool.waiting)
        starts.add_metric([pool.pool], pool.starts)
        cold.add_metric([pool.pool], pool.cold_starts)
        decode.add_metric([pool.pool], pool.decode_ms / 1000)
        if pool.invention is not None:
            invention.add_metric([pool.pool], pool.invention)
    yield from (wanted, running, waiting, starts, cold, decode, invention)


class _LogCollector(Collector):
    """Reads the status anew each time that it is asked. While the log is away, `discover_up` is 0."""

    def __init__(self, url: str) -> None:
        self._url = url

    def collect(self) -> Iterable[Metric]:
        try:
            with open_log(self._url) as log:
                yield from families(read_status(log), time.time_ns())
        except LogError:
            up = GaugeMetricFamily("discover_up", "1 while a system runs on this log and its log answers")
            up.add_metric([], 0.0)
            yield up


class _Once(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = tuple(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


def metrics_text(table: StatusTable, now_ns: int | None = None) -> bytes:
    """The figures in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Once(families(table, time.time_ns() if now_ns is None else now_ns)))
    text: bytes = generate_latest(registry)
    return text


class MetricsServer:
    """Serves the figures of a log's system at /metrics, in threads of its own. Raises InputError for a port that is
    taken."""

    def __init__(self, url: str, config: MetricsConfig) -> None:
        registry = CollectorRegistry()
        registry.register(_LogCollector(url))
        assert config.port is not None
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(config.port, config.host, registry)
        except OSError as error:
            place, reason = f"{config.host}:{config.port}", error.strerror or error
            raise InputError(f"metrics: cannot listen on {place} ({reason}); choose another port") from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
