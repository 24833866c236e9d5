from __future__ import annotations

from collections import deque

import pytest
from street import RED, SIZE, picture, road

from discover_stream.codec.quarter_box import QuarterBox, Speed
from discover_stream.codec.records import STILL, Key, Ref
from discover_stream.codec.stream_motion import Scene
from discover_stream.codec.stream_tracks import (
    Live,
    Sight,
    adopted,
    distance,
    hidden_by,
    hiding,
    nearer,
    newborn,
    sights_of,
)
from discover_stream.types import Box, Region

WHOLE = Box(0, 0, 160, 96)


def live(track: int = 1, box: QuarterBox | None = None, **changes: object) -> Live:
    place = box or QuarterBox(40, 40, 80, 48)
    values: dict[str, object] = {
        "ref": Ref(0, 0), "key": Key(0, track, place, 60, ((0, 3),)), "tasks": (11,), "box": place, "said": 0,
        "speed": STILL, "sprite": None, "own": None, "source": None, "hidden": False, "on_plate": True, "key_time": 0.0,
        "sent_time": 0.0, "sent_error": 0.0, "sent_size": 15.0, "found_time": 0.0, "moved_time": 0.0, "rest": place,
    }  # fmt: skip
    return Live(**(values | changes))  # type: ignore[arg-type]


def test_an_object_of_several_tasks_is_one() -> None:
    box = Box(10, 10, 30, 20)
    found, others = sights_of({11: [Region(3, 0.5, box, 7)], 22: [Region(8, 0.9, box, 7)]}, WHOLE)
    assert others == []
    assert found == {7: Sight(7, QuarterBox.of(box), round(0.9 * 63), ((11, 3), (22, 8)))}


def test_what_has_no_track_is_told_for_itself_and_what_is_outside_is_nothing() -> None:
    regions = [Region(0, 1.0, WHOLE), Region(0, 1.0, Box(-20, 0, -1, 9), 4), Region(0, 1.0, Box(150, 90, 170, 99), 5)]
    found, others = sights_of({11: regions}, WHOLE)
    assert [sight.box.pixels for sight in others] == [WHOLE]
    assert found[5].box.pixels == Box(150, 90, 160, 96)
    assert set(found) == {5}


def test_two_boxes_of_one_object_are_one_with_the_labels_of_both() -> None:
    first, second = Region(3, 0.8, Box(10, 10, 50, 30), 1), Region(9, 0.6, Box(11, 10, 51, 31), 2)
    found, _ = sights_of({11: [first], 22: [second]}, WHOLE)
    assert set(found) == {1}
    assert found[1].labels == ((11, 3), (22, 9))
    apart, _ = sights_of({11: [first, Region(9, 0.6, Box(40, 10, 80, 31), 2)]}, WHOLE)
    assert set(apart) == {1, 2}


def test_a_lost_track_that_comes_back_under_another_name_is_adopted() -> None:
    place = QuarterBox(40, 40, 80, 48)
    again = {9: Sight(9, QuarterBox(44, 42, 80, 48), 50, ((11, 3),))}
    assert adopted(again, {1: live(1, place)}, 5) == {9: 1}
    assert adopted(again | {1: Sight(1, place, 50, ((11, 3),))}, {1: live(1, place)}, 5) == {}
    assert adopted({9: Sight(9, QuarterBox(300, 42, 80, 48), 50, ((11, 3),))}, {1: live(1, place)}, 5) == {}


def test_a_speed_is_what_was_seen() -> None:
    track = live()
    for seq in range(6):
        track.noted(seq, QuarterBox(40 + 12 * seq, 40 - 4 * seq, 80, 48), seq / 10)
    assert track.rate() == Speed(96, -32, 0, 0)
    assert live().rate() == STILL


def test_a_size_that_wavers_is_no_growth_but_one_that_grows_is() -> None:
    wavering, growing = live(), live()
    for seq, noise in enumerate((0, 9, -7, 8, -9, 6)):
        wavering.noted(seq, QuarterBox(40, 40, 80 + noise, 48), 0.0)
        growing.noted(seq, QuarterBox(40, 40, 80 + 8 * seq, 48 + 4 * seq), 0.0)
    assert wavering.rate().width == 0
    assert growing.rate() == Speed(0, 0, 64, 32)


def test_a_key_with_another_box_does_not_look_like_movement() -> None:
    track = live()
    for seq in range(6):
        track.noted(seq, QuarterBox(40, 40, 80, 48), 0.0)
    track.resized(QuarterBox(30, 34, 100, 60))
    track.noted(6, QuarterBox(30, 34, 100, 60), 0.0)
    assert track.rate() == STILL


def test_a_move_says_what_differs_from_what_decoders_predict() -> None:
    track = live(speed=Speed(16, 0, 0, 0))
    track.past = deque([(0, 40, 40, 80, 48), (1, 42, 40, 80, 48), (2, 44, 40, 80, 48)])
    move = track.move(2, (0,), QuarterBox(44, 41, 80, 48), False)
    assert move.box(track.key.box.after(track.key.speed, 2)) == QuarterBox(44, 41, 80, 48)
    assert move.speed is None  # as before
    listed = track.move(3, (0,), track.at(3), True)
    assert listed.speed == Speed(16, 0, 0, 0)  # a packet that lists starts from the key's
    assert track.at(5).x == track.at(3).x + 4


def test_what_stands_still_is_told_from_what_moves() -> None:
    track = live()
    track.noted(1, QuarterBox(42, 40, 80, 48), 5.0)
    assert track.moved_time == 0.0
    track.noted(2, QuarterBox(52, 40, 80, 48), 6.0)
    assert track.moved_time == 6.0


def test_nearer_objects_cover_those_behind() -> None:
    far, near = QuarterBox(40, 40, 80, 48), QuarterBox(60, 60, 80, 48)
    assert hidden_by(nearer(1, far, {1: far, 2: near}, {}), (96, 160)).sum() == 20 * 12
    assert hidden_by(nearer(2, near, {1: far, 2: near}, {}), (96, 160)).sum() == 0
    assert distance(far, near) == 5.0


def test_what_nobody_finds_hides_only_where_nothing_else_is_found() -> None:
    place, beside = QuarterBox(40, 40, 80, 48), QuarterBox(300, 40, 80, 48)
    found = {2: Sight(2, QuarterBox(44, 40, 80, 48), 50, ((11, 3),))}
    lost = {1: live(1, place), 3: live(3, beside), 4: live(4, beside, hidden=True)}
    assert hiding(found, lost, 0) == {2: found[2].box, 3: beside}


def test_a_newborn_is_measured_against_the_plate() -> None:
    box = QuarterBox.of(Box(40, 30, 40 + SIZE[0], 30 + SIZE[1]))
    scene = Scene.of(picture({1: (RED, 40, 30)}), road())
    one = newborn(Sight(1, box, 60, ((11, 3),)), scene, scene, [], False)
    assert one.view.key_s is None
    assert one.view.plate_error > 30
    assert one.view.visible == 1.0
    assert one.view.size == pytest.approx((SIZE[0] * SIZE[1]) ** 0.5, abs=0.5)


def test_a_speed_that_hardly_changed_is_not_told_again() -> None:
    for step, told in ((0.05, True), (0.5, False)):
        track = live(speed=Speed(16, 0, 0, 0))  # half a pixel a frame
        for seq in range(6):
            track.noted(seq, QuarterBox(40 + round(4 * (0.5 + step) * seq), 40, 80, 48), seq / 10)
        assert (track.steady() == track.speed) == told
        assert (track.move(6, (0,), track.at(6), False).speed is None) == told
