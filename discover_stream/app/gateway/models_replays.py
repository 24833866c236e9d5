"""What the gateway speaks about replays; see `models`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from discover_stream.app.gateway.models import Answer, Gap, Moment, Order, TaskName
from discover_stream.config import NAME_PATTERN
from discover_stream.types import Profile

View = Literal["decoded", "original"]
Mark = Literal["provenance", "regions"]


class ReplayIn(Order):
    """A replay to make. Times as in `discover replay`; without them everything there is, up to the longest span.

    `view` original shows what the camera sent, while frames are kept; `live` begins some seconds ago and goes on.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        json_schema_extra={"examples": [{"camera": "crossing", "from": "+0s", "to": "+30s", "task": "vehicles"}]},
    )

    camera: str = Field(pattern=NAME_PATTERN)
    begin: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    task: TaskName = "all"
    profile: Profile = "human"
    steps: int | None = Field(default=None, ge=1, le=1000)
    view: View = "decoded"
    overlay: list[Mark] = Field(default_factory=list, max_length=2)
    burn_in: bool = True
    live: bool = False


class ReplayProgress(Answer):
    """How far a replay is: segments that lie ready, pictures that were decoded for it, segments in the making, and
    bytes of segments made. Before somebody plays it, nothing was decoded."""

    segments_ready: int
    segments: int
    frames_decoded: int
    decoding: list[int]
    bytes: int
    failed: str | None


class Replay(Answer):
    """A replay that can be played at once. `playlist` is an HLS playlist, with a key that lets players in."""

    id: str
    camera: str
    task: str
    profile: Profile
    steps: int | None
    view: View
    overlay: list[Mark]
    burn_in: bool
    live: bool
    begin: str = Field(serialization_alias="from")
    end: str | None = Field(serialization_alias="to")
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
    progress: ReplayProgress


class Replays(Answer):
    """Replays that are kept."""

    replays: list[Replay]


class SeenRegion(Answer):
    """A region as it is shown: words, score, box xyxy in pixels, track (0: none)."""

    task: str
    label: str
    score: float
    box: tuple[float, float, float, float]
    track: int


class ProvenanceGrid(Answer):
    """Where each cell comes from: digits row by row, 0 missing, 1 generated, 2 propagated, 3 plate, 4 sent."""

    columns: int
    rows: int
    cells: str


class ShownFrame(Answer):
    """A picture of a segment: shown from `t` seconds after the replay's begin; `card` is what is written over it where
    there is no picture of that time, `invention` how sure a detector is that something in it was made up (0..1)."""

    t: float
    capture: str | None
    capture_ns: int | None
    seq: int | None
    regions: list[SeenRegion]
    provenance: ProvenanceGrid | None
    card: str | None
    invention: float | None = None


class Sidecar(Answer):
    """What is known about the pictures of one segment."""

    segment: int
    begin_s: float
    frames: list[ShownFrame]


class Bucket(Answer):
    """How many objects of each label were seen at most at once, from `t` seconds on."""

    t: float
    counts: dict[str, int]


class Timeline(Answer):
    """Regions over the time of a replay, from packets alone: nothing is decoded for it."""

    step_s: float
    buckets: list[Bucket]
    truncated: bool


class Export(Answer):
    """A film being written. `done` goes from 0 to 1; `film` is where it is once it is there."""

    id: str
    replay: str
    state: Literal["running", "done", "failed", "cancelled"]
    done: float
    frames: int
    bytes: int
    film: str | None
    problem: str | None
