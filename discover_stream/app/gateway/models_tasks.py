"""What the gateway speaks about tasks and what they are sent; see `models`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from discover_stream.app.gateway.models import TASK_PATTERN, Answer, Order
from discover_stream.types import Delivery, Profile

Label = Annotated[str, Field(min_length=1, max_length=200)]


class Inquiry(Answer):
    """What it took to get a task's labels from a language model."""

    summary: str
    model: str
    place: str
    at: str
    requests: int
    tries: int
    tokens_in: int | None
    tokens_out: int | None
    seconds: float


class Task(Answer):
    """A task; `labels` counts those of its latest version. `asking` names who is asking a language model for them."""

    name: str
    description: str
    version: int | None
    labels: int
    profile: Profile
    deliver: Delivery
    tags: bool
    on: bool
    builtin: bool
    added: bool
    asking: str | None
    disabled: bool
    problem: str | None
    inquiry: Inquiry | None


class TaskDetail(Task):
    """A task with its labels, and those that the default grounder cannot find."""

    all_labels: list[str]
    unseen_by_nano: list[str]


class Tasks(Answer):
    """The tasks of the log, and the built-in ones."""

    tasks: list[Task]


class TaskIn(Order):
    """A task to add: by a built-in name, by a description (a language model is asked for labels), or with labels."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"name": "vehicles"}, {"description": "delivery vans in the bus lane"}]},
    )

    name: str | None = Field(default=None, pattern=TASK_PATTERN)
    description: str | None = Field(default=None, min_length=1, max_length=2000)
    labels: list[Label] | None = Field(default=None, max_length=5000)
    profile: Profile | None = None
    deliver: Delivery | None = None
    tags: bool | None = None


class LabelsIn(Order):
    """Labels that become a new version of a task."""

    labels: list[Label] = Field(min_length=1, max_length=5000)
    description: str | None = Field(default=None, min_length=1, max_length=2000)


class TaskChange(Order):
    """What to change about a task; what is left out stays."""

    deliver: Delivery | None = None
    tags: bool | None = None
    on: bool | None = None


class Substream(Answer):
    """What one task was sent of one camera (task `all`: the archive) in the last `window_s` seconds.

    `age_s` is how long ago the last packet was written, `waiting` how many archived packets of the camera's partition
    are not routed yet.
    """

    task: str
    camera: str
    kbps: float
    fps: float
    packets: int
    bytes: int
    last: str | None
    age_s: float | None
    waiting: int


class Substreams(Answer):
    """Rates of all substreams that the caller may see."""

    window_s: float
    substreams: list[Substream]


class Series(Answer):
    """kbit/s of a substream, step by step."""

    task: str
    camera: str
    kbps: list[float]


class History(Answer):
    """Rates over time: steps of `step_s` seconds from `begin` on, by time of writing."""

    step_s: float
    begin: str
    series: list[Series]
