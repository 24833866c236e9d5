"""Starts the stages' processes, watches them, and starts again what died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from actors.decisions import Ending, StagePlan, after_error, deaths_in_a_row, is_live, restart_delay_s
from actors.encode import EncodeReport
from actors.frame_buffer import LOG_UNAVAILABLE, retry_delay_s
from actors.ingest import IngestReport
from actors.local_ray import ray
from actors.log_view import TopicGone
from actors.placement import Kind, options_of
from actors.progress import outage_line
from actors.reconcile import Begin, Configure, Create, Desired, Remove, Step, Stop, reconcile
from actors.remote import CONTROL, EncodeActor, ForwardActor, GroundActor, IngestActor, Report, RouteActor
from actors.watched import Watched
from discover_stream.codec.mode_policy import ModeStatus
from discover_stream.config import Config
from discover_stream.types import DiscoverError, InputError
from topics.fleet_messages import StageStatus
from topics.log import Fenced, LogError, MessageTooLarge, OffsetOutOfRange

_TICK_S = 0.1
_REPORT_EVERY_S = 0.5
_CONFIGURE_S = 5.0


class Supervisor:
    """Owns the actors of one system. `on_event` gets one line per thing worth telling."""

    def __init__(
        self, config: Config, on_event: Callable[[str], None], wish: Callable[[], Desired] | None = None
    ) -> None:
        """`wish` tells what is to be, again and again; None for what `create` is given, for as long as it runs."""
        self._config, self._tell, self._wish = config, on_event, wish
        self._wanted = Desired(())
        self._grounders: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._failure: DiscoverError | None = None
        self.watched: list[Watched] = []
        self.modes: dict[str, ModeStatus] = {}

    @property
    def failure(self) -> DiscoverError | None:
        """What made the system give up, if anything."""
        return self._failure

    def create(self, wanted: Desired) -> None:
        """Make a process for every stage and pool member; they load while the rest is prepared."""
        config = self._config
        self._wanted = wanted
        ground = ray.remote(max_restarts=-1, max_task_retries=3, **options_of(config, "ground"))(GroundActor)
        self._grounders = [ground.remote(config.threads.ground, config.grounder) for _ in range(wanted.ground)]
        for index, handle in enumerate(self._grounders):
            self.watched.append(Watched(f"ground-{index}", "ground", handle, handle.load.remote))
        for plan in wanted.plans:
            self._create(plan)

    def _create(self, plan: StagePlan) -> Watched:
        config, wanted = self._config, self._wanted
        camera = wanted.cameras.get(plan.camera or "")
        encoding = wanted.encoding if plan.kind == "encode" else None
        if encoding is not None:
            handle = self._run_loop("encode", EncodeActor, plan.partition, encoding, config.threads.encode)
        elif camera is not None:
            handle = self._run_loop("ingest", IngestActor, plan.partition, camera, config.max_lag)
        elif plan.kind == "forward" and config.edge is not None:
            handle = self._run_loop("route", ForwardActor, plan.partition, config.edge)
        else:
            handle = self._run_loop("route", RouteActor, plan.partition)
        item = Watched(plan.identity, plan.kind, handle, plan=plan, camera=camera, encoding=encoding)
        item.live = camera is not None and is_live(camera.source)
        item.begin = partial(self._begin, item)
        self.watched = [*self.watched, item]
        return item

    def _run_loop(self, kind: Kind, actor: type, *arguments: Any) -> Any:
        options = {"max_restarts": -1, "concurrency_groups": {CONTROL: 1}}
        return ray.remote(**options, **options_of(self._config, kind))(actor).remote(self._config.log.url, *arguments)

    def _begin(self, item: Watched) -> Any:
        if item.kind == "encode":
            return item.handle.run.remote(self._grounders, item.encoding, self._config.tracing)
        return item.handle.run.remote((), None, self._config.tracing)

    def remember(self, stages: Iterable[StageStatus]) -> None:
        """Take over what an earlier run of the system wrote about deaths."""
        known = {item.name: item for item in self.watched}
        for status in stages:
            if status.stage in known:
                known[status.stage].remember(status, time.time_ns())

    def start(self) -> None:
        """Start every run loop, and watch."""
        for item in self.watched:
            self._run(item)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask every run loop to finish its transaction, and wait for that as long as the time-out allows."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        loops = [item for item in self.watched if item.plan is not None]
        for item in loops:
            item.handle.stop.remote()
        busy = [item.running for item in loops if item.running is not None]
        if busy:
            ray.wait(busy, num_returns=len(busy), timeout=timeout_s)
        for item in loops:
            if item.health not in ("ended", "failed"):
                item.health = "stopped"

    def watch_pool(self, name: str, kind: str, handles: Sequence[Any]) -> None:
        """Report on further processes too (the decode pool's)."""
        known = {item.name for item in self.watched}
        added = [Watched(f"{name}-{i}", kind, handle, health="running") for i, handle in enumerate(handles)]
        self.watched = self.watched + [item for item in added if item.name not in known]

    def _watch(self) -> None:
        try:
            while self._failure is None and not self._stop.wait(_TICK_S):
                for item in self.watched:
                    self._collect_report(item)
                    self._look_at(item)
                self._reconcile()
        except Exception as error:  # nobody else would notice that nothing is watched any more
            self._failure = DiscoverError(f"supervisor: {type(error).__name__}: {error}; start the system again")

    def _reconcile(self) -> None:
        """Bring what is closer to what is to be."""
        if self._wish is not None:
            self._wanted = self._wish()
        now_s = time.monotonic()
        stages = {item.plan: item for item in self.watched if item.plan is not None}
        for step in reconcile(self._wanted, [item.actual(now_s) for item in stages.values()], now_s):
            self._carry_out(step, stages.get(step.plan))

    def _carry_out(self, step: Step, item: Watched | None) -> None:
        if item is None:
            if isinstance(step, Create):
                self._run(self._create(step.plan))
        elif isinstance(step, Begin):
            self._run(item)
        elif isinstance(step, Configure):
            item.encoding = self._wanted.encoding
            # A camera's ingest must not come before its encoder knows how; one that dies meanwhile is told at `run`.
            ray.wait([item.handle.configure.remote(item.encoding)], timeout=_CONFIGURE_S)
        elif isinstance(step, Stop):
            item.stopping_s = time.monotonic()
            item.handle.stop.remote()
        elif isinstance(step, Remove):
            ray.kill(item.handle)
            self.watched = [other for other in self.watched if other is not item]
            self._tell(f"{item.name}: stopped, its camera is gone or has other settings")

    def _run(self, item: Watched) -> None:
        if item.begin is not None:
            item.running, item.again_s, item.began_s = item.begin(), None, time.monotonic()

    def _look_at(self, item: Watched) -> None:
        if item.plan is None and item.again_s is not None and time.monotonic() >= item.again_s:
            self._run(item)
            return
        if item.running is None or not ray.wait([item.running], timeout=0)[0]:
            return
        finished, item.running = item.running, None
        try:
            outcome = ray.get(finished)
        except ray.exceptions.RayTaskError as error:
            self._after(item, error.cause)
        except ray.exceptions.RayError as error:
            self._after(item, error)
        else:
            item.health = "ended" if outcome == "ended" else "running" if item.plan is None else "stopped"
            if outcome == "ended":
                self._tell(f"{item.name}: its source has ended")

    def _after(self, item: Watched, error: BaseException) -> None:
        """Decide what follows the end of a run loop (or of a pool member's loading) by an error."""
        ending = ending_of(error)
        if ending == "death" and item.lost is not None and (item.lost == item.pid or item.run == 0):
            # The call came while Ray was starting the process again, and never began.
            item.again_s = time.monotonic() + restart_delay_s(item.deaths)
            return
        item.lost = item.pid if ending == "death" else None
        item.error = "its process died" if ending == "death" else " ".join(str(error).split()) or type(error).__name__
        verdict = after_error(item.kind, ending, item.live)
        if item.stopping_s is not None and verdict != "stop":
            return  # it was to end anyway
        if verdict == "stop":
            self._failure = error if isinstance(error, DiscoverError) else DiscoverError(item.error)
            item.health = "failed"
        elif verdict == "fail":
            item.health = "failed"
            self._tell(f"{item.name}: gave up: {item.error}")
        elif ending == "log":
            self._wait_for_log(item, item.error)
        else:
            item.deaths = deaths_in_a_row(item.deaths, time.monotonic() - item.began_s)
            item.died, item.last_death_ns = item.died + 1, time.time_ns()
            delay_s = restart_delay_s(item.deaths)
            item.again_s, item.health = time.monotonic() + delay_s, "restarting"
            item.restarts += item.plan is not None  # those of pools are counted when they report again
            self._tell(f"{item.name} (process {item.pid}): {item.error}; starting again in {delay_s:.1f} s")

    def _wait_for_log(self, item: Watched, error: str) -> None:
        """Begin again every few seconds until the log is back; it is said once."""
        item.log_failures = deaths_in_a_row(item.log_failures, time.monotonic() - item.began_s)
        item.again_s, item.health = time.monotonic() + retry_delay_s(item.log_failures), "restarting"
        if item.log_told is None:
            self._tell(f"{item.name}: {error}; trying again until the log is back")
        item.log_told = error

    def _collect_report(self, item: Watched) -> None:
        if item.asked is None:
            if time.monotonic() - item.asked_s >= _REPORT_EVERY_S:
                item.asked, item.asked_s = item.handle.report.remote(), time.monotonic()
            return
        if not ray.wait([item.asked], timeout=0)[0]:
            return
        asked, item.asked = item.asked, None
        try:
            report: Report = ray.get(asked)
        except ray.exceptions.RayError:
            return  # it is being started again
        item.keep(report)
        item.run = report.run
        self._tell_problems(item, report)
        if report.pid != item.pid:
            if item.plan is None and item.pid is not None:
                item.restarts += 1
            word = "started" if item.pid is None else "started again"
            item.pid = report.pid
            self._tell(f"{item.name} {word}: process {report.pid}")
        if item.running is not None and item.asked_s >= item.began_s and item.health in ("starting", "restarting"):
            item.health = "running"

    def _tell_problems(self, item: Watched, report: Report) -> None:
        stage = report.stage
        if isinstance(stage, EncodeReport):
            for camera, status in stage.modes:
                if self.modes.get(camera, ModeStatus()) != status:
                    if status.reason or camera in self.modes:
                        self._tell(mode_line(camera, status))
                    self.modes[camera] = status
        if isinstance(stage, IngestReport):
            line = picture_line(item.plan.camera if item.plan else None, item.picture, stage.picture.kind)
            item.picture = stage.picture.kind if stage.picture.kind != "unknown" else item.picture
            if line:
                self._tell(line)
            if stage.problem is not None and stage.problem != item.told:
                item.told = stage.problem
                self._tell(f"{item.name}: {stage.problem}")
            if stage.outage is not None:
                if item.log_told is None:
                    self._tell(f"{item.name}: {outage_line(stage.outage, stage.buffered, log_drops(stage))}")
                item.log_told = stage.outage.error
                return
        if item.log_told is not None and report.done > 0 and item.asked_s >= item.began_s and item.running is not None:
            item.log_told, item.log_failures = None, 0
            self._tell(f"{item.name}: goes on, the log is back")


def picture_line(camera: str | None, before: str, now: str) -> str:
    """What is said when a camera's picture becomes bad or good again; empty where there is nothing to say."""
    if now in ("unknown", before) or (now == "ok" and before == "unknown"):
        return ""
    if now == "ok":
        return f"camera {camera}: its picture is well again"
    return f"camera {camera}: its picture is {now}; look at the camera"


def mode_line(camera: str, status: ModeStatus) -> str:
    """What is said when a camera changes its mode, or should."""
    if not status.reason:
        return f"camera {camera}: {status.mode} mode"
    if status.mode == "stream":
        remedy = "it is in stream mode as configured; mode: auto would change to still mode"
        return f"camera {camera}: {status.reason}; {remedy}"
    return f"camera {camera}: still mode: {status.reason}; stream mode is tried again after a while"


def ending_of(error: BaseException) -> Ending:
    """What kind of end an error makes."""
    if isinstance(error, ray.exceptions.RayError):
        return "death"
    if isinstance(error, Fenced):
        return "fenced"
    if isinstance(error, TopicGone):
        return "topic"
    if isinstance(error, LogError) and not isinstance(error, (MessageTooLarge, OffsetOutOfRange)):
        return "log"
    return "input" if isinstance(error, InputError) else "other"


def log_drops(report: IngestReport) -> int:
    """Frames that were left out because the log did not take them."""
    return dict(report.dropped).get(LOG_UNAVAILABLE, 0)
