"""Replays: what was asked for, made ready to be played at once, and kept while it is watched."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from discover_stream.app.gateway.catalog import gaps_between, picture_size
from discover_stream.app.gateway.flights import Flights
from discover_stream.app.gateway.fmp4 import even, initialisation
from discover_stream.app.gateway.making import Made, Maker, Wanted, sized
from discover_stream.app.gateway.models_replays import ReplayIn
from discover_stream.app.gateway.shots import Blank, Film
from discover_stream.app.moments import iso, parse_moment
from discover_stream.app.replay import task_keys
from discover_stream.config import GatewayConfig
from discover_stream.sdk import Archived, Span, archive_span, read_archive
from discover_stream.types import InputError
from topics.log import Log

_SHORTEST_NS = 1_000_000
"""Shorter spans show nothing."""
_LAST_FRAME_NS = 200_000_000
"""How long the last frame of a replay that goes to the end of the archive is shown."""
_LIVE_BEGINS = 3
"""Segments of a live view that are there when it begins."""


@dataclass(eq=False)
class Replay:
    """One replay. Everything but the counters stays as it was made. `viewers` counts, by token, who asked for it and
    has not left; an export counts as a viewer while it is written."""

    id: str
    order: ReplayIn
    wanted: Wanted
    film: Film
    head: bytes
    blanks: tuple[Blank, ...]
    not_grounded_before: str | None
    note: str | None
    decoded: int = 0
    failed: str | None = None
    viewers: Counter[str] = field(default_factory=Counter)
    asked_s: float = field(default_factory=time.monotonic)

    def count_picture(self) -> None:
        """Another picture was decoded. Called from threads; only ever shown to people."""
        self.decoded += 1


def prepare(log: Log, order: ReplayIn, settings: GatewayConfig) -> Replay:
    """Make a replay ready: looks at a few packets, decodes nothing.

    Raises InputError for an unknown task, and a span that is empty, too long, or cannot be read.
    """
    span = archive_span(log, order.camera)
    keys = task_keys(log, order.task)
    wanted = Wanted(
        order.camera,
        order.task,
        keys,
        order.profile,
        order.steps,
        order.view,
        tuple(sorted(set(order.overlay))),
        order.burn_in,
    )
    film = _film(order, span, settings)
    until_ns = span.last_ns + 1 if film.end_ns is None else film.end_ns
    first = next(read_archive(log, order.camera, film.begin_ns, until_ns), None)
    if first is None:
        raise InputError(
            f"camera {order.camera}: no frames from {iso(film.begin_ns)} to {iso(until_ns)}; {_told(span)}"
        )
    size = picture_size(log, first)
    if size is None:
        raise InputError(
            f"camera {order.camera}: the archive does not hold what the frames from {iso(film.begin_ns)} on refer to "
            "any more; begin later"
        )
    width, height = even(*size)
    wanted = sized(wanted, width, height)
    grounded_ns = grounded_from(log, wanted, first, until_ns)
    note = None
    if grounded_ns is None:
        note = f"task {order.task} was not grounded before {iso(until_ns)}: no picture of this span has anything of it"
    gaps = gaps_between(log, order.camera, film.begin_ns, until_ns)
    blanks = [Blank(gap.from_ns, gap.to_ns, gap.reason, gap.frames) for gap in gaps]
    identity = json.dumps([order.model_dump(mode="json", exclude={"begin", "end"}), film.begin_ns, film.end_ns])
    return Replay(
        id=hashlib.sha256(identity.encode()).hexdigest()[:24],
        order=order,
        wanted=wanted,
        film=film,
        head=initialisation(width, height),
        blanks=tuple(blanks),
        not_grounded_before=None if grounded_ns == first.capture_ns else iso(grounded_ns or until_ns),
        note=note,
    )


def _film(order: ReplayIn, span: Span, settings: GatewayConfig) -> Film:
    step_ns = round(settings.segment_s * 1e9)
    if order.live:
        if order.begin is not None or order.end is not None:
            raise InputError("a live view begins now and has no end; leave out from and to, or live")
        begin = span.last_ns - round(settings.live_delay_s * 1e9) - _LIVE_BEGINS * step_ns
        return Film(max(span.first_ns, begin), None, step_ns)
    begin = span.first_ns if order.begin is None else parse_moment(order.begin, span.first_ns)
    end = span.last_ns + _LAST_FRAME_NS if order.end is None else parse_moment(order.end, span.first_ns)
    begin, end = max(begin, span.first_ns), min(end, span.last_ns + _LAST_FRAME_NS)
    if begin > span.last_ns or end - begin < _SHORTEST_NS:
        raise InputError(f"camera {order.camera}: there is nothing in that span; {_told(span)}")
    if end - begin > settings.longest_h * 3600e9:
        raise InputError(
            f"a replay may take {settings.longest_h:g} hours, not {(end - begin) / 3600e9:.1f}; choose a shorter span"
        )
    return Film(begin, end, step_ns)


def _told(span: Span) -> str:
    return f"the archive holds {iso(span.first_ns)} to {iso(span.last_ns)}"


def grounded_from(log: Log, wanted: Wanted, first: Archived, until_ns: int) -> int | None:
    """From when on, in a span, packets have something of a task: halves the span, since a task that was once
    added mostly stays. None where no packet up to its end has."""

    def has(item: Archived | None) -> bool:
        return item is not None and (wanted.keys is None or not wanted.keys.isdisjoint(item.packet.tasks))

    def at(at_ns: int) -> Archived | None:
        return next(read_archive(log, wanted.camera, at_ns, at_ns + 1), None)

    if has(first):
        return first.capture_ns
    if not has(at(until_ns - 1)):
        return None
    low, high = first.capture_ns, until_ns - 1
    while high - low > 1_000_000:
        middle = (low + high) // 2
        low, high = (low, middle) if has(at(middle)) else (middle, high)
    return high


class Replays:
    """The replays that are kept, and their segments. For the thread of the event loop."""

    def __init__(self, maker: Maker, flights: Flights, most: int) -> None:
        self._maker, self.flights, self._most = maker, flights, most
        self._kept: OrderedDict[str, Replay] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Belong to the event loop that runs."""
        self._loop = asyncio.get_running_loop()

    def keep(self, replay: Replay, token: str) -> Replay:
        """Keep a replay for the holder of a token; the one that is there already where it is the same."""
        found = self._kept.pop(replay.id, None) or replay
        found.viewers[token] += 1
        self._kept[replay.id] = found
        while len(self._kept) > self._most:
            self.drop(next(iter(self._kept)))
        return found

    def get(self, identity: str) -> Replay | None:
        """A replay that is kept."""
        found = self._kept.get(identity)
        if found is not None:
            found.asked_s = time.monotonic()
            self._kept.move_to_end(identity)
        return found

    def all(self) -> list[Replay]:
        """All of them."""
        return list(self._kept.values())

    def watch(self, replay: Replay, who: str) -> None:
        """One viewer more."""
        replay.viewers[who] += 1

    def leave(self, replay: Replay, token: str) -> None:
        """One viewer less; the replay is forgotten with its last one."""
        if replay.viewers[token] > 0:
            replay.viewers[token] -= 1
        if not replay.viewers.total() and self._kept.get(replay.id) is replay:
            self.drop(replay.id)

    def drop(self, identity: str) -> None:
        """Forget a replay and its segments."""
        self._kept.pop(identity, None)
        self.flights.forget(identity)

    def in_loop(self, work: Callable[[], None]) -> None:
        """Do something in the thread of the event loop, from another one; returns once it is done."""
        assert self._loop is not None

        async def done() -> None:
            work()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def forget_camera(self, camera: str) -> None:
        """Forget everything that was made of a camera: something of it was erased."""
        for replay in [replay for replay in self._kept.values() if replay.wanted.camera == camera]:
            self.drop(replay.id)

    def making(self, replay: Replay, number: int) -> Callable[[threading.Event], Made]:
        """What makes a segment; see `Flights.get`."""
        return partial(_make, self._maker, replay, number)


def _make(maker: Maker, replay: Replay, number: int, leave: threading.Event) -> Made:
    return maker.segment(replay.wanted, replay.film, number, leave, replay.count_picture)
