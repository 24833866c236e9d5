"""Steps of frames: durations, and traces that several processes write into without a word between them."""

from __future__ import annotations

import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from actors.steps import Steps
from actors.tracing import root_begin_ns
from discover_stream.config import TracingConfig, parse_config
from discover_stream.types import InputError


def test_figures_are_of_the_latest_frames() -> None:
    steps = Steps()
    assert steps.latency_ms() == {}
    for _ in range(300):
        steps.done("old", "gate", 0, time.time_ns() - 10**9)
    for seq in range(256):
        steps.done("old", "gate", seq, time.time_ns() - 5 * 10**6)
    steps.done("shared", "gate", 0, time.time_ns() - 40 * 10**6, shared_by=4)
    found = steps.latency_ms()
    assert 5 <= found["old p50"] < 500
    assert 5 <= found["old mean"] < 500, "a second long ago is forgotten"
    assert found["old p95"] >= found["old p50"]
    assert 10 <= found["shared mean"] < 500


def test_processes_write_one_trace_of_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    config = TracingConfig(exporter="file", path=path, every=2)
    ingest, decoder = Steps("ingest", config), Steps("decoder", config)
    now_ns = time.time_ns()
    for seq in range(4):
        ingest.done("ingest", "gate", seq, now_ns)
        decoder.done("picture", "gate", seq, now_ns)
    decoder.done("picture", "yard", 0, now_ns)
    ingest.close()
    decoder.close()
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    here = [(s["attributes"]["discover.camera"], s["attributes"]["discover.seq"], s["name"]) for s in spans]
    assert sorted(here) == sorted(
        [("gate", seq, name) for seq in (0, 2) for name in ("frame", "ingest", "picture")] + [("yard", 0, "picture")]
    )
    traces = {(camera, seq): set() for camera, seq, _ in here}
    for (camera, seq, _), span in zip(here, spans, strict=True):
        traces[camera, seq].add(span["context"]["trace_id"])
    assert all(len(ids) == 1 for ids in traces.values())
    assert len(set.union(*traces.values())) == 3
    (root,) = (s for s in spans if s["name"] == "frame" and s["attributes"]["discover.seq"] == 2)
    assert root["parent_id"] is None
    children = [s for s in spans if s["context"]["trace_id"] == root["context"]["trace_id"] and s is not root]
    assert {s["parent_id"] for s in children} == {root["context"]["span_id"]}
    assert {s["resource"]["attributes"]["service.name"] for s in children} == {"discover ingest", "discover decoder"}


def test_spans_go_to_a_collector() -> None:
    bodies: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        steps = Steps("route", TracingConfig(exporter="otlp", endpoint=endpoint))
        steps.done("route", "gate", 7, time.time_ns())
        steps.close()
        server.shutdown()
        thread.join()
    (place, body), *_ = bodies
    assert place == "/v1/traces"
    assert b"discover.camera" in body


def test_tracing_to_a_file_needs_one() -> None:
    with pytest.raises(InputError, match="needs a 'path'; add it"):
        parse_config("cameras: [{name: a, source: b}]\ntracing: {exporter: file}", "x.yaml")


def test_a_root_span_begins_with_the_capture_of_a_frame_that_was_captured_just_now() -> None:
    now_ns = 1_800_000_000 * 10**9
    assert root_begin_ns(now_ns - 40 * 10**6, now_ns) == now_ns - 40 * 10**6
    assert root_begin_ns(now_ns - 59 * 10**9, now_ns) == now_ns - 59 * 10**9, "it waited while the log was away"
    assert root_begin_ns(now_ns - 61 * 10**9, now_ns) == now_ns, "a recording"
    assert root_begin_ns(now_ns + 1, now_ns) == now_ns, "a clock that is ahead"
    assert root_begin_ns(None, now_ns) == now_ns
