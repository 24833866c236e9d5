"""A small real log: a simulated street and a crossing, ingested, grounded, encoded, archived and routed in this
process, as `discover run` does it in several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from actors.cameras import seed_cameras
from actors.encode import EncodeStage
from actors.encoding import encode_settings
from actors.ingest import IngestStage
from actors.registry import load_tasks, register
from actors.route import RouteStage
from actors.system import catalogue_settings
from discover_stream.codec.model import load_codec
from discover_stream.config import load_config
from discover_stream.semantics.grounder import NanoGrounder
from topics.catalogue import ARCHIVE, FRAMES, catalogue
from topics.log import Log, lag
from topics.sqlite import SqliteLog

START = "2026-01-01T00:00:00Z"
SECONDS = 7
FPS = 3
CONFIG = """
log: {{path: {folder}/log.db, partitions: 1}}
tasks: [vehicles, pedestrians]
quality: 3
cameras:
- {{name: street, source: "sim://road?seed=1&width=160&height=96&fps={fps}&seconds={seconds}",
   starts_at: {start}, mode: stream}}
- {{name: still-street, source: "sim://road?seed=2&width=160&height=96&fps={fps}&seconds=2", starts_at: {start},
   mode: still, privacy: [[0.0, 0.0, 0.3, 0.5]]}}
"""


def record(folder: Path, more: str = "") -> Path:
    """A configuration whose log holds both cameras to their ends; its path."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, fps=FPS, seconds=SECONDS, start=START) + more)
    config = load_config(path)
    torch.set_num_threads(1)
    codec, grounder = load_codec(), NanoGrounder.load()

    def ask(images: Any, label_sets: Any) -> Callable[[], Sequence[Any]]:
        return lambda: grounder.ground(list(images), label_sets)

    tasks = load_tasks(config.tasks)
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue([task.name for task in tasks], catalogue_settings(config.log)))
        register(log, tasks, 1, "tests")
        seed_cameras(log, config.cameras, "tests")
        for camera in config.cameras:
            IngestStage(log, camera, 0, max_lag=10_000, owner="tests").run()
        run_through(log, EncodeStage(log, 0, codec, ask, encode_settings(config), "tests"), "encode", FRAMES)
        run_through(log, RouteStage(log, 0, "tests"), "route", ARCHIVE)
    return path


def run_through(log: Log, stage: Any, name: str, topic: str) -> None:
    """Run a stage until it has done all its input."""
    thread = threading.Thread(target=stage.run)
    thread.start()
    while lag(log, f"stage:{name}-0", topic, [0])[0] and thread.is_alive():
        time.sleep(0.02)
    stage.stop()
    thread.join()
