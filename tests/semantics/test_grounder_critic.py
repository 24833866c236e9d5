from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from discover_stream.codec.critic import Critic, loss
from discover_stream.semantics.critic import GrounderCritic
from discover_stream.semantics.detector import Detections, detect
from discover_stream.training.pseudo_labels import simulate_samples
from discover_stream.types import Box, Image


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def critic() -> GrounderCritic:
    return GrounderCritic.load()


@pytest.fixture(scope="module")
def street(critic: GrounderCritic) -> tuple[Image, Detections]:
    """A simulated street, and what the grounder finds in the whole picture."""
    image = simulate_samples((200,), per_seed=1)[0].image
    found = detect(critic.network, [image], critic.options)[0].above(0.5)
    assert len(found) >= 3
    return image, found


def boxes(found: Detections) -> list[Box]:
    return [Box(*row) for row in found.boxes.tolist()]


def lost(critic: Critic, original: Image, shown: Image, where: list[Box]) -> list[float]:
    answers = [loss(one) for one in critic.opinions(original, shown, where)]
    assert None not in answers
    return [answer for answer in answers if answer is not None]


def test_it_sees_in_a_window_what_the_grounder_sees_in_the_picture(
    critic: GrounderCritic, street: tuple[Image, Detections]
) -> None:
    image, found = street
    seen = critic.opinions(image, image, boxes(found))
    assert np.median([abs(one.original - score) for one, score in zip(seen, found.scores, strict=True)]) < 0.15
    assert all(one.original > 0.3 and one.shown == pytest.approx(one.original, abs=1e-4) for one in seen)
    assert max(lost(critic, image, image, boxes(found))) < 1e-3


def test_what_is_blurred_away_is_lost_the_more_the_further(
    critic: GrounderCritic, street: tuple[Image, Detections]
) -> None:
    image, found = street
    means = [
        np.mean(lost(critic, image, cv2.GaussianBlur(image, (0, 0), blur).astype(np.uint8), boxes(found)))
        for blur in (0.6, 4.0, 16.0)
    ]
    assert means[0] < 0.2 < means[1] < means[2]


def test_only_the_object_that_is_gone_is_missed(critic: GrounderCritic, street: tuple[Image, Detections]) -> None:
    image, found = street
    places = boxes(found)
    gone = max(range(len(places)), key=lambda i: min(1 - places[i].iou(one) for one in places[:i] + places[i + 1 :]))
    apart = [i for i, one in enumerate(places) if i != gone and one.iou(places[gone]) == 0.0]
    box, shown = places[gone], image.copy()
    shown[int(box.y0) - 2 : int(box.y1) + 3, max(0, int(box.x0) - 2) : int(box.x1) + 3] = 120
    answers = lost(critic, image, shown, places)
    assert answers[gone] > 0.5
    assert np.median([answers[i] for i in apart]) < 0.1


def test_an_object_that_is_shown_elsewhere_is_missed(critic: GrounderCritic, street: tuple[Image, Detections]) -> None:
    image, found = street
    small = min(boxes(found), key=lambda box: box.area)
    step = round(0.5 * (small.x1 - small.x0))
    assert lost(critic, image, np.roll(image, step, axis=1), [small])[0] > 0.2


def test_objects_at_the_edge_and_of_any_size_are_looked_at(critic: GrounderCritic) -> None:
    image = np.full((90, 120, 3), 128, np.uint8)
    where = [
        Box(-50, -40, 10, 12),
        Box(100, 70, 300, 200),
        Box(0, 0, 120, 90),
        Box(5, 5, 5.2, 5.1),
        Box(900, 5, 950, 9),
    ]
    seen = critic.opinions(image, image, where)
    assert len(seen) == len(where)
    assert all(one.original < 0.15 for one in seen)
    assert critic.opinions(image, image, []) == []
