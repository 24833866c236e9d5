"""Replays written to a film: every segment once, from those that are kept where they are, then one MP4 of them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

from discover_stream.app.gateway.flights import Busy
from discover_stream.app.gateway.replays import Replay, Replays
from discover_stream.types import DiscoverError

_LOGGER = logging.getLogger(__name__)
_MOST = 16
"""Exports that are kept."""
_RUNNING = 4


@dataclass(eq=False)
class ExportJob:
    """A film being written, and how far it is."""

    id: str
    replay: Replay
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    segments: int = 0
    problem: str | None = None
    bytes: int = 0
    path: Path | None = None
    task: asyncio.Task[None] | None = None

    @property
    def done(self) -> float:
        """From 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(0.99, self.segments / max(1, self.replay.film.count()))


class Exports:
    """Films that are written, and written films until they are fetched or forgotten. For the event loop's thread."""

    def __init__(self, replays: Replays) -> None:
        self._replays = replays
        self._jobs: OrderedDict[str, ExportJob] = OrderedDict()
        self._folder: Path | None = None

    def start(self, replay: Replay) -> ExportJob:
        """Begin to write a film. Raises Busy where too many are being written."""
        if sum(job.state == "running" for job in self._jobs.values()) >= _RUNNING:
            raise Busy(f"{_RUNNING} films are being written already; wait for one of them, or cancel it")
        job = ExportJob(uuid.uuid4().hex[:16], replay)
        self._jobs[job.id] = job
        while len(self._jobs) > _MOST:
            self.forget(next(key for key, old in self._jobs.items() if old.state != "running"))
        self._replays.watch(replay, job.id)  # who leaves the replay meanwhile does not end this
        job.task = asyncio.create_task(self._run(job))
        job.task.add_done_callback(lambda _: self._replays.leave(replay, job.id))
        return job

    def get(self, identity: str) -> ExportJob | None:
        """An export that is kept."""
        return self._jobs.get(identity)

    def forget(self, identity: str) -> None:
        """Cancel an export, or remove its film."""
        job = self._jobs.pop(identity)
        if job.task is not None and not job.task.done():
            job.state = "cancelled"
            job.task.cancel()
        if job.path is not None:
            job.path.unlink(missing_ok=True)

    def forget_camera(self, camera: str) -> None:
        """Cancel and remove every film of a camera: something of it was erased."""
        for job in [job for job in self._jobs.values() if job.replay.wanted.camera == camera]:
            self.forget(job.id)

    async def close(self) -> None:
        """Cancel and remove everything."""
        for identity in list(self._jobs):
            self.forget(identity)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _run(self, job: ExportJob) -> None:
        raw: Path | None = None
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="discover-exports-"))
            raw = self._folder / f"{job.id}.parts"
            replay, film = job.replay, job.replay.film
            with raw.open("wb") as parts:
                parts.write(replay.head)
                for number in range(film.count()):
                    making = self._replays.making(replay, number)
                    made = await self._replays.flights.get((replay.id, number), making, _never)
                    parts.write(made.body)
                    job.segments, job.bytes = number + 1, job.bytes + len(made.body)
            path = self._folder / f"{job.id}.mp4"
            await asyncio.to_thread(_write, job, raw, path)
            job.path, job.bytes, job.state = path, path.stat().st_size, "done"
        except (DiscoverError, OSError) as error:
            job.state, job.problem = "failed", " ".join(str(error).split())
        except Exception as error:  # nobody would ever hear of it, and it would count as running for ever
            _LOGGER.exception("export %s", job.id)
            words = " ".join(f"{type(error).__name__}: {error}".split())
            job.state, job.problem = "failed", f"the film could not be written ({words}); report this"
        except asyncio.CancelledError:
            job.state = "cancelled"
            raise
        finally:
            if raw is not None:
                raw.unlink(missing_ok=True)


async def _never() -> bool:
    return False


def _write(job: ExportJob, parts: Path, path: Path) -> None:
    """The film; nothing stays of one that was cancelled meanwhile, since nobody waits for this thread then."""
    _joined(parts, path)
    if job.state == "cancelled":
        path.unlink(missing_ok=True)


def _joined(parts: Path, path: Path) -> None:
    """One MP4 that plays anywhere of fragments that follow each other; nothing is coded anew."""
    with av.open(str(parts)) as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
