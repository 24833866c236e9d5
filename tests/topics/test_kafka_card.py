"""What a stage keeps beside its positions on a broker."""

from __future__ import annotations

import pytest

from topics.kafka_card import Card
from topics.log import LogError


def test_a_card_comes_back() -> None:
    card = Card("encode, process 7", "token", 12, {("frames", 3, 41): 2, ("frames", 3, 42): 1})
    assert Card.decode(card.encode(), "stage:encode-3") == card
    card.check_size("encode-3")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a", "b", 1, [[1]]]'])
def test_a_card_of_others_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(LogError, match=r"group stage:encode-3: .* another version.*use that version"):
        Card.decode(text, "stage:encode-3")


def test_more_attempts_than_a_broker_keeps_are_refused_with_the_stage() -> None:
    card = Card("a", "b", attempts={("frames", 0, offset): 1 for offset in range(1000)})
    with pytest.raises(LogError, match="stage encode-0: 1000 records were begun"):
        card.check_size("encode-0")
