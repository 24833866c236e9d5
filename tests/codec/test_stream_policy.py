from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.stream_policy import (
    Act,
    StreamRules,
    TrackView,
    criticised,
    decide_track,
    quantizer_for,
    refresh_pays,
    resembles,
    shows,
    tried,
    zoom_for,
)
from discover_stream.codec.stream_rate import WINDOW_S, RateState, allowance, controlled, spent

RULES = StreamRules()
NEW = TrackView(found=True, unseen_s=0.0, key_s=None, atom_s=None, plate_error=30.0, size=50.0)
SEEN = replace(NEW, key_s=1.0, atom_s=1.0, error=2.0, bare_error=30.0, glide_error=2.0, sent_error=2.0)
ON_PLATE = replace(NEW, key_s=1.0, plate_error=1.0)


def act(view: TrackView) -> tuple[Act, bool]:
    verdict = decide_track(view, RULES)
    return verdict.act, verdict.atom


def test_an_object_that_appears_is_keyed_with_a_picture() -> None:
    assert act(NEW) == (Act.KEY, True)


def test_what_the_plate_shows_is_keyed_without_one() -> None:
    assert act(replace(NEW, plate_error=RULES.shown * RULES.threshold)) == (Act.KEY, False)


def test_what_is_covered_is_not_coded_before_it_is_seen() -> None:
    hidden = replace(NEW, visible=RULES.judged / 2)
    assert act(hidden) == (Act.KEY, False)
    assert act(replace(ON_PLATE, plate_error=30.0, visible=0.9)) == (Act.KEY, True)


def test_what_was_covered_when_it_was_keyed_gets_its_picture_as_soon_as_it_is_seen() -> None:
    error = 1.1 * RULES.shown * RULES.threshold
    assert act(replace(ON_PLATE, plate_error=error))[0] == Act.GLIDE
    awaited = replace(ON_PLATE, plate_error=error, awaited=True, sent_error=50.0)
    assert act(awaited) == (Act.KEY, True)
    assert act(replace(awaited, visible=RULES.judged / 2))[0] == Act.GLIDE
    assert shows(replace(ON_PLATE, plate_error=1.0), RULES)
    assert not shows(replace(ON_PLATE, plate_error=0.0, visible=0.1), RULES)


def test_what_is_covered_when_its_key_is_due_is_not_taken_for_the_plates() -> None:
    due = replace(SEEN, key_s=RULES.key_s, plate_error=0.0, visible=0.1)
    assert act(due) == (Act.KEY, False)
    assert not shows(due, RULES)


def test_what_others_show_needs_no_picture_of_its_own() -> None:
    assert act(replace(NEW, lack=1.0)) == (Act.KEY, False)
    assert act(replace(ON_PLATE, plate_error=30.0, lack=2.0, awaited=True)) == (Act.GLIDE, False)
    # A picture that it has is not given up for that: what shows it may leave.
    assert act(replace(SEEN, key_s=RULES.key_s, lack=1.0)) == (Act.KEY, True)


def test_a_good_picture_glides_for_nothing() -> None:
    assert act(SEEN) == (Act.GLIDE, False)
    assert act(ON_PLATE) == (Act.GLIDE, False)


def test_a_box_that_is_off_is_moved() -> None:
    assert act(replace(SEEN, off=3.0, glide_error=6.0)) == (Act.MOVE, False)
    # ... unless that makes no difference to be seen
    assert act(replace(SEEN, off=3.0, glide_error=2.1)) == (Act.GLIDE, False)


def test_a_picture_that_got_worse_is_renewed() -> None:
    bad = replace(SEEN, error=RULES.threshold + 4)
    assert act(bad) == (Act.RENEW, True)
    assert act(replace(bad, atom_s=RULES.pause_s / 2))[0] != Act.RENEW
    assert act(replace(bad, found=False))[0] != Act.RENEW


def test_what_the_quantizer_lost_is_not_sent_again() -> None:
    assert act(replace(SEEN, error=12.0, sent_error=11.0))[0] != Act.RENEW


def test_a_striking_object_stands_more_error_than_a_faint_one() -> None:
    error = RULES.threshold + 2
    assert act(replace(SEEN, error=error, bare_error=2 * error))[0] == Act.RENEW
    assert act(replace(SEEN, error=error, bare_error=2 * error / RULES.contrast))[0] != Act.RENEW


def test_an_object_that_grew_is_renewed_early() -> None:
    grown = replace(SEEN, growth=2.0, error=0.7 * RULES.threshold)
    assert act(grown) == (Act.RENEW, True)
    assert act(replace(grown, error=1.0))[0] == Act.GLIDE


def test_a_key_is_due_in_time_for_those_who_join() -> None:
    assert act(replace(SEEN, key_s=RULES.key_s)) == (Act.KEY, True)
    assert act(replace(ON_PLATE, key_s=RULES.key_s)) == (Act.KEY, False)


def test_a_task_that_wants_the_track_gets_a_key() -> None:
    assert act(replace(SEEN, members=False)) == (Act.KEY, True)


def test_an_object_that_left_the_plate_gets_a_picture() -> None:
    assert act(replace(ON_PLATE, plate_error=RULES.leaves * RULES.threshold + 1)) == (Act.KEY, True)


def test_what_the_plates_quantizer_lost_does_not_mean_that_it_left() -> None:
    rough = replace(ON_PLATE, plate_error=1.1 * RULES.leaves * RULES.threshold)
    assert act(rough) == (Act.KEY, True)
    assert act(replace(rough, sent_error=rough.plate_error))[0] == Act.GLIDE


def test_a_parked_object_becomes_the_plates() -> None:
    assert act(replace(SEEN, parked=True)) == (Act.KEY, False)
    assert act(replace(SEEN, plate_error=1.0, error=4.0, bare_error=0.5)) == (Act.KEY, False)


def test_an_object_that_went_behind_something_is_hidden_and_then_over() -> None:
    gone = replace(SEEN, found=False, error=20.0, bare_error=3.0, unseen_s=0.2)
    assert act(gone) == (Act.HIDE, False)
    assert act(replace(gone, unseen_s=RULES.patience_s)) == (Act.END, False)


def test_an_object_that_the_grounder_missed_but_that_is_there_stays() -> None:
    assert act(replace(SEEN, found=False, unseen_s=0.2))[0] == Act.GLIDE


def test_what_is_covered_is_moved_to_where_it_is_found() -> None:
    covered = replace(SEEN, visible=0.1, error=0.0, off=40.0)
    assert act(covered) == (Act.MOVE, False)
    assert act(replace(covered, found=False, unseen_s=0.1)) == (Act.GLIDE, False)
    assert act(replace(covered, off=3.0)) == (Act.GLIDE, False)


def test_what_is_grossly_wrong_does_not_wait() -> None:
    just = replace(SEEN, atom_s=0.1, error=1.5 * RULES.threshold, bare_error=30.0)
    assert act(just)[0] != Act.RENEW
    assert act(replace(just, error=2.5 * RULES.threshold)) == (Act.RENEW, True)
    assert act(replace(just, error=2.5 * RULES.threshold, atom_s=0.05))[0] != Act.RENEW


def test_an_object_of_which_more_is_there_than_its_picture_has_is_renewed() -> None:
    came_in = replace(SEEN, atom_s=0.1, uncovered=3 * RULES.threshold)
    assert act(came_in) == (Act.RENEW, True)
    assert act(replace(came_in, uncovered=RULES.threshold)) == (Act.GLIDE, False)
    # While the edge still cuts it, the next picture will not be the last.
    assert act(replace(came_in, cut=True)) == (Act.GLIDE, False)
    assert act(replace(came_in, cut=True, atom_s=RULES.pause_s)) == (Act.RENEW, True)


def test_what_cannot_be_judged_glides() -> None:
    assert act(replace(SEEN, visible=0.1, error=90.0, off=9.0)) == (Act.GLIDE, False)


@given(
    st.builds(
        TrackView,
        found=st.booleans(),
        unseen_s=st.floats(0, 2),
        key_s=st.none() | st.floats(0, 6),
        atom_s=st.none() | st.floats(0, 6),
        plate_error=st.floats(0, 100),
        error=st.floats(0, 100),
        bare_error=st.floats(0, 100),
        visible=st.floats(0, 1),
        off=st.floats(0, 50),
        growth=st.floats(0.1, 5),
        size=st.floats(1, 500),
    ),
    st.integers(1, 8),
)
def test_atoms_are_sent_with_keys_and_renewals_only(view: TrackView, quality: int) -> None:
    verdict = decide_track(view, StreamRules.of(quality))
    assert not verdict.atom or verdict.act in (Act.KEY, Act.RENEW)
    assert verdict.act != Act.RENEW or (verdict.atom and view.atom_s is not None)
    assert verdict.need >= 0
    # Without a key there is nothing to move, to hide or to end.
    assert view.key_s is not None or verdict.act == Act.KEY


def test_more_quality_is_finer_and_less_patient() -> None:
    every = [StreamRules.of(quality) for quality in range(1, 9)]
    for lower, higher in pairwise(every):
        assert higher.quantizer < lower.quantizer
        assert higher.plate_quantizer < lower.plate_quantizer
        assert higher.threshold < lower.threshold
    with pytest.raises(ValueError, match=r"1\.\.8"):
        StreamRules.of(9)


def test_small_objects_are_coded_finer() -> None:
    sides = [8.0, 20.0, 40.0, 80.0, 160.0, 400.0]
    quantizers = [quantizer_for(side, RULES) for side in sides]
    assert quantizers == sorted(quantizers)
    assert quantizers[0] < quantizers[-1]
    assert [zoom_for(side, RULES) for side in sides] == [0, 0, 0, 0, -1, -1]
    assert quantizer_for(1e-9, replace(RULES, quantizer=1)) == 1


def test_a_refresh_has_to_be_cheap_and_cheaper_the_older_its_key() -> None:
    assert refresh_pays(1000, 500, 0.0, RULES)
    assert not refresh_pays(1000, 950, 0.0, RULES)
    assert not refresh_pays(1000, 500, 3.9, RULES)
    assert refresh_pays(1000, 200, 3.9, RULES)


def test_debt_makes_the_rules_coarser_and_is_bounded() -> None:
    target = 20_000.0
    calm = controlled(RULES, RateState(), target)
    assert (calm.quantizer, calm.threshold) == (RULES.quantizer, RULES.threshold)
    late = controlled(RULES, RateState(target * WINDOW_S), target)
    later = controlled(RULES, RateState(100 * target * WINDOW_S), target)
    assert late.quantizer > RULES.quantizer
    assert late.threshold == pytest.approx(2 * RULES.threshold)
    assert later == late


@given(st.lists(st.floats(0, 50_000), min_size=1, max_size=50))
def test_what_is_saved_up_is_bounded_and_every_frame_may_send_something(costs: list[float]) -> None:
    target, state = 20_000.0, RateState()
    for bits in costs:
        assert allowance(state, target, 10.0) >= 0.5 * target / 10.0
        state = spent(state, bits, target, 10.0)
        assert state.debt >= -target * WINDOW_S / 2


def test_spending_the_target_leaves_no_debt() -> None:
    state = RateState()
    for _ in range(100):
        state = spent(state, 2000.0, 20_000.0, 10.0)
    assert state.debt == pytest.approx(0.0)


def test_a_content_critic_overrules_the_error_until_it_is_gross() -> None:
    bad = replace(SEEN, error=RULES.threshold + 4)
    assert act(replace(bad, loss=0.0))[0] != Act.RENEW
    assert act(replace(bad, loss=0.0, error=RULES.gross * RULES.threshold + 1, bare_error=20.0)) == (Act.RENEW, True)
    assert act(replace(bad, loss=0.0, growth=2.0))[0] != Act.RENEW


def test_what_the_critic_misses_is_renewed_whatever_the_error() -> None:
    missed = replace(SEEN, loss=2 * RULES.loses)
    assert act(missed) == (Act.RENEW, True)
    assert act(replace(missed, atom_s=RULES.pause_s / 2))[0] != Act.RENEW
    # what it missed in the picture as it was sent is not sent again
    assert act(replace(missed, sent_loss=missed.loss or 0.0))[0] != Act.RENEW


def test_the_plate_shows_an_object_only_if_the_critic_sees_it_there() -> None:
    there = replace(NEW, plate_error=1.0)
    assert act(replace(there, loss=0.0)) == (Act.KEY, False)
    assert act(replace(there, loss=0.9)) == (Act.KEY, True)


def test_a_critic_is_asked_where_its_answer_matters() -> None:
    assert not criticised(NEW, RULES)  # nothing shows it: it gets a picture anyway
    assert criticised(replace(NEW, plate_error=1.0), RULES)
    assert not criticised(replace(NEW, plate_error=1.0, parked=True), RULES)
    assert not criticised(SEEN, RULES)
    for changed in (replace(SEEN, error=RULES.threshold), replace(SEEN, off=5.0)):
        assert criticised(changed, RULES)
        assert not criticised(replace(changed, found=False), RULES)
        assert not criticised(replace(changed, visible=0.1), RULES)


def test_quantizers_are_tried_from_the_usual_one_to_finer_ones() -> None:
    for side in (10.0, 50.0, 300.0):
        steps = tried(side, RULES)
        assert steps[0] == quantizer_for(side, RULES)
        assert list(steps) == sorted(steps, reverse=True)
    assert tried(10.0, replace(RULES, quantizer=1)) == (1,)


def test_a_refresh_is_tried_on_what_still_resembles_the_object() -> None:
    assert resembles(SEEN)
    assert not resembles(replace(SEEN, error=0.5 * SEEN.bare_error))


def test_a_large_gliding_object_may_be_off_by_more_where_the_critic_is_content() -> None:
    off = replace(SEEN, off=4.0, glide_error=9.0, size=250.0)
    assert act(off)[0] == Act.MOVE
    assert act(replace(off, loss=0.0))[0] == Act.GLIDE
