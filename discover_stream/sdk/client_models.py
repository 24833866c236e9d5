"""What the gateway answers, as frozen structures. A test compares them with the gateway's own models.

Times are ISO 8601 in UTC; `*_ns` are nanoseconds since 1970. Fields that a newer gateway adds are ignored.
"""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Me(Model, frozen=True):
    """Who the token is; lists are None where they do not limit. `open`: no token was ever made."""

    role: str
    name: str
    cameras: list[str] | None
    tasks: list[str] | None
    open: bool


class Zone(Model, frozen=True):
    """A polygon in fractions of the picture's width and height that is never encoded."""

    points: list[tuple[float, float]]


class Camera(Model, frozen=True):
    """One camera: how it is, and kbit/s of all packets and of each task."""

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


class Stage(Model, frozen=True):
    """One process of the running system."""

    name: str
    kind: str
    health: str
    restarts: int
    done: int
    lag: int
    error: str | None


class Pool(Model, frozen=True):
    """Processes that share work: how many are wanted and running."""

    name: str
    wanted: int
    running: int
    detail: str


class Alert(Model, frozen=True):
    """Something that somebody should look at; severity `warning` or `error`."""

    severity: str
    what: str
    since: str | None
    text: str


class System(Model, frozen=True):
    """The system as a whole; `live`: one that writes to this log has been heard of within seconds."""

    log: str
    live: bool
    state: str
    started: str | None
    outage: str | None
    stages: list[Stage]
    pools: list[Pool]
    alerts: list[Alert]
    dead: int
    archived: int


class Task(Model, frozen=True):
    """A task; `labels` counts those of its latest version."""

    name: str
    description: str
    version: int | None
    labels: int
    profile: str
    deliver: str
    tags: bool
    on: bool
    asking: str | None
    problem: str | None
    all_labels: list[str] = []
    unseen_by_nano: list[str] = []


class Substream(Model, frozen=True):
    """What a task was sent of a camera in the last seconds (task `all`: the archive)."""

    task: str
    camera: str
    kbps: float
    fps: float
    packets: int
    bytes: int
    last: str | None
    age_s: float | None
    waiting: int


class Series(Model, frozen=True):
    """kbit/s of a substream, step by step."""

    task: str
    camera: str
    kbps: list[float]


class History(Model, frozen=True):
    """Rates over time: steps of `step_s` seconds from `begin` on."""

    step_s: float
    begin: str
    series: list[Series]


class Gap(Model, frozen=True, rename={"begin": "from", "end": "to"}):
    """Nothing of a camera is there between two capture times, and why."""

    begin: str
    end: str
    reason: str
    frames: int


class Progress(Model, frozen=True):
    """How far a replay is. Before somebody plays it, nothing was decoded."""

    segments_ready: int
    segments: int
    frames_decoded: int
    decoding: list[int]
    bytes: int
    failed: str | None


class Replay(Model, frozen=True, rename={"begin": "from", "end": "to"}):
    """A replay; `playlist` is the address of an HLS playlist, with a key that lets players in."""

    id: str
    camera: str
    task: str
    profile: str
    steps: int | None
    view: str
    live: bool
    begin: str
    end: str | None
    duration_s: float | None
    segment_s: float
    segments: int
    width: int
    height: int
    playlist: str
    key: str
    gaps: list[Gap]
    not_grounded_before: str | None
    note: str | None
    progress: Progress


class SeenRegion(Model, frozen=True):
    """A region of a picture: words, score, box xyxy in pixels, track (0: none)."""

    task: str
    label: str
    score: float
    box: tuple[float, float, float, float]
    track: int


class Grid(Model, frozen=True):
    """Where each cell comes from: digits row by row, values of `types.Provenance`."""

    columns: int
    rows: int
    cells: str


class ShownFrame(Model, frozen=True):
    """A picture, from `t` seconds after the replay's begin."""

    t: float
    capture: str | None
    capture_ns: int | None
    seq: int | None
    regions: list[SeenRegion]
    provenance: Grid | None
    card: str | None


class Sidecar(Model, frozen=True):
    """What is known about the pictures of one segment."""

    segment: int
    begin_s: float
    frames: list[ShownFrame]


class Export(Model, frozen=True):
    """A film being written: state `running`, `done`, `failed` or `cancelled`; `done` goes from 0 to 1."""

    id: str
    replay: str
    state: str
    done: float
    frames: int
    bytes: int
    film: str | None
    problem: str | None


class EventRegion(Model, frozen=True):
    """A region of a packet."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    track: int


class Lacking(Model, frozen=True):
    """Something that a packet refers to and is not there."""

    what: str
    name: int


class PacketEvent(Model, frozen=True):
    """A packet of a task, as events tell it; `packet` is its bytes in base64, where they were asked for."""

    camera: str
    seq: int
    incarnation: int
    capture: str | None
    capture_ns: int | None
    bytes: int
    regions_only: bool
    tags: list[str]
    absent: list[Lacking]
    regions: list[EventRegion]
    packet: str | None = None


class Cameras(Model, frozen=True):
    """A list in its envelope."""

    cameras: list[Camera]


class Tasks(Model, frozen=True):
    """A list in its envelope."""

    tasks: list[Task]


class Substreams(Model, frozen=True):
    """A list in its envelope."""

    window_s: float
    substreams: list[Substream]
