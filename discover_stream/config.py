"""The configuration of a system: one YAML file, checked before anything starts.

Every key has a title, a default and bounds; an unknown key is an error, so that a typing mistake never
means "the default". Relative paths, the log's and those of cameras and label sets, start at the working
directory, exactly like paths on a command line: the same file works wherever it is kept.

Files are looked up by path; without one, the packaged ``local.yaml`` applies (`default_config`).
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args

import yaml
from pydantic import AwareDatetime, BaseModel, Field, ValidationError, field_validator, model_validator

from discover_stream.config_cluster import MetricsConfig, PoolsConfig, RayConfig, TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.config_edge import EdgeConfig
from discover_stream.config_gateway import GatewayConfig, Zone
from discover_stream.config_log import KafkaConfig, LogConfig, RetentionConfig, SaslConfig, Section, TlsConfig
from discover_stream.types import Atoms, Delivery, InputError, Mode, TaskOptions

__all__ = [
    "CameraConfig",
    "Config",
    "DecodingConfig",
    "EdgeConfig",
    "GatewayConfig",
    "GrounderConfig",
    "KafkaConfig",
    "LogConfig",
    "MetricsConfig",
    "MllmConfig",
    "PoolsConfig",
    "RayConfig",
    "RetentionConfig",
    "SaslConfig",
    "TaskConfig",
    "TlsConfig",
    "TracingConfig",
    "datetime_ns",
    "default_config",
    "load_config",
    "parse_config",
    "starts_at_ns",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"
"""Names of cameras: they become keys of records and parts of stage names."""

_FIRST_START, _LAST_START = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class CameraConfig(Section):
    """One camera and what its pictures come from."""

    name: str = Field(pattern=NAME_PATTERN, title="Name, unique; lower-case letters, digits and dashes")
    source: str = Field(
        min_length=1, max_length=2000, title="Path of a video, picture or folder, or a sim, rtsp or http address"
    )
    fps: float | None = Field(default=None, gt=0, le=240, title="Frames to take per second; null takes all")
    realtime: bool = Field(
        default=False, title="Deliver a file or simulated camera at its own rate rather than as fast as possible"
    )
    starts_at: AwareDatetime | None = Field(
        default=None,
        title="Capture time of the first frame of a file or simulated camera, with time zone; "
        "null means when its ingest first began",
    )
    when_behind: Literal["auto", "wait", "drop-oldest", "drop-latest", "adaptive"] = Field(
        default="auto",
        title="What becomes of frames when encoding or the log falls behind, always counted by reason: the source "
        "waits; the oldest, or the latest, that wait are left out; adaptive: every n-th is taken, fewer the further "
        "behind; auto: drop-oldest for live addresses, wait for everything else",
    )
    buffer_mib: int = Field(
        default=64,
        ge=1,
        le=100_000,
        title="Coded frames, in MiB, that ingest keeps while the log cannot take them; then when_behind decides",
    )
    mode: Mode | None = Field(default=None, title="still, stream or auto for this camera; null: as for all")
    quality: int | None = Field(default=None, ge=1, le=8, title="Quality of this camera's atoms; null: as for all")
    bitrate: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        title="kbit/s that all packets of the camera keep to, about, in stream mode; null: what the quality takes",
    )
    privacy: tuple[Zone, ...] = Field(
        default=(),
        max_length=64,
        title="Parts of the picture that are blacked out before anything else happens: rectangles "
        "[left, top, right, bottom] or polygons [[x, y], ...], in fractions of width and height",
    )

    @field_validator("starts_at")
    @classmethod
    def _representable(cls, moment: datetime | None) -> datetime | None:
        # Packets carry capture times as nanoseconds since 1970, in 64 bits.
        if moment is not None and not _FIRST_START <= moment < _LAST_START:
            raise ValueError("use a time from 1970 to 2199")
        return moment


class TaskConfig(Section):
    """One task, and how it is delivered. Its name or path alone may stand for it."""

    task: str = Field(min_length=1, max_length=1000, title="Name of a built-in task, or path of a label-set file")
    deliver: Delivery = Field(
        default="pixels",
        title="What its packets hold: pixels (and regions), objects (the same without the plate: nothing of what "
        "stands still, in stream mode), or regions alone, which cost far less",
    )
    tags: bool = Field(default=False, title="Whether its packets name the labels that are present in the picture")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"task": given} if isinstance(given, str) else given

    @property
    def options(self) -> TaskOptions:
        """How the task is delivered."""
        return TaskOptions(self.deliver, self.tags)


class GrounderConfig(Section):
    """What finds the regions. Its name alone may stand for it."""

    kind: Literal["nano", "grounding-dino"] = Field(
        default="nano", title="The shipped detector of six classes on a CPU, or Grounding DINO for any words, on a GPU"
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        title="nano: a file of weights, null for the shipped ones; grounding-dino: a folder or owner/name on the "
        "Hugging Face hub, null for the published Swin-T model",
    )
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", title="grounding-dino: auto, cpu, cuda or cuda:N"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", title="grounding-dino: of its arithmetic; float16 needs a GPU"
    )
    batch: int | None = Field(
        default=None, ge=1, le=256, title="grounding-dino: pictures times captions per pass; null: 1 on a CPU, else 8"
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, title="Score from which on something counts as found; null: what suits the grounder"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


class ThreadsConfig(Section):
    """Threads of the networks inside one process; more than the cores in all of them slows everything."""

    ground: int = Field(default=1, ge=1, le=256, title="Threads of each grounding process")
    encode: int = Field(default=1, ge=1, le=256, title="Threads of each encoding process")
    decode: int = Field(default=1, ge=1, le=256, title="Threads of each decoding process")


class MllmConfig(Section):
    """The language model that `discover task add` asks, once per task. Address and key come from the environment
    (OPENAI_BASE_URL, OPENAI_API_KEY), since others may see a configuration."""

    model: str | None = Field(
        default=None, min_length=1, max_length=200, title="Name of the model at its endpoint; OPENAI_MODEL overrides it"
    )
    request_s: float = Field(default=120.0, gt=0, le=3600, title="Seconds that one request may take")
    total_s: float = Field(default=300.0, gt=0, le=7200, title="Seconds for everything, repeated requests included")


class Config(Section):
    """Everything that `discover run` needs to know."""

    log: LogConfig = Field(default=LogConfig(), title="The log")
    edge: EdgeConfig | None = Field(default=None, title="Where this site forwards to, with `discover run --role edge`")
    cameras: tuple[CameraConfig, ...] = Field(
        max_length=10_000, title="Cameras; [] for those that are added live, and for a core"
    )
    tasks: tuple[TaskConfig, ...] = Field(
        default=tuple(TaskConfig(task=name) for name in ("vehicles", "pedestrians", "everything")),
        min_length=1,
        max_length=63,
        title="Tasks: names of built-in ones, or paths of label-set files, or either with how it is delivered",
    )
    grounder: GrounderConfig = Field(default=GrounderConfig(), title="What finds the regions")
    ground_every: int = Field(
        default=1,
        ge=1,
        le=25,
        title="Ground every n-th frame of a camera; in those between, regions are carried on by their tracks",
    )
    mode: Mode = Field(
        default="auto",
        title="How cameras are coded: still (every frame for itself), stream (composed in time, for fixed cameras), or "
        "auto: stream, and still where no plate serves",
    )
    atoms: Atoms = Field(
        default="av1",
        title="How objects are coded in stream mode: av1, or auto: by the learned codec where it needs fewer bits; "
        "that takes more time, of subscribers too",
    )
    critic: bool = Field(
        default=False,
        title="Whether the shipped detector judges, in stream mode, which objects have to be sent anew, for a "
        "quarter more time; otherwise how much their pixels differ does, which is as good so far",
    )
    quality: int = Field(default=4, ge=1, le=8, title="Quality of all atoms, 1 (fewest bits) to 8")
    max_lag: int = Field(
        default=64,
        ge=1,
        le=1_000_000,
        title="Frames of a partition that may wait for encoding before ingest slows; on Kafka, markers count as frames",
    )
    pools: PoolsConfig = Field(default=PoolsConfig(), title="Sizes of pools")
    threads: ThreadsConfig = Field(default=ThreadsConfig(), title="Threads per process")
    decoding: DecodingConfig = Field(default=DecodingConfig(), title="How packets become pictures")
    mllm: MllmConfig = Field(default=MllmConfig(), title="The language model that new tasks are described to")
    gateway: GatewayConfig = Field(default=GatewayConfig(), title="The HTTP gateway")
    ray: RayConfig = Field(default=RayConfig(), title="The Ray that carries the processes")
    metrics: MetricsConfig = Field(default=MetricsConfig(), title="Figures for Prometheus")
    tracing: TracingConfig = Field(default=TracingConfig(), title="What every frame went through, for OpenTelemetry")

    @model_validator(mode="after")
    def _distinct(self) -> Config:
        cameras, tasks = [camera.name for camera in self.cameras], [task.task for task in self.tasks]
        for what, names in (("camera", cameras), ("task", tasks)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what} {twice!r} is listed twice; every {what} needs a name of its own")
        return self


def starts_at_ns(camera: CameraConfig) -> int | None:
    """The configured capture time of a camera's first frame in ns since the epoch, None where there is none."""
    return None if camera.starts_at is None else datetime_ns(camera.starts_at)


def datetime_ns(moment: datetime) -> int:
    """An aware time in ns since the epoch, exact to the microsecond."""
    whole = int(moment.replace(microsecond=0).timestamp())
    return (whole * 1_000_000 + moment.microsecond) * 1000


def default_config() -> Path:
    """The packaged default configuration, ``local.yaml``."""
    return Path(str(resources.files("discover_stream") / "configs" / "local.yaml"))


def load_config(path: Path | None = None) -> Config:
    """Read and check a configuration; without a path, the packaged default.

    Raises InputError, in one line that names the file and the key, for a file that cannot be read, is not
    YAML, or holds something unknown or out of bounds.
    """
    file = default_config() if path is None else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"configuration {file}: cannot be read ({reason}); give the path of a YAML file") from error
    return parse_config(text, str(file))


def parse_config(text: str, where: str) -> Config:
    """The configuration in a YAML text; `where` is named in errors. Raises InputError as `load_config`."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"configuration {where}: not valid YAML{line}; correct the file") from error
    except (ValueError, RecursionError) as error:  # a date that does not exist, a number or nesting without end
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"configuration {where}: holds a value that cannot be read ({reason}); correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"configuration {where}: holds no keys; it needs at least 'cameras'")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise InputError(f"configuration {where}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    """The most useful of pydantic's complaints, as one line: an unknown key explains other errors."""
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key {place!r}; {hint}known keys there: {', '.join(known)}"
    if first["type"] == "missing":
        return f"the key {place!r} is missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hidden = isinstance(first["input"], (dict, list)) or "password" in place  # a password may stand there by mistake
    given = "" if hidden else f" (it is {first['input']!r})"
    remedy = "" if ";" in message else "; correct it"
    return f"{place}: {message}{given}{remedy}" if place else message


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `place` of a configuration may have."""
    section: Any = Config
    for part in place:
        if isinstance(part, str) and isinstance(section, type) and issubclass(section, BaseModel):
            field = section.model_fields.get(part)
            section = field.annotation if field is not None else None
            if isinstance(section, UnionType):  # a section that may be absent
                section = get_args(section)[0]
        else:
            section = next((kind for kind in get_args(section) if isinstance(kind, type)), None)
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
