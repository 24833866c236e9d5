import itertools
import random
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.semantics import grounding_dino_captions
from discover_stream.semantics.grounding_dino_captions import Token, caption_text, pack, plan_captions
from discover_stream.types import InputError, LabelSet


def fewest_by_brute_force(sizes: Sequence[int], capacity: int) -> int:
    """Try every way to split the items into groups."""
    best = len(sizes)

    def place(item: int, loads: tuple[int, ...]) -> None:
        nonlocal best
        if item == len(sizes):
            best = min(best, len(loads))
            return
        for n, load in enumerate(loads):
            if load + sizes[item] <= capacity:
                place(item + 1, (*loads[:n], load + sizes[item], *loads[n + 1 :]))
        place(item + 1, (*loads, sizes[item]))

    place(0, ())
    return best


def check(bins: tuple[tuple[int, ...], ...], sizes: Sequence[int], capacity: int) -> None:
    assert sorted(itertools.chain(*bins)) == list(range(len(sizes)))
    assert all(0 < sum(sizes[item] for item in items) <= capacity for items in bins)


@given(st.integers(1, 12).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=8))))
def test_packing_equals_brute_force(case: tuple[int, list[int]]) -> None:
    capacity, sizes = case
    bins = pack(sizes, capacity)
    check(bins, sizes, capacity)
    assert len(bins) == fewest_by_brute_force(sizes, capacity)


def test_packing_beats_best_fit_where_that_fails() -> None:
    cases = [([7, 6, 3, 2, 2, 2, 5, 3], 10), ([4, 4, 4, 6, 6, 6, 5, 5], 10), ([3, 3, 2, 2, 2, 2, 4, 6, 6, 6], 12)]
    generator = random.Random(4)
    for _ in range(300):
        capacity = generator.randint(8, 30)
        cases.append(([generator.randint(2, capacity // 2) for _ in range(generator.randint(4, 9))], capacity))
    repaired = 0
    for sizes, capacity in cases:
        bins = pack(sizes, capacity)
        check(bins, sizes, capacity)
        assert len(bins) == fewest_by_brute_force(sizes, capacity)
        falling = sorted(sizes, reverse=True)
        repaired += max(grounding_dino_captions._best_fit(falling, capacity)) + 1 > len(bins)
    assert repaired >= 2, "no case in which the search was needed"


def test_the_bound_is_never_above_the_truth() -> None:
    generator = random.Random(1)
    for _ in range(300):
        capacity = generator.randint(3, 15)
        sizes = sorted((generator.randint(1, capacity) for _ in range(generator.randint(1, 7))), reverse=True)
        assert grounding_dino_captions._fewest_possible(sizes, capacity) <= fewest_by_brute_force(sizes, capacity)


@pytest.mark.parametrize("count", [100, 300, 4096])
def test_whole_label_sets_fill_their_captions(count: int) -> None:
    generator = random.Random(count)
    sizes = [generator.choice((2, 2, 3, 3, 3, 4, 5, 7)) for _ in range(count)]
    bins = pack(sizes, 254)
    check(bins, sizes, 254)
    assert len(bins) == -(-sum(sizes) // 254)


def test_nothing_to_pack() -> None:
    assert pack([], 10) == ()


def letters(text: str) -> list[Token]:
    """A tokenizer of one token per letter or sign, between two special ones; it does not know the letter q."""
    inner = [Token(m.start(), m.end(), m[0] != "q") for m in re.finditer(r"\S", text)]
    return [Token(0, 0, True), *inner, Token(0, 0, True)]


def halves(text: str) -> list[Token]:
    """Words of more than three letters are two tokens, as word pieces are."""
    found = [Token(0, 0, True)]
    for m in re.finditer(r"\w+|[^\w\s]", text):
        middle = m.start() + 3
        found += [Token(m.start(), min(m.end(), middle), True)]
        found += [Token(middle, m.end(), True)] if m.end() > middle else []
    return [*found, Token(0, 0, True)]


@pytest.mark.parametrize("encode", [letters, halves])
def test_spans_are_what_a_search_over_all_tokens_finds(encode: object) -> None:
    labels = ("van", "delivery van", "car", "car carrier", "cars", "u.s. van?", "a", "carcar")
    plan = plan_captions(LabelSet("t", 1, labels), encode, 20)  # type: ignore[arg-type]
    assert len(plan.captions) > 1
    assert sorted(index for caption in plan.captions for index in caption.labels) == list(range(len(labels)))
    for caption in plan.captions:
        tokens = encode(caption.text)  # type: ignore[operator]
        assert caption.width == len(tokens) <= 20
        # The n-th stretch between full stops belongs to the caption's n-th label.
        owners: list[int | None] = []
        stretch = 0
        for token in tokens:
            text = caption.text[token.start : token.end]
            owners.append(caption.labels[stretch] if text and text != "." else None)
            stretch += text == "."
        for label, (first, last) in zip(caption.labels, caption.spans, strict=True):
            assert [n for n, owner in enumerate(owners) if owner == label] == list(range(first, last))
            said = "".join(caption.text[t.start : t.end] for t in tokens[first:last])
            assert said == caption_text(labels[label]).replace(" ", "")
        assert stretch == len(caption.labels)


def test_captions_are_as_few_as_can_be() -> None:
    generator = random.Random(7)
    for _ in range(40):
        labels = tuple({"x" * generator.randint(1, 9) + "y" * n for n in range(generator.randint(1, 7))})
        plan = plan_captions(LabelSet("t", 1, labels), letters, 22)
        costs = [len(label) + 1 for label in labels]
        assert len(plan.captions) == fewest_by_brute_force(costs, 20)


def test_a_label_of_too_many_tokens_is_refused_by_name() -> None:
    fits, too_long = "x" * 17, "z" * 18
    assert len(plan_captions(LabelSet("t", 1, (fits,)), letters, 20).captions) == 1
    with pytest.raises(InputError, match=rf"task t: the label '{too_long}' has 18 tokens.* holds 17; shorten"):
        plan_captions(LabelSet("t", 1, (fits, too_long)), letters, 20)


def test_labels_without_a_known_token_are_named() -> None:
    plan = plan_captions(LabelSet("t", 1, ("???", "car", "qq", "q x", "")), letters, 20)
    assert plan.unsupported == ("???", "qq", "")
    assert [caption.labels for caption in plan.captions] == [(1, 3)]
    assert plan_captions(LabelSet("t", 1, ("?",)), letters, 20).captions == ()


def test_nothing_in_a_label_ends_it_early() -> None:
    assert caption_text("Dr. No?  [SEP] van") == "dr no sep van"
