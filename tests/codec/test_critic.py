from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.critic import AGREES, FAINT, loss

SHARE = st.floats(0, 1)


class Opinion(NamedTuple):
    original: float
    shown: float
    overlap: float = 1.0


def test_what_is_seen_as_in_the_frame_is_not_lost() -> None:
    assert loss(Opinion(0.4, 0.4)) == 0.0
    assert loss(Opinion(0.4, 0.9)) == 0.0


def test_what_is_not_seen_any_more_is_lost() -> None:
    assert loss(Opinion(0.4, 0.0)) == 1.0
    assert loss(Opinion(0.9, 0.0)) == 1.0


def test_the_share_of_the_score_that_is_missing_is_lost() -> None:
    assert loss(Opinion(0.8, 0.6)) == pytest.approx(0.25)
    assert loss(Opinion(0.4, 0.3)) == pytest.approx(0.25)


def test_a_box_that_is_seen_elsewhere_is_a_loss_whatever_the_score() -> None:
    assert loss(Opinion(0.8, 0.8, AGREES)) == 0.0
    assert loss(Opinion(0.8, 0.8, AGREES / 2)) == pytest.approx(0.5)


def test_a_critic_that_does_not_know_an_object_cannot_tell() -> None:
    assert loss(Opinion(FAINT / 2, 0.9)) is None
    assert loss(Opinion(0.0, 0.0, 0.0)) is None


@given(st.floats(FAINT, 1), SHARE, SHARE, SHARE)
def test_it_is_a_share_and_falls_with_what_is_seen(original: float, shown: float, more: float, overlap: float) -> None:
    low, high = sorted((shown, more))
    worse, better = loss(Opinion(original, low, overlap)), loss(Opinion(original, high, overlap))
    assert worse is not None
    assert better is not None
    assert 0.0 <= better <= worse <= 1.0
