from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from actors.frame_buffer import BufferRule, FrameBuffer
from actors.ingest import IngestStage
from actors.ingest_source import CameraReader, anchored, resumed, source_identity
from actors.steps import Steps
from discover_stream.config import CameraConfig, TracingConfig
from discover_stream.types import InputError
from discover_stream.video.jpeg import decode_jpeg
from discover_stream.video.sink import open_sink
from discover_stream.video.source import Gap, open_source
from topics.catalogue import FRAMES
from topics.log import Fenced
from topics.messages import EndMessage, FrameMessage, GapMessage, IngestState, decode

START_NS = 1_767_225_600 * 10**9


def camera(source: Path | str, **more) -> CameraConfig:
    return CameraConfig(name="gate", source=str(source), starts_at="2026-01-01T00:00:00Z", **more)


def ingest(log, configured: CameraConfig, **more) -> IngestStage:
    return IngestStage(log, configured, 1, **{"max_lag": 1000, "owner": "test", **more})


def messages(records, log) -> list:
    return [decode(record.value) for record in records(log, FRAMES)]


def frames(records, log) -> list[FrameMessage]:
    return [message for message in messages(records, log) if isinstance(message, FrameMessage)]


def test_every_frame_once_and_the_end(log, records, clip: Path) -> None:
    stage = ingest(log, camera(clip))
    assert stage.run() == "ended"
    *found, end = messages(records, log)
    assert [(m.camera, m.seq, m.capture_ns) for m in found] == [
        ("gate", seq, START_NS + seq * 10**8) for seq in range(20)
    ]
    assert end == EndMessage(camera="gate", next_seq=20, at_ns=START_NS + 19 * 10**8)
    with open_source(clip, camera="gate") as source:
        for frame, message in zip(source, found, strict=True):
            error = np.abs(frame.image.astype(int) - decode_jpeg(message.jpeg))
            assert error.mean() < 2
    assert {record.partition for record in records(log, FRAMES)} == {1}
    assert (stage.report.frames, stage.report.next_seq) == (20, 20)


def test_an_ended_source_is_not_read_again(log, records, clip: Path) -> None:
    ingest(log, camera(clip)).run()
    before = records(log, FRAMES)
    again = ingest(log, camera(clip))
    assert again.run() == "ended"
    assert records(log, FRAMES) == before
    assert again.report.next_seq == 20


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_killed_ingest_goes_on_where_the_log_ends(log, records, clip: Path, monkeypatch, after: int) -> None:
    from actors import ingest_source as module

    whole = module.encode_jpeg
    count = 0

    def dying(image, quality: int) -> bytes:
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return whole(image, quality)

    monkeypatch.setattr(module, "encode_jpeg", dying)
    if after < 20:
        with pytest.raises(Killed):
            ingest(log, camera(clip)).run()
    else:
        # Killed between the last frame and the end.
        monkeypatch.setattr(IngestStage, "_end", lambda *arguments: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            ingest(log, camera(clip)).run()
    monkeypatch.undo()
    assert len(frames(records, log)) == after
    assert ingest(log, camera(clip)).run() == "ended"
    found = frames(records, log)
    assert [m.seq for m in found] == list(range(20))
    assert [m.capture_ns for m in found] == [START_NS + seq * 10**8 for seq in range(20)]
    assert sum(isinstance(m, EndMessage) for m in messages(records, log)) == 1
    assert not any(isinstance(m, GapMessage) for m in messages(records, log))


def test_without_a_start_the_origin_is_kept_over_restarts(log, records, clip: Path, run_until) -> None:
    configured = CameraConfig(name="gate", source=str(clip), realtime=True)
    before_ns = time.time_ns()
    run_until(ingest(log, configured), lambda: len(records(log, FRAMES)) >= 3)
    some = len(frames(records, log))
    assert 3 <= some < 20
    fast = configured.model_copy(update={"realtime": False})
    assert ingest(log, fast).run() == "ended"
    times = [m.capture_ns for m in frames(records, log)]
    assert [later - times[0] for later in times] == [seq * 10**8 for seq in range(20)]
    assert before_ns <= times[0] <= time.time_ns()


def test_an_older_ingest_is_fenced(log, records, clip: Path, run_until) -> None:
    old = ingest(log, camera(clip, realtime=True))
    with pytest.raises(Fenced):
        run_until(old, lambda: len(records(log, FRAMES)) >= 2 and bool(ingest(log, camera(clip)).run() * 0))
    assert [m.seq for m in frames(records, log)] == list(range(20))


def test_another_source_goes_on_with_the_cameras_numbers_and_times(log, records, clip: Path) -> None:
    ingest(log, camera(clip)).run()
    other = camera(clip, fps=2.5)
    assert ingest(log, other).run() == "ended"
    found = frames(records, log)
    assert [m.seq for m in found] == list(range(25))
    times = [m.capture_ns for m in found]
    assert times == sorted(set(times))
    ends = [m.next_seq for m in messages(records, log) if isinstance(m, EndMessage)]
    assert ends == [20, 25]


def test_waits_for_encoding_where_nothing_may_be_lost(log, records, clip: Path, run_until) -> None:
    stage = ingest(log, camera(clip), max_lag=4)
    run_until(stage, lambda: len(records(log, FRAMES)) >= 4 and bool(time.sleep(0.3) or True))
    assert len(records(log, FRAMES)) == 4
    encoder = log.stage("encode", 1, "test")
    with encoder.transaction() as transaction:
        transaction.commit_offset(FRAMES, 1, 3)
    run_until(ingest(log, camera(clip), max_lag=4), lambda: len(records(log, FRAMES)) >= 7)
    assert [m.seq for m in frames(records, log)] == list(range(7))


def test_drops_are_counted_and_recorded_as_a_gap(log, records, clip: Path, monkeypatch) -> None:
    encoder = log.stage("encode", 1, "test")
    stage = ingest(log, camera(clip, when_behind="drop-latest"), max_lag=4)
    admitted = IngestStage._admission
    calls = 0

    def room(self, seq: int) -> str:
        nonlocal calls
        calls += 1
        if calls == 11:  # encoding has caught up
            with encoder.transaction() as transaction:
                transaction.commit_offset(FRAMES, 1, 4)
        return admitted(self, seq)

    monkeypatch.setattr(IngestStage, "_admission", room)
    assert stage.run() == "ended"
    found = messages(records, log)
    assert [m.seq for m in found if isinstance(m, FrameMessage)] == [0, 1, 2, 3, 10, 11, 12]
    gaps = [m for m in found if isinstance(m, GapMessage)]
    assert [(gap.frames, gap.next_seq, gap.reason) for gap in gaps] == [
        (6, 10, "encoding fell behind"),
        (7, 13, "encoding fell behind"),
    ]
    assert gaps[0].from_ns == START_NS + 4 * 10**8
    assert gaps[0].to_ns == START_NS + 9 * 10**8
    assert stage.report.dropped == (("encoding fell behind", 13),)
    assert isinstance(found[-1], EndMessage)


def test_the_newest_frames_outlive_an_encoder_that_is_stuck(log, records, clip: Path, run_until) -> None:
    """While encoding stands still, what waits stays fresh; none is left out without having been counted."""
    encoder = log.stage("encode", 1, "test")
    stage = ingest(log, camera(clip, when_behind="drop-oldest"), max_lag=4)

    def goes_on() -> bool:
        if dict(stage.report.dropped).get("encoding fell behind", 0) >= 11:
            with encoder.transaction() as transaction:
                transaction.commit_offset(FRAMES, 1, log.bounds(FRAMES, 1).end)
        return len(frames(records, log)) >= 8

    run_until(stage, goes_on)
    found = messages(records, log)
    seqs = [m.seq for m in found if isinstance(m, FrameMessage)]
    assert seqs[:4] == [0, 1, 2, 3]
    assert seqs[-1] >= 18, "the newest are there"
    (gap,) = [m for m in found if isinstance(m, GapMessage)]
    assert (gap.reason, gap.next_seq) == ("encoding fell behind", seqs[4])
    assert gap.frames == seqs[4] - 4 == dict(stage.report.dropped)["encoding fell behind"]


def test_an_adaptive_camera_thins_out_evenly_and_counts_what_it_left_out(log, records, clip: Path) -> None:
    log.stage("encode", 1, "test")
    stage = ingest(log, camera(clip, when_behind="adaptive"), max_lag=8)
    assert stage.run() == "ended"
    seqs = [m.seq for m in frames(records, log)]
    assert seqs[:5] == [0, 1, 2, 3, 4]
    assert len(seqs) < 20
    assert all(after - before <= 9 for before, after in itertools.pairwise(seqs))
    dropped = dict(stage.report.dropped)
    assert dropped["thinned out while encoding was behind"] > 0
    assert sum(dropped.values()) == 20 - len(seqs)
    gaps = [m for m in messages(records, log) if isinstance(m, GapMessage)]
    assert sum(gap.frames for gap in gaps) == 20 - len(seqs)


def test_a_frozen_camera_is_told(log, tmp_path: Path) -> None:
    from discover_stream.video.sink import open_sink

    still = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with open_sink(tmp_path / "frozen.mkv", fps=1) as sink:
        for _ in range(30):
            sink.write(still)
    stage = ingest(log, camera(tmp_path / "frozen.mkv"))
    assert stage.run() == "ended"
    assert stage.report.picture.kind == "frozen"


def test_a_frame_too_large_for_a_message_is_a_gap(log, records, clip: Path, monkeypatch) -> None:
    from actors import ingest_source as module

    whole = module.encode_jpeg
    sizes = iter([0, 5 * 2**20] + [0] * 18)
    monkeypatch.setattr(module, "encode_jpeg", lambda image, quality: whole(image, quality) + bytes(next(sizes)))
    assert ingest(log, camera(clip)).run() == "ended"
    assert [m.seq for m in frames(records, log)] == [0, *range(2, 20)]
    (gap,) = [m for m in messages(records, log) if isinstance(m, GapMessage)]
    assert (gap.frames, gap.next_seq) == (1, 2)
    assert "larger than a message" in gap.reason


def test_a_truncated_film_says_so_in_its_end(log, records, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    with open_sink(clip, fps=10) as sink:
        for seq in range(20):
            sink.write(np.full((48, 64, 3), 10 * seq, np.uint8))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    stage = ingest(log, camera(str(cut)))
    assert stage.run() == "ended"
    end = messages(records, log)[-1]
    assert isinstance(end, EndMessage)
    assert 0 < end.next_seq < 20
    assert end.problem is not None
    assert "cut.mkv" in end.problem
    assert stage.report.problem == end.problem


def test_a_folder_resumes_too(log, records, tmp_path: Path, run_until) -> None:
    folder = tmp_path / "pictures"
    with open_sink(folder, fps=10) as sink:
        for seq in range(12):
            sink.write(np.full((48, 64, 3), 20 * seq, np.uint8))
    run_until(ingest(log, camera(str(folder), realtime=True, fps=10)), lambda: len(records(log, FRAMES)) >= 3)
    assert ingest(log, camera(str(folder), fps=10)).run() == "ended"
    means = [int(decode_jpeg(m.jpeg).mean().round()) for m in frames(records, log)]
    assert means == [20 * seq for seq in range(12)]


def test_a_missing_file_is_named(log, records, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4"):
        ingest(log, camera(str(tmp_path / "none.mp4"))).run()
    assert records(log, FRAMES) == []


def test_a_stop_ends_a_wait_at_once(log, records) -> None:
    stage = ingest(log, camera("sim://road?seed=5&width=64&height=48&fps=0.01", realtime=True))
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(stage.run()))
    thread.start()
    while not records(log, FRAMES):
        time.sleep(0.01)
    stage.stop()
    thread.join()
    assert result == ["stopped"]
    assert not any(isinstance(m, EndMessage) for m in messages(records, log))


def served(folder: Path, name: str):
    """A web server for one folder on a port of its own."""
    import functools
    import http.server

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *arguments: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/{name}"


def test_a_film_behind_an_address_is_read_once_over_restarts(log, records, tmp_path: Path, run_until) -> None:
    with open_sink(tmp_path / "film.mp4", fps=10) as sink:
        for seq in range(15):
            sink.write(np.full((48, 64, 3), 15 * seq, np.uint8))
    server, address = served(tmp_path, "film.mp4")
    try:
        run_until(ingest(log, camera(address, realtime=True)), lambda: len(records(log, FRAMES)) >= 4)
        assert ingest(log, camera(address)).run() == "ended"
    finally:
        server.shutdown()
        server.server_close()
    found = frames(records, log)
    assert [m.seq for m in found] == list(range(15))
    assert [m.capture_ns - START_NS for m in found] == pytest.approx([seq * 10**8 for seq in range(15)], abs=10**6)


def broadcast(film: bytes):
    """A web server that sends the same piece of live film to everyone who comes, without telling how long it is."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(film)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/live.ts"


def transport_stream(path: Path) -> bytes:
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seq in range(15):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 15 * seq, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_live_stream_reconnects_and_tells_its_gaps(log, records, tmp_path: Path, run_until) -> None:
    server, address = broadcast(transport_stream(tmp_path / "live.ts"))
    live = CameraConfig(name="gate", source=address)
    try:
        first = ingest(log, live)
        run_until(first, lambda: first.report.frames >= 20)  # more than one connection gives
        between_ns = time.time_ns()
        second = ingest(log, live)
        run_until(second, lambda: second.report.frames >= 3)
    finally:
        server.shutdown()
        server.server_close()
    found = messages(records, log)
    coded = [m for m in found if isinstance(m, FrameMessage)]
    assert [m.seq for m in coded] == list(range(len(coded)))
    times = [m.capture_ns for m in coded]
    assert times == sorted(set(times))
    gaps = [m for m in found if isinstance(m, GapMessage)]
    assert len(gaps) >= 2
    assert "attempts to connect" in gaps[0].reason
    assert gaps[0].next_seq > 0
    (restart,) = [gap for gap in gaps if gap.reason == "ingest was not running"]
    assert restart.from_ns == coded[restart.next_seq - 1].capture_ns
    assert restart.to_ns == coded[restart.next_seq].capture_ns >= between_ns


def test_positions_belong_to_a_source(clip: Path) -> None:
    state = IngestState(
        next_seq=9, last_capture_ns=500, source=source_identity(camera(clip)), origin_ns=100, ended=True
    )
    assert resumed(state, camera(clip), 1000) is state
    other = resumed(state, camera(clip, fps=2), START_NS)
    assert (other.next_seq, other.base_seq, other.ended) == (9, 9, False)
    assert other.origin_ns == START_NS
    late = msgspec.structs.replace(state, last_capture_ns=START_NS + 5)
    assert resumed(late, camera(clip, fps=2), 0).origin_ns == START_NS + 6


def test_a_stream_that_restarted_its_clock_is_tied_to_the_present() -> None:
    state = IngestState(next_seq=9, last_capture_ns=900, origin_ns=100)
    assert anchored(state, 850, 5000, False) == (100, None)  # a file goes on
    origin, hole = anchored(state, 20, 5000, False)  # its times are taken: it began again
    assert origin == 4980
    assert hole is not None
    assert (hole.from_ns, hole.to_ns) == (900, 5000)
    origin, hole = anchored(state, 20, 100, True)  # and never goes back, whatever the clock says
    assert origin + 20 == 901
    assert anchored(IngestState(origin_ns=7), 0, 5000, True) == (7, None)


def test_contact_lost_before_the_first_frame_lies_after_what_was_recorded() -> None:
    buffer = FrameBuffer(BufferRule(2**20, waits=False))
    state = IngestState(next_seq=9, last_capture_ns=START_NS, origin_ns=START_NS - 10**9)
    reader = CameraReader(CameraConfig(name="gate", source="rtsp://gate.example/1"), state, buffer, "ingest-gate-1")
    reader._lost_contact(Gap("gate", 8, 0, 10**9, 2, "the sender closed the stream"))
    reader._anchor(2 * 10**9)
    buffer.end()
    portion = buffer.take()
    assert portion is not None
    away, lost = portion.holes
    assert (away.from_ns, away.reason) == (START_NS, "ingest was not running")
    assert START_NS < lost.from_ns < lost.to_ns < away.to_ns
    assert lost.to_ns - lost.from_ns == 10**9


def test_recorded_frames_are_complete_jpeg_files(log, records, clip: Path, tmp_path: Path) -> None:
    ingest(log, camera(clip)).run()
    path = tmp_path / "frame.jpg"
    path.write_bytes(frames(records, log)[3].jpeg)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (64, 48)
    assert frame.format.name == "yuvj444p"
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_log_does_not_learn_a_cameras_password() -> None:
    def identity(source: str, **more) -> str:
        return source_identity(CameraConfig(name="gate", source=source, **more))

    known = identity("rtsp://me:hunter2@gate.example:554/1?a=b", fps=5)
    assert known == "rtsp://gate.example:554/1?a=b at 5 fps"
    assert known == identity("rtsp://me:changed@gate.example:554/1?a=b", fps=5)
    assert identity("films/a@b/c.mp4") == "films/a@b/c.mp4"


def test_a_frames_trace_begins_when_the_camera_captured_it(log, records, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    steps = Steps("ingest", TracingConfig(exporter="file", path=path))
    live = CameraConfig(name="gate", source="sim://road?seed=1&width=96&height=64&fps=5&seconds=1", realtime=True)
    assert ingest(log, live, steps=steps).run() == "ended"
    roots = [span for span in map(json.loads, path.read_text().splitlines()) if span["name"] == "frame"]
    captured = {frame.seq: frame.capture_ns for frame in frames(records, log)}
    assert len(roots) == len(captured) == 5
    early = 0
    for root in roots:
        mine = captured[root["attributes"]["discover.seq"]]
        assert root["attributes"]["discover.capture_ns"] == mine
        began = datetime.fromisoformat(root["start_time"]).timestamp()
        early += abs(began - mine / 1e9) < 1e-3  # others were read a moment before the clock said so
    assert early >= 1
