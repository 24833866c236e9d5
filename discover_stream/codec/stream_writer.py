"""Writes what a stream packet says of tracks, as `stream_policy` decides, and keeps account of what decoders have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discover_stream.codec.atom_choice import Learned, Picture, picture_of, side_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.critic import Critic
from discover_stream.codec.drawing_order import DrawingOrder, lifts_of
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import STILL, End, Key, Move, Ref
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_critique import Critique
from discover_stream.codec.stream_layers import Layer, Layers
from discover_stream.codec.stream_motion import (
    ENTERING,
    UNCOVERED,
    Scene,
    error,
    plate_error,
    reaches_beyond,
    uncovered_error,
    whole,
)
from discover_stream.codec.stream_policy import (
    Act,
    StreamRules,
    TrackView,
    Verdict,
    criticised,
    decide_track,
    refresh_pays,
    resembles,
    serves,
    shows,
    tried,
)
from discover_stream.codec.stream_tracks import Judged, Live, Sight, hidden_by, hiding, judged, nearer, newborn


@dataclass(frozen=True, eq=False)
class Turn:
    """One frame to be written.

    Attributes:
        seq: of the frame.
        time: of the frame, seconds.
        scene: the frame, on the plate that decoders have.
        plate: that plate.
        tasks: keys of the packet's tasks, ascending.
        started: those of them that have no tracks yet.
        rules: for this frame.
        lists: the packet lists all tracks.
        budget: bits for atoms.
        taken_in: the plate is new, so it shows what is found for the first time.
        critic: who says what the task sees; None for nobody.
        learned: the codec to try for atoms beside AV1; None for AV1 alone.
        bare: those of the tasks that have no plate: their tracks' pictures are coded without it.
        order: who says which tracks are drawn before others; None for lower edges alone.
    """

    seq: int
    time: float
    scene: Scene
    plate: PlatePicture
    tasks: tuple[int, ...]
    started: frozenset[int]
    rules: StreamRules
    lists: bool
    budget: float
    taken_in: bool
    critic: Critic | None = None
    learned: Learned | None = None
    bare: frozenset[int] = frozenset()
    order: DrawingOrder | None = None


@dataclass(frozen=True, eq=False)
class _Picked:
    """A track in this frame, and what is to be said of it."""

    track: int
    judged: Judged
    verdict: Verdict
    sight: Sight | None
    live: Live | None


def _tasks(live: Live | None, sight: Sight | None) -> set[int]:
    """Those that have a track, or are to get it."""
    found = set() if sight is None else {task for task, _ in sight.labels}
    return found if live is None else found | set(live.tasks)


class RecordWriter:
    """Decides on the tracks of one frame, and writes their records: `keys`, `moves` and `ends`."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.keys: list[Key] = []
        self.moves: list[Move] = []
        self.ends: list[End] = []
        self._critique: Critique | None = None
        self._lifts: dict[int, int] = {}
        self._layers = Layers(turn.scene)

    def tracks(self, sights: Mapping[int, Sight], lives: dict[int, Live]) -> None:
        """All tracks: what was found of them, and what decoders have of them; the latter is brought up to date."""
        places = hiding(sights, lives, self.turn.seq)
        if self.turn.order is not None:
            self._lifts = lifts_of(self.turn.order, self.turn.scene, sights, lives, self.turn.seq)
        drawn = {track: self._place(lives.get(track), sights.get(track)) for track in lives.keys() | sights.keys()}
        measured: dict[int, Judged] = {}
        # In the order of drawing: each is measured on what is drawn before it.
        for track in sorted(drawn, key=lambda one: (drawn[one].bottom + self._lifts.get(one, 0), one)):
            others = nearer(track, drawn[track], places, self._lifts)
            measured[track] = self._measured(lives.get(track), sights.get(track), drawn[track], others)
        measured = dict(sorted(measured.items()))
        if self.turn.critic is not None:
            measured |= self._criticised(self.turn.critic, measured, lives)
        picked = [
            _Picked(track, one, decide_track(one.view, self.turn.rules), sights.get(track), lives.get(track))
            for track, one in measured.items()
        ]
        self._carry_out(picked, lives)

    def _place(self, live: Live | None, sight: Sight | None) -> QuarterBox:
        """Where a track is, before it is looked at."""
        if sight is not None:
            return sight.box
        assert live is not None
        return live.at(self.turn.seq)

    def _measured(
        self, live: Live | None, sight: Sight | None, place: QuarterBox, others: Sequence[QuarterBox]
    ) -> Judged:
        """A track, measured on what is drawn before it; it is drawn before those that come after it."""
        turn = self.turn
        if live is None:
            assert sight is not None
            behind = self._layers.behind(sight.track, place, _tasks(live, sight))
            return newborn(sight, turn.scene, behind, others, turn.taken_in)
        alone = sight is not None and live.sprite is not None
        behind = turn.scene if alone else self._layers.behind(live.key.track, place, _tasks(live, sight))
        one = judged(live, sight, turn.scene, behind, others, (turn.seq, turn.time))
        view = one.view if sight is None else self._come_in(live, sight, one, others)
        if view.awaited and shows(view, turn.rules):  # now that it is seen
            live.on_plate, live.sent_error = True, view.plate_error
            view = dataclasses.replace(view, awaited=False, sent_error=view.plate_error)
        if sight is not None and {task for task, _ in sight.labels} & turn.started:
            view = dataclasses.replace(view, members=False)
        act = decide_track(view, turn.rules).act
        if live.sprite is not None and act not in (Act.HIDE, Act.END):
            box = live.at(turn.seq) if act == Act.GLIDE else one.box
            self._layers.put(live.key.track, self._layer(live, box, live.sprite), live.tasks)
        return dataclasses.replace(one, view=view)

    def _come_in(self, live: Live, sight: Sight, one: Judged, others: Sequence[QuarterBox]) -> TrackView:
        """What is seen of a track that was found, with what its picture lacks where the picture's edge cut that."""
        view, shape = one.view, self.turn.scene.frame.shape
        if live.sprite is None or whole(live.sprite.box, shape) or view.visible < self.turn.rules.judged:
            return view
        cut = not whole(sight.box, shape)
        if not reaches_beyond(sight.box, one.box, ENTERING if cut else UNCOVERED):
            return view
        below = self._layers.behind(live.key.track, sight.box, _tasks(live, sight))
        lacks = uncovered_error(below, sight.box, one.box, hidden_by(others, shape))
        return dataclasses.replace(view, uncovered=lacks, cut=cut)

    def _criticised(
        self, critic: Critic, measured: Mapping[int, Judged], lives: Mapping[int, Live]
    ) -> dict[int, Judged]:
        """What the critic says of the tracks that it decides on."""
        layers = {
            track: self._layer(live, measured[track].box, live.sprite)
            for track, live in lives.items()
            if live.sprite is not None and not live.hidden
        }
        self._critique = Critique(critic, self.turn.scene, layers)
        asked = {track: one.box for track, one in measured.items() if criticised(one.view, self.turn.rules)}
        return {
            track: dataclasses.replace(measured[track], view=dataclasses.replace(measured[track].view, loss=lost))
            for track, lost in self._critique.losses(asked).items()
        }

    def _carry_out(self, picked: list[_Picked], lives: dict[int, Live]) -> None:
        left, sent = self.turn.budget, 0
        for one in sorted(picked, key=lambda one: -one.verdict.need):
            verdict, live = one.verdict, one.live
            act = verdict.act
            if verdict.atom and sent and left <= 0:
                act = verdict.otherwise or Act.GLIDE
                verdict = Verdict(act)
                if live is None:
                    continue
            if act in (Act.KEY, Act.RENEW):
                bits = self._pictured(one, verdict, lives)
                left, sent = left - bits, sent + bool(bits)
            elif live is not None:
                self._told(act, one, live, lives)

    def _told(self, act: Act, one: _Picked, live: Live, lives: dict[int, Live]) -> None:
        members = self._members(live.tasks)
        if act == Act.END or not members:
            if not self.turn.lists and members:
                self.ends.append(End(live.ref, members))
            del lives[live.key.track]
            return
        was = live.hidden
        live.hidden = act == Act.HIDE
        lift = self._lifts.get(live.key.track, live.lift)
        if (
            act == Act.MOVE
            or lift != live.lift
            or (act == Act.GLIDE and (was or self.turn.lists))
            or (act == Act.HIDE and (not was or self.turn.lists))
        ):
            box = one.judged.box if act == Act.MOVE else live.at(self.turn.seq)
            self.moves.append(live.move(self.turn.seq, members, box, self.turn.lists, lift))

    def _members(self, tasks: Sequence[int]) -> tuple[int, ...]:
        return tuple(position for position, task in enumerate(self.turn.tasks) if task in tasks)

    def _pictured(self, one: _Picked, verdict: Verdict, lives: dict[int, Live]) -> int:
        """Send a key or a refresh; the bits of its atom."""
        live = one.live
        box = one.sight.box if one.sight is not None else one.judged.box
        if not verdict.atom:
            self._key(one, box, None, lives)
            return 0
        plate = self._plate_under(one)
        quantizer = self._quantizer(one, box, plate)
        picture = self._picture(box, plate, quantizer)
        if verdict.act == Act.RENEW and live is not None and live.own is not None and resembles(one.judged.view):
            refresh = self._picture(box, plate, quantizer, live.own)
            assert one.judged.view.key_s is not None
            if refresh_pays(picture.bits, refresh.bits, one.judged.view.key_s, self.turn.rules):
                live.sprite = refresh.sprite
                live.source, live.hidden = self.turn.seq, False
                live.resized(box)
                speed = live.steady()
                stated = live.key.speed if self.turn.lists else live.speed
                live.box, live.said, live.speed = box, self.turn.seq, speed
                self._sent(live, box)
                self.moves.append(Move(
                    live.ref, self._members(live.tasks), box, speed=None if speed == stated else speed,
                    lift=live.lifted(self._lifts.get(one.track, live.lift), self.turn.lists), atom=refresh.atom,
                ))  # fmt: skip
                return refresh.bits
        self._key(one, box, picture, lives)
        return picture.bits

    def _picture(
        self, box: QuarterBox, plate: PlatePicture | None, quantizer: int | None, key: Sprite | None = None
    ) -> Picture:
        turn = self.turn
        return picture_of(turn.scene, box, plate, turn.rules, key=key, quantizer=quantizer, learned=turn.learned)

    def _plate_under(self, one: _Picked) -> PlatePicture | None:
        """What a track's pictures are coded on: the plate, where all its tasks have it."""
        return None if _tasks(one.live, one.sight) & self.turn.bare else self.turn.plate

    def _quantizer(self, one: _Picked, box: QuarterBox, plate: PlatePicture | None) -> int | None:
        """The coarsest quantizer for which the critic is content, else the finest; None where it cannot tell."""
        if self._critique is None:
            return None
        rules, chosen = self.turn.rules, None
        for quantizer in tried(side_of(box), rules):
            sprite = self._picture(box, plate, quantizer).sprite
            lost = self._critique.loss(one.track, self._layer(one.live, box, sprite))
            if lost is None:
                break
            chosen = quantizer
            if serves(lost, rules):
                break
        return chosen

    def _layer(self, live: Live | None, box: QuarterBox, sprite: Sprite) -> Layer:
        """A track's picture in the order in which decoders draw it: a new key comes after all others."""
        if live is None:
            return Layer((box.bottom, Ref(self.turn.seq, len(self.keys))), box, sprite)
        return Layer((box.bottom + live.lift, live.ref), box, sprite)

    def _sent(self, live: Live, box: QuarterBox) -> None:
        """Note how good what decoders have of a track is now."""
        hidden = hidden_by([], self.turn.scene.frame.shape)
        if self._critique is not None:
            track = live.key.track
            if live.sprite is None:
                self._critique.send(track, None)
            else:
                layer = self._layer(live, box, live.sprite)
                self._critique.send(track, layer)
                live.sent_loss = self._critique.loss(track, layer) or 0.0
        live.sent_time, live.sent_size = self.turn.time, max(1.0, side_of(box))
        if live.sprite is None:
            # What the plate does not show (it was hidden when it was keyed) has nothing to be compared with.
            live.sent_error = plate_error(self.turn.scene, box, hidden) if live.on_plate else 0.0
        else:
            live.sent_error = error(self.turn.scene, live.sprite, box, hidden)[0]

    def _key(self, one: _Picked, box: QuarterBox, picture: Picture | None, lives: dict[int, Live]) -> None:
        old, sight = one.live, one.sight
        if sight is not None:
            track, score, labels = sight.track, sight.score, dict(sight.labels)
        else:
            assert old is not None
            track, score, labels = old.key.track, old.key.score, {}
        if old is not None:  # what a task was told of a track holds, also where it is not found for it just now
            known = {old.tasks[place]: label for place, label in enumerate(label for _, label in old.key.labels)}
            labels = known | labels
        labels = {task: label for task, label in labels.items() if task in self.turn.tasks}
        tasks = tuple(sorted(labels))
        atom, sprite = (None, None) if picture is None else (picture.atom, picture.sprite)
        shown = atom is None and shows(one.judged.view, self.turn.rules)
        if atom is None and one.judged.view.visible < self.turn.rules.judged:
            shown |= old is not None and old.on_plate
        if sprite is not None and not sprite.alpha.any():
            atom = sprite = None  # the plate shows all of it that the quantizer leaves
            shown = True
        speed = STILL if old is None or sprite is None else old.rate()
        pairs = tuple((self.turn.tasks.index(task), labels[task]) for task in tasks)
        lift = self._lifts.get(track, 0) if sprite is not None else 0
        key = Key(len(self.keys), track, box, score, pairs, speed, lift, atom)
        self.keys.append(key)
        bare = key if atom is None else dataclasses.replace(key, atom=dataclasses.replace(atom, payload=b""))
        now = self.turn.time
        live = Live(
            ref=Ref(self.turn.seq, key.slot),
            key=bare,
            tasks=tasks,
            box=box,
            said=self.turn.seq,
            speed=speed,
            sprite=sprite,
            own=sprite,
            source=None,
            hidden=False,
            on_plate=shown,
            key_time=now,
            sent_time=now,
            sent_error=0.0,
            sent_size=1.0,
            found_time=now if sight is not None or old is None else old.found_time,
            moved_time=now if old is None else old.moved_time,
            rest=box if old is None else old.rest,
            lift=lift,
        )
        if old is not None:
            live.past = old.past
            live.resized(box)
        else:
            live.noted(self.turn.seq, box, self.turn.time)
        self._sent(live, box)
        lives[track] = live
