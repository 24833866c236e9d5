from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from discover_stream.semantics.tags import MAX_CONDITION, MAX_PICTURE_TAGS, condition_text, picture_tags
from discover_stream.types import Box, LabelSet, Region

STREET = LabelSet("street", 1, ("car", "delivery van", "bus", "asphalt road"))


def region(label: int, score: float = 0.9, width: float = 10) -> Region:
    return Region(label, score, Box(0, 0, width, 10))


def test_what_is_surely_there_is_a_tag_once() -> None:
    found = (region(2, 0.8), region(0, 0.9), region(0, 0.6), region(1, 0.49), region(3, 1.0, 640))
    assert picture_tags(found) == (0, 2, 3)
    assert picture_tags(found, 0.85) == (0, 3)
    assert picture_tags(()) == ()


def test_too_many_tags_leave_the_surest() -> None:
    found = [region(label, 0.5 + label / 200) for label in range(60)]
    assert picture_tags(found) == tuple(range(60 - MAX_PICTURE_TAGS, 60))


def test_tags_in_words() -> None:
    assert condition_text((3, 0, 1, 0), STREET) == "car, delivery van, asphalt road"
    assert condition_text((), STREET) == ""
    assert condition_text((4, 2, -1), STREET) == "bus"


@given(st.sets(st.integers(0, 119)), st.integers(1, 100))
def test_a_condition_is_bounded_and_depends_on_the_tags_alone(tags: set[int], length: int) -> None:
    labels = LabelSet("long", 1, tuple(f"{n:03}".ljust(length, "x") for n in range(120)))
    text = condition_text(sorted(tags), labels)
    assert text == condition_text(sorted(tags, reverse=True), labels)
    assert len(text) <= MAX_CONDITION
    words = text.split(", ") if text else []
    assert words == [labels.labels[tag] for tag in sorted(tags)][: len(words)]
    assert len(words) == len(tags) or len(text) + 2 + length > MAX_CONDITION or length < 3
