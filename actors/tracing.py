"""OpenTelemetry traces of frames, from capture to picture, over all processes that have a part in them.

Nothing travels with the packets: a frame's trace id follows from its camera and number, so every process, also a
subscriber on another machine, finds the same trace. The root span, which starts with the frame's capture, is made by
ingest; its id follows from the same two.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, set_span_in_context

from discover_stream.config import TracingConfig

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

ROOT = "ingest"
"""The step that makes a frame's root span."""
OLDEST_S = 60.0
"""A root span begins with its frame's capture where that was at most so long before the frame came: what is told of a
recording, whose frames were captured at some other time, begins when it is read."""
_SEND_EVERY_S = 1.0


def trace_id(camera: str, seq: int) -> int:
    """The id of a frame's trace, 128 bits and never 0."""
    return int.from_bytes(blake2b(f"{camera}/{seq}".encode(), digest_size=16, person=b"discover").digest(), "big") or 1


def root_id(camera: str, seq: int) -> int:
    """The id of its root span, 64 bits and never 0."""
    return trace_id(camera, seq) & (2**64 - 1) or 1


def root_begin_ns(captured_ns: int | None, began_ns: int) -> int:
    """When a frame's root span begins, ns since the epoch: with its capture, or where a camera's clock is ahead or
    far behind, or a recording is played, when ingest has it. `captured_ns` may be unknown."""
    if captured_ns is None or not 0 <= began_ns - captured_ns <= OLDEST_S * 1e9:
        return began_ns
    return captured_ns


class _Ids(IdGenerator):
    """Ids of root spans as they are set, all others by chance."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.root: tuple[int, int] | None = None

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self.root is None else self.root[1]

    def generate_trace_id(self) -> int:
        return self._random.generate_trace_id() if self.root is None else self.root[0]


class FrameTracer:
    """Makes spans of frames' steps. For one thread.

    Args:
        service: names the process.
        config: where spans go, and which frames are traced.
    """

    def __init__(self, service: str, config: TracingConfig) -> None:
        self._every, self._ids = config.every, _Ids()
        resource = Resource.create({"service.name": f"discover {service}".strip(), "process.pid": os.getpid()})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=True)
        exporter = exporter_of(config)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=round(1000 * _SEND_EVERY_S))
            if config.exporter == "otlp"
            else SimpleSpanProcessor(exporter)  # a process that is killed loses none of its lines
        )
        self._tracer: Tracer = self._provider.get_tracer("discover_stream")

    def span(
        self, step: str, camera: str, seq: int, began_ns: int, ended_ns: int, captured_ns: int | None = None
    ) -> None:
        """A step of a frame, as a part of the frame's trace; times in ns since the epoch."""
        if seq % self._every:
            return
        attributes: dict[str, str | int] = {"discover.camera": camera, "discover.seq": seq}
        if step == ROOT:
            self._ids.root = trace_id(camera, seq), root_id(camera, seq)
            first_ns = root_begin_ns(captured_ns, began_ns)
            known = attributes if captured_ns is None else {**attributes, "discover.capture_ns": captured_ns}
            span = self._tracer.start_span("frame", Context(), start_time=first_ns, attributes=known)
            self._ids.root = None
            span.end(ended_ns)
        parent = SpanContext(trace_id(camera, seq), root_id(camera, seq), True, TraceFlags(TraceFlags.SAMPLED))
        context = set_span_in_context(NonRecordingSpan(parent), Context())
        self._tracer.start_span(step, context, start_time=began_ns, attributes=attributes).end(ended_ns)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def exporter_of(config: TracingConfig) -> SpanExporter:
    """What takes the spans."""
    if config.exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=config.endpoint)
    if config.exporter == "file":
        assert config.path is not None
        return ConsoleSpanExporter(out=_appending(config.path), formatter=_line)
    return ConsoleSpanExporter(formatter=_line)


def _appending(path: Path) -> Any:
    """A file that several processes append whole lines to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", buffering=1, encoding="utf-8")


def _line(span: ReadableSpan) -> str:
    text: str = span.to_json(indent=None)
    return text + "\n"
