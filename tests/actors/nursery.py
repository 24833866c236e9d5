"""Runs stages of a log in process after process, each begun as soon as the one before has died, until their
input is done: real stages, real processes and real deaths, without the seconds that torch or Ray take to start.

    python nursery.py JOB      a job as JSON, see `Job`

What is heavy is loaded once; the stages' processes are forks of that. Prints how each of them ended, by stage,
as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from discover_stream.types import Mode
from topics import open_log
from topics.catalogue import ARCHIVE, FRAMES
from topics.log import Log, lag

MOST_LIVES = 40
TOPICS = {"encode": FRAMES, "route": ARCHIVE}


@dataclass(frozen=True)
class Job:
    """Stages of partition 0 to run side by side: ``encode``, ``route``, and the names of `clips`, which are
    cameras and their files. `batch` is that of grounding, `mode` of encoding; `folder` gets a file per stage that is
    done."""

    url: str
    stages: list[str]
    folder: str
    batch: int = 2
    mode: Mode = "still"
    clips: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))

    def done(self, stage: str) -> Path:
        """The file that tells that a stage is done."""
        return Path(self.folder) / f"done-{stage}"

    def before(self, stage: str) -> list[Path]:
        """The files that tell that a stage gets no more input than it has."""
        earlier = list(self.clips) if stage == "encode" else ["encode"]
        return [self.done(other) for other in earlier if other in self.stages]


Make = Callable[[Log], Any]


def encode_maker(batch: int, mode: Mode) -> Make:
    """Makes encode stages that ask a grounder in their own process, at the moment the answer is needed."""
    import torch

    from actors.encode import EncodeSettings, EncodeStage
    from discover_stream.codec.model import load_codec
    from discover_stream.semantics.grounder import NanoGrounder

    torch.set_num_threads(1)
    codec, grounder = load_codec(), NanoGrounder.load()

    def ask(images: Any, label_sets: Any) -> Callable[[], Sequence[Any]]:
        return lambda: [grounder.ground([image], label_sets)[0] for image in images]

    return lambda log: EncodeStage(log, 0, codec, ask, EncodeSettings(3, batch, mode=mode), "nursery")


def route_maker() -> Make:
    """Makes route stages."""
    from actors.route import RouteStage

    return lambda log: RouteStage(log, 0, "nursery")


def ingest_maker(camera: str, clip: str) -> Make:
    """Makes ingest stages of a camera."""
    from actors.ingest import IngestStage
    from discover_stream.config import CameraConfig

    config = CameraConfig(name=camera, source=clip, starts_at="2026-01-01T00:00:00Z")
    return lambda log: IngestStage(log, config, 0, max_lag=8, owner="nursery")


def live(job: Job, stage: str, make: Make) -> None:
    """One process: a stage until its source has ended, or until there is no input left."""
    with open_log(job.url) as log, open_log(job.url) as onlooker:
        running = make(log)

        def stop_when_done() -> None:
            while not all(path.exists() for path in job.before(stage)):
                time.sleep(0.02)
            while lag(onlooker, f"stage:{stage}-0", TOPICS[stage], [0])[0]:
                time.sleep(0.02)
            running.stop()

        if stage in TOPICS:
            threading.Thread(target=stop_when_done, daemon=True).start()
        running.run()


def begin(job: Job, stage: str, make: Make) -> int:
    """Fork a process for a stage; its id."""
    child = os.fork()
    if child == 0:
        try:
            live(job, stage, make)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def main() -> None:
    """Lives, one after the other for each stage, until one of each has ended well."""
    job = Job(**json.loads(sys.argv[1]))
    makers: dict[str, Make] = {name: ingest_maker(name, clip) for name, clip in job.clips.items()}
    makers["route"] = route_maker()
    if "encode" in job.stages:
        makers["encode"] = encode_maker(job.batch, job.mode)
    endings: dict[str, list[int]] = {stage: [] for stage in job.stages}
    running = {begin(job, stage, makers[stage]): stage for stage in job.stages}
    while running:
        child, status = os.wait()
        stage = running.pop(child)
        endings[stage].append(os.waitstatus_to_exitcode(status))
        if endings[stage][-1] == 0:
            job.done(stage).touch()
        elif len(endings[stage]) < MOST_LIVES:
            running[begin(job, stage, makers[stage])] = stage
        else:
            sys.exit(f"{stage} does not come to an end")
    print(json.dumps(endings))  # noqa: T201


if __name__ == "__main__":
    main()
