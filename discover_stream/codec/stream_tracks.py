"""What the encoder knows of each track: what decoders were told, what they show, and how it moved."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from discover_stream.codec.quarter_box import QUARTER, SPEED_STEPS, QuarterBox, Speed
from discover_stream.codec.records import MAX_SCORE, Key, Move, Ref
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_layers import Layer
from discover_stream.codec.stream_motion import Fit, Scene, best_fit, error, inside, plate_error
from discover_stream.codec.stream_policy import TrackView
from discover_stream.types import Box, Region

Mask = npt.NDArray[np.bool_]
SAME = 0.7
"""Overlap (intersection over union) from which two boxes of one frame are of one object."""
AGAIN = 0.45
"""The same for a new track and one that was not found in this frame."""
HISTORY = 6
"""Frames that a speed rests on."""
SURE = 3.0
"""Standard errors that a change of size has to have."""
STEADY = 4
"""Steps of a speed by which it may be off: an eighth of a pixel a frame."""
LEAST_SEEN = 0.35
"""Share of an object that has to be uncovered to look for its picture, or to learn how it moves; else it is where the
grounder found it."""
STOOD = 1.5
"""Pixels that an object that stands still may seem to move."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the grounder found of an object in a frame. `labels` are by task key."""

    track: int
    box: QuarterBox
    score: int
    labels: tuple[tuple[int, int], ...]


def sights_of(regions: Mapping[int, Sequence[Region]], whole: Box) -> tuple[dict[int, Sight], list[Sight]]:
    """The objects that were found, by track, and the regions without a track, each once for all of its tasks.

    Args:
        regions: by task key.
        whole: the picture's own box: nothing outside of it is an object.
    """
    merged: dict[tuple[int, Box], dict[int, Region]] = {}
    for task, found in sorted(regions.items()):
        for region in found:
            edges = region.box.clipped(round(whole.x1), round(whole.y1))
            if edges.area >= 1.0:
                name = (region.track, Box(0, 0, 0, 0) if region.track else edges)
                merged.setdefault(name, {}).setdefault(task, region)
    tracked: dict[int, Sight] = {}
    others: list[Sight] = []
    for (track, _), by_task in merged.items():
        best = max(by_task.values(), key=lambda region: region.score)
        box = QuarterBox.of(best.box.clipped(round(whole.x1), round(whole.y1)))
        score = min(max(round(MAX_SCORE * best.score), 0), MAX_SCORE)
        sight = Sight(track, box, score, tuple((task, region.label) for task, region in by_task.items()))
        if track:
            tracked[track] = sight
        else:
            others.append(sight)
    return _single(tracked), others


def _single(sights: Mapping[int, Sight]) -> dict[int, Sight]:
    """Each object once: detectors give a pick-up a box as a car and one as a truck. The surer one takes the labels."""
    kept: dict[int, Sight] = {}
    for track, sight in sorted(sights.items(), key=lambda item: (-item[1].score, item[0])):
        same = next((other for other in kept.values() if overlap(other.box, sight.box) > SAME), None)
        if same is None:
            kept[track] = sight
        else:
            labels = dict(sight.labels) | dict(same.labels)
            kept[same.track] = replace(same, labels=tuple(sorted(labels.items())))
    return dict(sorted(kept.items()))


def overlap(first: QuarterBox, second: QuarterBox) -> float:
    """Intersection over union."""
    return first.pixels.iou(second.pixels)


def adopted(sights: Mapping[int, Sight], lives: Mapping[int, Live], seq: int) -> dict[int, int]:
    """Trackers lose objects and find them again as others: which new tracks are which of those that were not found.

    Returns:
        new track -> live track at whose place it is.
    """
    free = {track: live.at(seq) for track, live in lives.items() if track not in sights}
    found = {}
    for track, sight in sights.items():
        if track not in lives and free:
            best = max(free, key=lambda one: overlap(free[one], sight.box))
            if overlap(free[best], sight.box) > AGAIN:
                found[track] = best
                del free[best]
    return found


@dataclass(eq=False)
class Live:
    """A track that decoders have.

    Attributes:
        ref: its key.
        key: as sent, without payload.
        tasks: keys of the tasks that have it.
        box: in frame `said`, the last that mentioned it.
        speed: by which it glides from there.
        sprite: what decoders draw; None where the plate shows it.
        own: the key's.
        source: the frame of what is drawn, where that is a refresh.
        hidden: it is not drawn.
        on_plate: the plate shows it.
        parked: the plate has just taken it in.
        key_time: of the key, seconds.
        sent_time: of the picture.
        sent_error: of the picture then.
        sent_loss: what the critic missed of it then.
        sent_size: side in pixels then.
        found_time: when the grounder last found it.
        moved_time: when it last moved.
        rest: where it was then.
        lift: that decoders know.
        past: where it was seen, (seq, x, y, width, height).
    """

    ref: Ref
    key: Key
    tasks: tuple[int, ...]
    box: QuarterBox
    said: int
    speed: Speed
    sprite: Sprite | None
    own: Sprite | None
    source: int | None
    hidden: bool
    on_plate: bool
    key_time: float
    sent_time: float
    sent_error: float
    sent_size: float
    found_time: float
    moved_time: float
    rest: QuarterBox
    parked: bool = False
    lift: int = 0
    sent_loss: float = 0.0
    past: deque[tuple[int, int, int, int, int]] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def at(self, seq: int) -> QuarterBox:
        """Where decoders have it in a frame that does not mention it."""
        return self.box.after(self.speed, seq - self.said)

    def layer(self, box: QuarterBox) -> Layer | None:
        """As decoders draw it in a box; None where they do not."""
        if self.sprite is None or self.hidden:
            return None
        return Layer((box.bottom + self.lift, self.ref), box, self.sprite)

    def noted(self, seq: int, box: QuarterBox, time: float) -> None:
        """It was seen here."""
        self.past.append((seq, box.x, box.y, box.width, box.height))
        if distance(box, self.rest) > STOOD:
            self.rest, self.moved_time = box, time

    def resized(self, box: QuarterBox) -> None:
        """Its box is another one now; what was seen of it counts by where its middle was."""
        for index, (seq, x, y, width, height) in enumerate(self.past):
            moved = x + (width - box.width) // 2, y + (height - box.height) // 2
            self.past[index] = (seq, *moved, box.width, box.height)

    def rate(self) -> Speed:
        """How it moved lately: a line through where it was seen."""
        if len(self.past) < 2:
            return self.speed
        values = np.array(self.past, dtype=np.float64)
        when = values[:, 0] - values[:, 0].mean()
        values[:, 1:3] += values[:, 3:5] / 2
        around = values[:, 1:] - values[:, 1:].mean(axis=0)
        spread = when @ when
        slopes = when @ around / spread
        # A size that changes has to do so steadily: extrapolated noise would tear the picture.
        doubt = np.sqrt(((around - np.outer(when, slopes)) ** 2).sum(axis=0) / max(1, len(when) - 2) / spread)
        slopes[2:] = np.where((np.abs(slopes[2:]) > SURE * doubt[2:]) & (len(when) >= 4), slopes[2:], 0.0)
        slopes[:2] -= slopes[2:] / 2
        rates = [round(SPEED_STEPS * float(slope)) for slope in slopes]
        return Speed(*(min(max(rate, -(2**13)), 2**13) for rate in rates))

    def steady(self) -> Speed:
        """The speed to tell: that which decoders have, where the one it moved with lately is hardly another."""
        speed = self.rate()
        apart = max(abs(one - other) for one, other in zip(speed.values, self.speed.values, strict=True))
        return self.speed if apart <= STEADY else speed

    def lifted(self, lift: int, lists: bool) -> int | None:
        """Decoders are to know another lift: what its move has to say of that."""
        stated = self.key.lift if lists else self.lift
        self.lift = lift
        return None if lift == stated else lift

    def move(self, seq: int, positions: tuple[int, ...], box: QuarterBox, lists: bool, lift: int = 0) -> Move:
        """The record that puts it here, with its lift; in a packet that lists, with all that is not as in the key."""
        predicted = self.key.box.after(self.key.speed, seq - self.ref.seq)
        delta = box.minus(predicted)
        stated = self.key.speed if lists else self.speed
        speed = self.steady()
        self.box, self.said, self.speed = box, seq, speed
        return Move(
            self.ref,
            positions,
            delta if any(delta.values) else None,
            speed=None if speed == stated else speed,
            lift=self.lifted(lift, lists),
            hidden=self.hidden,
            source=self.source if lists else None,
        )


def distance(first: QuarterBox, second: QuarterBox) -> float:
    """Pixels by which the corner of a box is at most off, x or y, left or right, up or down."""
    apart = (
        first.x - second.x,
        first.y - second.y,
        first.x + first.width - second.x - second.width,
        first.bottom - second.bottom,
    )
    return max(map(abs, apart)) / QUARTER


@dataclass(frozen=True, eq=False)
class Judged:
    """A track in a frame, measured: what the policy sees, and where its picture fits best."""

    view: TrackView
    box: QuarterBox


def nearer(track: int, box: QuarterBox, places: Mapping[int, QuarterBox], lifts: Mapping[int, int]) -> list[QuarterBox]:
    """The places of other tracks that are nearer than a track in a box: whose lower edge is lower, with its lift."""
    low = box.bottom + lifts.get(track, 0)
    return [place for other, place in places.items() if other != track and place.bottom + lifts.get(other, 0) > low]


def hiding(sights: Mapping[int, Sight], lives: Mapping[int, Live], seq: int) -> dict[int, QuarterBox]:
    """The places of tracks that may hide others: those that were found, and those that are drawn.

    What nobody finds and decoders do not draw hides nothing, wherever its box has glided to; and what nobody finds
    where another one is found is most likely that one, under a name that the tracker has lost.
    """
    places = {track: sight.box for track, sight in sights.items()}
    for track, live in lives.items():
        place = live.at(seq)
        if track not in sights and not live.hidden and all(overlap(place, one.box) < AGAIN for one in sights.values()):
            places[track] = place
    return places


def hidden_by(boxes: Sequence[QuarterBox], shape: tuple[int, ...]) -> Mask:
    """(H, W), what boxes that are nearer cover."""
    mask = np.zeros(shape[:2], dtype=bool)
    for box in boxes:
        edges = box.pixels
        rows = slice(max(0, math.floor(edges.y0)), max(0, math.ceil(edges.y1)))
        mask[rows, max(0, math.floor(edges.x0)) : max(0, math.ceil(edges.x1))] = True
    return mask


def judged(
    live: Live,
    sight: Sight | None,
    scene: Scene,
    behind: Scene,
    others: Sequence[QuarterBox],
    when: tuple[int, float],
) -> Judged:
    """Measure a live track.

    Args:
        live: the track.
        sight: what the grounder found of it; None for nothing.
        scene: the frame, on the plate.
        behind: the same, on what else is drawn before the track.
        others: boxes of the tracks that are nearer.
        when: number and time of the frame.
    """
    seq, time = when
    if sight is not None:
        live.found_time = time
    glide = live.at(seq)
    found = None if sight is None else sight.box
    place = found or glide
    hidden = hidden_by(others, scene.frame.shape)
    visible = _visible(hidden, place)
    fit = Fit(place, 0.0)
    glide_error = 0.0
    seen = visible >= LEAST_SEEN
    if live.sprite is not None and (seen or found is None):
        fit = best_fit(behind, live.sprite, glide, found, hidden)
        glide_error = error(behind, live.sprite, glide, hidden)[0]
    height, width = scene.frame.shape[:2]
    size = math.sqrt(place.width * place.height) / QUARTER
    gone = inside(fit.box, width, height) < 0.05
    where = fit.box if live.sprite is not None else place
    awaited = live.sprite is None and not live.on_plate
    view = TrackView(
        found=sight is not None,
        unseen_s=1e6 if gone and sight is None else time - live.found_time,
        key_s=time - live.key_time,
        atom_s=None if live.sprite is None else time - live.sent_time,
        still_s=time - live.moved_time,
        parked=live.parked,
        members=sight is None or {task for task, _ in sight.labels} <= set(live.tasks),
        visible=visible,
        awaited=awaited,
        plate_error=plate_error(scene, where, hidden),
        lack=plate_error(behind, where, hidden) if awaited else None,
        bare_error=fit.plate_error,
        error=fit.error,
        glide_error=glide_error,
        sent_error=live.sent_error,
        sent_loss=live.sent_loss,
        growth=size / live.sent_size,
        off=distance(glide, fit.box),
        size=size,
    )
    if seen:
        live.noted(seq, fit.box, time)
    return Judged(view, fit.box)


def _visible(hidden: Mask, box: QuarterBox) -> float:
    edges = box.pixels
    part = hidden[
        max(0, int(edges.y0)) : max(0, math.ceil(edges.y1)), max(0, int(edges.x0)) : max(0, math.ceil(edges.x1))
    ]
    return 1.0 - float(part.mean()) if part.size else 0.0


def newborn(sight: Sight, scene: Scene, behind: Scene, others: Sequence[QuarterBox], taken_in: bool) -> Judged:
    """Measure an object that no key has told of yet; see `judged`. `taken_in`: the plate is new and shows it."""
    hidden = hidden_by(others, scene.frame.shape)
    view = TrackView(
        found=True,
        unseen_s=0.0,
        key_s=None,
        atom_s=None,
        parked=taken_in,
        visible=_visible(hidden, sight.box),
        plate_error=plate_error(scene, sight.box, hidden),
        lack=plate_error(behind, sight.box, hidden),
        size=math.sqrt(sight.box.width * sight.box.height) / QUARTER,
    )
    return Judged(view, sight.box)
