"""What a running system tells about itself: frozen snapshots, nothing that acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Health = Literal["starting", "running", "restarting", "ended", "failed", "stopped"]
"""`ended`: a finite source was read to its end; `failed`: given up, `error` says why."""


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
        lag: input records not yet processed, from the log; 0 for what reads no topic.
        error: why it last died or failed, in one line.
    """

    name: str
    kind: str
    pid: int | None
    health: Health
    restarts: int
    done: int
    lag: int
    error: str | None


@dataclass(frozen=True, slots=True)
class CameraProgress:
    """One camera: `frames` acknowledged by the log so far (over all runs), frames `dropped` by reason (this
    run), gaps recorded in this run, and what its source could not read, in one line."""

    name: str
    partition: int
    health: Health
    frames: int
    gaps: int
    dropped: dict[str, int]
    problem: str | None


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """What one task's subscribers were sent in this run: packets, all their bytes, and the rate of a
    camera's stream time (not of processing time), summed over the cameras."""

    name: str
    key: int
    packets: int
    bytes: int
    kbps: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of the whole system.

    Attributes:
        elapsed_s: seconds since the system was started.
        cameras, stages, tasks: in the order of the configuration.
        archived: packets in the archive (over all runs).
        dead: records on the dead topic (over all runs).
        idle: every source has ended (or failed) and everything that was ingested has been routed.
    """

    elapsed_s: float
    cameras: tuple[CameraProgress, ...]
    stages: tuple[StageProgress, ...]
    tasks: tuple[TaskProgress, ...]
    archived: int
    dead: int
    idle: bool

    @property
    def frames(self) -> int:
        """Frames acknowledged by the log, all cameras."""
        return sum(camera.frames for camera in self.cameras)

    @property
    def restarts(self) -> int:
        """Restarts of all stages."""
        return sum(stage.restarts for stage in self.stages)
