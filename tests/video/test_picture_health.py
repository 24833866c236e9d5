"""Frozen, black, covered, defocused and moved cameras, on films that are made here; and what is none of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.types import Image
from discover_stream.video.picture_health import RULES, Figures, Kind, PictureState, PictureWatch, Rules, after, kind_of
from discover_stream.video.source import open_source

S = 10**9
FPS = 3
FAULT_S, END_S, ALL_S = 12, 30, 40
RNG = np.random.default_rng(0)

Change = Callable[[Image], Image]


@pytest.fixture(scope="module")
def street() -> list[Image]:
    uri = f"sim://road?seed=3&width=160&height=96&fps={FPS}&seconds={ALL_S}"
    with open_source(uri, camera="street") as source:
        return [frame.image for frame in source]


def told(pictures: Iterator[Image] | list[Image], rules: Rules = RULES) -> list[tuple[Kind, float]]:
    """(kind, seconds since the beginning when it was believed), for every change."""
    watch, found = PictureWatch(rules), []
    for number, image in enumerate(pictures):
        before = watch.state.kind
        if watch.see(image, number * S // FPS).kind != before:
            found.append((watch.state.kind, number / FPS))
    return found


def film(street: list[Image], change: Change) -> list[Image]:
    """Good pictures, then changed ones, then good ones again."""
    return [change(image) if FAULT_S <= number / FPS < END_S else image for number, image in enumerate(street)]


def noise(level: int) -> Change:
    return lambda image: (level + RNG.integers(0, 5, image.shape)).astype(np.uint8)


CASES: dict[Kind, Change] = {
    "black": noise(0),
    "covered": noise(90),
    "defocused": lambda image: cv2.GaussianBlur(image, (0, 0), 5),
    "moved": lambda image: np.roll(image, (24, 50), (0, 1)),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_fault_is_told_after_a_while_and_so_is_its_end(street: list[Image], kind: Kind) -> None:
    (first, _), (fault, begun_s), (end, over_s) = told(film(street, CASES[kind]))
    assert (first, fault, end) == ("ok", kind, "ok")
    assert FAULT_S + RULES.hold_s <= begun_s <= FAULT_S + RULES.hold_s + 2
    assert END_S + RULES.leave_s <= over_s <= END_S + RULES.leave_s + 2


def test_a_camera_that_repeats_its_last_picture_is_frozen(street: list[Image]) -> None:
    last = street[FAULT_S * FPS]
    found = told(film(street, lambda image: last))
    assert [kind for kind, _ in found] == ["ok", "frozen", "ok"]
    assert FAULT_S + RULES.freeze_s <= found[1][1] <= FAULT_S + RULES.freeze_s + 2


def test_a_street_as_it_is_has_no_fault(street: list[Image]) -> None:
    assert [kind for kind, _ in told(street)] == ["ok"]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image * 0.5).astype(np.uint8),  # dusk
        lambda image: np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8),  # the exposure changes
        lambda image: np.clip(image + RNG.normal(0, 8, image.shape), 0, 255).astype(np.uint8),  # noise at night
    ],
)
def test_light_and_noise_are_no_fault(street: list[Image], change: Change) -> None:
    assert [kind for kind, _ in told(film(street, change))] == ["ok"]


def test_a_lorry_before_the_lens_is_no_fault(street: list[Image]) -> None:
    def passing() -> Iterator[Image]:
        for number, image in enumerate(street):
            yield CASES["covered"](image) if FAULT_S <= number / FPS < FAULT_S + RULES.hold_s - 1 else image

    assert [kind for kind, _ in told(passing())] == ["ok"]


def test_another_view_that_stays_was_meant(street: list[Image]) -> None:
    rules = Rules(accept_s=8.0)
    found = [kind for kind, _ in told([*street[: FAULT_S * FPS], *map(CASES["moved"], street[FAULT_S * FPS :])], rules)]
    assert found == ["ok", "moved", "unknown", "ok"]


@pytest.mark.parametrize(
    ("figures", "believed", "kind"),
    [
        (Figures(100, 40, 20, 0.0, 40, 20, 1.0), "ok", "frozen"),
        (Figures(3, 1, 1, None), "ok", "black"),
        (Figures(90, 1, 1, None), "ok", "covered"),
        (Figures(90, 40, 20, None), "ok", "unknown"),
        (Figures(90, 8, 3, 1.0, 40, 20, 0.9), "ok", "covered"),
        (Figures(90, 40, 8, 1.0, 40, 20, 0.9), "ok", "defocused"),
        (Figures(90, 40, 20, 1.0, 40, 20, 0.1), "ok", "moved"),
        (Figures(90, 40, 20, 1.0, 40, 20, 0.45), "ok", "ok"),
        (Figures(90, 40, 20, 1.0, 40, 20, 0.45), "moved", "moved"),  # it has to be clearly better to end
        (Figures(90, 40, 20, 1.0, 40, 20, 0.55), "moved", "ok"),
    ],
)
def test_what_figures_mean(figures: Figures, believed: Kind, kind: Kind) -> None:
    assert kind_of(figures, believed) == kind


@given(st.lists(st.tuples(st.sampled_from(["ok", "black", "moved"]), st.integers(1, 20)), max_size=40))
def test_nothing_is_believed_that_was_not_seen_without_a_break(looks) -> None:
    state, at_ns, seen_since = PictureState(), 0, {}
    for kind, steps in looks:
        at_ns += steps * S // 4
        seen_since = {kind: seen_since.get(kind, at_ns)}
        changed = after(state, kind, at_ns)
        if changed.kind != state.kind:
            assert changed.kind == kind
            assert at_ns - seen_since[kind] >= min(RULES.hold_s, RULES.leave_s) * S
            assert changed.since_ns == seen_since[kind]
        state = changed
