"""The Ray that carries our processes: one on this machine alone, quiet, without a dashboard, with a bounded object
store, or a cluster that runs already."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from discover_stream.config import RayConfig
from discover_stream.types import DiscoverError, InputError

# Read by Ray when it is imported: nothing of what its own processes say belongs on the console (it prints
# a paragraph per dead worker there); their logs are under /tmp/ray.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would run its workers at the lowest priority, behind everything else on the machine; cameras do not wait.
os.environ.setdefault("RAY_worker_niceness", "0")
# GPUs stay visible to all processes: which one the grounder uses, its own configuration says.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A call that comes after the end (Serve's handles poll on in threads of their own) would start a Ray by itself, or
# join whichever runs on the machine.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray

__all__ = ["answer_of", "connect_ray", "hosts", "ray", "start_ray", "stop_ray"]

NAMESPACE = "discover"
PACKAGES = ("discover_stream", "actors", "topics")


def connect_ray(config: RayConfig) -> None:
    """Start a Ray of our own, or connect to the cluster that a configuration names.

    Our packages go along to the cluster's workers, unless they have them. Raises InputError where there is no cluster
    at the address, RuntimeError where this process has a Ray already.
    """
    if config.address is None:
        start_ray(config.object_store_mib)
        return
    if ray.is_initialized():
        raise RuntimeError("this process runs Ray already; stop that one first")
    try:
        ray.init(
            config.address,
            namespace=NAMESPACE,
            runtime_env={"py_modules": our_packages()} if config.packages else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"ray.address {config.address}: no cluster answers there ({' '.join(str(error).split())[:200]}); "
            "start one (`ray up cluster.yaml`, `ray start --head`), or leave the address out"
        ) from error


def our_packages() -> list[str]:
    """The folders of our packages, wherever they are installed."""
    root = Path(__file__).resolve().parents[1]
    return [str(root / name) for name in PACKAGES]


def hosts() -> int:
    """How many machines the Ray of this process has."""
    return len({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]})


def start_ray(object_store_mib: int) -> None:
    """Start a Ray of our own. Raises RuntimeError where this process has one already."""
    if ray.is_initialized():
        raise RuntimeError("this process runs Ray already; stop that one first")
    ray.init(
        "local",
        include_dashboard=False,
        object_store_memory=object_store_mib * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )


def stop_ray() -> None:
    """End every process of our Ray. May be called where there is none."""
    # Serve's handles go on reporting to it, and would say twice a second that they cannot (`serve_start` undoes this).
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    ray.shutdown()


def answer_of(reference: Any, died: str, remedy: str) -> Any:
    """Wait for what a process was asked for.

    Raises the error that the process met, as if it had been met here; DiscoverError where there is no
    process any more: `died` says which and when, `remedy` what to do.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise DiscoverError(f"{died} ({type(error).__name__}); {remedy}") from error
