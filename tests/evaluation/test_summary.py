from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.evaluation.summary import compare, comparisons, hull, needed_rates, rate_at
from discover_stream.types import InputError

POINTS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=20)


@given(POINTS)
def test_no_point_lies_above_the_hull(points: list[tuple[float, float]]) -> None:
    best = hull(points)
    assert set(best) <= set(points)
    assert [rate for rate, _ in best] == sorted({rate for rate, _ in best})
    assert all(later[1] > earlier[1] for earlier, later in pairwise(best))
    for rate, quality in points:
        reached = rate_at(points, quality)
        assert reached is not None
        assert reached <= rate + 1e-9


@given(POINTS)
def test_distances_are_qualities_turned_round(points: list[tuple[float, float]]) -> None:
    turned = [(rate, -quality) for rate, quality in points]
    assert hull(turned, lower=True) == [(rate, -quality) for rate, quality in hull(points)]


def record(name: str, rate: float, ap: float, item: str = "street") -> dict[str, object]:
    return {
        "item": item, "group": "simulated", "kind": "video", "name": name, "kbps": rate, "bpp": 0.1,
        "measures": {"AP50 [judge]": ap},
    }  # fmt: skip


def curve(name: str, factor: float, item: str = "street") -> list[dict[str, object]]:
    return [record(name, factor * rate, ap, item) for rate, ap in ((10, 0.3), (20, 0.5), (40, 0.7), (80, 0.85))]


def test_verdicts_and_their_order() -> None:
    records = [
        record("original", 9999, 1.0, "a"), *curve("ours", 0.5, "a"), *curve("x265", 1.0, "a"),
        record("original", 9999, 1.0, "b"), *curve("ours", 2.0, "b"), *curve("x265", 1.0, "b"),
        record("original", 9999, 1.0, "c"), *curve("ours", 1.02, "c"), *curve("x265", 1.0, "c"),
    ]  # fmt: skip
    found = comparisons(records)
    assert [(one.item, one.verdict) for one in found] == [("b", "lose"), ("c", "tie"), ("a", "win")]
    assert found[0].percent == pytest.approx(100)
    assert found[2].percent == pytest.approx(-50)
    with pytest.raises(InputError, match="no system 'x266'"):
        comparisons(records, "x266")


def test_the_best_peer_counts_at_every_point() -> None:
    cheap = [record("avif", 5, 0.4), record("avif", 80, 0.41)]
    records = [*curve("ours", 1.0), *curve("x265", 1.0), *cheap]
    alone = compare(records, "AP50 [judge]", "ours", ["x265"], "x265")
    both = compare(records, "AP50 [judge]", "ours", ["x265", "avif"], "best")
    assert alone is not None
    assert both is not None
    assert alone.percent == pytest.approx(0, abs=1e-6)
    assert both.percent is not None
    assert both.percent > 1


def test_curves_that_do_not_meet() -> None:
    peers = curve("x265", 1.0)
    weak = compare([record("ours", 500, 0.1), record("ours", 900, 0.2), *peers], "AP50 [judge]", "ours", ["x265"], "")
    assert weak is not None
    assert weak.verdict == "lose"
    strong = compare([record("ours", 1, 0.95), record("ours", 2, 0.99), *peers], "AP50 [judge]", "ours", ["x265"], "")
    assert strong is not None
    assert strong.verdict == "win"
    apart = compare([record("ours", 1, 0.1), record("ours", 2, 0.2), *peers], "AP50 [judge]", "ours", ["x265"], "")
    assert apart is not None
    assert apart.verdict == "not comparable"


@pytest.mark.parametrize(
    ("ours", "peers", "verdict", "percent"),
    [
        ([(10, 0.4), (40, 0.8)], [(25, 0.6)], "tie", 0.0),
        ([(10, 0.4), (40, 0.8)], [(100, 0.6)], "win", -75.0),
        ([(50, 0.5)], [(10, 0.3), (20, 0.5), (40, 0.7)], "lose", 150.0),
        ([(50, 0.1)], [(10, 0.3), (80, 0.9)], "lose", None),
        ([(50, 0.1)], [(80, 0.1)], "win", -37.5),
        ([(5, 0.1)], [(80, 0.9)], "not comparable", None),
        ([(90, 0.95)], [(80, 0.9)], "not comparable", None),
    ],
)
def test_single_points_are_compared_at_their_own_quality(
    ours: list[tuple[float, float]], peers: list[tuple[float, float]], verdict: str, percent: float | None
) -> None:
    records = [*(record("ours", *one) for one in ours), *(record("x265", *one) for one in peers)]
    found = compare(records, "AP50 [judge]", "ours", ["x265"], "")
    assert found is not None
    assert found.verdict == verdict
    assert found.percent == (None if percent is None else pytest.approx(percent))


def test_fewer_bits_at_a_corner_of_the_curve_are_no_win() -> None:
    ours = [record("ours", 60, 0.79), record("ours", 70, 0.92)]
    peers = [record("x265", 10, 0.1), record("x265", 59, 0.78), record("x265", 69, 0.91), record("x265", 1000, 0.93)]
    found = compare([*ours, *peers], "AP50 [judge]", "ours", ["x265"], "")
    assert found is not None
    assert found.percent is not None
    assert found.delta is not None
    if found.percent < -5:
        assert (found.verdict == "win") == (found.delta >= 0)
    assert found.shared == pytest.approx(0.13 / 0.83)


@pytest.mark.parametrize(
    ("factor", "count", "verdict"),
    [(0.5, 9, "not comparable"), (0.5, 10, "win"), (1.0, 9, "not comparable"), (2.0, 9, "lose"), (2.0, 10, "lose")],
)
def test_a_handful_of_objects_is_enough_to_lose_and_not_to_win(factor: float, count: int, verdict: str) -> None:
    records = [*curve("ours", factor), *curve("x265", 1.0)]
    for one in records:
        one["measures"]["objects [judge]"] = count  # type: ignore[index]
    found = compare(records, "AP50 [judge]", "ours", ["x265"], "")
    assert found is not None
    assert found.verdict == verdict


def test_what_is_needed_is_measured_against_the_ceiling() -> None:
    records = [record("original", 9999, 0.5), *curve("x265", 1.0), record("ours", 10, 0.1)]
    (needed,) = needed_rates(records)
    assert needed.rates["ours"] is None
    assert needed.rates["x265"] == pytest.approx(17.5)  # 0.45 lies three quarters of the way from 0.3 to 0.5
    assert needed.at_most == ()
    (needed,) = needed_rates([record("original", 9999, 0.3), *curve("x265", 1.0)])
    assert needed.rates == {"x265": 10}
    assert needed.at_most == ("x265",), "nobody tried with fewer bits"
