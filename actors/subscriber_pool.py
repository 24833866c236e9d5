"""Decoders of a subscription, as many as its lag and deadline need, and none while nothing comes.

    with SubscriberPool(PoolRules(most=4, deadline_s=1.0)) as pool:      # Ray must be running
        for frame in subscribe("vehicles", log=url, pictures=pool):
            picture = frame.image()                                     # waits for a process of the pool
            later = pool.start(frame, DecodeOptions())                  # or does not: `later.result()`

`pool_policy.decide` says how many processes there should be; this carries it out. A process that is to end gets no
more work and ends when it has none. A packet of a process that died goes to another one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from actors.pool_policy import Decision, PoolLoad, PoolMemory, PoolRules, allowed, decide
from actors.stream_jobs import Job, LiveJobs
from discover_stream.config import TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.types import DiscoverError, InputError, Profile
from topics.fleet_messages import PoolStatus

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame
    from discover_stream.sdk import TaskFrame

MAX_TRIES = 3
"""A packet during which this many processes died is given up."""
IN_HAND = 2
"""Packets that a process has at once: one is decoded while the other travels."""
_LOOK_S = 0.02
_DECIDE_S = 0.25
_LATELY_S = 5.0
_FIRST_GUESS_S = 0.2
_LEARNING = 0.2
_FINISH_S = 2.0

Observer = Callable[[PoolLoad, Decision], None]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What each process takes: threads of its networks; of Ray's CPUs, GPUs and further resources; what it loads; and
    whether frames are traced."""

    threads: int = 1
    cpus: float = 0.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What a pool has done, and is doing: processes `wanted`, `ready` and `starting`, packets `waiting`, pictures
    `decoded`, processes started while there was none (`cold_starts`) and in all, deaths, seconds a picture takes, and
    the invention score of pictures lately, None where nobody looked."""

    wanted: int = 0
    ready: int = 0
    starting: int = 0
    waiting: int = 0
    decoded: int = 0
    cold_starts: int = 0
    starts: int = 0
    deaths: int = 0
    service_s: float = 0.0
    invention: float | None = None

    def status(self, name: str, at_ns: int) -> PoolStatus:
        """The same as a record of a log's status; `at_ns` is now."""
        return PoolStatus(
            pool=name,
            at_ns=at_ns,
            wanted=self.wanted,
            running=self.ready,
            waiting=self.waiting,
            starts=self.starts,
            cold_starts=self.cold_starts,
            decode_ms=round(1000 * self.service_s, 1) if self.decoded else 0.0,
            invention=self.invention,
        )


@dataclass(eq=False)
class _Task:
    """A packet on its way to a picture."""

    job: Job
    options: DecodeOptions
    result: Future[DecodedFrame]
    since_s: float
    tries: int = 0


@dataclass(eq=False)
class _Worker:
    """A process: what it was asked for, oldest first, and until it first answered, what tells that it has."""

    handle: Any
    loading: Any
    in_hand: dict[Any, _Task] = field(default_factory=dict)
    began_s: dict[Any, float] = field(default_factory=dict)
    ending: bool = False
    is_warm: bool = False

    @property
    def has_room(self) -> bool:
        """Whether it may be given another packet."""
        return not self.ending and self.loading is None and len(self.in_hand) < IN_HAND


class SubscriberPool:
    """See the module. A `Pictures` of the SDK: for the thread of one subscription; its own thread does the rest.

    Args:
        rules: how many processes.
        worker: what each takes.
        on_decision: told every load that was measured, and what was decided on it.

    Raises InputError for rules by which there can be no process at all: every packet would wait for ever.
    """

    def __init__(
        self, rules: PoolRules, worker: WorkerOptions | None = None, *, on_decision: Observer | None = None
    ) -> None:
        most, cap = allowed(rules)
        if most < 1:
            raise InputError(
                f"pools.subscribers: not one process may be started ({cap}); raise `gpus` to what one takes "
                "(ray.resources.decode.gpus) at least, or `budget` to its `price`"
            )
        self._rules, self._worker, self._observe = rules, worker or WorkerOptions(), on_decision
        self._live = LiveJobs(f"subscriber, process {os.getpid()}, pool {id(self)}")
        self._lock = threading.Lock()
        self._new: deque[_Task] = deque()
        self._arrivals: deque[float] = deque()
        self._workers: list[_Worker] = []
        self._homes: dict[str, _Worker] = {}
        self._memory, self._figures = PoolMemory(), PoolFigures()
        self._service_s, self._decoded, self._deaths = _FIRST_GUESS_S, 0, 0
        self._starts = self._cold_starts = 0
        self._invention: float | None = None
        self._decided_s = float("-inf")
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="subscriber pool", daemon=True)
        self._thread.start()

    @property
    def figures(self) -> PoolFigures:
        """As of the last decision."""
        return self._figures

    def start(self, frame: TaskFrame, options: DecodeOptions) -> Future[DecodedFrame]:
        """Have a packet decoded; call it before the subscription's next item is taken.

        The result raises BitstreamError and InputError as decoding does, DiscoverError when processes keep dying. A
        packet whose result is cancelled before a process has it is not decoded. Raises DiscoverError once the pool is
        closed, or has failed.
        """
        now_s = time.monotonic()
        with self._lock:  # nobody would look at what comes after `_end_all`
            if self._failure is not None:
                raise DiscoverError(f"subscriber pool: {self._failure}; subscribe again") from self._failure
            if self._stop.is_set():
                raise DiscoverError("subscriber pool: it is closed; subscribe again")
            task = _Task(self._live.job(frame), options, Future(), now_s)
            self._new.append(task)
            self._arrivals.append(now_s)
        return task.result

    def decoded(self, frame: TaskFrame, profile: Profile, steps: int | None, generate: bool) -> DecodedFrame:
        """The picture of a packet, as soon as a process of the pool has it; raises what `start` says."""
        options = DecodeOptions.of(self._worker.decoding, profile, steps, generate=generate)
        return self.start(frame, options).result()

    def close(self) -> None:
        """End all processes. What waits is given up."""
        self._stop.set()
        self._thread.join()
        self._finish_traces()
        self._end_all(DiscoverError("subscriber pool: it was closed before this packet was decoded"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._stop.wait(_LOOK_S):
                self._collect()
                if time.monotonic() - self._decided_s >= _DECIDE_S:
                    self._decide()
                self._hand_out()
        except BaseException as error:  # or whoever waits for a picture would wait for ever
            self._failure = error
            self._end_all(error)

    def _collect(self) -> None:
        """Take in what processes have finished."""
        from actors.local_ray import ray

        for worker in list(self._workers):
            if worker.loading is not None and ray.wait([worker.loading], timeout=0)[0]:
                loading, worker.loading = worker.loading, None
                try:
                    ray.get(loading)
                except ray.exceptions.RayError:
                    self._lose(worker)
                    continue
            for reference in list(worker.in_hand):
                if not ray.wait([reference], timeout=0)[0]:
                    break  # they finish in order
                task = worker.in_hand.pop(reference)
                began_s = worker.began_s.pop(reference)
                try:
                    (frame,) = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    task.result.set_exception(error.cause)
                except ray.exceptions.RayError:
                    worker.in_hand[reference] = task
                    self._lose(worker)
                    break
                else:
                    now_s = time.monotonic()
                    if worker.is_warm:  # the first one loads what decodes
                        self._service_s += _LEARNING * (now_s - began_s - self._service_s)
                    worker.is_warm = True
                    for other in worker.began_s:  # the next one begins now
                        worker.began_s[other] = now_s
                    self._decoded += 1
                    if frame.invention is not None:
                        before = frame.invention if self._invention is None else self._invention
                        self._invention = before + _LEARNING * (frame.invention - before)
                    task.result.set_result(frame)
            if worker.ending and not worker.in_hand and worker in self._workers:
                self._end(worker)

    def _lose(self, worker: _Worker) -> None:
        """A process died: what it had goes to another, in the same order."""
        self._deaths += 1
        self._end(worker)
        again = sorted(worker.in_hand.values(), key=lambda task: task.since_s)
        worker.in_hand.clear()
        for task in reversed(again):
            task.tries += 1
            if task.tries < MAX_TRIES:
                with self._lock:
                    self._new.appendleft(task)
            else:
                task.result.set_exception(
                    DiscoverError(
                        f"camera {task.job.camera}: decoding ended {MAX_TRIES} processes; check the memory of the "
                        "nodes that decode, and decode fewer pictures at once (pools.subscribers)"
                    )
                )

    def _hand_out(self) -> None:
        """Give what waits to processes that have room; each session's packets to one process, where it has."""
        while self._new:
            free = [
                item for item in self._workers if not item.ending and not item.loading and len(item.in_hand) < IN_HAND
            ]
            if not free:
                return
            with self._lock:
                task = self._new.popleft()
            if not task.tries and not task.result.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            home = self._homes.get(task.job.camera)
            worker = home if home in free else min(free, key=lambda item: len(item.in_hand))
            assert worker is not None
            self._homes[task.job.camera] = worker
            reference = worker.handle.decode.remote([task.job], task.options)
            worker.in_hand[reference], worker.began_s[reference] = task, time.monotonic()

    def _decide(self) -> None:
        """Ask the policy, and start and end processes."""
        now_s = self._decided_s = time.monotonic()
        with self._lock:
            while self._arrivals and self._arrivals[0] < now_s - _LATELY_S:
                self._arrivals.popleft()
            arriving, since = len(self._arrivals) / _LATELY_S, [task.since_s for task in self._new]
        since += [task.since_s for worker in self._workers for task in worker.in_hand.values()]
        staying = [worker for worker in self._workers if not worker.ending]
        starting = sum(worker.loading is not None for worker in staying)
        oldest_s = now_s - min(since, default=now_s)
        load = PoolLoad(now_s, len(since), oldest_s, arriving, self._service_s, len(staying) - starting, starting)
        decision, self._memory = decide(self._rules, load, self._memory)
        if decision.workers > len(staying):
            for worker in [item for item in self._workers if item.ending][: decision.workers - len(staying)]:
                worker.ending = False  # it has not gone yet: it stays
                staying.append(worker)
            self._cold_starts += not staying
            while len(staying) < decision.workers:
                staying.append(self._begin())
        # The youngest go first: those that are still starting have nothing in hand.
        for worker in staying[decision.workers :]:
            worker.ending = True
        self._figures = PoolFigures(
            decision.workers, load.ready, starting, load.waiting, self._decoded, self._cold_starts, self._starts,
            self._deaths, self._service_s, self._invention,
        )  # fmt: skip
        if self._observe is not None:
            self._observe(load, decision)

    def _begin(self) -> _Worker:
        from actors.local_ray import ray
        from actors.remote import DecodeActor

        wanted = self._worker
        actor = ray.remote(num_cpus=wanted.cpus, num_gpus=wanted.gpus, resources=dict(wanted.resources))(DecodeActor)
        handle = actor.remote(wanted.threads, wanted.decoding, wanted.tracing)
        worker = _Worker(handle, handle.report.remote())
        self._starts += 1
        self._workers.append(worker)
        return worker

    def _finish_traces(self) -> None:
        """Let processes send what they have of traces; they are killed next. Idle ones sent it while they waited."""
        from actors.local_ray import ray

        if self._worker.tracing.exporter == "otlp" and (warm := [item for item in self._workers if item.is_warm]):
            ray.wait([item.handle.close.remote() for item in warm], num_returns=len(warm), timeout=_FINISH_S)

    def _end(self, worker: _Worker) -> None:
        from actors.local_ray import ray

        self._workers.remove(worker)
        self._homes = {camera: home for camera, home in self._homes.items() if home is not worker}
        ray.kill(worker.handle)

    def _end_all(self, error: BaseException) -> None:
        left = [task for worker in self._workers for task in worker.in_hand.values()]
        with self._lock:
            left += self._new
            self._new.clear()
        for task in left:
            if not task.result.done():
                task.result.set_exception(error)
        for worker in list(self._workers):
            with suppress(Exception):  # its Ray may be what has gone
                self._end(worker)
