"""Ray on this machine alone: quiet, without a dashboard, with a bounded object store."""

from __future__ import annotations

import os

# Read by Ray when it is imported: nothing of what its own processes say belongs on the console (it prints
# a paragraph per dead worker there); their logs are under /tmp/ray.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would run its workers at the lowest priority, behind everything else on the machine; cameras do not wait.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray

__all__ = ["ray", "start_ray", "stop_ray"]


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
    ray.shutdown()
