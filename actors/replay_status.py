"""The decoders of replays in a log's status, for as long as somebody watches and until they have ended.

    with ReplayStatus(url, pool) as status:             # no thread, and nothing is asked, before the first replay
        for frame in status.decode(jobs, options): ...  # as `pool.decode`

Whoever has replays decoded tells of the decoders. Where processes share them on a cluster, each tells what it sees.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.serve_decode import AHEAD, PoolState, ReplayPool
from actors.stream_jobs import Job
from discover_stream.decode_options import DecodeOptions
from topics import open_log
from topics.catalogue import STATUS
from topics.fleet_messages import PoolStatus
from topics.log import LogError
from topics.messages import encode

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a pool: its processes at the latest look, how often there were more of them than before
    (`starts`), and how often there were some after none (`cold_starts`)."""

    now: PoolState = field(default_factory=PoolState)
    starts: int = 0
    cold_starts: int = 0

    def after(self, found: PoolState) -> Seen:
        """With another look. A process that starts between two looks, while another one goes, is not counted."""
        before, here = self.now.running + self.now.starting, found.running + found.starting
        return replace(
            self,
            now=found,
            starts=self.starts + max(0, here - before),
            cold_starts=self.cold_starts + (before == 0 and here > 0),
        )


def pool_name() -> str:
    """The name of this process's pool in the status."""
    return f"replays-{socket.gethostname()}-{os.getpid()}"


class ReplayStatus:
    """See the module. For any number of threads; close it when no more is decoded."""

    def __init__(self, url: str, pool: ReplayPool, *, look_s: float = LOOK_S) -> None:
        self._url, self._pool, self._look_s = url, pool, look_s
        self._watching = 0
        self._seen = Seen()
        self._told = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def decode(self, jobs: Iterable[Job], options: DecodeOptions, *, ahead: int = AHEAD) -> Iterator[DecodedFrame]:
        """See `ReplayPool.decode`."""
        with self._lock:
            self._watching += 1
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="replay status", daemon=True)
                self._thread.start()
        try:
            yield from self._pool.decode(jobs, options, ahead=ahead)
        finally:
            with self._lock:
                self._watching -= 1

    def close(self) -> None:
        """Take the pool out of the status."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._told:
            self._write(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        """Look and write while there is a replay or a decoder, and once more when there is none."""
        while True:
            try:
                self._seen = self._seen.after(self._pool.state())
            except Exception:  # Serve or its Ray has gone: whoever waits for a picture is told by decoding itself
                self._seen = replace(self._seen, now=PoolState())
            self._write(self._message())
            with self._lock:
                if self._stop.is_set() or (self._watching == 0 and self._seen.now.none):
                    self._thread = None
                    return
            self._stop.wait(self._look_s)

    def _message(self) -> PoolStatus:
        now, use = self._seen.now, self._pool.use
        return PoolStatus(
            pool=pool_name(),
            at_ns=time.time_ns(),
            wanted=now.running + now.starting,
            running=now.running,
            starts=self._seen.starts,
            cold_starts=self._seen.cold_starts,
            decode_ms=round(1000 * use.picture_s, 1),
            detail=f"{now.starting} starting, {now.ending} ending; {use.pictures} pictures",
        )

    def _write(self, message: PoolStatus | None) -> None:
        """A log that is away is not waited for."""
        with suppress(LogError), open_log(self._url) as log:
            log.append(STATUS, f"pool/{pool_name()}", None if message is None else encode(message))
            self._told = True
