"""Decoding packets on a pool of processes that exist only once somebody asks for pictures."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from actors.stream_jobs import DecodeJob, Job, StreamJob
from discover_stream.codec.any_packet import is_plates_alone
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_coding import parse_stream_packet
from discover_stream.painting import learned_painter
from discover_stream.types import BitstreamError, Profile

if TYPE_CHECKING:
    from discover_stream.decoding import DecodedFrame, FrameDecoder

__all__ = ["DecodeJob", "DecodeOptions", "DecodePool", "JobDecoder", "StreamJob", "decode_job", "in_order"]

_CHUNK = 2
"""Packets per call: small, since decoding takes far longer than calling, and results arrive smoothly."""
MAX_SESSIONS = 16
"""Sessions of which a process keeps what it decoded."""


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


class JobDecoder:
    """Decodes jobs of either mode, and keeps what it decoded of sessions. For one thread.

    Args:
        load: loads the decoder of still mode, when it is needed first.
    """

    def __init__(self, load: Callable[[], FrameDecoder]) -> None:
        self._load = load
        self._sessions: OrderedDict[str, tuple[tuple[int, int], CameraReader]] = OrderedDict()

    def decode(self, job: Job, options: DecodeOptions) -> list[DecodedFrame]:
        """The pictures of a job: one, or one for each packet of stream mode that is shown.

        Raises BitstreamError for bytes that are damaged or of another model, InputError for a bad number of steps and
        packets of regions only.
        """
        if isinstance(job, DecodeJob):
            return [decode_job(self._load(), job, options)]
        return self._stream(job)

    def _stream(self, job: StreamJob) -> list[DecodedFrame]:
        from discover_stream.decoding import composed_frame

        reader = self._reader(job)
        frames, last = [], job.follows
        for data, time_ns in zip(job.packets, job.times_ns, strict=True):
            packet = parse_stream_packet(data, camera=job.camera)
            reading = reader.read(packet)
            if is_plates_alone(packet):
                continue
            last = packet.incarnation, packet.seq
            if time_ns is not None:
                composite = reader.pictures.picture(*last)
                frame = composed_frame(job.camera, packet, reading.state, composite)
                frames.append(replace(frame, capture_ns=time_ns))
        if job.session and last is not None:
            self._sessions[job.session] = last, reader
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return frames

    def _reader(self, job: StreamJob) -> CameraReader:
        """What was decoded before a job: as this process knows it, or from what the job brings."""
        last, reader = self._sessions.pop(job.session, (None, None))
        if reader is None or last != job.follows:
            last, reader = None, CameraReader(job.camera, lambda number: (), learned_painter)
        for data in job.before:
            with suppress(BitstreamError):  # as if it was lost
                packet = parse_stream_packet(data, camera=job.camera)
                if last is None or is_plates_alone(packet):
                    reader.read(packet)
        return reader


def worker_of(job: Job, workers: int) -> int | None:
    """The worker that holds what was decoded before a job; None where any will do."""
    return crc32(job.session.encode()) % workers if isinstance(job, StreamJob) and job.session else None


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
    chunks = chunked(jobs)
    running: deque[Any] = deque()
    while True:
        while len(running) < 2 * workers and (chunk := next(chunks, None)):
            home = worker_of(chunk[0], workers)
            running.append(start(next(turns) if home is None else home, chunk))
        if not running:
            return
        yield from wait(running.popleft())


def chunked(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """The jobs of each call: a few of still mode, or one of stream mode, which holds many packets."""
    for streamed, run in itertools.groupby(jobs, key=lambda job: isinstance(job, StreamJob)):
        while chunk := list(itertools.islice(run, 1 if streamed else _CHUNK)):
            yield chunk


class DecodePool:
    """`workers` decoding processes with `threads` each, on a Ray that is running."""

    def __init__(self, workers: int, threads: int) -> None:
        import ray

        from actors.remote import DecodeActor

        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=2)(DecodeActor)
        self.handles = [actor.remote(threads) for _ in range(workers)]

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
        """End the processes."""
        import ray

        for handle in self.handles:
            ray.kill(handle)
