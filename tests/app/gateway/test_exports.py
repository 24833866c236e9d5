"""Films: what ends one, and what does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from discover_stream.app.gateway.exports import ExportJob, Exports
from discover_stream.app.gateway.flights import Flights, SegmentCache
from discover_stream.app.gateway.fmp4 import CLOCK, Timed, initialisation, segment
from discover_stream.app.gateway.making import Made, Maker, Wanted
from discover_stream.app.gateway.models_replays import ReplayIn
from discover_stream.app.gateway.replays import Replay, Replays
from discover_stream.app.gateway.shots import Film

S = 10**9
Make = Callable[[int, threading.Event], Made]


class Segments:
    """A maker whose segments come from a function."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def segment(self, wanted: Wanted, film: Film, number: int, leave: threading.Event, count: object) -> Made:
        return self._make(number, leave)


def grey(number: int, leave: threading.Event) -> Made:
    begin = 2 * CLOCK * number
    return Made(segment([Timed(np.full((48, 64, 3), 90, np.uint8), begin, begin + 2 * CLOCK)], number).body, b"{}", 1)


def told(make: Make, story: Callable[[Replays, Exports, Replay], object]) -> None:
    """Run a story about a replay of two segments that `desk` watches."""

    async def run() -> None:
        with ThreadPoolExecutor(1) as threads:
            flights = Flights(SegmentCache(10**6), threads)
            replays = Replays(cast("Maker", Segments(make)), flights, 10)
            exports = Exports(replays)
            order, film = ReplayIn(camera="gate"), Film(0, 4 * S, 2 * S)
            made = Replay("a", order, Wanted("gate", "all", None), film, initialisation(64, 48), (), None, None)
            try:
                await story(replays, exports, replays.keep(made, "desk"))  # type: ignore[misc]
            finally:
                await exports.close()

    asyncio.run(run())


async def ended(job: ExportJob) -> None:
    assert job.task is not None
    await asyncio.wait([job.task], timeout=60)


def test_whatever_goes_wrong_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    def broken(number: int, leave: threading.Event) -> Made:
        raise ZeroDivisionError("by nothing")

    async def story(replays: Replays, exports: Exports, replay: Replay) -> None:
        job = exports.start(replay)
        await ended(job)
        assert job.state == "failed"
        assert "ZeroDivisionError" in (job.problem or "")

    told(broken, story)


def test_who_leaves_the_replay_does_not_end_it() -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(number: int, leave: threading.Event) -> Made:
        began.set()
        assert go_on.wait(60)
        assert not leave.is_set()
        return grey(number, leave)

    async def story(replays: Replays, exports: Exports, replay: Replay) -> None:
        job = exports.start(replay)
        await asyncio.to_thread(began.wait, 60)
        replays.leave(replay, "desk")
        go_on.set()
        await ended(job)
        assert (job.state, job.problem) == ("done", None)
        await asyncio.sleep(0)
        assert replays.get("a") is None, "the film was the last that needed it"

    told(slow, story)


def test_what_was_erased_is_in_no_film() -> None:
    async def story(replays: Replays, exports: Exports, replay: Replay) -> None:
        job = exports.start(replay)
        await ended(job)
        path = cast("Path", job.path)
        assert path.exists()
        exports.forget_camera("yard")
        assert exports.get(job.id) is job
        exports.forget_camera("gate")
        assert exports.get(job.id) is None
        assert not path.exists()

    told(grey, story)


def test_one_that_was_erased_while_it_was_written_leaves_nothing() -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(number: int, leave: threading.Event) -> Made:
        began.set()
        assert go_on.wait(60)
        return grey(number, leave)

    async def story(replays: Replays, exports: Exports, replay: Replay) -> None:
        job = exports.start(replay)
        await asyncio.to_thread(began.wait, 60)
        exports.forget_camera("gate")
        go_on.set()
        await ended(job)
        assert (job.state, job.path) == ("cancelled", None)
        assert exports._folder is not None
        assert list(exports._folder.iterdir()) == []

    told(slow, story)
