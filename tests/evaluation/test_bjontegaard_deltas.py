"""Bjøntegaard deltas: by hand, against integrals of our own, and against the published package."""

from __future__ import annotations

import math

import bjontegaard as published
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, interpolate

from discover_stream.evaluation.bjontegaard import Curve, Method, bd_quality, bd_rate, overlap, rising_part
from discover_stream.types import InputError

ANCHOR = Curve("x265", (20.0, 45.0, 90.0, 210.0), (31.2, 34.0, 36.1, 38.9))
TEST = Curve("ours", (15.0, 30.0, 70.0, 150.0, 260.0), (30.5, 33.7, 36.4, 38.2, 39.4))
METHODS: tuple[Method, ...] = ("akima", "pchip", "cubic")


@pytest.mark.parametrize("method", METHODS)
def test_constant_gains_come_out_exactly(method: Method) -> None:
    half = Curve("half", tuple(rate / 2 for rate in ANCHOR.rates), ANCHOR.qualities)
    assert bd_rate(ANCHOR, half, method) == pytest.approx(-50)
    assert bd_rate(half, ANCHOR, method) == pytest.approx(100)
    better = Curve("better", ANCHOR.rates, tuple(quality + 1.5 for quality in ANCHOR.qualities))
    assert bd_quality(ANCHOR, better, method) == pytest.approx(1.5)
    assert bd_rate(ANCHOR, ANCHOR, method) == pytest.approx(0)


def joined(x: np.ndarray, y: np.ndarray, method: Method) -> object:
    if method == "cubic":
        return np.poly1d(np.polyfit(x, y, 3))
    return (interpolate.Akima1DInterpolator if method == "akima" else interpolate.PchipInterpolator)(x, y)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_mean_distance_between_the_curves(method: Method) -> None:
    def mean_gap(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
        low, high = max(first[0].min(), second[0].min()), min(first[0].max(), second[0].max())
        lower, upper = joined(*first, method), joined(*second, method)
        inner = sorted(x for x in (*first[0], *second[0]) if low < x < high)
        area, _ = integrate.quad(lambda x: float(upper(x)) - float(lower(x)), low, high, points=inner, limit=200)  # type: ignore[operator]
        return area / (high - low)

    a, t = ((np.log10(c.rates), np.array(c.qualities)) for c in (ANCHOR, TEST))
    by_quality = mean_gap((a[1], a[0]), (t[1], t[0]))
    assert bd_rate(ANCHOR, TEST, method) == pytest.approx(100 * (10**by_quality - 1), abs=1e-6)
    assert bd_quality(ANCHOR, TEST, method) == pytest.approx(mean_gap(a, t), abs=1e-6)


@given(st.lists(st.floats(0.5, 5), min_size=8, max_size=8), st.lists(st.floats(0.5, 5), min_size=8, max_size=8))
def test_it_is_what_the_published_package_says(steps: list[float], gains: list[float]) -> None:
    rates, qualities = np.cumsum(np.array(steps).reshape(2, 4), 1) * 10, np.cumsum(np.array(gains).reshape(2, 4), 1)
    first, second = (Curve(str(i), tuple(rates[i]), tuple(qualities[i])) for i in range(2))
    assume(overlap(first, second) > 0.05)
    expected = published.bd_rate(rates[0], qualities[0], rates[1], qualities[1], method="akima", min_overlap=0)
    assume(math.isfinite(expected))
    assert bd_rate(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assume(min(max(r) for r in rates) > max(min(r) for r in rates))
    expected = published.bd_psnr(rates[0], qualities[0], rates[1], qualities[1], method="akima", min_overlap=0)
    assert bd_quality(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_order_of_points_and_sense_of_the_measure() -> None:
    shuffled = Curve("ours", TEST.rates[::-1], TEST.qualities[::-1])
    assert bd_rate(ANCHOR, shuffled) == pytest.approx(bd_rate(ANCHOR, TEST))
    # As a distance (100 - quality), the same curves save the same rate, and the gain changes its sign.
    distances = [
        Curve(c.name, c.rates, tuple(100 - q for q in c.qualities), lower_is_better=True) for c in (ANCHOR, TEST)
    ]
    assert bd_rate(*distances) == pytest.approx(bd_rate(ANCHOR, TEST))
    assert bd_quality(*distances) == pytest.approx(-bd_quality(ANCHOR, TEST))


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (Curve("c", (1.0, 2.0), (40.0, 50.0)), "no quality that both reach (31.2 to 38.9 against 40 to 50)"),
        (
            Curve("c", (1.0, 2.0, 3.0), (31.0, 36.0, 35.0)),
            "not monotone, quality does not get better from (2, 36) to (3",
        ),
        (Curve("c", (1.0, 1.0, 3.0), (31.0, 33.0, 35.0)), "not monotone, rate"),
        (Curve("c", (1.0,), (31.0,)), "1 points are too few"),
        (Curve("c", (1.0, 2.0), (31.0,)), "2 rates but 1 qualities"),
        (Curve("c", (0.0, 2.0), (31.0, 33.0)), "rates must be above 0"),
        (Curve("c", (1.0, 2.0), (31.0, math.inf)), "finite"),
        (Curve("c", (1.0, 2.0), (31.0, 33.0), lower_is_better=True), "not monotone"),
        (Curve("c", (2.0, 1.0), (31.0, 33.0), lower_is_better=True), "measure different things"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(curve: Curve, words: str) -> None:
    for first, second in ((ANCHOR, curve), (curve, ANCHOR)):
        with pytest.raises(InputError) as caught:
            bd_rate(first, second)
        message = str(caught.value)
        assert "\n" not in message
        if first is ANCHOR:
            assert words in message
    with pytest.raises(InputError, match="3 points are too few for cubic"):
        bd_rate(ANCHOR, Curve("c", (1.0, 2.0, 3.0), (31.0, 33.0, 35.0)), "cubic")


def test_no_common_rate() -> None:
    with pytest.raises(InputError, match=r"no rate that both reach \(20 to 210 against 300 to 900\)"):
        bd_quality(ANCHOR, Curve("c", (300.0, 900.0), (33.0, 38.0)))


def test_points_that_cheaper_ones_beat_are_dropped() -> None:
    wobbly = Curve("ap", (1.0, 2.0, 3.0, 4.0, 4.0), (0.5, 0.7, 0.65, 0.7, 0.8))
    assert rising_part(wobbly) == Curve("ap", (1.0, 2.0, 4.0), (0.5, 0.7, 0.8))
    falling = Curve("fid", (1.0, 2.0, 3.0), (50.0, 60.0, 40.0), lower_is_better=True)
    assert rising_part(falling).qualities == (50.0, 40.0)
    assert overlap(ANCHOR, TEST) == pytest.approx((38.9 - 31.2) / (39.4 - 30.5))
