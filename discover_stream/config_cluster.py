"""The sections of a configuration that say where processes run, how many there are, and what they tell about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from discover_stream.config_log import Section

_RESOURCE = r"^[A-Za-z_][A-Za-z0-9_.:/-]{0,99}$"


class ResourcesConfig(Section):
    """What Ray sets aside for one process; where a node has no more of it, the process goes to another node."""

    cpus: float = Field(default=0.0, ge=0, le=1024, title="Cores")
    gpus: float = Field(default=0.0, ge=0, le=64, title="GPUs: a part of one, which processes share, or whole ones")
    custom: dict[str, float] = Field(
        default_factory=dict, title="Resources that the nodes of the cluster were given, by name"
    )

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("use a part of one GPU (up to 1), or a whole number of them")
        return gpus

    @field_validator("custom")
    @classmethod
    def _named(cls, custom: dict[str, float]) -> dict[str, float]:
        for name, amount in custom.items():
            if not re.match(_RESOURCE, name) or name in ("CPU", "GPU", "memory"):
                raise ValueError(f"{name!r} cannot be the name of a resource; use letters, digits, dashes")
            if not 0 < amount <= 1e6:
                raise ValueError(f"{name}: use an amount above 0")
        return custom


class PlacementConfig(Section):
    """What the processes of each kind take."""

    ingest: ResourcesConfig = Field(default=ResourcesConfig(), title="Each camera's ingest")
    ground: ResourcesConfig = Field(default=ResourcesConfig(), title="Each grounding process")
    encode: ResourcesConfig = Field(default=ResourcesConfig(), title="Each encoding process")
    route: ResourcesConfig = Field(default=ResourcesConfig(), title="Each routing process")
    decode: ResourcesConfig = Field(default=ResourcesConfig(), title="Each decoding process, of replays and of pools")


class RayConfig(Section):
    """The Ray that carries the processes: one of our own on this machine, or a cluster."""

    address: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        title="HOST:PORT of a cluster's head, or auto on a node of it; null starts Ray on this machine",
    )
    packages: bool = Field(
        default=True,
        title="With an address: send our packages to the workers; false where their image has them installed",
    )
    object_store_mib: int = Field(default=300, ge=80, le=1_000_000, title="Shared memory for pictures in flight, MiB")
    resources: PlacementConfig = Field(default=PlacementConfig(), title="What processes take of a cluster")


class SubscriberPoolConfig(Section):
    """Decoders of one subscription that decodes on a pool (`discover subscribe --save`)."""

    most: int = Field(default=1, ge=1, le=1024, title="Processes at most; 1 decodes in the subscriber's own process")
    deadline_s: float = Field(default=2.0, gt=0, le=3600, title="How old a packet may be when its picture is there")
    idle_s: float = Field(default=30.0, ge=0, le=86400, title="Without packets for this long, no process is kept")
    gpus: float = Field(default=0.0, ge=0, le=10_000, title="GPUs that they may use together")
    price: float = Field(default=0.0, ge=0, le=1e6, title="Price of a process for an hour")
    budget: float | None = Field(default=None, gt=0, le=1e9, title="For an hour, in the same currency; null: no limit")


class PoolsConfig(Section):
    """How many processes share the stateless work."""

    ground: int = Field(default=1, ge=1, le=64, title="Grounding processes")
    ground_batch: int = Field(default=4, ge=1, le=64, title="Frames that one grounding call takes at most")
    decode: int = Field(
        default=1, ge=1, le=1024, title="Decoding processes of replays at most; there is none while nobody watches"
    )
    decode_batch: int = Field(default=8, ge=1, le=256, title="Requests that are decoded in one pass at most")
    decode_idle_s: float = Field(default=60.0, ge=0, le=86400, title="How long they are kept without need")
    subscribers: SubscriberPoolConfig = Field(
        default=SubscriberPoolConfig(), title="Decoders of each subscription that decodes on a pool"
    )


class MetricsConfig(Section):
    """Figures for Prometheus."""

    port: int | None = Field(
        default=None, ge=0, le=65535, title="Port of http://host:port/metrics of a running system; null: none, 0: any"
    )
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, title="Address to listen at")


class TracingConfig(Section):
    """What every frame went through, for OpenTelemetry."""

    exporter: Literal["off", "console", "file", "otlp"] = Field(default="off", title="Where spans go")
    path: Path | None = Field(default=None, title="file: where spans are written, a JSON object a line and process")
    endpoint: str | None = Field(
        default=None,
        max_length=1000,
        pattern=r"^https?://",
        title="otlp: address for spans; null: as OTEL_EXPORTER_OTLP_ENDPOINT says, else port 4318 here",
    )
    every: int = Field(default=1, ge=1, le=1_000_000, title="Trace every n-th frame of each camera")

    @model_validator(mode="after")
    def _complete(self) -> TracingConfig:
        if self.exporter == "file" and self.path is None:
            raise ValueError("the exporter 'file' needs a 'path'; add it")
        return self
