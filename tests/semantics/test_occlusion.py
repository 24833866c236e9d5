from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.semantics.occlusion import (
    DepthOrder,
    Sight,
    appearance_vote,
    drawing_order,
    extent_vote,
    extent_votes,
    lifts,
    overlapping,
    steady_lifts,
    wrong_pairs,
)
from discover_stream.types import Box
from discover_stream.video.simulate import SimulatedCamera

CAR, VAN = Box(100, 100, 200, 160), Box(170, 90, 260, 150)


def test_the_lower_edge_is_in_front_unless_something_is_told() -> None:
    boxes = {7: CAR, 3: VAN}
    assert drawing_order(boxes) == (3, 7)
    close = {7: CAR, 3: Box(170, 90, 260, 158)}
    assert drawing_order(close) == (3, 7)
    assert drawing_order(close, DepthOrder({(3, 7): 0.9})) == (7, 3)
    assert drawing_order(boxes, DepthOrder({(3, 7): 0.4})) == (3, 7)  # 10 pixels of 60 outweigh this
    assert drawing_order({}) == ()


def test_who_loses_extent_is_behind() -> None:
    whole = Sight(1, CAR, CAR)
    cut = Sight(2, Box(200, 90, 260, 150), VAN)  # its left third is gone where the car is
    assert extent_vote(whole, cut) == pytest.approx(-extent_vote(cut, whole))
    assert extent_vote(whole, cut) > 0.5
    assert extent_votes((cut, whole)) == {(1, 2): extent_vote(whole, cut)}


def test_a_box_that_shrinks_evenly_or_elsewhere_says_nothing() -> None:
    whole = Sight(1, CAR, CAR)
    right = Sight(2, Box(170, 90, 230, 150), VAN)
    assert extent_vote(whole, right) == 0
    assert extent_votes((whole, Sight(2, Box(400, 0, 450, 50), Box(400, 0, 460, 50)))) == {}


@pytest.mark.parametrize("front", [0, 1])
def test_whose_appearance_stays_is_in_front(front: int) -> None:
    random = np.random.default_rng(5)
    patches = [
        np.clip(tone + random.normal(0, 12, (60, 90, 3)), 0, 255).astype(np.uint8)
        for tone in ((180, 60, 50), (60, 70, 170))
    ]
    image = np.full((200, 320, 3), 120, np.uint8)
    boxes = [Box(100, 80, 190, 140), Box(150, 70, 240, 130)]
    for index in (1 - front, front):
        box = boxes[index]
        image[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = patches[index]
    vote = appearance_vote(image, (boxes[0], patches[0]), (boxes[1], patches[1]))
    assert (vote > 0.5) if front == 0 else (vote < -0.5)
    assert vote == pytest.approx(-appearance_vote(image, (boxes[1], patches[1]), (boxes[0], patches[0])))


def test_appearance_follows_a_box_that_grew() -> None:
    ramp = np.repeat(np.linspace(0, 250, 40, dtype=np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    image = np.full((100, 200, 3), 30, np.uint8)
    image[20:80, 50:130] = np.repeat(np.linspace(0, 250, 80, dtype=np.uint8)[None, :, None], 60, axis=0)
    flat = np.full((20, 20, 3), 30, np.uint8)
    assert appearance_vote(image, (Box(50, 20, 130, 80), ramp), (Box(110, 30, 150, 70), flat)) > 0.8


def test_nothing_can_be_said_of_boxes_outside_or_apart() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    patch = np.zeros((9, 9, 3), np.uint8)
    assert appearance_vote(image, (Box(0, 0, 9, 9), patch), (Box(20, 20, 29, 29), patch)) == 0
    assert appearance_vote(image, (Box(60, 0, 90, 9), patch), (Box(60, 0, 90, 9), patch)) == 0


def test_votes_fade_and_end_with_the_meeting() -> None:
    boxes = {1: CAR, 2: VAN}
    order = DepthOrder()
    for _ in range(30):
        order = order.after({(1, 2): -1.0}, boxes)
    assert order.votes[1, 2] == pytest.approx(-1, abs=0.01)
    told = order.votes[1, 2]
    order = order.after({}, boxes)
    assert told < order.votes[1, 2] < 0
    assert order.after({(1, 2): 1.0}, {1: CAR, 2: Box(400, 0, 450, 50)}).votes == {}


BOXES = st.dictionaries(
    st.integers(1, 30),
    st.builds(
        lambda x, y, w, h: Box(x, y, x + w, y + h),
        st.integers(0, 90), st.integers(0, 90), st.integers(5, 60), st.integers(5, 60),
    ),
    max_size=8,
)  # fmt: skip


@given(BOXES, st.dictionaries(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.floats(-1, 1)))
def test_lifts_give_the_drawing_order_of_what_overlaps(
    boxes: dict[int, Box], votes: dict[tuple[int, int], float]
) -> None:
    order = DepthOrder(votes)
    drawn = drawing_order(boxes, order)
    assert sorted(drawn) == sorted(boxes)
    lifted = lifts(boxes, order)
    assert all(value > 0 for value in lifted.values())
    low = {track: box.y1 + lifted.get(track, 0.0) for track, box in boxes.items()}
    place = {track: index for index, track in enumerate(drawn)}
    for one, other in overlapping(boxes):
        assert (low[one] < low[other]) == (place[one] < place[other])


@given(BOXES)
def test_without_votes_lower_edges_alone_decide(boxes: dict[int, Box]) -> None:
    drawn = drawing_order(boxes)
    assert all((boxes[a].y1, a) < (boxes[b].y1, b) for a, b in pairwise(drawn))


def test_lower_edges_are_right_on_a_simulated_street() -> None:
    right = total = 0
    for seq in range(0, 100, 10):
        _, there = SimulatedCamera("street", width=320, height=176, seed=7).render(seq)
        boxes = {one.track: one.box for one in there}
        painted = {one.track: place for place, one in enumerate(there)}
        drawn = {track: place for place, track in enumerate(drawing_order(boxes))}
        for one, other in overlapping(boxes):
            total += 1
            right += (drawn[one] < drawn[other]) == (painted[one] < painted[other])
    assert total >= 20
    assert right / total > 0.9


def test_lifts_stay_as_long_as_the_order_that_they_give_is_right() -> None:
    order = DepthOrder({(1, 2): -0.9})
    boxes = {1: Box(0, 0, 40, 50.0), 2: Box(20, 0, 60, 49.0)}
    first = steady_lifts({}, boxes, order)
    assert first.keys() == {2}
    assert wrong_pairs({}, boxes, order) == 1
    assert wrong_pairs(first, boxes, order) == 0
    moved = boxes | {1: Box(2, 2, 42, 52.0)}
    assert steady_lifts(first, moved, order) == first
    # Where both stand equally low and nothing was seen, no order is wrong.
    assert steady_lifts({}, {1: Box(0, 0, 40, 50.0), 2: Box(20, 0, 60, 50.2)}, DepthOrder()) == {}
