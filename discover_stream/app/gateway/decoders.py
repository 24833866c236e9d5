"""What decodes pictures for the gateway: this process, or a pool of others."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from actors.job_decoder import JobDecoder
from actors.steps import Steps
from actors.stream_jobs import Job
from discover_stream.app.gateway.models import PoolState
from discover_stream.config import Config, TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import LazyDecoder

if TYPE_CHECKING:
    from actors.replay_status import ReplayStatus
    from actors.serve_decode import ReplayPool
    from discover_stream.decoded import DecodedFrame


class Decoder(Protocol):
    """Decodes jobs for many at a time. Nothing is loaded, and no process made, before somebody asks for a picture."""

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """The pictures of jobs, in order. Closing the iterator ends the work. Called from any thread.

        Raises BitstreamError, InputError, and DiscoverError where its processes keep dying.
        """

    def state(self) -> PoolState:
        """Its processes, for people."""

    def close(self) -> None:
        """Send what is left of traces and figures, once nobody asks any more."""


class LocalDecoder:
    """Decodes in this process, one job at a time, with some threads. Those who wait take turns."""

    def __init__(self, threads: int, decoding: DecodingConfig, tracing: TracingConfig | None = None) -> None:
        self._threads = threads
        self._decoder = JobDecoder(LazyDecoder(decoding=decoding).get, Steps("gateway", tracing))
        self._turn = threading.Lock()
        self._used = False

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """See `Decoder.decode`."""
        import torch

        for job in jobs:
            with self._turn:
                torch.set_num_threads(self._threads)  # of the thread that computes, which is another each time
                frames = self._decoder.decode(job, options)
                self._used = True
            yield from frames

    def state(self) -> PoolState:
        """See `Decoder.state`."""
        detail = "in the gateway's own process" if self._used else "nothing was decoded yet"
        return PoolState(name="replays", wanted=1, running=int(self._used), detail=detail)

    def close(self) -> None:
        """See `Decoder.close`."""
        with self._turn:
            self._decoder.steps.close()


class ServeDecoder:
    """Decodes on Ray Serve, on the Ray of this process: decoders are started when somebody watches, and end when
    nobody does."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._first = threading.Lock()
        self._pool: ReplayPool | None = None
        self._status: ReplayStatus | None = None

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """See `Decoder.decode`."""
        from actors.replay_status import ReplayStatus
        from actors.serve_decode import DecodeScale, ReplayPool

        config = self._config
        with self._first:
            if self._status is None:
                self._pool = ReplayPool(DecodeScale.of(config), config.decoding, config.tracing)
                self._status = ReplayStatus(config.log.url, self._pool)
        yield from self._status.decode(jobs, options)

    def close(self) -> None:
        """See `Decoder.close`."""
        with self._first:
            if self._status is not None:
                self._status.close()
                self._status = None

    def state(self) -> PoolState:
        """See `Decoder.state`."""
        most = self._config.pools.decode
        if self._pool is None:
            return PoolState(
                name="replays", wanted=0, running=0, detail=f"none before somebody watches; {most} at most"
            )
        found = self._pool.state()
        detail = f"{found.starting} starting, {found.ending} ending, {most} at most"
        return PoolState(name="replays", wanted=found.running + found.starting, running=found.running, detail=detail)
