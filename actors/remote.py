"""The Ray actors: thin shells around the stages, one process each.

Run-loop actors answer `report` and `stop` in a thread of their own (the concurrency group ``control``) while
`run` works. Every process opens the log for itself; what is heavy is imported where it is used, so that only
the processes with networks in them pay for torch.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from actors.camera_coder import RegionsByTask
from actors.encode import EncodeReport, EncodeSettings
from actors.forward import ForwardReport
from actors.ingest import IngestReport
from actors.local_ray import ray
from actors.route import RouteReport
from actors.steps import Steps
from discover_stream.config import CameraConfig, EdgeConfig, GrounderConfig, TracingConfig
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.types import Image, LabelSet, Region, Task
from topics import open_log
from topics.failpoints import hit
from topics.log import Log, LogError

if TYPE_CHECKING:
    from actors.encode import AskGround, EncodeStage
    from actors.job_decoder import JobDecoder
    from actors.stream_jobs import Job
    from discover_stream.codec.critic import Critic
    from discover_stream.codec.model import CodecModel
    from discover_stream.decoded import DecodedFrame
    from discover_stream.decoding import FrameDecoder
    from discover_stream.semantics.grounder import Grounder

CONTROL = "control"

StageReport = IngestReport | EncodeReport | RouteReport | ForwardReport


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says about itself: its id, which call of `run` it is in, that one's figures, and what the steps
    of the latest frames took; see `steps.Steps.latency_ms`."""

    pid: int
    run: int
    done: int
    stage: StageReport | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)


class Loop(Protocol):
    """A stage as its actor sees it."""

    @property
    def report(self) -> Any:
        """Figures since the stage was made."""

    def run(self) -> str:
        """Work until the end, or until stopped."""

    def stop(self) -> None:
        """Make `run` return soon."""


class RunLoopActor:
    """Base of the actors with a run loop; `_make` says which."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Log | None = None
        self._runs = 0
        self._pool: Sequence[Any] = ()
        self._loop: Loop | None = None
        self._stopping = False
        self._steps = Steps()

    def _make(self) -> Loop:
        raise NotImplementedError

    def run(
        self, pool: Sequence[Any] = (), settings: EncodeSettings | None = None, tracing: TracingConfig | None = None
    ) -> str:
        """Run the stage; a new one each time, so that a call after an error restores what was committed.

        `pool` are handles of the actors it may ask. They come with the call since Ray does not promise to
        keep those that a constructor got for as long as it may start the actor again. `settings` are those of an
        encoder now: they may have changed since its actor was made. `tracing` says whether frames are traced.
        """
        self._steps = Steps(type(self).__name__.removesuffix("Actor").lower(), tracing)
        if settings is not None:
            self._begin_with(settings)
        self._runs += 1
        self._loop = None  # or the figures of the last call would be told as those of this one too
        self._pool = pool
        try:
            loop = self._make()
            self._loop = loop
            return "stopped" if self._stopping else loop.run()
        except LogError:
            self._let_go()
            raise
        finally:
            self._steps.close()

    def _begin_with(self, settings: EncodeSettings) -> None:
        """Take the settings that came with a call of `run`. Only encoders have any."""

    def _let_go(self) -> None:
        """Open the log anew next time: of what was open, nobody knows in which state it is."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def report(self) -> Report:
        """The figures of this process."""
        stage = None if self._loop is None else self._loop.report
        done = (
            stage.packets
            if isinstance(stage, RouteReport | ForwardReport)
            else stage.frames
            if stage is not None
            else 0
        )
        return Report(os.getpid(), self._runs, done, stage, self._steps.latency_ms())

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Let `run` finish its transaction and return."""
        self._stopping = True
        if self._loop is not None:
            self._loop.stop()

    def _log(self) -> Log:
        """This process's own log. Not opened by the constructor: an actor whose constructor fails is lost."""
        if self._opened is None:
            self._opened = open_log(self._url)
        return self._opened

    def _owner(self, what: str) -> str:
        return f"{what}, process {os.getpid()}"


class IngestActor(RunLoopActor):
    """Ingest of one camera."""

    def __init__(self, url: str, partition: int, camera: CameraConfig, max_lag: int) -> None:
        super().__init__(url)
        self._camera, self._partition, self._max_lag = camera, partition, max_lag

    def _make(self) -> Loop:
        from actors.ingest import IngestStage

        owner = self._owner(f"ingest of {self._camera.name}")
        return IngestStage(
            self._log(), self._camera, self._partition, max_lag=self._max_lag, owner=owner, steps=self._steps
        )


class EncodeActor(RunLoopActor):
    """Track+encode of one partition."""

    def __init__(self, url: str, partition: int, settings: EncodeSettings, threads: int) -> None:
        super().__init__(url)
        self._partition, self._settings, self._threads = partition, settings, threads
        self._codec: CodecModel | None = None
        self._critic: Critic | None = None
        self._stage: EncodeStage | None = None
        self._configured = False
        self._lock = threading.Lock()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def configure(self, settings: EncodeSettings) -> None:
        """Encode with these settings from the next frame on."""
        with self._lock:
            self._settings, self._configured = settings, True
            if self._stage is not None:
                self._stage.configure(settings)

    def _begin_with(self, settings: EncodeSettings) -> None:
        # While the process starts, `configure` does not wait for a call of `run` that was made before it.
        with self._lock:
            if not self._configured:
                self._settings = settings

    def _make(self) -> Loop:
        import torch

        from actors.encode import EncodeStage
        from discover_stream.codec.model import load_codec

        torch.set_num_threads(self._threads)  # of the thread that calls, so here and not in the constructor
        self._codec = self._codec or load_codec()
        if self._settings.critic and self._critic is None:
            from discover_stream.semantics.critic import GrounderCritic

            self._critic = GrounderCritic.load()
        learned = None
        if self._settings.learned:
            from discover_stream.painting import learned_codec

            learned = learned_codec()
        ask = asker(self._pool, self._partition)
        log, owner = self._log(), self._owner("encode")
        with self._lock:
            self._stage = EncodeStage(
                log, self._partition, self._codec, ask, self._settings, owner, critic=self._critic, learned=learned
            )
        self._stage.steps = self._steps
        return self._stage


class RouteActor(RunLoopActor):
    """Routing of one partition."""

    def __init__(self, url: str, partition: int) -> None:
        super().__init__(url)
        self._partition = partition

    def _make(self) -> Loop:
        from actors.route import RouteStage

        return RouteStage(self._log(), self._partition, self._owner("route"), self._steps)


class ForwardActor(RunLoopActor):
    """Forwarding of one partition of an edge."""

    def __init__(self, url: str, partition: int, edge: EdgeConfig) -> None:
        super().__init__(url)
        self._partition, self._edge = partition, edge
        self._core: Log | None = None

    def _make(self) -> Loop:
        from actors.forward import ForwardStage

        if self._core is None:
            self._core = open_log(self._edge.core.url)
        owner = self._owner(f"forwarding of {self._edge.site}")
        return ForwardStage(self._log(), self._core, self._edge.site, self._partition, owner)

    def _let_go(self) -> None:
        super()._let_go()
        if self._core is not None:
            self._core.close()
            self._core = None


class RegistryActor:
    """Writes which tasks are on, and what their labels are."""

    def __init__(self, url: str) -> None:
        self._url = url

    def apply(self, tasks: tuple[Task, ...], partitions: int) -> int:
        """Make these the active tasks; how many records were written. Raises InputError."""
        from actors.registry import register

        with open_log(self._url) as log:
            return register(log, tasks, partitions, f"registry, process {os.getpid()}")

    def report(self) -> Report:
        """The figures of this process."""
        return Report(os.getpid(), 1, 0)


class GroundActor:
    """One process of the grounding pool. Stateless: any process may answer any call, twice if need be."""

    def __init__(self, threads: int, grounder: GrounderConfig | None = None) -> None:
        self._threads = threads
        self._config = grounder or GrounderConfig()
        self._grounder: Grounder | None = None
        self._done = 0

    def load(self) -> int:
        """Load the grounder; the process id. Raises InputError for weights that cannot be used."""
        if self._grounder is None:
            import torch

            from discover_stream.semantics.grounder_choice import load_grounder

            torch.set_num_threads(self._threads)
            self._grounder = load_grounder(self._config)
        return os.getpid()

    def ground(self, images: list[Image], label_sets: tuple[LabelSet, ...]) -> list[dict[str, tuple[Region, ...]]]:
        """Regions of each picture, (H, W, 3) uint8 RGB, by task."""
        self.load()
        assert self._grounder is not None
        hit("ground", "after_read")
        found = self._grounder.ground(images, label_sets)
        hit("ground", "after_process")
        self._done += len(images)
        return found

    def report(self) -> Report:
        """The figures of this process."""
        return Report(os.getpid(), 1, self._done)


class DecodeActor:
    """One process of the decode pool."""

    def __init__(self, threads: int, decoding: DecodingConfig, tracing: TracingConfig | None = None) -> None:
        self._threads, self._decoding = threads, decoding
        self._steps = Steps("decoder", tracing)
        self._decoder: JobDecoder | None = None
        self._done = 0

    def decode(self, jobs: list[Job], options: DecodeOptions) -> list[DecodedFrame]:
        """Decode packets, in order. Raises BitstreamError for one that is damaged or of another model."""
        from actors.job_decoder import JobDecoder

        if self._decoder is None:
            self._decoder = JobDecoder(self._load, self._steps, self._threads)
        found = [frame for frames in self._decoder.decode_many(jobs, options) for frame in frames]
        self._done += len(found)
        return found

    def _load(self) -> FrameDecoder:
        """What decodes still mode; packets of stream mode need none of it."""
        import torch

        from discover_stream.sdk import LazyDecoder

        torch.set_num_threads(self._threads)
        return LazyDecoder(decoding=self._decoding).get()

    def report(self) -> Report:
        """The figures of this process."""
        return Report(os.getpid(), 1, self._done, None, self._steps.latency_ms())

    def close(self) -> None:
        """Send what is left of traces; the process is to be ended."""
        self._steps.close()


def asker(grounders: Sequence[Any], first: int) -> AskGround:
    """Asks the grounding pool, one process after the other, starting with number `first`."""
    turns = itertools.cycle(range(len(grounders)))
    for _ in range(first % len(grounders)):
        next(turns)

    def ask(images: list[Image], label_sets: tuple[LabelSet, ...]) -> Callable[[], Sequence[RegionsByTask]]:
        reference = grounders[next(turns)].ground.remote(images, label_sets)

        def answer() -> Sequence[RegionsByTask]:
            try:
                found: list[RegionsByTask] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                # Not the frame's fault until it has happened three times: the caller counts.
                raise RuntimeError(f"grounding failed: {error.cause}") from error
            except ray.exceptions.RayError as error:
                # Passed on as it is, it would look like the death of the process that asked.
                raise RuntimeError(f"grounding failed: its process died ({type(error).__name__})") from error
            return found

        return answer

    return ask
