"""Where the demo's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from actors.progress import Progress
from discover_stream.app.demo_report import Timing


@dataclass
class Clock:
    """Wall time of the demo's steps, and processor time of the stages' processes."""

    steps: list[Timing] = field(default_factory=list)
    _spent: dict[tuple[str, int], float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside, unless it fails."""
        start = time.perf_counter()
        yield
        self.steps.append(Timing(name, time.perf_counter() - start))

    def observe(self, progress: Progress) -> None:
        """Read the processor time of every stage's process."""
        for stage in progress.stages:
            if stage.pid is None:
                continue
            try:
                times = psutil.Process(stage.pid).cpu_times()
            except psutil.Error:
                continue
            self._spent[stage.kind, stage.pid] = times.user + times.system

    def busy(self) -> tuple[Timing, ...]:
        """Processor time of each kind of stage, from the start of its processes, as of the last look."""
        kinds: dict[str, list[float]] = {}
        for (kind, _), seconds in self._spent.items():
            kinds.setdefault(kind, []).append(seconds)
        return tuple(Timing(kind, sum(spent), _processes(len(spent))) for kind, spent in kinds.items())


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
