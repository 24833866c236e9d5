"""A real HTTP server that speaks the chat-completions interface, and says what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

KEY = "sk-test-0123456789abcdef"
KINDS = (
    "car", "van", "delivery van", "lorry", "bus", "tram", "bicycle", "motorcycle", "scooter", "pedestrian", "cyclist",
    "taxi", "ambulance", "tow truck", "trailer", "minibus", "cargo bike", "wheelchair", "pram", "traffic cone",
)  # fmt: skip
COLOURS = ("red", "white", "black", "blue", "green", "yellow", "grey", "silver")
GOOD_LABELS = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)[:130]


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP. `drip_s` pauses between bytes, `delay_s` before all; `cut` promises more than comes."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    drip_s: float = 0.0
    cut: bool = False


def saying(text: str | None, **more: Any) -> Reply:
    """A chat completion whose message is `text`."""
    delay_s = more.pop("delay_s", 0.0)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    choice |= more.pop("choice", {})
    body = {
        "id": "c-1", "object": "chat.completion", "created": 1, "model": "test-model-0711", "choices": [choice],
        "usage": {"prompt_tokens": 400, "completion_tokens": 600, "total_tokens": 1000}, **more,
    }  # fmt: skip
    return Reply(body=json.dumps({k: v for k, v in body.items() if v is not None}).encode(), delay_s=delay_s)


def labelled(labels: Sequence[object] = GOOD_LABELS, **more: Any) -> Reply:
    """A chat completion with these labels, as it was asked for."""
    return saying(json.dumps({"labels": list(labels)}), **more)


def refusing(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as endpoints report it."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return Reply(status, body, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


Answer = Reply | Callable[[dict[str, Any]], Reply]


@dataclass
class ChatServer:
    """Answers the n-th request with the n-th of `answers`, later ones with the last. Use it in a `with` block."""

    answers: Sequence[Answer]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        chat = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(chat.requests)
                    chat.requests.append(asked)
                    chat.headers.append({name.lower(): value for name, value in self.headers.items()})
                    chat.times.append(time.monotonic())
                    chat.paths.append(self.path)
                answer = chat.answers[min(number, len(chat.answers) - 1)]
                self._send(answer(asked) if callable(answer) else answer)

            def _send(self, reply: Reply) -> None:
                time.sleep(reply.delay_s)
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(reply.body) + reply.cut))
                    for header in reply.headers:
                        self.send_header(*header)
                    self.end_headers()
                    step = 1 if reply.drip_s else max(1, len(reply.body))
                    for start in range(0, len(reply.body), step):
                        self.wfile.write(reply.body[start : start + step])
                        self.wfile.flush()
                        time.sleep(reply.drip_s)
                    self.close_connection = self.close_connection or reply.cut
                except OSError:
                    self.close_connection = True  # the client has given up

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
