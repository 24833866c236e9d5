"""Ray Serve on the Ray of this process: started when somebody first needs it, by one function for everybody."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from discover_stream.types import DiscoverError, InputError

# Handles tell the controller how much waits for them this often. Ray's ten seconds would be added to the time
# after which idle decoders end. Read when Serve is imported, and inherited by the processes that Ray starts.
os.environ.setdefault("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where Serve listens for HTTP: on the head node alone, or with `everywhere` on each node that has replicas."""

    host: str = "127.0.0.1"
    port: int = 8000
    everywhere: bool = False


def ensure_serve(http: HttpAddress | None = None) -> None:
    """Start Serve, unless it runs there already. Ray must be running (`local_ray.start_ray`).

    Args:
        http: where to listen; None starts no HTTP at all: deployments are called through handles.

    Raises DiscoverError where HTTP is wanted and Serve runs without it, since Serve cannot be told later; InputError
    where the port is taken.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    running = _listens()
    if running is None:
        location = "Disabled" if http is None else "EveryNode" if http.everywhere else "HeadOnly"
        options = None if http is None else {"host": http.host, "port": http.port}
        try:
            serve.start(
                proxy_location=location,
                http_options=options,
                logging_config={"log_level": "WARNING", "enable_access_log": False},
            )
        except (OSError, RuntimeError) as error:
            if http is None:
                raise DiscoverError(f"Ray Serve: did not start ({error}); look into the logs under /tmp/ray") from error
            place = f"{http.host}:{http.port}"
            raise InputError(f"Ray Serve: cannot listen on {place} ({error}); choose another port") from error
    elif http is not None and not running:
        raise DiscoverError(
            "Ray Serve: runs without HTTP on this Ray, and cannot be told later; stop what started it "
            "(`serve shutdown`), and start the gateway before the first replay"
        )


def _listens() -> bool | None:
    """Whether the running Serve has HTTP proxies; None where no Serve runs."""
    from ray.serve.context import _get_global_client  # Serve has no public way to ask without starting it

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    location = client.http_config.location
    return location is not None and str(getattr(location, "value", location)) not in ("Disabled", "NoServer")
