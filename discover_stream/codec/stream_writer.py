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
from discover_stream.codec.stream_critique import Critique, Layer
from discover_stream.codec.stream_motion import Scene, error, plate_error
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
    tried,
)
from discover_stream.codec.stream_tracks import Judged, Live, Sight, hidden_by, judged, nearer, newborn


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


def _on_plate(view: TrackView, rules: StreamRules) -> bool:
    return view.parked or view.plate_error <= rules.threshold


class RecordWriter:
    """Decides on the tracks of one frame, and writes their records: `keys`, `moves` and `ends`."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.keys: list[Key] = []
        self.moves: list[Move] = []
        self.ends: list[End] = []
        self._critique: Critique | None = None
        self._lifts: dict[int, int] = {}

    def tracks(self, sights: Mapping[int, Sight], lives: dict[int, Live]) -> None:
        """All tracks: what was found of them, and what decoders have of them; the latter is brought up to date."""
        # What nobody finds and decoders do not draw hides nothing, wherever its box has glided to.
        places = {track: live.at(self.turn.seq) for track, live in lives.items() if not live.hidden}
        places |= {track: sight.box for track, sight in sights.items()}
        if self.turn.order is not None:
            self._lifts = lifts_of(self.turn.order, self.turn.scene, sights, lives, self.turn.seq)
        measured: dict[int, Judged] = {}
        for track in sorted(lives.keys() | sights.keys()):
            sight, live = sights.get(track), lives.get(track)
            place = places[track] if live is None or track in places else live.at(self.turn.seq)
            others = nearer(track, place, places, self._lifts)
            if live is None:
                assert sight is not None
                one = newborn(sight, self.turn.scene, others, self.turn.taken_in)
            else:
                one = judged(live, sight, self.turn.scene, others, (self.turn.seq, self.turn.time))
                if sight is not None and {task for task, _ in sight.labels} & self.turn.started:
                    one = Judged(dataclasses.replace(one.view, members=False), one.box)
            measured[track] = one
        if self.turn.critic is not None:
            measured |= self._criticised(self.turn.critic, measured, lives)
        picked = [
            _Picked(track, one, decide_track(one.view, self.turn.rules), sights.get(track), lives.get(track))
            for track, one in measured.items()
        ]
        self._carry_out(picked, lives)

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
            track: Judged(dataclasses.replace(measured[track].view, loss=lost), measured[track].box)
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
        tasks = {task for task, _ in one.sight.labels} if one.sight is not None else set()
        if one.live is not None:
            tasks |= set(one.live.tasks)
        return None if tasks & self.turn.bare else self.turn.plate

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
        shown = atom is None and _on_plate(one.judged.view, self.turn.rules)
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
