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
    _first: dict[tuple[str, int], float] = field(default_factory=dict)
    _last: dict[tuple[str, int], float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside, unless it fails."""
        start = time.perf_counter()
        yield
        self.steps.append(Timing(name, time.perf_counter() - start))

    def observe(self, progress: Progress) -> None:
        """Read the processor time of every stage's process; the first reading of a process is its zero."""
        for stage in progress.stages:
            if stage.pid is None:
                continue
            try:
                times = psutil.Process(stage.pid).cpu_times()
            except psutil.Error:
                continue
            spent = times.user + times.system
            self._first.setdefault((stage.kind, stage.pid), spent)
            self._last[stage.kind, stage.pid] = spent

    def busy(self, frames: int) -> tuple[Timing, ...]:
        """Processor time of each kind of stage since its processes were first seen, for `frames` frames."""
        kinds: dict[str, list[float]] = {}
        for (kind, pid), last in self._last.items():
            kinds.setdefault(kind, []).append(last - self._first[kind, pid])
        return tuple(
            Timing(kind, sum(spent), f"{_processes(len(spent))}, {1000 * sum(spent) / max(1, frames):.0f} ms/frame")
            for kind, spent in kinds.items()
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
