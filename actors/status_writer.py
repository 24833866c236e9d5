"""Writes how a running system is into its log, every few seconds, for whoever asks (`topics.status`).

What is written are differences of what stages report between two looks, so every figure is of the last few seconds
and not of the whole run. A system that is killed says nothing more: its last word then grows old.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from actors.decisions import stream_kbps
from actors.encode import CameraTally, EncodeReport
from actors.ingest import IngestReport
from actors.progress import CameraProgress, Progress
from actors.route import RouteReport, Tally
from discover_stream import __version__
from topics.catalogue import STATUS
from topics.fleet_messages import CameraStatus, StageStatus, SystemStatus
from topics.log import Fenced, Log, LogError, Stage
from topics.messages import AnyMessage, encode
from topics.status import STAGE, SYSTEM_KEY, StatusTable, interval_s, read_status

if TYPE_CHECKING:
    from actors.watched import Watched

_WINDOW_S = 10.0
_SHORTEST_S = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """What stages had done at a time of the monotonic clock: frames encoded by camera, what each task was sent of each
    camera, and how many regions a camera's frames have lately."""

    at_s: float
    encoded: Mapping[str, CameraTally] = field(default_factory=dict)
    sent: Mapping[tuple[str, str], Tally] = field(default_factory=dict)
    regions: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)


def looked(at_s: float, reports: Iterable[object]) -> Look:
    """The sum of what all processes of stages report."""
    encoded: dict[str, CameraTally] = {}
    sent: dict[tuple[str, str], Tally] = {}
    regions: dict[str, tuple[tuple[str, float], ...]] = {}
    for report in reports:
        if isinstance(report, EncodeReport):
            regions.update(report.regions)
            for tally in report.tallies:
                known = encoded.get(tally.camera)
                encoded[tally.camera] = tally if known is None else joined(known, tally)
        elif isinstance(report, RouteReport):
            for part in report.tallies:
                before = sent.get((part.task, part.camera))
                sent[part.task, part.camera] = part if before is None else before.joined(part)
    return Look(at_s, encoded, sent, regions)


def joined(one: CameraTally, other: CameraTally) -> CameraTally:
    """What two processes did of one camera, one after the other."""
    latest = max(one, other, key=lambda tally: tally.next_seq)
    return CameraTally(one.camera, one.frames + other.frames, latest.next_seq, latest.capture_ns)


def fps_of(camera: str, before: Look, now: Look) -> float:
    """Frames of a camera encoded a second between two looks."""
    here = now.encoded.get(camera)
    if here is None or now.at_s <= before.at_s:
        return 0.0
    earlier = before.encoded.get(camera)
    return max(0, here.frames - (earlier.frames if earlier is not None else 0)) / (now.at_s - before.at_s)


def kbps_of(camera: str, before: Look, now: Look) -> dict[str, float]:
    """kbit/s of stream time that each task was sent of a camera between two looks, 0 where that was nothing."""
    rates: dict[str, float] = {}
    for (task, name), tally in sorted(now.sent.items()):
        if name != camera:
            continue
        earlier = before.sent.get((task, camera))
        if earlier is None:
            rates[task] = stream_kbps(tally.bytes, tally.packets, tally.first_ns, tally.last_ns)
        elif tally.last_ns > earlier.last_ns:
            rates[task] = (tally.bytes - earlier.bytes) * 8e6 / (tally.last_ns - earlier.last_ns)
        else:
            rates[task] = 0.0
    return rates


def camera_status(
    camera: CameraProgress,
    ingest: IngestReport | None,
    looks: tuple[Look, Look],
    partition_lag: int,
    at_ns: int,
) -> CameraStatus:
    """What is written about a camera. Until a frame of it was encoded, all that waits in its partition is its lag."""
    before, now = looks
    tally = now.encoded.get(camera.name)
    waiting, late_s = partition_lag, 0.0
    if tally is not None:
        waiting = max(0, camera.frames - tally.next_seq)
        if waiting and ingest is not None and ingest.last_capture_ns is not None:
            late_s = max(0.0, (ingest.last_capture_ns - tally.capture_ns) / 1e9)
    return CameraStatus(
        camera=camera.name,
        at_ns=at_ns,
        partition=camera.partition,
        health=camera.health,
        picture=camera.picture,
        picture_since_ns=camera.picture_since_ns,
        fps=round(fps_of(camera.name, before, now), 2),
        frames=camera.frames,
        lag_frames=waiting,
        lag_s=round(late_s, 2),
        dropped=camera.dropped,
        gaps=camera.gaps,
        mode=camera.mode,
        mode_reason=camera.mode_reason,
        problem=camera.problem,
        kbps={task: round(rate, 2) for task, rate in kbps_of(camera.name, before, now).items()},
        regions={task: round(count, 2) for task, count in now.regions.get(camera.name, ())},
    )


def with_last_drop(before: AnyMessage | None, now: CameraStatus) -> CameraStatus:
    """A camera's status, with when its last dropped frame was noticed; `before` is what was written last."""
    earlier = 0
    last_ns: int | None = None
    if isinstance(before, CameraStatus):
        earlier, last_ns = sum(before.dropped.values()), before.last_drop_ns
    dropped = sum(now.dropped.values())
    fresh = dropped and dropped != earlier  # fewer: a system that started again counts anew
    return msgspec.structs.replace(now, last_drop_ns=now.at_ns if fresh else last_ns)


def stage_status(item: Watched, lag: int, at_ns: int) -> StageStatus:
    """What is written about a stage's process."""
    return StageStatus(
        stage=item.name,
        kind=item.kind,
        at_ns=at_ns,
        pid=item.pid,
        health=item.health,
        restarts=item.restarts,
        done=item.done,
        lag=lag,
        error=item.error,
        deaths=item.died,
        in_a_row=item.deaths,
        last_death_ns=item.last_death_ns,
        latency_ms={} if item.latest is None else dict(item.latest.latency_ms),
    )


def changes(written: Mapping[str, AnyMessage], wanted: Mapping[str, AnyMessage]) -> dict[str, AnyMessage | None]:
    """What is to be written, None to forget: everything that differs from what was written by more than its time."""
    changed: dict[str, AnyMessage | None] = {
        key: message
        for key, message in wanted.items()
        if key == SYSTEM_KEY or key not in written or _timeless(written[key]) != _timeless(message)
    }
    return {**changed, **{key: None for key in written if key not in wanted}}


def _timeless(message: AnyMessage) -> AnyMessage:
    return msgspec.structs.replace(message, at_ns=0)


class StatusWriter:
    """A thread that looks at a system and writes. `progress` and `watched` tell how it is.

    `before` is what an earlier run wrote last: what is no more is forgotten.
    """

    def __init__(
        self, log: Log, role: str, progress: Callable[[], Progress], watched: Callable[[], Sequence[Watched]]
    ) -> None:
        self._log, self._role, self._progress, self._watched = log, role, progress, watched
        self._stage: Stage | None = None
        self._written: dict[str, AnyMessage] = {}
        self._started_ns = time.time_ns()
        self._looks: deque[Look] = deque()
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._deaths = 0
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self.before = StatusTable()

    def read_before(self) -> StatusTable:
        """What an earlier run wrote last. Raises LogError."""
        self.before = table = read_status(self._log)
        self._written = {
            **{f"camera/{item.camera}": item for item in table.cameras},
            **{f"stage/{item.stage}": item for item in table.stages},
        }
        return table

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write once more, that the system has stopped; does not wait for a log that is away."""
        self._stop.set()
        self._soon.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        period_s = _SHORTEST_S
        while not self._stop.is_set():
            self._wait(period_s)
            try:
                period_s = self._write("stopped" if self._stop.is_set() else "running")
            except Fenced:
                break  # another system writes now; its stages are fenced too, and say so
            except LogError:
                self._let_go()  # the log is away: others tell, and the next look is written when it is back
        self._let_go()

    def _wait(self, period_s: float) -> None:
        """Until the next look is due: at once after a death, which is to be known should this process die too."""
        ends_s = time.monotonic() + period_s
        while not self._stop.is_set() and (left_s := ends_s - time.monotonic()) > 0:
            self._soon.wait(min(left_s, _SHORTEST_S))
            deaths = sum(item.died for item in self._watched())
            if deaths != self._deaths:
                self._deaths = deaths
                return

    def _write(self, state: str) -> float:
        """Look and write; seconds until the next time. Raises LogError."""
        progress, items = self._progress(), list(self._watched())
        period_s = interval_s(len(progress.cameras))
        wanted = self._messages(progress, items, state, period_s)
        changed = changes(self._written, wanted)
        if self._stage is None:
            self._stage = self._log.stage(STAGE, 0, f"status, process {os.getpid()}")
        with self._stage.transaction() as transaction:
            for key, message in changed.items():
                transaction.send(STATUS, key, None if message is None else encode(message))
        self._written = wanted
        return period_s

    def _messages(
        self, progress: Progress, items: Sequence[Watched], state: str, period_s: float
    ) -> dict[str, AnyMessage]:
        at_ns = time.time_ns()
        now = looked(time.monotonic(), [report.stage for item in items for report in list(item.reports.values())])
        self._looks.append(now)
        while len(self._looks) > 2 and now.at_s - self._looks[1].at_s >= _WINDOW_S:
            self._looks.popleft()
        before = self._looks[0]
        ingests = {item.plan.camera: item for item in items if item.plan is not None and item.kind == "ingest"}
        lags = {stage.name: stage.lag for stage in progress.stages}
        found: dict[str, AnyMessage] = {
            SYSTEM_KEY: SystemStatus(
                at_ns=at_ns,
                role=self._role,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                state=state,
                started_ns=self._started_ns,
                interval_s=period_s,
                outage="" if progress.outage is None else progress.outage.error,
            )
        }
        for camera in progress.cameras:
            latest = latest_ingest(ingests.get(camera.name))
            lag = lags.get(f"encode-{camera.partition}", 0)
            status = camera_status(camera, latest, (before, now), lag, at_ns)
            found[f"camera/{camera.name}"] = with_last_drop(self._written.get(f"camera/{camera.name}"), status)
        for item in items:
            found[f"stage/{item.name}"] = stage_status(item, lags.get(item.name, 0), at_ns)
        return found

    def _let_go(self) -> None:
        if self._stage is not None:
            with suppress(LogError):
                self._stage.close()
            self._stage = None


def latest_ingest(item: Watched | None) -> IngestReport | None:
    """What a camera's ingest said last."""
    reports = [] if item is None else [report.stage for report in list(item.reports.values())]
    return next((report for report in reversed(reports) if isinstance(report, IngestReport)), None)
