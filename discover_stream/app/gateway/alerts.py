"""What somebody should look at, from the system's last word. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from discover_stream.app.gateway.models import Alert
from discover_stream.app.moments import iso
from topics.fleet_messages import CameraStatus, StageStatus
from topics.status import StatusTable, silent_s

LAGS_S = 10.0
"""Seconds of video that wait for encoding from which on somebody should know."""
DROPS_S = 600.0
"""Seconds after the last dropped frame for which somebody should know."""


def alerts_of(table: StatusTable, now_ns: int) -> list[Alert]:
    """The alerts, errors first."""
    found = [*_of_system(table, now_ns)]
    if table.system is not None and table.system.state == "running":
        found += [alert for camera in table.cameras for alert in _of_camera(camera, now_ns)]
        found += [alert for stage in table.stages for alert in _of_stage(stage)]
    return sorted(found, key=lambda alert: (alert.severity != "error", alert.what))


def _of_system(table: StatusTable, now_ns: int) -> Iterator[Alert]:
    away = silent_s(table, now_ns)
    if away is not None and table.heard_ns is not None:
        text = f"the system has not been heard of for {away:.0f} s; look at the process of `discover run`"
        yield Alert(severity="error", what="system", since=iso(table.heard_ns), text=text)
    if table.system is not None and table.system.outage:
        yield Alert(severity="error", what="log", since=None, text=table.system.outage)


def _of_camera(camera: CameraStatus, now_ns: int) -> Iterator[Alert]:
    name = f"camera {camera.camera}"
    if camera.health in ("failed", "restarting"):
        text = camera.problem or f"it is {camera.health}"
        yield Alert(severity="error", what=name, since=None, text=text)
    elif camera.problem:
        yield Alert(severity="warning", what=name, since=None, text=camera.problem)
    if camera.picture not in ("ok", "unknown"):
        since = None if camera.picture_since_ns is None else iso(camera.picture_since_ns)
        yield Alert(severity="warning", what=name, since=since, text=f"its picture is {camera.picture}")
    if camera.lag_s > LAGS_S:
        text = f"{camera.lag_s:.0f} s of it wait for encoding"
        yield Alert(severity="warning", what=name, since=None, text=text)
    last_ns = camera.last_drop_ns
    if last_ns is not None and now_ns - last_ns <= DROPS_S * 1e9:
        reasons = ", ".join(f"{count}: {reason}" for reason, count in sorted(camera.dropped.items()))
        dropped = f"{sum(camera.dropped.values())} frames were dropped since the system started ({reasons})"
        yield Alert(severity="warning", what=name, since=iso(last_ns), text=f"{dropped}, the last at this time")


def _of_stage(stage: StageStatus) -> Iterator[Alert]:
    if stage.health == "failed":
        text = stage.error or "it failed"
        yield Alert(severity="error", what=f"stage {stage.stage}", since=None, text=text)
    elif stage.last_death_ns is not None and stage.health == "restarting":
        yield Alert(
            severity="warning",
            what=f"stage {stage.stage}",
            since=iso(stage.last_death_ns),
            text=stage.error or "its process died and is started again",
        )
