"""A subscription whose pictures a pool decodes, several at once, handed on in the order in which they came."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from actors.pool_policy import Decision, PoolLoad, PoolRules
from discover_stream.config import Config
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import Gap, Subscription, TaskFrame
from topics import open_log
from topics.catalogue import STATUS
from topics.log import LogError
from topics.messages import encode

if TYPE_CHECKING:
    from actors.subscriber_pool import SubscriberPool
    from discover_stream.decoded import DecodedFrame

Start = Callable[[TaskFrame], "Future[DecodedFrame]"]

_EACH = 4
"""Packets that are read ahead for each process that there may be."""
_POLL_S = 0.05
_REPORT_S = 2.0
COLD_START_S = 4.0
"""What a decoding process takes from nothing to its first picture, about, on one of two busy cores."""


@dataclass(frozen=True)
class Coming:
    """A packet or gap, its picture as it will be, and where a group goes on after it."""

    item: TaskFrame | Gap
    picture: Future[DecodedFrame] | None
    positions: Mapping[int, int]

    @property
    def is_there(self) -> bool:
        """Whether nothing of it has to be waited for."""
        return self.picture is None or self.picture.done()

    def decoded(self, options: DecodeOptions) -> DecodedFrame:
        """The picture; waits for it, or decodes it here. Raises what decoding raises, InputError for packets of regions
        only."""
        assert isinstance(self.item, TaskFrame)
        if self.picture is not None:
            return self.picture.result()
        return self.item.decoded(options.profile, steps=options.steps, generate=options.generate)


def read_ahead(subscription: Subscription, start: Start | None, most: int, ahead: int) -> Iterator[Coming]:
    """What a subscription brings, `most` packets at most; ends as the subscription does not: the caller stops.

    Args:
        subscription: is read, and not committed.
        start: has a packet decoded; None where no pictures are wanted, or this process decodes them.
        most: packets that are read.
        ahead: of them whose pictures are waited for at once.
    """
    waiting: deque[Coming] = deque()
    read = 0
    while read < most or waiting:
        if waiting and (waiting[0].is_there or len(waiting) >= ahead or read >= most):
            yield waiting.popleft()
            continue
        item = subscription.poll(_POLL_S)
        if item is None:
            continue
        picture = None
        if isinstance(item, TaskFrame):
            read += 1
            if start is not None and not item.regions_only:
                picture = start(item)
        waiting.append(Coming(item, picture, subscription.positions))


@contextmanager
def starting(config: Config, options: DecodeOptions, wanted: bool) -> Iterator[tuple[Start | None, int]]:
    """What has packets decoded and how many at once: a pool where the configuration has one, else nobody."""
    pools = config.pools.subscribers
    if not wanted or (pools.most == 1 and config.ray.address is None):
        yield None, 1
        return
    from actors.local_ray import connect_ray, stop_ray
    from actors.subscriber_pool import SubscriberPool, WorkerOptions

    taken = config.ray.resources.decode
    rules = PoolRules(
        most=pools.most,
        deadline_s=pools.deadline_s,
        cold_start_s=COLD_START_S,
        idle_s=pools.idle_s,
        gpu_share=taken.gpus,
        gpus=pools.gpus,
        price=pools.price,
        budget=pools.budget,
    )
    workers = WorkerOptions(
        config.threads.decode, taken.cpus, taken.gpus, taken.custom, config.decoding, config.tracing
    )
    connect_ray(config.ray)
    try:
        with SubscriberPool(rules, workers, on_decision=tell_changes()) as pool, reporting(config.log.url, pool):
            yield lambda frame: pool.start(frame, options), _EACH * pools.most
    finally:
        stop_ray()


def tell_changes() -> Callable[[PoolLoad, Decision], None]:
    """Says on the error output when the number of processes changes, and why."""
    workers = 0

    def tell(load: PoolLoad, decision: Decision) -> None:
        nonlocal workers
        if decision.workers != workers:
            workers = decision.workers
            typer.echo(f"decoders: {workers} ({decision.reason}; {load.waiting} packets wait)", err=True)

    return tell


@contextmanager
def reporting(url: str, pool: SubscriberPool) -> Iterator[None]:
    """Has the log's status tell of a pool for as long as the block lasts; a log that is away is not waited for."""
    name, stop = f"subscriber-{socket.gethostname()}-{os.getpid()}", threading.Event()

    def report() -> None:
        while True:
            ended = stop.wait(_REPORT_S)
            message = None if ended else encode(pool.figures.status(name, time.time_ns()))
            with suppress(LogError), open_log(url) as log:
                log.append(STATUS, f"pool/{name}", message)
            if ended:
                return

    thread = threading.Thread(target=report, name="pool status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
