"""Who decodes for a command: this process, or processes that exist only meanwhile; and what is said until the first
picture is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import typer

from actors.job_decoder import JobDecoder
from actors.steps import Steps
from actors.stream_jobs import Job
from discover_stream.config import Config
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import LazyDecoder

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame
    from discover_stream.decoding import FrameDecoder

Decode = Callable[[Iterable[Job], DecodeOptions], Iterator["DecodedFrame"]]

TOGETHER = 4
"""Jobs that this process decodes together."""
_TELL_S = 1.0


class Waiting:
    """Says every second what is being waited for, until it is there. On the error output: results go to the other.

    Attributes:
        what: is being done; whoever does it sets it.
    """

    def __init__(self, what: str, tell: Callable[[str], None] | None = None) -> None:
        self.what = what
        self._tell = tell or (lambda line: typer.echo(line, err=True))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)

    def over(self) -> None:
        """Say nothing any more."""
        self._done.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over()
        self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._done.wait(_TELL_S):
            self._tell(f"first picture: {self.what}, {time.monotonic() - began_s:.0f} s")


def in_this_process(config: Config) -> bool:
    """Whether replays are decoded by the command itself: where one process is enough and there is no cluster."""
    return config.pools.decode == 1 and config.ray.address is None


def session_of(config: Config) -> str:
    """A single decoder goes on from what it has; several share stretches, and each begins anew."""
    return f"replay {uuid4().hex}" if config.pools.decode == 1 else ""


@contextmanager
def decoding(config: Config) -> Iterator[Decode]:
    """What decodes replays: this process, or decoders on Ray Serve, on a Ray of our own or on a cluster."""
    with Waiting("loading the decoder") as waiting:

        def first_tells(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
            for frame in frames:
                waiting.over()
                yield frame

        if in_this_process(config):
            steps = Steps("replay", config.tracing)
            decoder = JobDecoder(lambda: loaded(config), steps)
            try:
                yield lambda jobs, options: first_tells(decoder.decode_all(jobs, options, TOGETHER))
            finally:
                steps.close()
            return
        from actors.local_ray import connect_ray, stop_ray
        from actors.replay_status import ReplayStatus
        from actors.serve_decode import DecodeScale, ReplayPool

        waiting.what = "starting Ray" if config.ray.address is None else f"connecting to Ray at {config.ray.address}"
        connect_ray(config.ray)
        try:
            waiting.what = "starting Ray Serve"
            pool, ahead = ReplayPool(DecodeScale.of(config), config.decoding, config.tracing), 2 * config.pools.decode
            state = pool.state()
            waiting.what = "decoding" if state.running else "a decoder is being started"
            with ReplayStatus(config.log.url, pool) as status:
                yield lambda jobs, options: first_tells(status.decode(jobs, options, ahead=ahead))
        finally:
            stop_ray()


def loaded(config: Config) -> FrameDecoder:
    """The decoder of still mode, for this process."""
    import torch

    torch.set_num_threads(config.threads.decode)
    return LazyDecoder(decoding=config.decoding).get()
