"""What a packet says of a track, and for how many bits: decisions without pictures.

`stream_motion` measures what this module decides on. Errors are grey levels of blurred differences over what belongs to
the object, as the decoder shows it (see `stream_motion.error`); times are seconds; so the rules hold for any
frame rate and size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

QUALITIES = 8
COARSEST, FINEST = 44, 8
"""Quantizers of the first and the last quality."""


class Act(Enum):
    """What a track appears as in a frame."""

    KEY = "key"
    """With an atom of its own, or without one where the plate shows it: see `Verdict.atom`."""
    RENEW = "renew"
    """Its picture is sent anew: as a refresh, or as a key where that is worth its bits."""
    MOVE = "move"
    GLIDE = "glide"
    """Not mentioned."""
    HIDE = "hide"
    END = "end"


@dataclass(frozen=True, slots=True)
class StreamRules:
    """The thresholds.

    Attributes:
        quantizer: of AV1 atoms, 1..63.
        finer: by how much it is lower for each halving of an object's side below `MIDDLE`, twice at most, and higher
            for one doubling.
        plate_quantizer: of AV1 plates, 1..63.
        threshold: error from which a picture is sent anew.
        worse: it also has to be so many times what it was right after it was sent: what the quantizer lost is not
            sent again and again.
        contrast: and so large a share of what the plate alone would leave: the fainter an object, the less of an
            error it stands.
        coarse: side in pixels from which an object is coded at every second pixel.
        shown: share of the threshold up to which the error of the plate means that it shows the object.
        leaves: so many times the threshold, or the error when it was keyed, is the one from which it does so no more.
        grown: an object that is so many times longer than when it was sent is sent anew.
        slack: pixels by which a gliding box may be off.
        likeness: a gliding box is good enough, too, where its error is at most so many times the best one.
        key_s: a key is not referred to for longer.
        list_s: time between packets that list all tracks, where a reader can start.
        patience_s: an object that nobody finds any more is over after this.
        pause_s: between two pictures of an object.
        park_s: an object that stood still for so long becomes part of the plate.
        judged: share of an object that has to be uncovered to judge it.
        loses: how much of an object the critic may miss, 0..1; see `critic.loss`.
        gross: where the critic is content, an error that is so many times larger is still none.
        slips: share of its side by which a gliding box may be off where the critic is content.
    """

    quantizer: int = 27
    finer: float = 6.0
    plate_quantizer: int = 39
    threshold: float = 9.0
    worse: float = 1.5
    contrast: float = 0.25
    coarse: float = 112.0
    shown: float = 0.8
    leaves: float = 2.0
    grown: float = 1.6
    slack: float = 1.5
    likeness: float = 1.3
    key_s: float = 4.0
    list_s: float = 1.0
    patience_s: float = 0.5
    pause_s: float = 0.3
    park_s: float = 6.0
    judged: float = 0.35
    loses: float = 0.15
    gross: float = 1.8
    slips: float = 0.02

    @classmethod
    def of(cls, quality: int) -> StreamRules:
        """The rules for a quality, 1 (fewest bits) to 8. Raises ValueError for another one."""
        if not 1 <= quality <= QUALITIES:
            raise ValueError(f"quality {quality} is not in 1..{QUALITIES}")
        step = quality - 1
        return cls(
            quantizer=(COARSEST, 38, 32, 27, 22, 17, 12, FINEST)[step],
            plate_quantizer=(48, 45, 42, 39, 37, 35, 32, 28)[step],
            threshold=(14.0, 12.0, 10.5, 9.0, 8.0, 7.0, 6.0, 5.0)[step],
            contrast=(0.4, 0.35, 0.3, 0.25, 0.22, 0.2, 0.15, 0.1)[step],
            loses=(0.4, 0.3, 0.22, 0.15, 0.12, 0.09, 0.06, 0.04)[step],
        )


@dataclass(frozen=True, slots=True)
class TrackView:
    """What is known of a track when a frame has been looked at.

    Attributes:
        found: the grounder found it in this frame.
        unseen_s: since it was found.
        key_s: since its key; None for a track without one.
        atom_s: since its picture was sent; None where the plate shows it, or nothing does.
        still_s: since it moved.
        parked: the plate has just taken it in.
        members: the tasks that want it are the ones that its key is for.
        visible: share of it that nothing nearer covers.
        awaited: nothing has shown it yet: it was covered, or others showed it, when it was keyed.
        plate_error: of the plate alone where it is.
        lack: of the plate with the others on it that are drawn before it; None for that of the plate alone.
        error: of the picture, at the best place for it.
        bare_error: without it, over the same pixels.
        glide_error: of the picture where the box glides to.
        sent_error: of the picture in the frame it was sent in; of the plate where that shows it.
        growth: its length over that of then.
        off: pixels between the gliding box and the best one.
        uncovered: how much is lacking where it was found and its picture does not reach.
        cut: the picture's edge cuts it, so that more of it is to come.
        size: its side in pixels, the root of its area.
        loss: of what the task sees in it, at the best place for its picture, or on the plate where it has none; None
            without a critic, or where that cannot tell.
        sent_loss: of the picture in the frame it was sent in.
    """

    found: bool
    unseen_s: float
    key_s: float | None
    atom_s: float | None
    still_s: float = 0.0
    parked: bool = False
    members: bool = True
    visible: float = 1.0
    awaited: bool = False
    plate_error: float = 0.0
    lack: float | None = None
    error: float = 0.0
    bare_error: float = 0.0
    glide_error: float = 0.0
    sent_error: float = 0.0
    growth: float = 1.0
    off: float = 0.0
    uncovered: float = 0.0
    cut: bool = False
    size: float = 1.0
    loss: float | None = None
    sent_loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to say of a track.

    Attributes:
        act: how it appears.
        atom: whether a key comes with one.
        need: for order, where bits are short: grey levels too many, times pixels.
        otherwise: what to do where there are no bits for it; an end if None.
    """

    act: Act
    atom: bool = False
    need: float = 0.0
    otherwise: Act | None = None


def decide_track(view: TrackView, rules: StreamRules) -> Verdict:
    """What a packet says of a track in this frame."""
    if view.key_s is not None and not view.found and view.unseen_s >= rules.patience_s - 1e-9:
        return Verdict(Act.END)
    if view.parked:
        return Verdict(Act.KEY)
    if view.key_s is None or view.key_s >= rules.key_s - 1e-9 or not view.members:
        return _born(view, rules)
    if view.atom_s is None:
        return _bare(view, rules)
    if view.visible >= rules.judged:
        return _pictured(view, rules)
    return Verdict(Act.MOVE if strays(view) else Act.GLIDE)


def _bare(view: TrackView, rules: StreamRules) -> Verdict:
    """A track without a picture of its own."""
    error = lacking(view)
    gone = error > rules.shown * rules.threshold if view.awaited else leaves_plate(error, view.sent_error, rules)
    if view.found and ((gone and view.visible >= rules.judged) or not content(view, rules)):
        return Verdict(Act.KEY, True, _need(error, view, rules), Act.GLIDE)
    return Verdict(Act.MOVE if strays(view) else Act.GLIDE)


def strays(view: TrackView) -> bool:
    """Whether a track of which no picture can be looked at is somewhere else than it glides to."""
    return view.found and view.off > max(4.0, 0.2 * view.size)


def _born(view: TrackView, rules: StreamRules) -> Verdict:
    if view.atom_s is None:
        bare = content(view, rules) and (view.visible < rules.judged or lacking(view) <= rules.shown * rules.threshold)
    else:
        bare = view.plate_error <= rules.shown * rules.threshold  # also where it is covered: see `shows`
    if bare:
        return Verdict(Act.KEY)
    return Verdict(Act.KEY, True, _need(2 * view.plate_error, view, rules))


def lacking(view: TrackView) -> float:
    """The error where a track has no picture of its own."""
    return view.plate_error if view.lack is None else min(view.lack, view.plate_error)


def shows(view: TrackView, rules: StreamRules) -> bool:
    """Whether the plate is seen to show an object."""
    return view.parked or (view.visible >= rules.judged and view.plate_error <= rules.shown * rules.threshold)


def _pictured(view: TrackView, rules: StreamRules) -> Verdict:
    """A track with a picture of its own."""
    assert view.atom_s is not None
    if not view.found and 0 < view.bare_error < view.error:
        # The plate alone is nearer to the frame than the object on it: it has gone behind something, or away.
        return Verdict(Act.HIDE)
    if view.plate_error <= min(rules.shown * rules.threshold, 0.6 * view.error):
        return Verdict(Act.KEY)
    place = Act.MOVE
    if view.off <= slack(view, rules) or view.glide_error <= rules.likeness * view.error:
        place = Act.GLIDE
    # What is grossly wrong does not wait: an object that comes near grows by half in the pause.
    gross = view.error > GROSS * limit_of(view, rules) or (uncovered(view, rules) and not view.cut)
    pause = rules.pause_s / (3 if gross else 1)
    if view.found and outdated(view, rules) and view.atom_s >= pause - 1e-9:
        return Verdict(Act.RENEW, True, _need(max(view.error, view.uncovered), view, rules), place)
    return Verdict(place)


def criticised(view: TrackView, rules: StreamRules) -> bool:
    """Whether the critic is to look at a track: where what it says can change what is sent."""
    if not view.found or view.parked:
        return False
    if view.atom_s is not None:
        stirs = view.error > rules.threshold / 3 or view.off > rules.slack
        return stirs and view.visible >= rules.judged and view.atom_s >= rules.pause_s - 1e-9
    # What other boxes cover may still be seen between them, and nothing shows it.
    if view.visible < rules.judged:
        return view.key_s is None or view.key_s >= rules.pause_s - 1e-9
    return view.key_s is None and view.plate_error <= rules.shown * rules.threshold


def slack(view: TrackView, rules: StreamRules) -> float:
    """Pixels by which a gliding box may be off: with a critic that judges what is seen, a share of the object."""
    return rules.slack if view.loss is None else max(rules.slack, rules.slips * view.size)


def content(view: TrackView, rules: StreamRules) -> bool:
    """Whether the critic sees enough of an object, or has nothing to say."""
    return view.loss is None or view.loss <= max(rules.loses, rules.worse * view.sent_loss)


def outdated(view: TrackView, rules: StreamRules) -> bool:
    """Whether an object's picture no longer does.

    The critic decides where it can, as long as the error is not gross: an object has to keep its colour, too. Where
    there is none, or it does not know the object, the error decides.
    """
    limit = limit_of(view, rules)
    if uncovered(view, rules):
        return True
    if view.loss is not None:
        return not content(view, rules) or view.error > rules.gross * limit
    grown = view.growth >= rules.grown and view.error > rules.threshold / 2
    return view.error > limit or grown


def uncovered(view: TrackView, rules: StreamRules) -> bool:
    """Whether more of an object is there than its picture has: it came in through the edge."""
    return view.uncovered > rules.leaves * rules.threshold


GROSS = 1.8
"""Times the limit of an object's error from which its picture is grossly wrong."""


def limit_of(view: TrackView, rules: StreamRules) -> float:
    """The error from which an object's picture is sent anew."""
    return max(rules.threshold, rules.worse * view.sent_error, rules.contrast * view.bare_error)


def leaves_plate(error: float, sent_error: float, rules: StreamRules) -> bool:
    """Whether the plate shows an object no more, of which it had an error of `sent_error` when it was keyed."""
    return error > rules.leaves * max(rules.threshold, sent_error)


def _need(error: float, view: TrackView, rules: StreamRules) -> float:
    return max(0.0, error - rules.threshold / 2) * view.size


def resembles(view: TrackView) -> bool:
    """Whether an object's picture is still like it, so that a refresh may pay: coded on another one it costs more."""
    return view.error < ALIKE * view.bare_error


ALIKE = 0.4
"""Share of what the plate alone would leave."""


def refresh_pays(key_bytes: int, refresh_bytes: int, key_s: float, rules: StreamRules) -> bool:
    """Whether a refresh is the better way to send a picture anew than a key.

    A key also puts off the next one that is due anyway: the older the last one, the less a refresh may cost.
    """
    left = max(0.0, 1.0 - key_s / rules.key_s)
    return refresh_bytes < key_bytes * (0.3 + 0.6 * left)


MIDDLE = 80.0
"""Side in pixels of an object that `StreamRules.quantizer` is for."""


def quantizer_for(size: float, rules: StreamRules) -> int:
    """The quantizer for an object of a side in pixels: a detector needs every bit of small ones, which cost little."""
    finer = rules.finer * min(max(math.log2(MIDDLE / max(size, 1.0)), -1.0), 2.0)
    return min(max(round(rules.quantizer - finer), 1), 63)


FINER = 6
"""Between two quantizers that are tried for an object."""


def tried(size: float, rules: StreamRules) -> tuple[int, ...]:
    """The quantizers that may do for an object of a side in pixels, the coarsest first, for a critic to choose from."""
    usual = quantizer_for(size, rules)
    return tuple(dict.fromkeys((usual, max(usual - FINER, 1))))


def serves(loss: float, rules: StreamRules) -> bool:
    """Whether a picture that is about to be sent is good enough for the critic, with room for what time does to it."""
    return loss <= rules.loses / 2


@dataclass(frozen=True, slots=True)
class Offer:
    """A coded picture of an object.

    Attributes:
        bits: of its payload.
        error: that it leaves, see `stream_motion.error`.
    """

    bits: int
    error: float


class Preference(Enum):
    """Which of two coded pictures is sent."""

    AV1 = "av1"
    LEARNED = "learned"


ALIKE_ERROR = 1.05
"""Times the error of AV1 up to which a picture of the learned codec counts as equally good."""


def compare(av1: Offer, learned: Offer) -> Preference:
    """The one with fewer bits at equal quality; AV1, which any decoder has, where they are equal."""
    better = learned.bits < av1.bits and learned.error <= ALIKE_ERROR * av1.error
    return Preference.LEARNED if better else Preference.AV1


def latent_qualities(rules: StreamRules) -> tuple[int, ...]:
    """Qualities of the learned codec to try, the coarsest first: those around the one whose place among the eight is
    that of the quantizer between the coarsest and the finest."""
    middle = 1 + (COARSEST - rules.quantizer) * (QUALITIES - 1) / (COARSEST - FINEST)
    return tuple(sorted({min(max(round(middle) + step, 1), QUALITIES) for step in (-2, 0, 2)}))


def zoom_for(size: float, rules: StreamRules) -> int:
    """How finely an AV1 atom samples an object of a side in pixels: a detector needs no more of large ones."""
    return -1 if size >= rules.coarse else 0
