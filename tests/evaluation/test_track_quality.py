from __future__ import annotations

import math

import pytest

from discover_stream.evaluation.track_quality import TrackQuality, TrueFrame, track_quality
from discover_stream.types import Box


def at(x: float, y: float = 0) -> Box:
    return Box(x, y, x + 20, y + 20)


def frames(truth: list[dict[int, Box]], found: list[dict[int, Box]]):
    return [(TrueFrame(objects), boxes) for objects, boxes in zip(truth, found, strict=True)]


def test_tracks_without_fault() -> None:
    truth = [{1: at(t), 2: at(100 + t)} for t in range(10)]
    quality = track_quality(frames(truth, [{7: boxes[1], 9: boxes[2]} for boxes in truth]))
    assert (quality.objects, quality.hits, quality.extra, quality.switches, quality.kept) == (20, 20, 0, 0, 20)
    assert (quality.mota, quality.idf1, quality.iou) == (1, 1, 1)


def test_a_track_that_is_lost_and_another_that_goes_on() -> None:
    """4 frames as track 1, one missed, 5 as track 2: one switch; the better identity covers 5 of 10."""
    truth = [{1: at(2 * t)} for t in range(10)]
    found = [{} if t == 4 else {1 if t < 4 else 2: at(2 * t)} for t in range(10)]
    quality = track_quality(frames(truth, found))
    assert (quality.hits, quality.missed, quality.extra, quality.switches, quality.kept) == (9, 1, 0, 1, 5)
    assert quality.mota == pytest.approx(1 - 2 / 10)
    assert quality.idf1 == pytest.approx(2 * 5 / 19)


def test_two_that_swap_their_tracks() -> None:
    truth = [{1: at(0), 2: at(100)}] * 6
    found = [{1: at(0), 2: at(100)}] * 3 + [{1: at(100), 2: at(0)}] * 3
    quality = track_quality(frames(truth, found))
    assert (quality.switches, quality.kept) == (2, 6)
    assert quality.mota == pytest.approx(1 - 2 / 12)
    assert quality.idf1 == pytest.approx(0.5)


def test_an_object_keeps_its_track_while_it_covers_it_even_if_another_covers_it_better() -> None:
    truth = [{1: at(0)}] * 3
    found = [{5: at(2)}, {5: at(4), 6: at(0)}, {5: at(4), 6: at(0)}]
    quality = track_quality(frames(truth, found))
    assert (quality.hits, quality.extra, quality.switches) == (3, 2, 0)


def test_what_covers_too_little_is_missed_and_extra() -> None:
    quality = track_quality(frames([{1: at(0)}], [{1: at(15)}]))
    assert (quality.hits, quality.extra, quality.missed, quality.mota) == (0, 1, 1, -1)


def test_excused_objects_need_not_be_found_and_may_be() -> None:
    truth = TrueFrame({1: at(0)}, (at(100), Box(200, 0, 300, 100)))
    quality = track_quality([(truth, {1: at(0), 2: at(102), 3: at(230, 40)})])
    assert (quality.hits, quality.extra) == (1, 0)
    assert track_quality([(truth, {2: at(102)})]).missed == 1


def test_counts_of_cameras_add_up() -> None:
    one = TrackQuality(10, 8, 1, 2, 7, 6.4)
    both = one + TrackQuality(10, 10, 0, 0, 10, 10)
    assert (both.objects, both.missed, both.extra, both.switches, both.kept) == (20, 2, 1, 2, 17)
    assert both.mota == pytest.approx(1 - 5 / 20)
    assert both.iou == pytest.approx(16.4 / 18)
    assert math.isnan(TrackQuality().mota)
