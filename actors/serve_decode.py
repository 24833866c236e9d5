"""Replays on Ray Serve: decoders that exist while somebody watches.

    pool = ReplayPool(DecodeScale(most=4))          # deploys with no replica at all; Ray must be running
    async for frame in pool.pictures(planner.jobs(items), DecodeOptions("human")):
        show(frame)                                 # closing the generator cancels what is not decoded yet

A request is one job (`stream_jobs`), a viewer a row of requests of which a few are under way. So replicas are drained
within one job, and a job of a replica that died is asked for again. Requests that wait for a replica are decoded
together, whoever asked; those of one session go to the replica that has what came before.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from actors.job_decoder import JobDecoder
from actors.serve_start import ensure_serve
from actors.steps import Steps
from actors.stream_jobs import Job, StreamJob
from discover_stream import __version__
from discover_stream.config import Config, TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.types import DiscoverError

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame
    from discover_stream.decoding import FrameDecoder

Wanted = tuple[Job, DecodeOptions]

DEPLOYMENT = "decoder"
LOOK_BACK_S = 3.0
"""Serve averages the number of requests over this time."""
TELL_S = 0.5
"""How often handles and replicas tell Serve's controller what waits. By Serve's ten seconds, most of a cold start would
be waiting for the next word."""
MAX_TRIES = 3
"""A job during which this many replicas died is given up."""
AHEAD = 2
"""Requests of a viewer that are under way at once: one is decoded while the other travels."""
_LEARNING = 0.2
_DRAIN_S = 60.0
"""How long a replica that is to end may take for the jobs it has; each holds a few pictures."""


@dataclass(frozen=True, slots=True)
class DecodeScale:
    """How many decoders there may be, and what each takes.

    Attributes:
        most: replicas at most; there is none while nobody asks.
        threads: of the networks in each.
        batch: requests that are decoded in one pass at most.
        busy: requests, waiting or under way, for which there is one replica; more of them start another one.
        up_s: how long that must last before one is added; the first one starts at once.
        idle_s: how long a replica is kept without need.
        cpus, gpus: of Ray's, that each replica takes; a part of a GPU is one that replicas share.
        resources: further ones, by name, as the nodes for decoders have.
    """

    most: int = 1
    threads: int = 1
    batch: int = 8
    busy: float = 2.0
    up_s: float = 1.0
    idle_s: float = 60.0
    cpus: float = 0.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> DecodeScale:
        """As a configuration has it."""
        pools, taken = config.pools, config.ray.resources.decode
        return cls(
            most=pools.decode,
            threads=config.threads.decode,
            batch=pools.decode_batch,
            idle_s=pools.decode_idle_s,
            cpus=taken.cpus,
            gpus=taken.gpus,
            resources=taken.custom,
        )


@dataclass(frozen=True, slots=True)
class PoolState:
    """Replicas that work, that are being started, and that finish what they have before they end."""

    running: int = 0
    starting: int = 0
    ending: int = 0

    @property
    def none(self) -> bool:
        """Whether there is no process at all."""
        return not (self.running or self.starting or self.ending)


class PoolUse:
    """What one process has had decoded: `pictures` so far, and the seconds that one takes a decoder, lately."""

    def __init__(self) -> None:
        self.pictures, self.picture_s = 0, 0.0

    def took(self, each_s: float) -> None:
        """A picture came, which took so long."""
        self.picture_s += (each_s - self.picture_s) * (_LEARNING if self.pictures else 1.0)
        self.pictures += 1


class DecodeReplica:
    """One process of the deployment."""

    def __init__(self, scale: DecodeScale, decoding: DecodingConfig, tracing: TracingConfig) -> None:
        from ray import serve

        def load() -> FrameDecoder:  # not before a packet of still mode comes: others need none of it
            import torch

            from discover_stream.sdk import LazyDecoder

            torch.set_num_threads(scale.threads)
            return LazyDecoder(decoding=decoding).get()

        # One thread decodes, so that the process can answer meanwhile: requests, health checks, cancellations.
        self._steps = Steps("replay decoder", tracing)
        decoder, thread = JobDecoder(load, self._steps, scale.threads), ThreadPoolExecutor(1, "decoder")

        @serve.batch(max_batch_size=scale.batch, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
        async def together(wanted: list[Wanted]) -> list[tuple[list[DecodedFrame] | Exception, float]]:
            began_s = time.monotonic()
            found = await asyncio.get_running_loop().run_in_executor(thread, decode_apart, decoder, wanted)
            pictures = sum(len(frames) for frames in found if not isinstance(frames, Exception))
            each_s = (time.monotonic() - began_s) / max(pictures, 1)
            return [(frames, each_s) for frames in found]

        self._together = together

    async def decode(self, job: Job, options: DecodeOptions) -> AsyncIterator[tuple[DecodedFrame, float]]:
        """The pictures of a job, one by one, each with the seconds that it took. Raises BitstreamError, InputError."""
        found, each_s = await self._together((job, options))
        if isinstance(found, Exception):
            raise found
        for frame in found:
            yield frame, each_s

    def __del__(self) -> None:
        """Serve calls this when a replica is to end: what is left of traces is sent."""
        self._steps.close()


def decode_apart(decoder: JobDecoder, wanted: Sequence[Wanted]) -> list[list[DecodedFrame] | Exception]:
    """Decode jobs of several viewers, those of one mode and the same options together. What cannot be decoded spoils
    nothing but itself: in its place is the error."""
    found: dict[int, list[DecodedFrame] | Exception] = {}
    kinds = [(isinstance(job, StreamJob), options) for job, options in wanted]
    for kind in dict.fromkeys(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        try:
            found |= dict(
                zip(places, decoder.decode_many([wanted[place][0] for place in places], kind[1]), strict=True)
            )
        except Exception:  # whatever it was: it is the fault of one of them
            found |= {place: _alone(decoder, *wanted[place]) for place in places}
    return [found[place] for place in range(len(wanted))]


def _alone(decoder: JobDecoder, job: Job, options: DecodeOptions) -> list[DecodedFrame] | Exception:
    try:
        return decoder.decode(job, options)
    except Exception as error:  # goes to the viewer whose job it is
        return error


class ReplayPool:
    """The deployment, as viewers see it. One for any number of them.

    Args:
        scale: see there.
        decoding: what decoders load, and what they run on. Systems of the same scale, decoding and tracing on one Ray
            share their decoders.
        tracing: whether frames are traced.

    Attributes:
        use: how this process uses it.

    Raises DiscoverError where Serve does not start.
    """

    def __init__(
        self, scale: DecodeScale, decoding: DecodingConfig | None = None, tracing: TracingConfig | None = None
    ) -> None:
        from ray import serve

        ensure_serve()
        self.use = PoolUse()
        decoding, tracing = decoding or DecodingConfig(), tracing or TracingConfig()
        named = repr((sorted(asdict(scale).items()), decoding, tracing, __version__))
        self.name = f"replay-{sha256(named.encode()).hexdigest()[:8]}"
        if self.name not in serve.status().applications:
            application = deployment_of(scale).bind(scale, decoding, tracing)
            serve.run(application, name=self.name, route_prefix=None)
        self._handle = serve.get_deployment_handle(DEPLOYMENT, self.name)

    def state(self) -> PoolState:
        """The replicas there are now."""
        from ray import serve

        application = serve.status().applications.get(self.name)
        if application is None or DEPLOYMENT not in application.deployments:
            return PoolState()
        counts: dict[str, int] = {}
        for state, count in application.deployments[DEPLOYMENT].replica_states.items():
            counts[str(getattr(state, "value", state))] = count
        starting = sum(counts.get(state, 0) for state in ("STARTING", "UPDATING", "RECOVERING"))
        ending = counts.get("STOPPING", 0) + counts.get("PENDING_MIGRATION", 0)
        return PoolState(counts.get("RUNNING", 0), starting, ending)

    async def pictures(
        self, jobs: Iterable[Job] | AsyncIterator[Job], options: DecodeOptions, *, ahead: int = AHEAD
    ) -> AsyncGenerator[DecodedFrame]:
        """The pictures of jobs, in order, each as soon as it is there; jobs are taken as they are needed, and `ahead`
        of them are under way at once.

        Closing the generator takes back what is under way. Raises BitstreamError and InputError as decoding does,
        DiscoverError when replicas keep dying.
        """
        coming = _asynchronous(jobs)
        running: deque[_Request] = deque()
        try:
            while True:
                while len(running) < ahead and (job := await anext(coming, None)) is not None:
                    running.append(_Request(self._handle, job, options, self.use))
                if not running:
                    return
                async for frame in running[0].frames():
                    yield frame
                running.popleft()
        finally:
            for request in running:
                request.cancel()

    def decode(self, jobs: Iterable[Job], options: DecodeOptions, *, ahead: int = AHEAD) -> Iterator[DecodedFrame]:
        """The same for programs that have no event loop."""
        with asyncio.Runner() as runner:
            pictures = self.pictures(jobs, options, ahead=ahead)
            try:
                while True:
                    frame = runner.run(_next(pictures))
                    if frame is None:
                        return
                    yield frame
            finally:
                runner.run(pictures.aclose())

    def close(self) -> None:
        """End all replicas, and forget the deployment. Others who use it lose it too."""
        from ray import serve

        serve.delete(self.name)


class _Request:
    """One job at the deployment; it is under way as soon as this is made."""

    def __init__(self, handle: Any, job: Job, options: DecodeOptions, use: PoolUse) -> None:
        self._use = use
        self._handle, self._job, self._options = handle.options(stream=True, session_id=job.session), job, options
        self._response = self._ask()

    def _ask(self) -> Any:
        return self._handle.decode.remote(self._job, self._options)

    def cancel(self) -> None:
        self._response.cancel()

    async def frames(self) -> AsyncIterator[DecodedFrame]:
        from ray.exceptions import RayActorError, RayTaskError

        given = 0
        for _ in range(MAX_TRIES):
            place = 0
            try:
                async for frame, each_s in self._response:
                    place += 1
                    self._use.took(each_s)
                    if place > given:  # others came before the replica died
                        given = place
                        yield frame
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError:
                self._response = self._ask()
            else:
                return
        raise DiscoverError(
            f"camera {self._job.camera}: decoding ended {MAX_TRIES} processes; check the memory of the nodes that "
            "decode, and decode fewer pictures at once (pools.decode, pools.decode_batch)"
        )


async def _next(pictures: AsyncIterator[DecodedFrame]) -> DecodedFrame | None:
    return await anext(pictures, None)


async def _asynchronous(jobs: Iterable[Job] | AsyncIterator[Job]) -> AsyncIterator[Job]:
    if isinstance(jobs, AsyncIterator):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job


def deployment_of(scale: DecodeScale) -> Any:
    """The deployment: none of its replicas is there until somebody asks."""
    from ray import serve
    from ray.serve.config import AutoscalingConfig, RequestRouterConfig

    with warnings.catch_warnings():  # it compares with its default of an interval that the environment sets
        warnings.simplefilter("ignore", FutureWarning)
        scaling = AutoscalingConfig(
            min_replicas=0,
            initial_replicas=0,
            max_replicas=scale.most,
            target_ongoing_requests=scale.busy,
            upscale_delay_s=scale.up_s,
            downscale_delay_s=scale.idle_s,
            downscale_to_zero_delay_s=scale.idle_s,
            look_back_period_s=LOOK_BACK_S,
            metrics_interval_s=TELL_S,
        )
    deploy = serve.deployment(
        name=DEPLOYMENT,
        ray_actor_options={
            "num_cpus": scale.cpus,
            "num_gpus": scale.gpus,
            "resources": dict(scale.resources),
        },
        max_ongoing_requests=max(2 * scale.batch, 4),
        autoscaling_config=scaling,
        request_router_config=RequestRouterConfig(
            request_router_class="ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
        ),
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=_DRAIN_S,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    return deploy(DecodeReplica)
