from __future__ import annotations

import pytest

from discover_stream.semantics.tracking import Tracker, TrackOptions
from discover_stream.types import Box, Region

WIDTH, HEIGHT = 640, 360


def region(x: float, y: float, w: float = 60, h: float = 40, score: float = 0.8, label: int = 0) -> Region:
    return Region(label, score, Box(x, y, x + w, y + h))


def follow(tracker: Tracker, *regions: Region) -> list[int]:
    return [r.track for r in tracker.update({"vehicles": regions}, WIDTH, HEIGHT)["vehicles"]]


def test_an_object_is_known_from_its_first_frame_on() -> None:
    tracker = Tracker()
    assert [follow(tracker, region(10 + 12 * t, 100)) for t in range(10)] == [[1]] * 10


def test_crossing_objects_keep_their_ids() -> None:
    tracker = Tracker()
    # Two cars pass each other at different heights; their boxes overlap in the middle.
    seen = [follow(tracker, region(40 + 15 * t, 100), region(480 - 15 * t, 118, score=0.7)) for t in range(30)]
    assert seen == [[1, 2]] * 30


def test_a_small_fast_object_is_not_lost() -> None:
    """Seven pixels wide and moving eight a frame: successive boxes do not even touch."""
    tracker = Tracker()
    assert [follow(tracker, region(100 + 8 * t, 50, 7, 6)) for t in range(12)] == [[1]] * 12


def test_neighbours_are_two_objects() -> None:
    tracker = Tracker()
    ids = [follow(tracker, region(100, 100), region(165, 100)) for _ in range(5)]
    assert ids == [[1, 2]] * 5


def test_an_object_may_go_unseen_for_a_few_frames() -> None:
    tracker = Tracker()
    for t in range(10):
        follow(tracker, region(10 + 8 * t, 100))
    for _ in range(4):
        assert follow(tracker) == []
    assert follow(tracker, region(10 + 8 * 14, 100)) == [1]


def test_the_dead_do_not_return() -> None:
    tracker = Tracker()
    for _ in range(10):
        assert follow(tracker, region(100, 100)) == [1]
    for _ in range(20):
        follow(tracker)
    assert follow(tracker, region(100, 100)) == [2]


def test_births_get_ids_in_the_order_of_their_scores() -> None:
    tracker = Tracker()
    assert follow(tracker, region(0, 0, score=0.5), region(300, 0, score=0.9)) == [2, 1]
    assert follow(tracker, region(0, 200), region(0, 0), region(300, 0)) == [3, 2, 1]


def test_one_object_has_one_id_in_all_tasks() -> None:
    tracker = Tracker()
    for t in range(5):
        car, person = region(100 + 10 * t, 100, label=3), region(400, 50 + 5 * t, 15, 40)
        tracks = tracker.update(
            {
                "everything": (car, person),
                "pedestrians": (Region(9, person.score, person.box),),
                "vehicles": (Region(1, car.score, car.box),),
                "empty": (),
            },
            WIDTH,
            HEIGHT,
        )
        assert [r.track for r in tracks["everything"]] == [1, 2]
        assert [r.track for r in tracks["pedestrians"]] == [2]
        assert [r.track for r in tracks["vehicles"]] == [1]
        assert tracks["empty"] == ()
        assert tracks["everything"][0] == Region(3, car.score, car.box, 1)


def test_adding_a_task_changes_no_ids() -> None:
    one, two = Tracker(), Tracker()
    for t in range(8):
        regions = tuple(region(20 + 9 * t + 90 * n, 60 + 30 * n, score=0.5 + 0.1 * (n % 3)) for n in range(4))
        alone = one.update({"vehicles": regions}, WIDTH, HEIGHT)
        both = two.update({"all vehicles": regions[::-1], "vehicles": regions}, WIDTH, HEIGHT)
        assert alone["vehicles"] == both["vehicles"]


def test_the_whole_picture_is_not_tracked() -> None:
    tracker = Tracker()
    scene = Region(5, 1.0, Box(0.0, 0.0, WIDTH, HEIGHT))
    for _ in range(3):
        assert follow(tracker, scene, region(100, 100)) == [0, 1]
    assert tracker.next_track == 2


def test_ids_are_never_used_twice_across_restarts() -> None:
    first = Tracker()
    follow(first, region(0, 0), region(200, 0))
    assert first.next_track == 3
    second = Tracker(next_track=first.next_track)
    assert second.next_track == 3
    assert follow(second, region(0, 0), region(200, 0)) == [3, 4]
    assert second.next_track == 5


def test_trackers_do_not_disturb_each_other() -> None:
    a, b = Tracker(), Tracker(next_track=100)
    for t in range(4):
        assert follow(a, region(10 * t, 0)) == [1]
        assert follow(b, region(10 * t, 0), region(300, 10 * t)) == [100, 101]


def carried(tracker: Tracker, seq: int | None = None) -> dict[int, Box]:
    return {r.track: r.box for r in tracker.carry(WIDTH, HEIGHT, seq)["vehicles"]}


@pytest.mark.parametrize("every", [2, 3, 5])
def test_between_grounded_frames_objects_move_on(every: int) -> None:
    """Also one that gets larger; and who is there from the first frame on keeps its id."""
    tracker = Tracker()
    for t in range(40):
        box = Box(10 + 6 * t, 100 + 2 * t, 50 + 7 * t, 130 + 2.5 * t)
        if t % every == 0:
            (found,) = tracker.update({"vehicles": (Region(4, 0.7, box),)}, WIDTH, HEIGHT)["vehicles"]
            assert found == Region(4, 0.7, box, 1)
        else:
            (found,) = tracker.carry(WIDTH, HEIGHT)["vehicles"]
            assert (found.label, found.score, found.track) == (4, 0.7, 1)
            assert t < 3 * every or found.box.iou(box) > 0.85


def test_numbers_tell_how_far_objects_moved_meanwhile() -> None:
    tracker = Tracker()
    for seq in (0, 1, 2, 3, 6, 7, 12, 13):  # frames were dropped; the others are far enough apart to be nobody
        (found,) = tracker.update({"vehicles": (region(20 + 25 * seq, 100),)}, WIDTH, HEIGHT, seq)["vehicles"]
        assert found.track == 1
    assert carried(tracker, 16)[1].x0 == pytest.approx(20 + 25 * 16, abs=8)


def test_a_late_frame_ends_nobody() -> None:
    tracker = Tracker()
    for seq in range(100, 106):
        tracker.update({"vehicles": (region(100, 100),)}, WIDTH, HEIGHT, seq)
    assert follow_at(tracker, 3, region(101, 100)) == [1]
    assert follow_at(tracker, 106, region(100, 100)) == [1]


def follow_at(tracker: Tracker, seq: int, *regions: Region) -> list[int]:
    return [r.track for r in tracker.update({"vehicles": regions}, WIDTH, HEIGHT, seq)["vehicles"]]


def test_who_leaves_the_picture_is_carried_no_further() -> None:
    tracker = Tracker()
    for t in range(8):
        tracker.update({"vehicles": (region(440 + 20 * t, 100, 60),)}, WIDTH, HEIGHT)
    seen = [carried(tracker) for _ in range(6)]
    assert seen[0][1].x1 == WIDTH
    assert seen[-1] == {}


def test_the_scene_and_all_tasks_are_carried_and_lost_objects_are_not() -> None:
    tracker = Tracker()
    scene, car = Region(5, 1.0, Box(0.0, 0.0, WIDTH, HEIGHT)), region(100, 100, label=1)
    for _ in range(3):
        tracker.update({"a": (scene, car), "b": (Region(9, 0.8, car.box),), "c": ()}, WIDTH, HEIGHT)
    found = tracker.carry(WIDTH, HEIGHT)
    assert [(r.label, r.track) for r in found["a"]] == [(5, 0), (1, 1)]
    assert found["b"][0].box == found["a"][1].box
    assert found["c"] == ()
    tracker.update({"a": (scene,), "b": (), "c": ()}, WIDTH, HEIGHT)
    assert tracker.carry(WIDTH, HEIGHT) == {"a": (scene,), "b": (), "c": ()}


def test_births_and_deaths_are_told() -> None:
    tracker = Tracker(options=TrackOptions(patience=3))
    told = []
    for seq in range(30):
        seen = 5 <= seq < 12 or 14 <= seq < 16
        tracker.update({"vehicles": (region(100 + 3 * seq, 50),) if seen else ()}, WIDTH, HEIGHT, seq)
        told += tracker.events
        (track,) = tracker.tracks or (None,)
        if track is not None:
            assert (track.track, track.first, track.hidden) == (1, 5, not seen)
            assert track.confirmed == (track.sightings >= 3) == (seq >= 7)
            assert track.last == (seq if seen else 11 if seq < 14 else 15)
            assert track.box.x0 == pytest.approx(100 + 3 * seq, abs=1 if seen else 6)
    assert [(event.kind, event.track) for event in told] == [
        ("birth", 1), ("hidden", 1), ("shown", 1), ("hidden", 1), ("death", 1),
    ]  # fmt: skip
    assert [event.seq for event in told][:4] == [5, 12, 14, 16]
    assert 17 < told[-1].seq < 25


def test_nobody_is_waited_for_longer_than_told() -> None:
    tracker = Tracker(options=TrackOptions(longest=8))
    for seq in range(20):
        tracker.update({"vehicles": (region(100, 50),)}, WIDTH, HEIGHT, seq)
    assert carried(tracker, 26) == {1: region(100, 50).box}
    assert carried(tracker, 28) == {}
    assert [(event.kind, event.seq) for event in tracker.events] == [("death", 28)]
    assert tracker.tracks == ()


@pytest.mark.parametrize("bad", [0, -3])
def test_ids_are_positive(bad: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Tracker(next_track=bad)
