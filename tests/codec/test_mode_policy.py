from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.mode_policy import (
    ENOUGH,
    ModeRules,
    ModeState,
    after_frame,
    at_frame,
    complaint,
    other_rate,
    wait_s,
    wants_pixels_anew,
)

SECOND = 10**9
RULES = ModeRules(retry_s=60.0, longest_s=3600.0, settled_s=60.0)
SHAKES = "the camera is hand-held"


def run(seconds: int, shaking: range, state: ModeState | None = None) -> tuple[str, ModeState]:
    """The modes of a camera in auto, a letter a second, which shakes for a while; it takes 2 s to be noticed."""
    state, modes = state or ModeState(), ""
    begun = 0
    for second in range(seconds):
        mode, state = at_frame("auto", state, second * SECOND, RULES)
        begun = second if not modes.endswith("S") else begun
        modes += "S" if mode == "stream" else "-"
        if mode == "stream":
            noticed = second in shaking and second - begun >= 2
            state = after_frame("auto", state, SHAKES if noticed else None, second * SECOND, RULES)
    return modes, state


def test_a_fixed_camera_stays_in_stream_mode() -> None:
    modes, state = run(500, range(0))
    assert set(modes) == {"S"}
    assert (state.reason, state.setbacks) == ("", 0)


def test_a_camera_that_shakes_for_a_while_comes_back_to_stream_mode() -> None:
    modes, state = run(400, range(100, 130))
    assert modes == "S" * 101 + "-" * 59 + "S" * 240
    assert state.setbacks == 0


def test_a_hand_held_camera_is_tried_less_and_less() -> None:
    modes, state = run(8000, range(8000))
    tries = [len(part) for part in modes.split("S") if part]
    assert tries[:6] == [59, 119, 239, 479, 959, 1919]
    assert state.reason == SHAKES
    assert modes.count("S") <= 3 * (len(tries) + 1)


@given(st.integers(1, 10**6))
def test_no_wait_is_longer_than_the_longest(setbacks: int) -> None:
    assert RULES.retry_s <= wait_s(setbacks, RULES) <= RULES.longest_s


def test_a_restart_goes_on_waiting() -> None:
    state = ModeState(SHAKES, 100 * SECOND, 3)
    assert at_frame("auto", state, 130 * SECOND, RULES) == ("still", state)
    assert at_frame("auto", state, 341 * SECOND, RULES)[0] == "stream"


def test_a_clock_that_was_set_back_makes_it_wait_from_there() -> None:
    mode, state = at_frame("auto", ModeState(SHAKES, 10**6 * SECOND, 1), 50 * SECOND, RULES)
    assert (mode, state.since_ns) == ("still", 50 * SECOND)
    assert at_frame("auto", state, 111 * SECOND, RULES)[0] == "stream"


def test_what_is_configured_holds_whatever_the_encoder_says() -> None:
    for wanted in ("still", "stream"):
        for state in (ModeState(), ModeState(SHAKES, 5, 3)):
            mode, now = at_frame(wanted, state, SECOND, RULES)
            assert mode == wanted
            assert after_frame(wanted, now, SHAKES, SECOND, RULES).reason == ""


def test_a_task_that_gets_pixels_from_now_on_is_told_from_others() -> None:
    assert wants_pixels_anew({1: "regions", 2: "pixels"}, {1: "pixels", 2: "pixels"})
    assert not wants_pixels_anew({1: "regions"}, {1: "regions", 2: "pixels"})  # a task that starts
    assert not wants_pixels_anew({1: "pixels"}, {1: "regions"})
    assert not wants_pixels_anew({1: "regions"}, {})


@given(st.floats(0.2, 200), st.floats(0.2, 200), st.integers(1, 3))
def test_another_rate_is_seen_and_the_nominal_one_is_not(nominal: float, real: float, step: int) -> None:
    times = [(number * step, round(number * step * SECOND / real)) for number in range(ENOUGH + 1)]
    found = other_rate(nominal, times)
    if nominal / 1.2 < real < nominal * 1.2:
        assert found is None
    elif not nominal / 1.3 < real < nominal * 1.3:
        assert found is not None
        assert abs(found / real - 1) < 1e-3
    assert other_rate(nominal, times[1:]) is None  # too few to judge by


def test_a_pause_is_no_other_rate() -> None:
    times = [(number, number * SECOND // 10 + (3600 * SECOND if number > 12 else 0)) for number in range(ENOUGH + 1)]
    assert other_rate(10.0, times) is None


def test_a_complaint_is_said_once_and_taken_back_when_it_has_long_been_untrue() -> None:
    held, told = None, []
    for second in range(300):
        shakes = second in (10, 11, 40, 250)
        held = complaint(held, f"it moves by {second} pixels" if shakes else None, second * SECOND, RULES)
        if held and (not told or told[-1] != held.reason):
            told.append(held.reason)
        assert (held is not None) == (10 <= second < 100 or second >= 250)
    assert told == ["it moves by 10 pixels", "it moves by 250 pixels"]
