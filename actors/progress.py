"""What a running system tells about itself: frozen snapshots, nothing that acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from discover_stream.types import TaskOptions

Health = Literal["starting", "running", "restarting", "ended", "failed", "stopped"]
"""`ended`: a finite source was read to its end; `failed`: given up, `error` says why."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The log takes, or gives, no records since a time (ns since the epoch), and why, in one line."""

    since_ns: int
    error: str


def outage_line(outage: Outage, buffered: int, dropped: int) -> str:
    """One line about a log that is away: since when, why, and what becomes of a camera's frames meanwhile."""
    since = datetime.fromtimestamp(outage.since_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"log unavailable since {since}, {buffered} frames buffered, {dropped} dropped: {outage.error}"


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One stage's process.

    Attributes:
        name: its transactional id for stages of the log (``encode-0``), else pool and number (``ground-0``).
        kind: ingest, ground, encode, route, registry or decode.
        pid: process id as last reported, None before it first answered.
        health: see `Health`.
        restarts: how often it was started again since the system started.
        done: records (for ingest: frames) finished since the system started; what a killed process did
            since its last answer is not in it.
        lag: input records not yet processed, from the log; 0 for what reads no topic. On brokers, whose
            own markers take places too, about twice as many.
        error: why it last died or failed, in one line.
        lost: input records that retention took before they were processed, since the system started; on
            brokers more, as with `lag`.
    """

    name: str
    kind: str
    pid: int | None
    health: Health
    restarts: int
    done: int
    lag: int
    error: str | None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CameraProgress:
    """One camera: `frames` acknowledged by the log so far (over all runs), frames `dropped` by reason (this
    run), gaps recorded in this run, and what its source could not read, or the log not take, in one line.

    `buffered` frames wait to be written; `outage` is set while the log does not take them. `mode` is that of the last
    frame that was encoded, None before it; `mode_reason` says why it is not stream mode, or should not be.
    `picture` is what its picture looks like (see `video.picture_health`), since capture time `picture_since_ns`."""

    name: str
    partition: int
    health: Health
    frames: int
    gaps: int
    dropped: dict[str, int]
    problem: str | None
    buffered: int = 0
    outage: Outage | None = None
    mode: str | None = None
    mode_reason: str = ""
    picture: str = "unknown"
    picture_since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """What one task's subscribers were sent in this run: packets, all their bytes, and the rate of a
    camera's stream time (not of processing time), summed over the cameras.

    `options` tell how it is delivered; `on` is false once it was turned off.
    """

    name: str
    key: int
    packets: int
    bytes: int
    kbps: float
    options: TaskOptions = field(default_factory=TaskOptions)
    on: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of the whole system.

    Attributes:
        elapsed_s: seconds since the system was started.
        cameras, stages: in the order of the configuration.
        tasks: those of the configuration in its order, then others that are on, or were sent something, by name.
        archived: packets archived in this run; what a killed process did since its last answer is not in it.
        dead: records that went to the dead topic in this run, likewise.
        idle: every source has ended (or failed) and everything that was ingested has been routed.
        outage: set while the log does not answer; figures from it are then those of before.
    """

    elapsed_s: float
    cameras: tuple[CameraProgress, ...]
    stages: tuple[StageProgress, ...]
    tasks: tuple[TaskProgress, ...]
    archived: int
    dead: int
    idle: bool
    outage: Outage | None = None

    @property
    def frames(self) -> int:
        """Frames acknowledged by the log, all cameras."""
        return sum(camera.frames for camera in self.cameras)

    @property
    def lost(self) -> int:
        """Records that retention took before a stage processed them."""
        return sum(stage.lost for stage in self.stages)

    @property
    def restarts(self) -> int:
        """Restarts of all stages."""
        return sum(stage.restarts for stage in self.stages)
