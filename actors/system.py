"""The whole system on this machine: local Ray, a log, one process per stage.

from discover_stream.config import load_config
from actors.system import System

with System(load_config(path)) as system:       # starts everything, stops it cleanly at the end
    while not system.wait_idle(timeout_s=0.5):  # sources are finite and everything has been routed
        show(system.progress())
    frames = system.decode([DecodeJob(camera, data) for ...])
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.cameras import desired_cameras, seed_cameras
from actors.decisions import Running, is_idle, stream_kbps
from actors.decode_pool import DecodeJob, DecodeOptions, DecodePool
from actors.encode import EncodeReport
from actors.forward import ForwardReport
from actors.frame_buffer import LOG_UNAVAILABLE
from actors.ingest import IngestReport
from actors.log_view import LogFigures, LogView, behind
from actors.placement import check_log_reaches, options_of
from actors.progress import CameraProgress, Progress, StageProgress, TaskProgress, outage_line
from actors.reconcile import Desired, desired
from actors.registry import load_tasks
from actors.route import RouteReport, Tally
from actors.status_writer import StatusWriter
from actors.stream_jobs import Job
from discover_stream.codec.mode_policy import ModeStatus
from discover_stream.codec.packet import task_key
from discover_stream.config import CameraConfig, Config, LogConfig, RetentionConfig
from discover_stream.config_edge import Role
from discover_stream.types import DiscoverError, InputError, Task
from discover_stream.video.picture_health import PictureState
from topics import open_log
from topics.catalogue import ARCHIVE, FRAMES, CatalogueSettings, catalogue
from topics.fleet_messages import CameraRecord
from topics.log import Log, Retention

if TYPE_CHECKING:
    from actors.supervisor import Supervisor
    from actors.watched import Watched
    from discover_stream.decoded import DecodedFrame

__all__ = ["DecodeJob", "DecodeOptions", "System"]

_LOOK_EVERY_S = 0.1


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
    """The same configuration with the paths of the log, its keys and the cameras made absolute."""
    cameras = anchored_cameras(config.cameras, folder)
    edge = None if config.edge is None else config.edge.anchored(folder)
    return config.model_copy(update={"cameras": cameras, "log": config.log.anchored(folder), "edge": edge})


def anchored_cameras(cameras: Iterable[CameraConfig], folder: Path) -> tuple[CameraConfig, ...]:
    """The same cameras with absolute paths."""
    return tuple(
        camera if "://" in camera.source else camera.model_copy(update={"source": str(folder / camera.source)})
        for camera in cameras
    )


class System:
    """Ingest, ground pool, track+encode, route, registry and decode pool, started and watched.

    One system per process and per log: a second system on the same log takes over, and the first one stops
    with an error (`check`).
    """

    def __init__(self, config: Config, *, role: Role = "all", on_event: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing runs yet. `on_event` gets one line per start, death and restart of a stage,
        and per problem of a source; it is called from another thread.

        Raises InputError for tasks that cannot be loaded or whose keys collide.
        """
        self.config = anchored_paths(config, Path.cwd())
        self._role = role
        if role == "edge" and config.edge is None:
            raise InputError("an edge needs to know its core; add `edge: {site: NAME, core: ...}` to the configuration")
        self._tasks = load_tasks(config.tasks)
        self._tell = on_event or (lambda line: None)
        self._log: Log | None = None
        self._supervisor: Supervisor | None = None
        self._backlog: tuple[int, ...] = ()  # partitions that stages work on, besides those of cameras that are new
        self._desired: tuple[Mapping[str, CameraRecord], Desired] | None = None
        self._decoders: DecodePool | None = None
        self._view: LogView | None = None
        self._status: StatusWriter | None = None
        self._started_s = time.monotonic()
        self._ended_s: float | None = None  # when every source was first seen to have ended
        self._quiet_s: float | None = None  # when the look began that first found nothing left to do

    def start(self) -> None:
        """Start Ray and every stage; returns once all were asked to start (frames flow soon after).

        Raises InputError or LogError, in one line, where the log or a task cannot be used.
        """
        config = self.config
        self._started_s, self._ended_s, self._quiet_s = time.monotonic(), None, None
        self._log = log = open_log(config.log.url)
        try:
            specs = catalogue([task.name for task in self._tasks], catalogue_settings(config.log))
            log.create_topics(specs)
            seed_cameras(log, config.cameras, f"start of a system, process {os.getpid()}")
            self._backlog = backlog(log, config.log.partitions)
            self._view = LogView(log, specs, self._backlog, self._tell)
            self._view.start()
            self._start_processes()
        except BaseException:
            self.stop()
            raise

    def _start_processes(self) -> None:
        from actors.local_ray import answer_of, connect_ray, hosts, ray
        from actors.remote import RegistryActor
        from actors.supervisor import Supervisor

        connect_ray(self.config.ray)
        check_log_reaches(self.config, hosts())
        registry = ray.remote(num_cpus=0, max_restarts=-1)(RegistryActor).remote(self.config.log.url)
        supervisor = Supervisor(self.config, self._tell, self._wish)
        supervisor.watch_pool("registry", "registry", [registry])
        supervisor.create(self._wish())
        self._supervisor = supervisor
        assert self._log is not None
        self._status = StatusWriter(self._log, self._role, self.progress, lambda: supervisor.watched)
        supervisor.remember(self._status.read_before().stages)
        answer_of(
            registry.apply.remote(self._tasks, self.config.log.partitions),
            "registry: its process died while the system started",
            "check the memory, then start again",
        )
        supervisor.start()
        self._status.start()

    def _wish(self) -> Desired:
        """What is to be, as the log says now. An encoder that once had cameras stays: frames of them may wait."""
        assert self._view is not None
        records = self._view.cameras.records
        if self._desired is None or records is not self._desired[0]:
            found, problems = desired_cameras(records, self.config.cameras)
            for problem in problems:
                self._tell(problem)
            cameras = anchored_cameras(found, Path.cwd())
            wanted = desired(self.config, cameras, self._backlog, self._role)
            self._backlog = tuple(sorted({plan.partition for plan in wanted.plans}))
            self._view.use(self._backlog)
            self._desired = records, wanted
        return self._desired[1]

    def progress(self) -> Progress:
        """How far everything is, as of the last look at the log and what the stages last reported."""
        view, supervisor = self._running()
        watched = supervisor.watched
        reports = [report.stage for item in watched for report in list(item.reports.values())]
        return Progress(
            elapsed_s=time.monotonic() - self._started_s,
            cameras=tuple(camera_progress(item, supervisor.modes) for item in watched if item.kind == "ingest"),
            stages=tuple(stage_progress(view.figures, item) for item in watched),
            tasks=all_task_progress(self._tasks, view.tasks.now, view.tasks.known, tallies_of(reports)),
            archived=sum(report.frames for report in reports if isinstance(report, EncodeReport)),
            dead=sum(
                report.buried for report in reports if isinstance(report, EncodeReport | RouteReport | ForwardReport)
            ),
            idle=self._is_idle(),
            outage=view.outage,
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
        """Raise what made the system give up, if anything: LogError when another system took over its stages,
        or a topic has gone. A log that is away is waited for."""
        view, supervisor = self._running()
        failure = supervisor.failure or view.failure
        if failure is not None:
            raise failure

    def _is_idle(self) -> bool:
        view, supervisor = self._running()
        ended = [item.health in ("ended", "failed") for item in supervisor.watched if item.kind == "ingest"]
        if not all(ended):
            self._ended_s = self._quiet_s = None
            return False
        if self._ended_s is None:
            self._ended_s = time.monotonic()
        figures = view.figures
        if figures.began_s <= self._ended_s:  # what ingest wrote last may not be in them
            return False
        if not is_idle(ended, figures.encode.values(), figures.route.values()):
            self._quiet_s = None
            return False
        # Not at the first look: a broker may show that a frame is done before it shows the packet of it.
        if self._quiet_s is None:
            self._quiet_s = figures.began_s
        return figures.began_s > self._quiet_s

    def decode(self, jobs: Iterable[Job], options: DecodeOptions | None = None) -> Iterator[DecodedFrame]:
        """Decode packets on the decode pool, in order; its processes are made at the first call.

        `stream_jobs.JobPlanner` makes jobs of packets of either mode, also of those that arrive one by one.

        Works between `start` and `stop`, also once the system is idle. Raises BitstreamError for a packet
        that is damaged or was made with another model.
        """
        _, supervisor = self._running()
        if self._decoders is None:
            config = self.config
            self._decoders = DecodePool(
                config.pools.decode,
                config.threads.decode,
                config.decoding,
                options_of(config, "decode"),
                config.tracing,
            )
            supervisor.watch_pool("decode", "decode", self._decoders.handles)
        return self._decoders.decode(jobs, options or DecodeOptions.of(self.config.decoding))

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let every stage finish the transaction in hand, then stop it and Ray. May be called twice."""
        from actors.local_ray import stop_ray

        if self._supervisor is not None:
            self._supervisor.stop(timeout_s)
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None
        self._supervisor = None
        stop_ray()
        if self._view is not None:
            self._view.stop()
            self._view = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _running(self) -> tuple[LogView, Supervisor]:
        if self._view is None or self._supervisor is None:
            raise DiscoverError("the system is not running; start it first")
        return self._view, self._supervisor

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def backlog(log: Log, partitions: int) -> tuple[int, ...]:
    """Partitions with records that wait for encoding or routing."""
    return tuple(
        partition
        for partition in range(partitions)
        if behind(log, "encode", FRAMES, partition) or behind(log, "route", ARCHIVE, partition)
    )


def camera_progress(item: Watched, modes: Mapping[str, ModeStatus]) -> CameraProgress:
    """What an ingest process tells about its camera, and encoding about its mode."""
    assert item.plan is not None
    in_trouble = item.error if item.health in ("failed", "restarting") else None
    reports = [r.stage for r in list(item.reports.values()) if isinstance(r.stage, IngestReport)]
    dropped: Counter[str] = Counter()
    for report in reports:
        dropped.update(dict(report.dropped))
    outage, buffered = (reports[-1].outage, reports[-1].buffered) if reports else (None, 0)
    problem = next((report.problem for report in reversed(reports) if report.problem), in_trouble)
    if outage is not None:
        problem = outage_line(outage, buffered, dropped[LOG_UNAVAILABLE])
    status = modes.get(item.plan.camera or "", ModeStatus())
    picture = reports[-1].picture if reports else PictureState()
    return CameraProgress(
        name=item.plan.camera or "",
        partition=item.plan.partition,
        health=item.health,
        frames=max((report.next_seq for report in reports), default=0),
        gaps=sum(report.gaps for report in reports),
        dropped=dict(dropped),
        problem=problem,
        buffered=buffered,
        outage=outage,
        mode=status.mode,
        mode_reason=status.reason,
        picture=picture.kind,
        picture_since_ns=picture.since_ns,
    )


def stage_progress(figures: LogFigures, item: Watched) -> StageProgress:
    """What a process tells about itself, with its lag from the log."""
    waiting = 0
    if item.plan is not None and item.kind in ("encode", "route", "forward"):
        waiting = (figures.encode if item.kind == "encode" else figures.route).get(item.plan.partition, 0)
    reports = [report.stage for report in list(item.reports.values())]
    lost = sum(report.lost for report in reports if isinstance(report, EncodeReport | RouteReport | ForwardReport))
    return StageProgress(
        item.name, item.kind, item.pid, item.health, item.restarts, item.done, waiting, item.error, lost
    )


def tallies_of(reports: Iterable[object]) -> tuple[Tally, ...]:
    """What routing processes sent."""
    return tuple(tally for report in reports if isinstance(report, RouteReport) for tally in report.tallies)


def all_task_progress(
    listed: Sequence[Task], on: Mapping[str, Running], known: Mapping[str, Running], tallies: Sequence[Tally]
) -> tuple[TaskProgress, ...]:
    """What was sent to each task: those that a configuration lists, that are on, or that were sent something.

    `known` are all tasks that the log knows, as they were started last; those that are listed and not known will be
    on in a moment.
    """
    coming = {task.name: Running(task.label_set.version, task.options) for task in listed}
    sent = {tally.task for tally in tallies} & {*known}
    found = []
    for name in (*coming, *sorted(({*on} | sent) - {*coming})):
        running = on.get(name) or known.get(name) or coming[name]
        progress = task_progress(name, task_key(name, running.version), tallies)
        found.append(replace(progress, options=running.options, on=name in on or name not in known))
    return tuple(found)


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
