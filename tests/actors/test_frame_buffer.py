from __future__ import annotations

import threading
import time

import pytest

from actors.frame_buffer import (
    AHEAD,
    LOG_UNAVAILABLE,
    BufferRule,
    Coded,
    FrameBuffer,
    Hole,
    place_for,
    retry_delay_s,
    unasked,
    with_hole,
    written,
)
from topics.messages import IngestState


def coded(seq: int, size: int = 100) -> Coded:
    return Coded(seq, 1000 * seq, bytes(size), IngestState(next_seq=seq + 1, last_capture_ns=1000 * seq))


def drained(buffer: FrameBuffer) -> list[object]:
    """Everything in order: numbers of frames, and holes."""
    buffer.end()
    found: list[object] = []
    while (portion := buffer.take()) is not None:
        found += portion.holes
        if portion.frame is None:
            return found
        found.append(portion.frame.seq)
    return found


WAITS, OLDEST, LATEST = BufferRule(350, True), BufferRule(350, False), BufferRule(350, False, "latest")


@pytest.mark.parametrize(
    ("rule", "size", "frames", "held", "away", "place"),
    [
        (WAITS, 100, 0, 0, False, "keep"),
        (WAITS, 1, AHEAD - 1, 3, False, "keep"),
        (WAITS, 1, AHEAD, 4, False, "wait"),  # reading ahead is of no use while the log is there
        (WAITS, 1, AHEAD, 4, True, "keep"),
        (WAITS, 100, 3, 300, True, "wait"),
        (OLDEST, 50, 3, 300, True, "keep"),
        (OLDEST, 51, 3, 300, True, "drop oldest"),
        (OLDEST, 51, 3, 300, False, "drop oldest"),  # a commit hangs, and nobody knows yet why
        (LATEST, 51, 3, 300, True, "drop latest"),
        (LATEST, 10_000, 0, 0, True, "keep"),  # or it would never be written
    ],
)
def test_places(rule: BufferRule, size: int, frames: int, held: int, away: bool, place: str) -> None:
    assert place_for(size, frames, held, rule, away) == place


def test_the_oldest_go_and_leave_one_hole_before_the_rest() -> None:
    buffer = FrameBuffer(OLDEST)
    buffer.lose(Hole(-5, -1, "contact lost"))
    for seq in range(7):
        buffer.put(coded(seq))
    assert buffer.frames == 3
    assert buffer.dropped == ((LOG_UNAVAILABLE, 4),)
    assert drained(buffer) == [Hole(-5, -1, "contact lost"), Hole(0, 3000, LOG_UNAVAILABLE, 4), 4, 5, 6]


def test_the_latest_go_and_leave_one_hole_after_the_rest() -> None:
    buffer = FrameBuffer(LATEST)
    for seq in range(7):
        buffer.put(coded(seq))
    assert buffer.dropped == ((LOG_UNAVAILABLE, 4),)
    assert drained(buffer) == [0, 1, 2, Hole(3000, 6000, LOG_UNAVAILABLE, 4)]


def test_what_is_being_written_is_never_dropped_and_stays_first() -> None:
    buffer = FrameBuffer(OLDEST)
    buffer.put(coded(0))
    first = buffer.take()
    assert first is not None
    for seq in range(1, 6):
        buffer.put(coded(seq))
    buffer.left_out(first, "encoding fell behind")
    assert drained(buffer) == [Hole(0, 0, "encoding fell behind", 1), Hole(1000, 2000, LOG_UNAVAILABLE, 2), 3, 4, 5]
    assert dict(buffer.dropped) == {LOG_UNAVAILABLE: 2, "encoding fell behind": 1}


def test_portions_left_out_in_a_row_are_one_hole() -> None:
    buffer = FrameBuffer(OLDEST)
    for seq in range(3):
        buffer.put(coded(seq))
    for _ in range(2):
        portion = buffer.take()
        assert portion is not None
        buffer.left_out(portion, "encoding fell behind")
    assert drained(buffer) == [Hole(0, 1000, "encoding fell behind", 2), 2]
    buffer = FrameBuffer(OLDEST)
    buffer.put(coded(0))
    portion = buffer.take()
    assert portion is not None
    buffer.left_out(portion, "x")
    assert drained(buffer) == [Hole(0, 0, "x", 1)]  # and stands before the end where nothing follows


def test_a_source_that_can_wait_is_made_to() -> None:
    buffer = FrameBuffer(WAITS)
    seen: list[int] = []

    def fill() -> None:
        for seq in range(12):
            buffer.put(coded(seq, 50))
            seen.append(seq)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    while len(seen) < AHEAD:
        time.sleep(0.002)
    thread.join(0.05)
    assert seen == list(range(AHEAD))
    buffer.log_away(True)
    while len(seen) < 7:  # seven of 50 bytes are all that fits
        time.sleep(0.002)
    thread.join(0.05)
    assert seen == list(range(7))
    buffer.log_away(False)
    found = [portion.frame.seq for _ in range(12) if (portion := buffer.take()) and portion.frame]
    thread.join()
    assert found == list(range(12))
    assert buffer.dropped == ()


def test_closing_frees_who_waits_and_keeps_what_cannot_be_read_again() -> None:
    waits = FrameBuffer(WAITS)
    thread = threading.Thread(target=lambda: [waits.put(coded(seq)) for seq in range(9)], daemon=True)
    thread.start()
    waits.close()
    thread.join()
    assert waits.take() is None
    live = FrameBuffer(OLDEST)
    live.put(coded(0))
    live.close()
    live.put(coded(1))
    portion = live.take()
    assert portion is not None
    assert portion.frame == coded(0)
    assert live.take() is None


def test_holes_are_bounded_and_lose_no_count() -> None:
    holes: tuple[Hole, ...] = ()
    for number in range(1000):
        holes = with_hole(holes, Hole(number, number, f"reason {number % 2}", 1))
    assert len(holes) <= 64
    assert sum(hole.frames for hole in holes) == 1000
    assert (holes[0].from_ns, holes[-1].to_ns) == (0, 999)
    times = [(hole.from_ns, hole.to_ns) for hole in holes]
    assert times == sorted(times)
    unknown = with_hole((Hole(0, 5, "contact lost"),), Hole(7, 9, "contact lost"))
    assert len(unknown) == 2  # between them the camera was there


def test_what_a_commit_of_unknown_outcome_did() -> None:
    before, wanted = IngestState(next_seq=4, last_capture_ns=40), IngestState(next_seq=5, last_capture_ns=50)
    assert written(wanted, before, wanted) == "yes"
    assert written(before, before, wanted) == "no"
    assert written(None, IngestState(origin_ns=7), wanted) == "no"
    assert written(IngestState(next_seq=3), before, wanted) == "no"  # the log lost its last commits
    assert written(IngestState(next_seq=5, last_capture_ns=51), before, wanted) == "by somebody else"
    assert written(IngestState(next_seq=9), before, wanted) == "by somebody else"


def test_how_often_the_lag_is_looked_at() -> None:
    assert unasked(0, 64) == 7
    for lag in range(200):
        assert lag + 1 + unasked(lag, 64) <= max(64, lag + 1)
    assert unasked(0, 4) == 0


def test_the_log_is_tried_again_every_few_seconds() -> None:
    delays = [retry_delay_s(failures) for failures in (1, 2, 3, 20, 10_000)]
    assert delays == sorted(delays)
    assert delays[0] <= 0.2
    assert delays[-1] == 5
