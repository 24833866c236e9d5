"""The whole system on this machine: local Ray, the embedded log, one process per stage.

    from discover_stream.config import load_config
    from actors.system import System

    with System(load_config(path)) as system:       # starts everything, stops it cleanly at the end
        while not system.wait_idle(timeout_s=0.5):  # sources are finite and everything has been routed
            show(system.progress())
        frames = system.decode([DecodeJob(camera, data) for ...])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.progress import Progress

if TYPE_CHECKING:
    from discover_stream.config import Config
    from discover_stream.decoding import DecodedFrame
    from discover_stream.types import Profile


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


class System:
    """Ingest, ground pool, track+encode, route, registry and decode pool, started and watched."""

    def __init__(self, config: Config, *, on_event: Callable[[str], None] | None = None) -> None:
        """Prepare; nothing runs yet. `on_event` gets one line per start, death and restart of a stage,
        and per problem of a source; it is called from another thread.

        Raises InputError for tasks that cannot be loaded or whose keys collide.
        """

    def start(self) -> None:
        """Start Ray and every stage; returns once all were asked to start (frames flow soon after).

        Raises InputError or LogError, in one line, where the log or a task cannot be used.
        """

    def progress(self) -> Progress:
        """How far everything is. Cheap: a few look-ups in the log and what the stages last reported."""

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until every source has ended and everything ingested has been routed; False at the time-out.

        Raises what `check` raises.
        """

    def check(self) -> None:
        """Raise what made the system give up (LogError when another system took over its stages), if anything."""

    def decode(
        self, jobs: Iterable[DecodeJob], options: DecodeOptions | None = None
    ) -> Iterator[DecodedFrame]:
        """Decode packets on the decode pool, in order; its processes are made at the first call.

        Works between `start` and `stop`, also once the system is idle. Raises BitstreamError for a packet
        that is damaged or was made with another model.
        """

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let every stage finish the transaction in hand, then stop it and Ray. May be called twice."""

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
