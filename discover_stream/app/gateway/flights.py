"""Segments in the making and segments kept: each is made once, however many ask for it, and only while somebody waits.

For the thread of the event loop; what makes a segment runs in threads of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from discover_stream.app.gateway.making import Made
from discover_stream.types import DiscoverError

Key = tuple[str, int]
"""A replay's id and the number of a segment."""

_LOOK_EVERY_S = 0.2


class Busy(DiscoverError):
    """Too many segments wait to be made."""


class ClientGone(Exception):
    """The client that asked has left: there is nobody to answer."""


class SegmentCache:
    """Segments within a bound of bytes; those that were asked for longest ago go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: OrderedDict[Key, Made] = OrderedDict()
        self.bytes = 0

    def get(self, key: Key) -> Made | None:
        """A segment, if it is here."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: Key, made: Made) -> None:
        """Keep a segment. One that is larger than the bound is not kept."""
        self._take(key)
        size = _size(made)
        if size > self._most:
            return
        self._held[key] = made
        self.bytes += size
        while self.bytes > self._most:
            self._take(next(iter(self._held)))

    def drop(self, replays: Callable[[str], bool]) -> None:
        """Forget the segments of replays of which this is true."""
        for key in [key for key in self._held if replays(key[0])]:
            self._take(key)

    def ready(self, replay: str) -> int:
        """Segments of a replay that are here."""
        return sum(key[0] == replay for key in self._held)

    def size(self, replay: str) -> int:
        """Bytes of them."""
        return sum(_size(made) for key, made in self._held.items() if key[0] == replay)

    def _take(self, key: Key) -> None:
        made = self._held.pop(key, None)
        self.bytes -= 0 if made is None else _size(made)


def _size(made: Made) -> int:
    return len(made.body) + len(made.sidecar)


@dataclass(eq=False)
class _Flight:
    future: asyncio.Future[Made]
    asker: str
    leave: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0


class Flights:
    """Hands out segments: kept ones, else those being made, else new ones.

    Args:
        cache: where they are kept.
        threads: in which they are made.
        most: that may be in the making, or wait for it, at a time.
        most_each: of those that one asker began, so that nobody keeps all others out.
    """

    def __init__(self, cache: SegmentCache, threads: Executor, most: int = 512, most_each: int = 128) -> None:
        self.cache, self._threads, self._most, self._most_each = cache, threads, most, most_each
        self._flights: dict[Key, _Flight] = {}
        self.made = 0
        self.decoded = 0
        self.left = 0

    async def get(
        self,
        key: Key,
        make: Callable[[threading.Event], Made],
        gone: Callable[[], Awaitable[bool]],
        asker: str = "",
    ) -> Made:
        """A segment; `asker` is the token that asks.

        Raises ClientGone once the client has left, Busy, and whatever making it raises.
        """
        found = self.cache.get(key)
        if found is not None:
            return found
        flight = self._flights.get(key) or self._start(key, make, asker)
        flight.waiting += 1
        try:
            while True:
                done, _ = await asyncio.wait({flight.future}, timeout=_LOOK_EVERY_S)
                if done:
                    return flight.future.result()
                if await gone():
                    raise ClientGone
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.future.done():
                # Nobody waits any more. Who comes now has it made anew.
                flight.leave.set()
                flight.future.cancel()
                self.left += 1
                if self._flights.get(key) is flight:  # else it was forgotten, and another is being made
                    del self._flights[key]

    @property
    def flying(self) -> int:
        """Segments in the making, or waiting for it."""
        return len(self._flights)

    def making(self, replay: str) -> list[int]:
        """Segments of a replay that are in the making."""
        return sorted(number for found, number in self._flights if found == replay)

    def forget(self, replay: str) -> None:
        """Keep nothing of a replay, also not what is being made of it now: those who wait for it are told so."""
        for key in [key for key in self._flights if key[0] == replay]:
            self._flights.pop(key).leave.set()
        self.cache.drop(lambda other: other == replay)

    def stop(self) -> None:
        """Let everything that is in the making end."""
        for flight in self._flights.values():
            flight.leave.set()

    def _start(self, key: Key, make: Callable[[threading.Event], Made], asker: str) -> _Flight:
        if len(self._flights) >= self._most:
            raise Busy("too many segments are being decoded; try again in a few seconds")
        if sum(flight.asker == asker for flight in self._flights.values()) >= self._most_each:
            raise Busy("too many segments are being decoded for this token; try again in a few seconds")
        leave = threading.Event()
        future = asyncio.get_running_loop().run_in_executor(self._threads, make, leave)
        flight = self._flights[key] = _Flight(future, asker, leave)
        future.add_done_callback(lambda done: self._landed(key, flight, done))
        return flight

    def _landed(self, key: Key, flight: _Flight, done: asyncio.Future[Made]) -> None:
        current = self._flights.get(key) is flight
        if current:
            del self._flights[key]
        if done.cancelled() or done.exception() is not None:
            return
        made = done.result()
        self.made += 1
        self.decoded += made.decoded
        if current:  # else it was left, or forgotten, meanwhile
            self.cache.put(key, made)
