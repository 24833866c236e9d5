"""What the gateway speaks: the bodies of requests and answers, as pydantic models.

Times are ISO 8601 in UTC with milliseconds; where a program needs them exactly, a field `*_ns` beside it has whole
nanoseconds since 1970. Nothing else is in these models: what they mean is decided elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from discover_stream.config import NAME_PATTERN
from discover_stream.types import Mode

TASK_PATTERN = r"^[a-z0-9-]{1,40}$"
"""Names of tasks, and `all` for everything a camera sent."""

Role = Literal["admin", "operator", "viewer", "subscriber"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[str, Field(min_length=1, max_length=40, examples=["2026-01-01T12:00:00Z", "+12.5s"])]
TaskName = Annotated[str, Field(pattern=TASK_PATTERN)]


class Answer(BaseModel):
    """Base of what the gateway says."""

    model_config = ConfigDict(frozen=True)


class Order(BaseModel):
    """Base of what clients ask for: a typing mistake never means "the default"."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldProblem(Answer):
    """One thing that is wrong with a request."""

    where: str
    message: str


class Problem(Answer):
    """An error as RFC 9457 has it; `detail` is one line for people that names cause and remedy."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldProblem] | None = None


class Me(Answer):
    """Who a token is. Lists are null where they do not limit; `open`: no token was ever made."""

    role: Role
    name: str
    cameras: list[str] | None
    tasks: list[str] | None
    open: bool


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Ready(Answer):
    """Whether requests can be served, and if not, why."""

    ready: bool
    problem: str | None = None


class StageState(Answer):
    """One process of the running system; see `actors.progress.StageProgress`."""

    name: str
    kind: str
    health: str
    restarts: int
    done: int
    lag: int
    error: str | None


class PoolState(Answer):
    """Processes that share stateless work: how many are wanted and running, and more in words."""

    name: str
    wanted: int
    running: int
    detail: str


class Alert(Answer):
    """Something that somebody should look at."""

    severity: Literal["warning", "error"]
    what: str
    since: str | None
    text: str


class SystemState(Answer):
    """The system as a whole. `live`: a system that writes to this log has been heard of within seconds."""

    log: str
    live: bool
    state: str
    started: str | None
    outage: str | None
    stages: list[StageState]
    pools: list[PoolState]
    alerts: list[Alert]
    dead: int
    archived: int


class Zone(Order):
    """A part of a camera's picture that is never encoded: a polygon in fractions of width and height."""

    points: list[tuple[Fraction, Fraction]] = Field(
        min_length=3, max_length=64, examples=[[(0.1, 0.1), (0.4, 0.1), (0.4, 0.5), (0.1, 0.5)]]
    )


class Zones(Order):
    """All privacy zones of a camera."""

    zones: list[Zone] = Field(max_length=64)


class CameraIn(Order):
    """A camera to add."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"name": "crossing", "source": "rtsp://192.0.2.7/stream1", "fps": 10}]},
    )

    name: str = Field(pattern=NAME_PATTERN)
    source: str = Field(min_length=1, max_length=2000)
    fps: float | None = Field(default=None, gt=0, le=240)
    realtime: bool = False
    mode: Mode | None = None
    quality: int | None = Field(default=None, ge=1, le=8)
    bitrate: float | None = Field(default=None, gt=0, le=1e6)
    privacy: list[Zone] = Field(default_factory=list, max_length=64)


class Camera(Answer):
    """One camera: its settings, and how it is. `kbps` is what the archive took in the last minute, `tasks` what each
    task was sent of it; `source` is null for those who may not change cameras, and never holds a password."""

    name: str
    source: str | None
    health: str
    problem: str | None
    picture: str | None
    mode: str | None
    mode_reason: str
    fps: float
    frames: int
    gaps: int
    dropped: dict[str, int]
    lag_s: float | None
    width: int | None
    height: int | None
    first: str | None
    last: str | None
    kbps: float
    tasks: dict[str, float]
    privacy: list[Zone]


class Cameras(Answer):
    """All cameras that the caller may see."""

    cameras: list[Camera]


class Gap(Answer):
    """Nothing of a camera is there between two capture times, and why; `frames` is what is known to be lost."""

    begin: str = Field(serialization_alias="from")
    end: str = Field(serialization_alias="to")
    reason: str
    frames: int


class Gaps(Answer):
    """What is known to be missing."""

    gaps: list[Gap]


class H264(Answer):
    """What H.264 takes for the newest originals of a camera, measured on asking; null where none are kept."""

    kbps: float | None
    frames: int
    seconds: float
    method: str


class Erased(Answer):
    """What erasing came to. `hidden_only`: the log cannot remove single records, so they are only shown to nobody by
    this gateway until retention takes them."""

    records: int
    plates: int
    bytes: int
    hidden_only: bool
    note: str


class AuditEntry(Answer):
    """Something that somebody did."""

    at: str
    who: str
    what: str
    detail: str


class Audit(Answer):
    """The newest entries of the record, newest first."""

    entries: list[AuditEntry]
