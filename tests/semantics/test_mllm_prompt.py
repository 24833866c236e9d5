from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.semantics.labels import MIN_LABELS, builtin_tasks, checked_labels
from discover_stream.semantics.matching import canonical_words, last_word
from discover_stream.semantics.mllm_prompt import (
    SCHEMA,
    SYSTEM,
    AnswerError,
    SortedLabels,
    join_labels,
    question,
    read_answer,
    refusal,
    repair_request,
    sort_labels,
)


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("", "nothing"),
        ("42", "nothing"),
        ("—", "nothing"),
        ("a very long label that goes on and on and on", "too long"),
        ("x" * 61, "too long"),
        ("the van is parked", "sentence"),
        ("cars, vans and buses", "sentence"),
        ("Look out!", "sentence"),
        ("car\nvan", "sentence"),
        ("traffic safety", "abstract"),
        ("speed of the bus", "abstract"),
        ("Violations", "abstract"),
    ],
)
def test_labels_that_cannot_be_grounded(label: str, word: str) -> None:
    why = refusal(label)
    assert why is not None
    assert word in why


@pytest.mark.parametrize(
    "label",
    [
        "car",
        "Delivery Van",
        "person pushing a pram",
        "level crossing",
        "no-parking sign",
        "speed bump",
        "bus stop",
        "Kfz",
    ],
)
def test_labels_that_can(label: str) -> None:
    assert refusal(label) is None


def test_the_label_sets_that_are_shipped_would_pass() -> None:
    for task in builtin_tasks().values():
        refused = {label: why for label in task.label_set.labels if (why := refusal(label)) is not None}
        assert not refused
        assert sort_labels(task.label_set.labels).enough


@pytest.mark.parametrize("other", ["cars", "CAR", "a car", "the  car", "Cars"])
def test_one_thing_is_one_label(other: str) -> None:
    found = sort_labels(["car", other])
    assert found.labels == ("car",)
    assert found.refused[0][1] == "the same as 'car'"


def test_hyphens_and_plurals_inside() -> None:
    assert sort_labels(["delivery-van", "delivery vans", "lorries", "lorry"]).labels == ("delivery-van", "lorries")
    assert canonical_words("The Delivery-Vans") == ("delivery", "van")
    assert last_word("white delivery vans at a bus stop") == "van"


@given(st.lists(st.text(max_size=70) | st.integers() | st.none(), max_size=40))
def test_sorting_keeps_or_refuses_every_label(labels: list[object]) -> None:
    found = sort_labels(labels)
    assert len(found.labels) + len(found.refused) == len(labels)
    assert sort_labels(found.labels).labels == found.labels
    if found.enough:
        assert checked_labels(found.labels, "here") == found.labels


def test_enough_means_what_a_label_set_needs() -> None:
    assert not SortedLabels(tuple(f"thing {n}" for n in range(MIN_LABELS - 1))).enough
    assert SortedLabels(tuple(f"thing {n}" for n in range(MIN_LABELS))).enough


@given(st.text())
def test_any_answer_is_read_or_refused(text: str) -> None:
    with suppress(AnswerError):
        read_answer(text)


def test_answers_may_be_wrapped() -> None:
    for text in (
        '{"labels": ["a"]}',
        'So:\n{"labels": ["a"]}.',
        '<think>{"labels": 1}</think>{"labels": ["a"], "n": 1}',
    ):
        assert read_answer(text) == ("a",)
    with pytest.raises(AnswerError, match="empty"):
        read_answer(" \n")


def test_joined_answers_keep_the_first_ones_order() -> None:
    one, two = sort_labels(["van", "car"]), sort_labels(["cars", "bus", ""])
    both = join_labels(one, two)
    assert both.labels == ("van", "car", "bus")
    assert both.refused == two.refused


def test_the_question_asks_for_what_is_checked() -> None:
    system, user = question("  count vans ")
    assert system["content"] == SYSTEM
    assert user["content"].endswith("count vans")
    assert int(next(word for word in SYSTEM.split() if word.isdigit())) >= MIN_LABELS
    assert json.dumps(SCHEMA)
    assert "37 distinct" in repair_request(SortedLabels(tuple(f"thing {n}" for n in range(37))), None)
