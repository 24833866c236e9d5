"""How the gateway answers viewers: 50 on 5 replays, and 200 on one, over loopback, from a recording of its own.

    python -m benchmarks.gateway [--folder out/gateway-bench] [--seconds 20] [--segments 10]

`discover run` records a simulated street of 640x352 once (it stays in the folder), `discover gateway` serves it in a
process of its own, and threads of this one are the viewers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TASKS = ("all", "vehicles", "pedestrians")
CONFIG = """
log: {{path: {folder}/log.db, partitions: 1}}
tasks: [vehicles, pedestrians]
cameras:
- {{name: street, source: "sim://road?seed=1&width=640&height=352&fps=5&seconds={seconds}", mode: stream,
   starts_at: 2026-01-01T00:00:00Z}}
gateway: {{burst: 1000000, requests_per_s: 1000000}}
"""
PROGRAM = (sys.executable, "-m", "discover_stream.app.cli")


def record(folder: Path, seconds: int) -> Path:
    """The configuration of a recording; made where there is none."""
    path = folder / "config.yaml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG.format(folder=folder, seconds=seconds))
        subprocess.run([*PROGRAM, "run", "-c", str(path), "--until-idle"], check=True, stdout=subprocess.DEVNULL)
    return path


@contextmanager
def gateway(config: Path) -> Iterator[tuple[str, int]]:
    """A gateway in a process of its own: host and port."""
    command = [*PROGRAM, "gateway", "-c", str(config), "--http", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://([0-9.]+):(\d+)", line):
                yield found[1], int(found[2])
                return
        raise SystemExit("the gateway did not start")
    finally:
        process.terminate()
        process.wait()


class Viewer:
    """One connection to the gateway."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*place, timeout=300)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The body of an answer; ends the program for an error."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The same, parsed."""
        return json.loads(self.ask(method, path, body))

    def segment(self, replay: str, number: int) -> float:
        """Milliseconds that a segment took."""
        began = time.perf_counter()
        self.ask("GET", f"/v1/replays/{replay}/{number}.m4s")
        return 1000 * (time.perf_counter() - began)


def figures(milliseconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest, in ms."""
    cuts = statistics.quantiles(milliseconds, n=20)
    return {
        "p50": round(statistics.median(milliseconds), 1),
        "p95": round(cuts[-1], 1),
        "max": round(max(milliseconds), 1),
    }


def metric(place: tuple[str, int], name: str) -> int:
    """A counter of the gateway."""
    text = Viewer(place).ask("GET", "/v1/metrics").decode()
    found = re.search(rf"^discover_gateway_{name} ([0-9.]+)", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def fifty_on_five(place: tuple[str, int], most: int) -> dict[str, Any]:
    """Five replays, ten viewers each: what the first pass (decoding) took, and two that found everything made: as
    players ask, a segment every two seconds, and as fast as answers come."""
    first = Viewer(place)
    orders = [{"task": task} for task in TASKS] + [
        {"overlay": ["provenance"]},
        {"task": "vehicles", "overlay": ["regions"]},
    ]
    replays = [first.json("POST", "/v1/replays", {"camera": "street", **order}) for order in orders]
    count = min(most, replays[0]["segments"])

    def play(number: int, every_s: float) -> list[float]:
        viewer, replay = Viewer(place), replays[number % len(replays)]["id"]
        time.sleep(every_s * number / 50)  # viewers do not begin together
        taken = []
        for segment in range(count):
            taken.append(viewer.segment(replay, segment))
            time.sleep(every_s)
        return taken

    def everybody(every_s: float = 0.0) -> list[float]:
        with ThreadPoolExecutor(50) as viewers:
            return [ms for taken in viewers.map(play, range(50), [every_s] * 50) for ms in taken]

    before = metric(place, "segments_made_total")
    cold = everybody()
    made = metric(place, "segments_made_total") - before
    paced, warm = everybody(2.0), everybody()
    assert metric(place, "segments_made_total") - before == made == count * len(replays)
    return {
        "segments": count * len(replays),
        "made": made,
        "cold_ms": figures(cold),
        "warm_as_players_ask_ms": figures(paced),
        "warm_without_rest_ms": figures(warm),
    }


def two_hundred_on_one(place: tuple[str, int]) -> dict[str, Any]:
    """200 viewers ask for the same segment at once: how often it was made, and what they waited."""
    first = Viewer(place)
    replay = first.json("POST", "/v1/replays", {"camera": "street", "overlay": ["provenance", "regions"]})
    made, decoded = metric(place, "segments_made_total"), metric(place, "frames_decoded_total")
    ready = threading.Barrier(200)

    def ask(_: int) -> float:
        viewer = Viewer(place)
        ready.wait()
        return viewer.segment(replay["id"], 2)

    with ThreadPoolExecutor(200) as viewers:
        waited = list(viewers.map(ask, range(200)))
    return {
        "viewers": 200,
        "made": metric(place, "segments_made_total") - made,
        "frames_decoded": metric(place, "frames_decoded_total") - decoded,
        "ms": figures(waited),
    }


def alone(place: tuple[str, int], most: int) -> dict[str, Any]:
    """One viewer: each segment of a replay that nobody has seen."""
    viewer = Viewer(place)
    replay = viewer.json("POST", "/v1/replays", {"camera": "street", "overlay": ["regions"]})
    taken = [viewer.segment(replay["id"], number) for number in range(min(most, replay["segments"]))]
    return {"cold_ms": figures(taken), "first_ms": round(taken[0], 1)}


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path("out/gateway-bench"))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--segments", type=int, default=10, help="of each replay that are played")
    given = parser.parse_args()
    config = record(given.folder.resolve(), given.seconds)
    with gateway(config) as place:
        found = {
            "load_before": [round(load, 1) for load in os.getloadavg()],
            "one_viewer": alone(place, given.segments),
            "fifty_viewers_five_replays": fifty_on_five(place, given.segments),
            "two_hundred_viewers_one_segment": two_hundred_on_one(place),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
