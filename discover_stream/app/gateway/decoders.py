"""What decodes pictures for the gateway: this process, or a pool of others."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from actors.job_decoder import JobDecoder
from actors.stream_jobs import Job
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import LazyDecoder

if TYPE_CHECKING:
    from actors.system import System
    from discover_stream.decoded import DecodedFrame


class Decoder(Protocol):
    """Decodes jobs for many at a time. Nothing is loaded, and no process made, before somebody asks for a picture."""

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """The pictures of jobs, in order. Closing the iterator ends the work. Called from any thread.

        Raises BitstreamError, InputError, and DiscoverError where its processes keep dying.
        """


class LocalDecoder:
    """Decodes in this process, one job at a time, with some threads. Those who wait take turns."""

    def __init__(self, threads: int, decoding: DecodingConfig) -> None:
        self._threads = threads
        self._decoder = JobDecoder(LazyDecoder(decoding=decoding).get)
        self._turn = threading.Lock()

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """See `Decoder.decode`."""
        import torch

        for job in jobs:
            with self._turn:
                torch.set_num_threads(self._threads)  # of the thread that computes, which is another each time
                frames = self._decoder.decode(job, options)
            yield from frames


class SystemDecoder:
    """Decodes on the decode pool of a system that runs in this process; its processes are made at the first call."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._first = threading.Lock()

    def decode(self, jobs: Iterable[Job], options: DecodeOptions) -> Iterator[DecodedFrame]:
        """See `Decoder.decode`."""
        with self._first:  # two at once would make two pools
            frames = self._system.decode(jobs, options)
        yield from frames
