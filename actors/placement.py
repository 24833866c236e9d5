"""What the processes of each kind take of a Ray, and how they spread over its nodes."""

from __future__ import annotations

from typing import Any, Literal

from discover_stream.config import Config
from discover_stream.types import InputError

Kind = Literal["ingest", "ground", "encode", "route", "decode"]


def options_of(config: Config, kind: Kind) -> dict[str, Any]:
    """Ray's options of an actor of this kind. On a cluster, processes go to the node that has the fewest of them."""
    taken = getattr(config.ray.resources, kind)
    options = {"num_cpus": taken.cpus, "num_gpus": taken.gpus, "resources": dict(taken.custom)}
    return options if config.ray.address is None else options | {"scheduling_strategy": "SPREAD"}


def check_log_reaches(config: Config, hosts: int) -> None:
    """Raises InputError for a log on one machine's disk where processes are on several."""
    if hosts > 1 and config.log.url.startswith("sqlite:"):
        raise InputError(
            f"log {config.log.url}: is a file, and the cluster at {config.ray.address} has {hosts} machines; use Kafka "
            "(`log: {kafka: ...}`), which every machine reaches"
        )
