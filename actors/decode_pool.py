"""Decoding packets on a pool of processes that exist only once somebody asks for pictures."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from actors.job_decoder import JobDecoder, chunked
from actors.stream_jobs import DecodeJob, Job, StreamJob
from discover_stream.config import TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame

__all__ = ["DecodeJob", "DecodeOptions", "DecodePool", "JobDecoder", "StreamJob", "in_order"]

_CHUNK = 2
"""Packets per call: small, since decoding takes far longer than calling, and results arrive smoothly."""
_FINISH_S = 2.0


def worker_of(job: Job, workers: int) -> int | None:
    """The worker that holds what was decoded before a job; None where any will do."""
    return crc32(job.session.encode()) % workers if job.session else None


def in_order(
    jobs: Iterable[Job],
    start: Callable[[int, list[Job]], Any],
    wait: Callable[[Any], Sequence[DecodedFrame]],
    workers: int,
) -> Iterator[DecodedFrame]:
    """Results in the order of the jobs, while every worker always has one call running and one waiting.

    `start` hands a list of jobs to a worker, `wait` gets what became of it. Jobs of one session go to one worker.
    """
    turns = itertools.cycle(range(workers))
    chunks = chunked(jobs, _CHUNK)
    running: deque[Any] = deque()
    while True:
        while len(running) < 2 * workers and (chunk := next(chunks, None)):
            home = worker_of(chunk[0], workers)
            running.append(start(next(turns) if home is None else home, chunk))
        if not running:
            return
        yield from wait(running.popleft())


class DecodePool:
    """`workers` decoding processes with `threads` each, on a Ray that is running; `decoding` names what they load,
    `options` are Ray's of each, `tracing` says whether frames are traced."""

    def __init__(
        self,
        workers: int,
        threads: int,
        decoding: DecodingConfig | None = None,
        options: Mapping[str, Any] | None = None,
        tracing: TracingConfig | None = None,
    ) -> None:
        from actors.local_ray import ray
        from actors.remote import DecodeActor

        self._tracing = tracing
        actor = ray.remote(max_restarts=-1, max_task_retries=2, **(options or {"num_cpus": 0}))(DecodeActor)
        self.handles = [actor.remote(threads, decoding or DecodingConfig(), tracing) for _ in range(workers)]

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """Decode packets in order. Raises BitstreamError, InputError; DiscoverError when processes keep dying."""
        from actors.local_ray import answer_of

        def start(worker: int, chunk: list[Job]) -> Any:
            return self.handles[worker].decode.remote(chunk, options)

        def wait(reference: Any) -> Sequence[DecodedFrame]:
            found: Sequence[DecodedFrame] = answer_of(
                reference,
                "decoding: its process died each time it was tried",
                "check the memory, and decode fewer pictures at once (pools.decode)",
            )
            return found

        return in_order(jobs, start, wait, len(self.handles))

    def close(self) -> None:
        """End the processes, once they have sent what they have of traces."""
        from actors.local_ray import ray

        if self._tracing is not None and self._tracing.exporter == "otlp":
            ray.wait(
                [handle.close.remote() for handle in self.handles], num_returns=len(self.handles), timeout=_FINISH_S
            )
        for handle in self.handles:
            ray.kill(handle)
