"""The whole system on this machine: local Ray, the embedded log, one process per stage.

from discover_stream.config import load_config
from actors.system import System

with System(load_config(path)) as system:       # starts everything, stops it cleanly at the end
    while not system.wait_idle(timeout_s=0.5):  # sources are finite and everything has been routed
        show(system.progress())
    frames = system.decode([DecodeJob(camera, data) for ...])
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.decisions import StagePlan, is_idle, plan_stages, stream_kbps
from actors.decode_pool import DecodeJob, DecodeOptions, DecodePool
from actors.ingest import IngestReport
from actors.progress import CameraProgress, Progress, StageProgress, TaskProgress
from actors.registry import load_tasks
from actors.route import RouteReport, Tally
from discover_stream.codec.packet import task_key
from discover_stream.config import Config, LogConfig, RetentionConfig
from discover_stream.types import DiscoverError
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD, FRAMES, CatalogueSettings, catalogue
from topics.checks import stage_group, transactional_id
from topics.log import Log, Retention, lag

if TYPE_CHECKING:
    from actors.supervisor import Supervisor, Watched
    from discover_stream.decoding import DecodedFrame

__all__ = ["DecodeJob", "DecodeOptions", "System"]

_LOOK_EVERY_S = 0.1
_MAINTAIN_EVERY_S = 60.0


def catalogue_settings(log: LogConfig) -> CatalogueSettings:
    """The topics' settings that a configuration asks for."""

    def retention(kept: RetentionConfig) -> Retention:
        return Retention(round(kept.hours * 3600e9), round(kept.gib * 2**30))

    return CatalogueSettings(
        partitions=log.partitions,
        frames=retention(log.frames),
        archive=retention(log.archive),
        task=retention(log.tasks),
    )


def anchored_paths(config: Config, folder: Path) -> Config:
    """The same configuration with the paths of the log and of cameras made absolute."""
    cameras = tuple(
        camera if "://" in camera.source else camera.model_copy(update={"source": str(folder / camera.source)})
        for camera in config.cameras
    )
    log = config.log.model_copy(update={"path": folder / config.log.path})
    return config.model_copy(update={"cameras": cameras, "log": log})


class System:
    """Ingest, ground pool, track+encode, route, registry and decode pool, started and watched.

    One system per process and per log: a second system on the same log takes over, and the first one stops
    with an error (`check`).
    """

    def __init__(self, config: Config, *, on_event: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing runs yet. `on_event` gets one line per start, death and restart of a stage,
        and per problem of a source; it is called from another thread.

        Raises InputError for tasks that cannot be loaded or whose keys collide.
        """
        self.config = anchored_paths(config, Path.cwd())
        self._tasks = load_tasks(config.tasks)
        self._tell = on_event or (lambda line: None)
        self._log: Log | None = None
        self._supervisor: Supervisor | None = None
        self._plans: tuple[StagePlan, ...] = ()
        self._decoders: DecodePool | None = None
        self._started_s = self._maintained_s = time.monotonic()

    def start(self) -> None:
        """Start Ray and every stage; returns once all were asked to start (frames flow soon after).

        Raises InputError or LogError, in one line, where the log or a task cannot be used.
        """
        config = self.config
        self._started_s = self._maintained_s = time.monotonic()
        self._log = log = open_log(config.log.url)
        try:
            log.create_topics(catalogue([task.name for task in self._tasks], catalogue_settings(config.log)))
            self._plans = plan_stages(
                [camera.name for camera in config.cameras],
                config.log.partitions,
                [p for p in range(config.log.partitions) if any(lags(log, p))],
            )
            self._start_processes()
        except BaseException:
            self.stop()
            raise

    def _start_processes(self) -> None:
        from actors.local_ray import answer_of, ray, start_ray
        from actors.remote import RegistryActor
        from actors.supervisor import Supervisor

        start_ray(self.config.ray.object_store_mib)
        registry = ray.remote(num_cpus=0, max_restarts=-1)(RegistryActor).remote(self.config.log.url)
        supervisor = Supervisor(self.config, self._tell)
        supervisor.watch_pool("registry", "registry", [registry])
        supervisor.create(self._plans)
        self._supervisor = supervisor
        answer_of(
            registry.apply.remote(self._tasks, self.config.log.partitions),
            "registry: its process died while the system started",
            "check the memory, then start again",
        )
        supervisor.start()

    def progress(self) -> Progress:
        """How far everything is. Cheap: a few look-ups in the log and what the stages last reported."""
        log, supervisor = self._running()
        watched = supervisor.watched
        partitions = range(self.config.log.partitions)
        return Progress(
            elapsed_s=time.monotonic() - self._started_s,
            cameras=tuple(camera_progress(item) for item in watched if item.kind == "ingest"),
            stages=tuple(stage_progress(log, item) for item in watched),
            tasks=self._task_progress(watched),
            archived=sum(log.bounds(ARCHIVE, p).end for p in partitions),
            dead=sum(log.bounds(DEAD, p).end for p in partitions),
            idle=self._is_idle(),
        )

    def _task_progress(self, watched: Iterable[Watched]) -> tuple[TaskProgress, ...]:
        tallies = [t for item in watched for r in list(item.reports.values()) for t in tallies_of(r.stage)]
        return tuple(
            task_progress(task.name, task_key(task.name, task.label_set.version), tallies) for task in self._tasks
        )

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until every source has ended and everything ingested has been routed; False at the time-out.

        Raises what `check` raises.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self.check()
            if self._is_idle():
                return True
            left_s = _LOOK_EVERY_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(_LOOK_EVERY_S, left_s))

    def check(self) -> None:
        """Raise what made the system give up (LogError when another system took over its stages), if anything.

        Also looks after the log's retention, once a minute.
        """
        log, supervisor = self._running()
        if supervisor.failure is not None:
            raise supervisor.failure
        if time.monotonic() - self._maintained_s >= _MAINTAIN_EVERY_S:
            self._maintained_s = time.monotonic()
            log.maintain()

    def _is_idle(self) -> bool:
        log, supervisor = self._running()
        sources = [item.health in ("ended", "failed") for item in supervisor.watched if item.kind == "ingest"]
        if not all(sources):
            return False
        used = sorted({plan.partition for plan in self._plans})
        encode_lag = [lags(log, partition)[0] for partition in used]
        route_lag = [lags(log, partition)[1] for partition in used]  # after the encode lags, see `is_idle`
        return is_idle(sources, encode_lag, route_lag)

    def decode(self, jobs: Iterable[DecodeJob], options: DecodeOptions | None = None) -> Iterator[DecodedFrame]:
        """Decode packets on the decode pool, in order; its processes are made at the first call.

        Works between `start` and `stop`, also once the system is idle. Raises BitstreamError for a packet
        that is damaged or was made with another model.
        """
        _, supervisor = self._running()
        if self._decoders is None:
            self._decoders = DecodePool(self.config.pools.decode, self.config.threads.decode)
            supervisor.watch_pool("decode", "decode", self._decoders.handles)
        return self._decoders.decode(jobs, options or DecodeOptions())

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let every stage finish the transaction in hand, then stop it and Ray. May be called twice."""
        from actors.local_ray import stop_ray

        if self._supervisor is not None:
            self._supervisor.stop(timeout_s)
            self._supervisor = None
        stop_ray()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _running(self) -> tuple[Log, Supervisor]:
        if self._log is None or self._supervisor is None:
            raise DiscoverError("the system is not running; start it first")
        return self._log, self._supervisor

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def lags(log: Log, partition: int) -> tuple[int, int]:
    """Records of a partition that wait for encoding, and for routing."""
    encode = stage_group(transactional_id("encode", partition))
    route = stage_group(transactional_id("route", partition))
    return lag(log, encode, FRAMES, [partition])[partition], lag(log, route, ARCHIVE, [partition])[partition]


def camera_progress(item: Watched) -> CameraProgress:
    """What an ingest process tells about its camera."""
    assert item.plan is not None
    in_trouble = item.error if item.health in ("failed", "restarting") else None
    reports = [r.stage for r in list(item.reports.values()) if isinstance(r.stage, IngestReport)]
    dropped: Counter[str] = Counter()
    for report in reports:
        dropped.update(dict(report.dropped))
    return CameraProgress(
        name=item.plan.camera or "",
        partition=item.plan.partition,
        health=item.health,
        frames=max((report.next_seq for report in reports), default=0),
        gaps=sum(report.gaps for report in reports),
        dropped=dict(dropped),
        problem=next((report.problem for report in reversed(reports) if report.problem), in_trouble),
    )


def stage_progress(log: Log, item: Watched) -> StageProgress:
    """What a process tells about itself, with its lag from the log."""
    waiting = 0
    if item.plan is not None and item.kind in ("encode", "route"):
        waiting = lags(log, item.plan.partition)[item.kind == "route"]
    return StageProgress(item.name, item.kind, item.pid, item.health, item.restarts, item.done, waiting, item.error)


def tallies_of(report: object) -> tuple[Tally, ...]:
    """What a routing process sent; nothing for others."""
    return report.tallies if isinstance(report, RouteReport) else ()


def task_progress(name: str, key: int, tallies: Iterable[Tally]) -> TaskProgress:
    """The sum of what all routing processes sent to one task."""
    mine: dict[str, Tally] = {}
    for tally in tallies:
        if tally.task == name:
            known = mine.get(tally.camera)
            mine[tally.camera] = tally if known is None else known.joined(tally)
    return TaskProgress(
        name,
        key,
        sum(t.packets for t in mine.values()),
        sum(t.bytes for t in mine.values()),
        sum(stream_kbps(t.bytes, t.packets, t.first_ns, t.last_ns) for t in mine.values()),
    )
