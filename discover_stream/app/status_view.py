"""How a system is, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from topics.fleet_messages import CameraStatus, StageStatus
from topics.status import StatusTable, silent_s

_WELL = ("running", "ended", "stopped")
_LONGEST = 60


def status_json(table: StatusTable, now_ns: int) -> dict[str, Any]:
    """Everything that the log says, and since how many seconds its system is silent (null where it is not)."""
    return {
        "system": None if table.system is None else msgspec.to_builtins(table.system),
        "silent_s": silent_s(table, now_ns),
        "cameras": [msgspec.to_builtins(camera) for camera in table.cameras],
        "stages": [msgspec.to_builtins(stage) for stage in table.stages],
        "pools": [msgspec.to_builtins(pool) for pool in table.pools],
    }


def status_lines(table: StatusTable, now_ns: int) -> list[str]:
    """A table of cameras, then what is not well."""
    lines = [system_line(table, now_ns)]
    if table.cameras:
        lines += ["", *aligned([HEADS, *(camera_cells(camera) for camera in table.cameras)])]
    lines += [f"pool {pool.pool}: {pool.running} of {pool.wanted} processes {pool.detail}" for pool in table.pools]
    troubles = [*map(camera_trouble, table.cameras), *map(stage_trouble, table.stages)]
    told = [line for line in troubles if line]
    return [*lines, *(["", *told] if told else [])]


HEADS = ("camera", "health", "picture", "mode", "fps", "lag", "dropped", "gaps", "kbit/s by task")


def system_line(table: StatusTable, now_ns: int) -> str:
    """One line about the system as a whole."""
    system = table.system
    if system is None:
        return "no system has written to this log yet; start `discover run`"
    where = f"{system.role} on {system.host}, process {system.pid}, version {system.version}"
    if system.state != "running":
        ago = "" if table.heard_ns is None else f" {duration((now_ns - table.heard_ns) / 1e9)} ago"
        return f"stopped{ago}: {where}; figures are its last ones"
    silent = silent_s(table, now_ns)
    if silent is not None:
        return f"SILENT for {duration(silent)}: {where}; it was killed, hangs, or cannot reach its log"
    up = duration((system.at_ns - system.started_ns) / 1e9)
    away = f"; LOG AWAY LATELY: {system.outage}" if system.outage else ""
    died = sum(stage.deaths for stage in table.stages)
    deaths = f"; {died} deaths of its processes, all told" if died else ""
    return f"running for {up}: {where}{deaths}{away}"


def camera_cells(camera: CameraStatus) -> tuple[str, ...]:
    """A camera's row."""
    lag = f"{camera.lag_frames} ({camera.lag_s:.1f} s)" if camera.lag_frames else "0"
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(camera.dropped.items())) or "0"
    rates = "  ".join(f"{task} {rate:.1f}" for task, rate in sorted(camera.kbps.items())) or "-"
    fps = f"{camera.fps:.1f}"
    return (
        camera.camera,
        camera.health,
        camera.picture,
        camera.mode or "-",
        fps,
        lag,
        dropped,
        str(camera.gaps),
        rates,
    )


def camera_trouble(camera: CameraStatus) -> str:
    """What is wrong with a camera, in one line; empty where nothing is."""
    parts = []
    if camera.picture not in ("ok", "unknown"):
        parts.append(f"its picture is {camera.picture}; look at the camera")
    if camera.problem:
        parts.append(camera.problem)
    if camera.mode_reason:
        parts.append(camera.mode_reason)
    return f"camera {camera.camera}: {'; '.join(parts)}" if parts else ""


def stage_trouble(stage: StageStatus) -> str:
    """What is wrong with a stage, in one line; empty where nothing is."""
    if stage.kind == "ingest" and stage.health == "failed":
        return ""  # the camera says so
    if stage.health in _WELL:
        return ""
    row = f", death {stage.in_a_row} in a row" if stage.in_a_row else ""
    return f"{stage.stage}: {stage.health}{row}{f': {stage.error}' if stage.error else ''}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with columns that stand below each other; a long cell only widens its own row."""
    widths = [
        max(len(row[column]) for row in rows if len(row[column]) <= _LONGEST or column == 0)
        for column in range(len(rows[0]))
    ]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def duration(seconds: float) -> str:
    """A time span in words, coarse."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} days"
