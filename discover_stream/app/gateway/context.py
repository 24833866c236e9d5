"""Everything that the gateway's routes share, and who is asking."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from discover_stream.app.gateway.access import LOCAL, Action, Principal
from discover_stream.app.gateway.camera_facts import CameraBook
from discover_stream.app.gateway.catalog import ErasedSpans, Kept, labels_of
from discover_stream.app.gateway.decoders import Decoder
from discover_stream.app.gateway.exports import Exports
from discover_stream.app.gateway.flights import Busy, Flights, SegmentCache
from discover_stream.app.gateway.keys import key_holder, make_key
from discover_stream.app.gateway.limits import Limiter
from discover_stream.app.gateway.making import Maker
from discover_stream.app.gateway.problems import Refused
from discover_stream.app.gateway.rates import Rates
from discover_stream.app.gateway.replays import Replays
from discover_stream.app.gateway.tokens import GatewayState
from discover_stream.config import Config
from discover_stream.types import LabelSet
from topics.log import Log

_MAKERS = 4
"""Segments that are made at a time."""
_DRAWING = 16
"""Stills and measurements at a time; more are refused, since each keeps one of the threads that answer all else."""
_FAILURES_PER_S, _FAILURES = 0.2, 10.0
"""Wrong tokens that an address may try: ten at once, then one in five seconds."""
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass
class Gateway:
    """The parts of one gateway, made once. `config_path` names the configuration file for those that read it again."""

    config: Config
    log: Log
    state: GatewayState
    decoder: Decoder
    config_path: Path | None = None
    labels: Kept[dict[int, LabelSet]] = field(init=False)
    maker: Maker = field(init=False)
    flights: Flights = field(init=False)
    replays: Replays = field(init=False)
    exports: Exports = field(init=False)
    rates: Rates = field(init=False)
    cameras: CameraBook = field(init=False)
    erased: ErasedSpans = field(init=False)
    limiter: Limiter = field(init=False)
    failures: Limiter = field(init=False)
    threads: ThreadPoolExecutor = field(init=False)
    stopping: threading.Event = field(default_factory=threading.Event)
    stills_decoded: int = 0
    streams: Counter[str] = field(default_factory=Counter)
    _drawers: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_DRAWING))

    def __post_init__(self) -> None:
        settings = self.config.gateway
        self.labels = labels_of(self.log)
        self.erased = ErasedSpans(self.log)
        self.maker = Maker(self.log, self.decoder, self.labels, self.config.decoding)
        self.threads = ThreadPoolExecutor(_MAKERS, "segments")
        self.flights = Flights(SegmentCache(settings.cache_mib * 2**20), self.threads)
        self.replays = Replays(self.maker, self.flights, settings.replays)
        self.exports = Exports(self.replays)
        self.rates = Rates(self.log)
        self.cameras = CameraBook(self.log, self.config)
        self.limiter = Limiter(settings.requests_per_s, settings.burst)
        self.failures = Limiter(_FAILURES_PER_S, _FAILURES)

    def count_still(self) -> None:
        """Another still was decoded."""
        self.stills_decoded += 1

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """What takes a thread some seconds, in turn with everybody else. Raises Busy where too many do."""
        if not self._drawers.acquire(blocking=False):
            raise Busy("too many pictures are being made for others; try again in a few seconds")
        try:
            yield
        finally:
            self._drawers.release()

    def forget_recorded(self, camera: str) -> None:
        """Keep nothing that was made of a camera, since something of it was erased: replays, segments, films. Not for
        the thread of the event loop."""

        def forget() -> None:
            self.replays.forget_camera(camera)
            self.exports.forget_camera(camera)
            self.erased.forget(camera)

        self.replays.in_loop(forget)

    def stop_soon(self) -> None:
        """Let streams that would go on for ever end. From any thread."""
        self.stopping.set()

    async def close(self) -> None:
        """End what is going on; the log and the decoder stay with whoever gave them."""
        self.stopping.set()
        self.flights.stop()
        await self.exports.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.state.close()


def gateway_of(request: Request) -> Gateway:
    """The gateway that a request came to."""
    found: Gateway = request.app.state.gateway
    return found


_bearer = HTTPBearer(auto_error=False, description="A token made by `discover token make`.")


async def caller(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """Who asks. Refuses whom nobody knows, and who asks too often."""
    gateway = gateway_of(request)
    principal = _identified(request, gateway, None if given is None else given.credentials)
    return _limited(gateway, principal)


async def player(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)], key: str | None = None
) -> Principal:
    """Who plays a replay or takes an export: by token, or by a key for exactly this thing."""
    gateway = gateway_of(request)
    if key is None or given is not None:
        return await caller(request, given)
    thing = request.path_params.get("replay") or request.path_params.get("export") or ""
    token = key_holder(gateway.state.secret, key, thing, time.time())
    if token == LOCAL.token:
        return _limited(gateway, _local(request, gateway))
    principal = None if token is None else gateway.state.live(token)
    if principal is None:
        raise Refused(401, "this key opens nothing any more; ask for the replay again", _CHALLENGE)
    return _limited(gateway, principal)


def admitted(gateway: Gateway, principal: Principal) -> bool:
    """Whether somebody who was let in some time ago would be let in again."""
    if principal == LOCAL:
        return gateway.state.open
    return gateway.state.live(principal.token) is not None


Caller = Annotated[Principal, Depends(caller)]
Player = Annotated[Principal, Depends(player)]
Here = Annotated[Gateway, Depends(gateway_of)]

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def allow(principal: Principal, action: Action, *, camera: str | None = None, task: str | None = None) -> None:
    """Refuse what a principal may not do, before anything is looked up for it."""
    if not principal.may(action, camera=camera, task=task):
        about = "".join(f" of {kind} {name}" for kind, name in (("camera", camera), ("task", task)) if name)
        raise Refused(403, f"a token of role {principal.role} may not {action}{about}; ask for one that may")


def key_for(gateway: Gateway, principal: Principal, thing: str) -> str:
    """A key that lets players in, made for who asks."""
    return make_key(gateway.state.secret, principal.token, thing, time.time())


def _identified(request: Request, gateway: Gateway, token: str | None) -> Principal:
    if token is None:
        return _local(request, gateway)
    address = request.client.host if request.client is not None else ""
    principal = gateway.state.holder(token)
    if principal is None:
        wait_s = gateway.failures.take(address, time.monotonic())
        if wait_s:
            raise Refused(429, "too many wrong tokens; wait", {"Retry-After": str(int(wait_s) + 1)})
        raise Refused(401, "this token opens nothing (any more); ask for another", _CHALLENGE)
    return principal


def _local(request: Request, gateway: Gateway) -> Principal:
    """Everybody on this machine, as long as no token was made."""
    if not gateway.state.open:
        raise Refused(401, "a token is needed: send `Authorization: Bearer TOKEN`", _CHALLENGE)
    # A proxy on this machine would make the whole world local; so would a name that somebody points here.
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"} & {name.lower() for name in request.headers}
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if forwarded or not (request.client is not None and is_loopback(request.client.host) and is_loopback(host)):
        raise Refused(
            401, "without tokens this gateway only serves its own machine; make one: `discover token make`", _CHALLENGE
        )
    origin = request.headers.get("origin")
    if origin is not None and request.method not in _SAFE and urlsplit(origin).netloc != request.headers.get("host"):
        raise Refused(403, "a page of another site may change nothing here; use this gateway's own console, or a token")
    return LOCAL


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine, and only this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _limited(gateway: Gateway, principal: Principal) -> Principal:
    wait_s = gateway.limiter.take(principal.token, time.monotonic())
    if wait_s:
        raise Refused(
            429, f"more than {gateway.config.gateway.requests_per_s:g} requests a second; wait, then go on",
            {"Retry-After": str(int(wait_s) + 1)},
        )  # fmt: skip
    return principal


def audited(gateway: Gateway, principal: Principal) -> Callable[[str, str], None]:
    """What writes into the record for a principal."""
    return lambda what, detail: gateway.state.record(f"{principal.token} {principal.name}", what, detail)
