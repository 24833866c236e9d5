import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from discover_stream.types import InputError
from discover_stream.video.live import LivePolicy, pause_s, without_password, without_secrets
from discover_stream.video.sink import open_sink
from discover_stream.video.source import Gap, open_source

QUICK = LivePolicy(open_timeout_s=5.0, read_timeout_s=5.0, first_pause_s=0.02, longest_pause_s=0.1, give_up_s=1.5)


def transport_stream(path, level, count=12):
    """`count` frames of MPEG-TS at 10 fps in one grey level, as bytes."""
    import av

    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(count):
            image = np.full((48, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def server():
    """An HTTP server; `replies` holds one answer per connection: bytes, or None for 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            reply = self.server.replies.pop(0) if self.server.replies else None
            if reply is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t" if self.path.endswith(".ts") else "video/mp4")
            if not self.path.endswith(".ts"):
                self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.replies = []
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_reconnects_numbers_on_and_reports_the_gap(server, tmp_path):
    server.replies = [
        transport_stream(tmp_path / "a.ts", 40), None, None, transport_stream(tmp_path / "b.ts", 200),
    ]  # fmt: skip
    reported: list[Gap] = []
    uri = f"http://user:secret@127.0.0.1:{server.server_port}/live.ts"
    source = open_source(uri, camera="gate", on_gap=reported.append, policy=QUICK, start_ns=1_000)
    frames = list(source)
    assert (source.width, source.height) == (64, 48)
    assert [f.seq for f in frames] == list(range(24))
    assert [bool(f.image.mean() > 120) for f in frames] == [False] * 12 + [True] * 12
    times = [f.capture_ns for f in frames]
    assert times == sorted(set(times))
    assert times[0] >= 1_000
    assert len(reported) == 1
    assert source.gaps == tuple(reported)
    gap = reported[0]
    assert (gap.camera, gap.after_seq, gap.attempts) == ("gate", 11, 3)
    assert times[11] <= gap.begin_ns <= gap.end_ns <= times[12]
    assert source.problem is not None
    assert "gave up" in source.problem
    assert "secret" not in source.problem


def test_subsampling_goes_on_after_a_gap(server, tmp_path):
    data = transport_stream(tmp_path / "a.ts", 40)
    server.replies = [data, data]
    uri = f"http://127.0.0.1:{server.server_port}/live.ts"
    source = open_source(uri, camera="c", fps=5, policy=QUICK, start_seq=100)
    frames = list(source)
    assert [f.seq for f in frames] == list(range(100, 100 + len(frames)))
    assert 11 <= len(frames) <= 13
    assert len(source.gaps) == 1


def test_closing_ends_the_wait_for_a_camera_that_is_gone(server, tmp_path):
    server.replies = [transport_stream(tmp_path / "a.ts", 40)]
    patient = LivePolicy(first_pause_s=60.0, longest_pause_s=60.0)
    uri = f"http://127.0.0.1:{server.server_port}/live.ts"
    source = open_source(uri, camera="c", policy=patient)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(source))
    reader.start()
    while len(seen) < 12:
        reader.join(0.02)
    source.close()
    reader.join(20)
    assert not reader.is_alive()
    assert len(seen) == 12


def test_a_film_behind_an_address_ends_by_itself(server, tmp_path):
    with open_sink(tmp_path / "clip.mp4", fps=10) as sink:
        for _ in range(7):
            sink.write(np.zeros((32, 32, 3), np.uint8))
    server.replies = [(tmp_path / "clip.mp4").read_bytes()] * 3
    source = open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4", camera="c", policy=QUICK)
    assert len(list(source)) == 7
    assert source.problem is None
    assert source.gaps == ()


def test_a_silent_camera_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(InputError, match="cannot be opened"):
            open_source(f"rtsp://127.0.0.1:{port}/live", camera="c", policy=LivePolicy(open_timeout_s=0.4))


def test_pauses_double_up_to_a_limit():
    policy = LivePolicy(first_pause_s=0.5, longest_pause_s=6.0)
    assert [pause_s(attempt, policy) for attempt in range(6)] == [0.5, 1, 2, 4, 6, 6]
    assert pause_s(10_000, policy) == 6


def test_addresses_are_shown_without_passwords():
    assert without_password("rtsp://me:p@ss@host:554/a@b") == "rtsp://host:554/a@b"
    assert without_password("http://host/x") == "http://host/x"


def test_what_stands_behind_a_question_mark_is_not_in_messages() -> None:
    assert without_secrets("rtsp://user:secret@camera/live?password=secret") == "rtsp://camera/live?…"
    assert without_secrets("rtsp://camera/live") == "rtsp://camera/live"
