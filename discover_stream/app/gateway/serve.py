"""`discover gateway`, and the gateway of `discover run --http`: an HTTP server for a log."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from discover_stream.app.gateway.application import create_app
from discover_stream.app.gateway.context import Gateway, is_loopback
from discover_stream.app.gateway.decoders import Decoder, LocalDecoder
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import Config, load_config
from discover_stream.sdk import open_existing
from discover_stream.types import InputError
from topics.log import Log

_STARTS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes any that is free."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As a browser takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """HOST:PORT, [IPv6]:PORT, or a port of this machine alone. Raises InputError."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise InputError(f"--http {text!r}: use HOST:PORT, for instance 127.0.0.1:8000")
    return Address(host, int(port))


def state_path(config: Config) -> Path:
    """Where tokens and the record are kept."""
    if config.gateway.state is not None:
        return config.gateway.state
    folder = config.log.path.parent if config.log.path is not None else Path("out")
    return folder / "gateway.db"


def open_state(config: Config, address: Address) -> GatewayState:
    """Tokens and record, after checking that whoever reaches the address is known or local.

    Raises InputError for an address that others reach while there is no token.
    """
    state = GatewayState(state_path(config))
    if state.open and not is_loopback(address.host):
        state.close()
        raise InputError(
            f"--http {address.host}:{address.port}: others reach this address, and no token was made yet; make one "
            "first: discover token make NAME --role admin, or listen on 127.0.0.1"
        )
    return state


class Server:
    """uvicorn in a thread, from `start` to `stop`."""

    def __init__(self, gateway: Gateway, address: Address) -> None:
        self._gateway, self._wanted = gateway, address
        self.address = address
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns once requests are answered. Raises InputError for an address that cannot be had."""
        listening = self._listening()
        port = int(listening.getsockname()[1])
        self.address = Address(self._wanted.host, port)
        config = uvicorn.Config(
            create_app(self._gateway),
            log_level="warning",
            access_log=False,  # addresses of replays carry keys
            timeout_graceful_shutdown=5,
            server_header=False,
            proxy_headers=False,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: server.run(sockets=[listening]), name="http", daemon=True)
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_STARTS_WITHIN_S / 0.05)):
            if server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.05)
        raise InputError(f"--http {self.address.host}:{port}: the server did not start; look at what it printed")

    @property
    def open(self) -> bool:
        """Whether no token was ever made."""
        return self._gateway.state.open

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Answer what is under way, then serve no more."""
        if self._server is not None and self._thread is not None:
            self._gateway.stop_soon()
            self._server.should_exit = True
            self._thread.join(timeout=20)

    def _listening(self) -> socket.socket:
        host, port = self._wanted.host, self._wanted.port
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            found = socket.socket(family, socket.SOCK_STREAM)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
            found.listen(2048)
        except OSError as error:
            raise InputError(
                f"--http {host}:{port}: cannot listen there ({error.strerror or error}); choose another port or address"
            ) from error
        return found


@contextmanager
def serving(config: Config, log: Log, decoder: Decoder, address: Address) -> Iterator[Server]:
    """A gateway that answers for as long as the block lasts, and closes the decoder then. Raises InputError."""
    state = open_state(config, address)
    server = Server(Gateway(config, log, state, decoder), address)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        decoder.close()
        with contextlib.suppress(Exception):
            state.close()


def run_gateway(path: Path | None, address: str, tell: Callable[[str], None]) -> None:
    """Serve the log of a configuration until Ctrl-C; no camera is read here.

    Raises InputError for a configuration, log or address that cannot be used.
    """
    from discover_stream.app.run import asked_to_stop

    config = load_config(path)
    where = parse_address(address)
    with (
        open_existing(config.log.url) as log,
        serving(config, log, LocalDecoder(config.threads.decode, config.decoding, config.tracing), where) as server,
        asked_to_stop() as asked,
    ):
        for line in greeting(server):
            tell(line)
        while not asked.wait(0.5):
            if not server.alive:
                raise InputError(f"{server.address.url}: the server ended; start it again")
        tell("stopping")


def greeting(server: Server) -> list[str]:
    """What to tell people about a gateway that has started."""
    lines = [f"console and API: {server.address.url}"]
    if server.open:
        lines.append(
            "no token was made yet, so only this machine is served, and everybody on it is admin; "
            "`discover token make NAME --role admin` ends that"
        )
    return lines
