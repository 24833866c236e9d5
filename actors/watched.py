"""A process under supervision, as the supervisor knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.decisions import StagePlan
from actors.encode import EncodeReport, EncodeSettings
from actors.forward import ForwardReport
from actors.ingest import IngestReport
from actors.progress import Health
from actors.reconcile import Actual, Phase
from actors.remote import Report, StageReport
from actors.route import RouteReport
from discover_stream.config import CameraConfig
from topics.fleet_messages import StageStatus

_SAME_ROW_NS = 60 * 10**9
_LONGEST_STOP_S = 30.0
"""A stage that has not stopped by then is killed; what it had in hand is done again, or was never begun."""


@dataclass
class Watched:
    """A process under supervision, as the supervisor's thread knows it; others only read it.

    `begin` calls what is to be done in it, again after every death; None where it only answers calls. `lost` is
    the process that died last, `run` the call of `run` that the process is in: until another process is in one, it
    is the same death. `log_failures` counts ends in a row because of a log that is away, which are no deaths;
    `log_told` is what was said about it last. `camera` and
    `encoding` are what it was made with or told last, `stopping_s` when it was asked to stop for good.
    `died` counts all deaths, also in earlier runs of the system, `last_death_ns` is when the last one was seen.
    `picture` is what a camera's picture was said to be last.
    """

    name: str
    kind: str
    handle: Any
    begin: Callable[[], Any] | None = None
    plan: StagePlan | None = None
    live: bool = False
    health: Health = "starting"
    running: Any = None
    began_s: float = 0.0
    again_s: float | None = None
    deaths: int = 0
    restarts: int = 0
    error: str | None = None
    asked: Any = None
    asked_s: float = 0.0
    reports: dict[tuple[int, int], Report] = field(default_factory=dict)
    pid: int | None = None
    told: str | None = None
    run: int = 0
    lost: int | None = None
    log_failures: int = 0
    log_told: str | None = None
    camera: CameraConfig | None = None
    encoding: EncodeSettings | None = None
    stopping_s: float | None = None
    died: int = 0
    last_death_ns: int | None = None
    picture: str = "unknown"

    def actual(self, now_s: float) -> Actual:
        """The stage as `actors.reconcile` sees it."""
        assert self.plan is not None
        phase: Phase = "resting"
        if self.stopping_s is not None:
            over = self.running is None or now_s - self.stopping_s >= _LONGEST_STOP_S
            phase = "stopped" if over else "stopping"
        elif self.again_s is not None:
            phase = "waiting"
        elif self.running is not None:
            phase = "running"
        return Actual(self.plan, phase, self.camera, self.encoding, self.again_s)

    def remember(self, before: StageStatus, now_ns: int) -> None:
        """Take over the deaths of an earlier run of the system; a row of them goes on where the last was just now."""
        self.died, self.last_death_ns = before.deaths, before.last_death_ns
        if before.last_death_ns is not None and now_ns - before.last_death_ns < _SAME_ROW_NS:
            self.deaths = before.in_a_row

    @property
    def done(self) -> int:
        """Records finished, over all processes that this one has been."""
        return sum(report.done for report in list(self.reports.values()))

    @property
    def latest(self) -> Report | None:
        """What the process that there is now said last."""
        return next(reversed(list(self.reports.values())), None)

    def keep(self, report: Report) -> None:
        """Take in what the process says now. Runs before that did nothing are forgotten: while a log, or a camera, is
        away there is one every few seconds."""
        here = report.pid, report.run
        for place, other in list(self.reports.items()):
            if place != here and not other.done and _adds_nothing(other.stage, report.stage):
                del self.reports[place]
        self.reports[here] = report


def _adds_nothing(before: StageReport | None, now: StageReport | None) -> bool:
    """Whether what a run told that did no record is in what a later run tells."""
    if isinstance(before, IngestReport):
        same = isinstance(now, IngestReport) and before.next_seq <= now.next_seq
        return same and not before.gaps and not before.dropped
    return before in (None, EncodeReport(), RouteReport(), ForwardReport())
