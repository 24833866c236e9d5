"""What each frame goes through in a process, step by step: how long it takes, and a trace where that is wanted.

    began_ns = time.time_ns()
    ...
    steps.done("encode", camera, seq, began_ns)

A stage calls this for every frame, so it must cost microseconds: durations are kept in short rows, and spans are made
only while tracing is on.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from discover_stream.config import TracingConfig

if TYPE_CHECKING:
    from actors.tracing import FrameTracer

_ROW = 256
"""Durations of a step that figures are made of: the latest ones."""


class Steps:
    """Of one process. For one thread; `latency_ms` for any.

    Args:
        service: names the process in traces.
        tracing: whether, and where to, frames are traced.
    """

    def __init__(self, service: str = "", tracing: TracingConfig | None = None) -> None:
        self._rows: dict[str, deque[float]] = {}
        self._tracer: FrameTracer | None = None
        if tracing is not None and tracing.exporter != "off":
            from actors.tracing import FrameTracer

            self._tracer = FrameTracer(service, tracing)

    def done(
        self, step: str, camera: str, seq: int, began_ns: int, *, shared_by: int = 1, captured_ns: int | None = None
    ) -> None:
        """A step of a frame has ended now; it began at a time of the wall clock, ns since the epoch.

        `shared_by` frames were in it together: each gets its part of the duration. `captured_ns` is the frame's capture
        time, which the step that begins its trace knows.
        """
        now_ns = time.time_ns()
        row = self._rows.get(step)
        if row is None:
            row = self._rows[step] = deque(maxlen=_ROW)
        row.append((now_ns - began_ns) / 1e6 / shared_by)
        if self._tracer is not None:
            self._tracer.span(step, camera, seq, began_ns, now_ns, captured_ns)

    def latency_ms(self) -> dict[str, float]:
        """Milliseconds by step and figure: ``encode p50``, ``encode p95``, ``encode mean``, of the latest frames."""
        found = {}
        for step, row in list(self._rows.items()):
            ordered = sorted(row)
            if ordered:
                found[f"{step} p50"] = round(ordered[len(ordered) // 2], 3)
                found[f"{step} p95"] = round(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], 3)
                found[f"{step} mean"] = round(sum(ordered) / len(ordered), 3)
        return found

    def close(self) -> None:
        """Write what is left of traces; nothing is traced any more. May be called twice."""
        if self._tracer is not None:
            self._tracer.close()
            self._tracer = None
