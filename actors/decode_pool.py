"""Decoding packets on a pool of processes that exist only once somebody asks for pictures."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discover_stream.types import Profile

if TYPE_CHECKING:
    from discover_stream.decoding import DecodedFrame, FrameDecoder

_CHUNK = 2
"""Packets per call: small, since decoding takes far longer than calling, and results arrive smoothly."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """A packet to decode: its camera, its bytes, and the keys of the tasks wanted (None: all it holds)."""

    camera: str
    data: bytes
    tasks: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode: for whom, in how many steps (None: the profile's own), and whether to generate."""

    profile: Profile = "machine"
    steps: int | None = None
    generate: bool = True


def decode_job(decoder: FrameDecoder, job: DecodeJob, options: DecodeOptions) -> DecodedFrame:
    """Decode one packet. Raises BitstreamError, and InputError for a bad number of steps."""
    from discover_stream.codec.packet import parse_packet

    return decoder.decode(
        parse_packet(job.data, camera=job.camera),
        camera=job.camera,
        tasks=job.tasks,
        profile=options.profile,
        steps=options.steps,
        generate=options.generate,
    )


def in_order(
    jobs: Iterable[DecodeJob],
    start: Callable[[int, list[DecodeJob]], Any],
    wait: Callable[[Any], Sequence[DecodedFrame]],
    workers: int,
) -> Iterator[DecodedFrame]:
    """Results in the order of the jobs, while every worker always has one call running and one waiting.

    `start` hands a list of jobs to a worker, `wait` gets what became of it.
    """
    turns = itertools.cycle(range(workers))
    source = iter(jobs)
    running: deque[Any] = deque()
    while True:
        while len(running) < 2 * workers and (chunk := list(itertools.islice(source, _CHUNK))):
            running.append(start(next(turns), chunk))
        if not running:
            return
        yield from wait(running.popleft())


class DecodePool:
    """`workers` decoding processes with `threads` each, on a Ray that is running."""

    def __init__(self, workers: int, threads: int) -> None:
        import ray

        from actors.remote import DecodeActor

        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=2)(DecodeActor)
        self.handles = [actor.remote(threads) for _ in range(workers)]

    def decode(self, jobs: Iterable[DecodeJob], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """Decode packets in order. Raises BitstreamError, InputError; DiscoverError when processes keep dying."""
        from actors.local_ray import answer_of

        def start(worker: int, chunk: list[DecodeJob]) -> Any:
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
        """End the processes."""
        import ray

        for handle in self.handles:
            ray.kill(handle)
