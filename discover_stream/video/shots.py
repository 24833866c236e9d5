"""What every kind of input is turned into: pictures with a time, read one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from discover_stream.types import Image


@dataclass(frozen=True)
class Shot:
    """A picture that was taken `time_ns` after the first; `load` converts it to RGB when it is wanted."""

    time_ns: int
    load: Callable[[], Image]


@dataclass(frozen=True, slots=True)
class Outage:
    """A live stream was away between two times (ns after the first picture), for a reason."""

    begin_ns: int
    end_ns: int
    attempts: int
    reason: str


class Feed(Protocol):
    """One opened input. `shots` may be run through once; `problem` tells afterwards what was lost.

    `fps` is the nominal rate of the pictures.
    """

    width: int
    height: int
    fps: float

    @property
    def problem(self) -> str | None:
        """What could not be read, in one line, or None."""
        ...

    def shots(self) -> Iterator[Shot | Outage]:
        """The pictures in order of time, with the outages between them."""
        ...

    def stop(self) -> None:
        """Asks the iteration to end soon; closes nothing, so any thread may call it at any time."""
        ...

    def close(self) -> None:
        """Lets go of files and connections. May be called more than once, by one thread at a time."""
        ...


def nearest_to_ticks(shots: Iterator[Shot | Outage], fps: float) -> Iterator[Shot | Outage]:
    """Keeps, for each tick of a clock at `fps` that starts with the first shot, the shot nearest to it.

    No shot is kept twice and none is made up: where the input is slower than the clock, all its
    shots are kept. Needs to see the shot that follows before it can decide on one.
    """
    period = 1e9 / fps
    tick = 0.0
    held: Shot | None = None
    spacing = 0
    for item in shots:
        if isinstance(item, Outage):
            if held is not None and _claims(tick, held, spacing):
                yield held
            held = None
            yield item
            continue
        if held is None:
            # After an outage the clock goes on, without the ticks that nobody saw.
            while tick < item.time_ns - period / 2:
                tick += period
        else:
            spacing = item.time_ns - held.time_ns
            middle = (held.time_ns + item.time_ns) / 2
            if tick <= middle:
                yield held
            while tick <= middle:
                tick += period
        held = item
    if held is not None and _claims(tick, held, spacing):
        yield held


def _claims(tick: float, last: Shot, spacing: int) -> bool:
    """Whether the last shot is the nearest one to the tick: it lasts for half a spacing more."""
    return tick <= last.time_ns + spacing / 2
