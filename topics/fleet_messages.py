"""The messages of a fleet: which cameras there are to be, how everything is, and how far an edge was forwarded."""

from __future__ import annotations

import msgspec

from topics.message_base import Count, Message, Name


class CameraRecord(Message, frozen=True, kw_only=True, tag="camera"):
    """A camera that is to be there, or that somebody removed.

    `settings` is the camera's configuration as JSON, without any password. `listed`: a configuration file lists it,
    and its settings are those of the file. `removed`: it is to be off, also in systems that start later.
    """

    camera: Name
    settings: str
    listed: bool = False
    removed: bool = False


class SystemStatus(Message, frozen=True, kw_only=True, tag="system-status"):
    """How a running system is. `at_ns` and `started_ns` are times of its own clock, `interval_s` is how often it
    writes; `outage` says in one line why its log did not answer lately, empty where it did."""

    at_ns: int
    role: str
    host: str
    pid: Count
    version: str
    state: str
    started_ns: int
    interval_s: float
    outage: str = ""


class CameraStatus(Message, frozen=True, kw_only=True, tag="camera-status"):
    """How a camera is.

    `picture` is what its picture looks like (``ok``, ``frozen``, ``black``, ``covered``, ``defocused``, ``moved``, or
    ``unknown``) since capture time `picture_since_ns`; `fps` are frames encoded a second, `lag_frames` and `lag_s`
    (seconds of capture time) what waits for encoding, `kbps` by task what subscribers were sent, all over the last
    interval or a few; `dropped` counts frames by reason and `gaps` gaps since the system started, `last_drop_ns` is
    when the last drop was noticed; `regions` are found per frame, by task.
    """

    camera: Name
    at_ns: int
    partition: Count
    health: str
    picture: str = "unknown"
    picture_since_ns: int | None = None
    fps: float = 0.0
    frames: Count = 0
    lag_frames: Count = 0
    lag_s: float = 0.0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    last_drop_ns: int | None = None
    gaps: Count = 0
    mode: str | None = None
    mode_reason: str = ""
    problem: str | None = None
    kbps: dict[str, float] = msgspec.field(default_factory=dict)
    regions: dict[str, float] = msgspec.field(default_factory=dict)


class StageStatus(Message, frozen=True, kw_only=True, tag="stage-status"):
    """How a stage's process is. `deaths` counts over all runs of the system, `in_a_row` those that followed each
    other closely, `last_death_ns` is when the last one was seen, `error` why it died or failed, and
    `latency_ms` what its steps take."""

    stage: Name
    kind: str
    at_ns: int
    pid: int | None = None
    health: str = "starting"
    restarts: Count = 0
    done: Count = 0
    lag: Count = 0
    error: str | None = None
    deaths: Count = 0
    in_a_row: Count = 0
    last_death_ns: int | None = None
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict)


class PoolStatus(Message, frozen=True, kw_only=True, tag="pool-status"):
    """How many processes a pool is to have, and has; `detail` says more in one line.

    `waiting` requests are not begun yet, `starts` counts processes that were started and `cold_starts` those that a
    request waited for; `decode_ms` is what a frame takes, `invention` how much was invented (see docs/evaluation.md).
    """

    pool: Name
    at_ns: int
    wanted: Count
    running: Count
    detail: str = ""
    waiting: Count = 0
    starts: Count = 0
    cold_starts: Count = 0
    decode_ms: float = 0.0
    invention: float | None = None


class ForwardState(Message, frozen=True, kw_only=True, tag="forward-state"):
    """How far one partition of an edge's log was copied into the core's log, which this is kept in.

    `source` is the edge's site, `offset` the next record of the edge's archive, `index` that of its index; `cameras`
    has (next number, capture time) of each camera's latest packet, `unsettled` the cameras before whose next packet
    the edge's spool may have lost something.
    """

    source: str
    offset: Count = 0
    index: Count = 0
    cameras: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    unsettled: tuple[str, ...] = ()


FleetMessage = CameraRecord | SystemStatus | CameraStatus | StageStatus | PoolStatus | ForwardState
