import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.video.shots import Outage, Shot, nearest_to_ticks


def shots_at(times):
    return [Shot(round(t), lambda: np.zeros((1, 1, 3), np.uint8)) for t in times]


def kept(times, fps):
    return [shot.time_ns for shot in nearest_to_ticks(iter(shots_at(times)), fps)]


def test_24_to_10_keeps_the_nearest():
    times = [round(i * 1e9 / 24) for i in range(48)]
    expected = [min(times, key=lambda t: (abs(t - k * 1e8), t)) for k in range(20)]
    assert kept(times, 10) == expected


def test_same_rate_and_slower_input_keep_everything():
    times = [i * 100_000_000 for i in range(30)]
    assert kept(times, 10) == times
    assert kept(times, 25) == times


def test_one_picture_is_kept():
    assert kept([0], 3) == [0]
    assert kept([], 3) == []


@given(st.lists(st.integers(1, 400), max_size=60), st.floats(0.5, 60))
def test_never_twice_never_invented_and_always_nearest(steps, fps):
    times = [0, *(int(t) for t in np.cumsum(steps) * 1_000_000)] if steps else [0]
    chosen = kept(times, fps)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(times)
    assert chosen[0] == 0
    ticks = np.arange(0, times[-1] + 1, 1e9 / fps)
    for tick in ticks:
        nearest = min(abs(t - tick) for t in times)
        assert min(abs(t - tick) for t in chosen) <= nearest + 2


def test_outages_pass_through_in_place():
    before, after = shots_at(i * 4e7 for i in range(10)), shots_at(5e9 + i * 4e7 for i in range(10))
    outage = Outage(360_000_000, 4_900_000_000, 1, "gone")
    result = list(nearest_to_ticks(iter([*before, outage, *after]), 5))
    place = result.index(outage)
    assert [s.time_ns for s in result[:place]] == [0, 200_000_000]
    times = [s.time_ns for s in result[place + 1 :]]
    assert times[0] >= 5_000_000_000
    assert all(b - a == 200_000_000 for a, b in itertools.pairwise(times))
