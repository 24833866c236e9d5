"""What a system takes for each frame, stage by stage, with 1, 2, 4, … cameras on this machine.

    python -m benchmarks.pipeline [--cameras 1,2,4] [--fps 2] [--seconds 20] [--mode stream] [--json FILE]

The system runs as its users start it. Its models are loaded with a first short camera; then the cameras that are
measured are added while it runs, so that no start is in the figures. Their simulated frames come at their own rate.
"frame to packet" is from the moment that the log has a frame to the moment that it has the frame's packets. What is
not the models' own time (taking a frame in, reading it, committing, routing, delivering) is the system's share.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from actors.cameras import add_camera
from actors.system import System
from discover_stream.config import CameraConfig, parse_config
from topics import open_log
from topics.status import read_status

CONFIG = """
log: {{path: {folder}/log.db, partitions: 1}}
tasks: [vehicles, pedestrians]
mode: {mode}
cameras:
- {{name: warm, source: "sim://road?seed=99&width=640&height=352&fps=5&seconds=1", fps: 5}}
"""
MODELS = ("ground", "encode")
"""Steps in which networks or the codec work, or are waited for."""
SYSTEM = ("ingest", "read", "commit", "route", "deliver")
TIMEOUT_S = 420.0


@dataclass(frozen=True)
class Row:
    """What was measured with a number of cameras; milliseconds by step and figure."""

    cameras: int
    frames: int
    wall_s: float
    latency_ms: dict[str, float]
    bytes_per_frame: float
    load: float

    def overhead_ms(self, figure: str) -> float:
        """The system's own share of a frame."""
        return sum(self.latency_ms.get(f"{step} {figure}", 0.0) for step in SYSTEM)


def measured(cameras: int, fps: float, seconds: float, mode: str) -> Row:
    """Run a system with so many cameras. Raises TimeoutError where it does not come to an end."""
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(CONFIG.format(folder=folder, mode=mode), "pipeline")
        with System(config) as system:
            wait(system)
            began_s, before = time.monotonic(), system.progress().frames
            with open_log(config.log.url) as log:
                for number in range(cameras):
                    source = f"sim://road?seed={number}&width=640&height=352&fps={fps:g}&seconds={seconds:g}"
                    add_camera(log, CameraConfig(name=f"camera-{number}", source=source, realtime=True), "benchmark")
            deadline_s = time.monotonic() + TIMEOUT_S
            while len(system.progress().cameras) < 1 + cameras:
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"{cameras} cameras: not all were started")
                time.sleep(0.2)
            wait(system)
            wall_s, progress = time.monotonic() - began_s, system.progress()
            time.sleep(3.0)  # the figures are written every two seconds
        with open_log(config.log.url) as log:
            latency = {}
            for stage in read_status(log).stages:
                if stage.stage != "ingest-warm-0":
                    latency |= stage.latency_ms
        sent = sum(task.bytes for task in progress.tasks)
        frames = progress.frames - before
        return Row(cameras, frames, wall_s, latency, sent / max(1, progress.archived), os.getloadavg()[0])


def wait(system: System) -> None:
    """Until everything is routed."""
    if not system.wait_idle(timeout_s=TIMEOUT_S):
        raise TimeoutError(f"not idle within {TIMEOUT_S:.0f} s")


def show(row: Row) -> None:
    """A few lines."""
    found = row.latency_ms
    print(
        f"{row.cameras} cameras: {row.frames} frames, {row.frames / row.wall_s:.1f} frames/s; frame to packet "
        f"p50 {found.get('frame to packet p50', 0):.0f} ms, p95 {found.get('frame to packet p95', 0):.0f} ms; "
        f"{row.bytes_per_frame:.0f} bytes sent a frame, all tasks; load {row.load:.1f}"
    )
    for step in ("queue", *MODELS, *SYSTEM):
        print(f"    {step:<8} p50 {found.get(f'{step} p50', 0):8.2f}  p95 {found.get(f'{step} p95', 0):8.2f} ms")
    print(
        f"    the system's share: {row.overhead_ms('p50'):.2f} ms (sum of p50), {row.overhead_ms('mean'):.2f} (means)"
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="1,2,4")
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--mode", default="stream", choices=["stream", "still", "auto"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for cameras in map(int, options.cameras.split(",")):
        rows.append(measured(cameras, options.fps, options.seconds, options.mode))
        show(rows[-1])
        if options.json is not None:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
