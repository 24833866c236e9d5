"""A camera's stream as an encoder without pixels would send it, and what its pictures hold: an oracle for `apply`.

It decides at random, keeps its own account of where every track is for every task, and sets base and
oldest_ref as the format demands.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from random import Random

from discover_stream.codec.plates import Clock, Plate, Tone
from discover_stream.codec.records import STILL, Atom, Delta, End, Key, Move, QuarterBox, Ref, Speed, Window
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_packet import MAX_PLATES, StreamPacket
from discover_stream.codec.stream_state import Step, StreamState, TaskState
from discover_stream.types import Region

SIZE = (64, 48)


@dataclass
class Live:
    """A track as all decoders that lack nothing must see it."""

    ref: Ref
    track: int
    key: Key
    tasks: set[int]
    box: QuarterBox
    seen: int
    speed: Speed
    score: int
    lift: int
    drawn: int | None
    hidden: bool = False

    def at(self, seq: int) -> QuarterBox:
        return self.box.after(self.speed, seq - self.seen)


@dataclass
class Encoder:
    """Send packets with `step`. `plated` tasks are shown on the plate."""

    random: Random
    pool: tuple[int, ...] = (11, 22, 33)
    plated: frozenset[int] = frozenset((11, 22))
    seq: int = -1
    last: int = -1
    changed: int = -1
    listed: int = 0
    tasks: list[int] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    plates: dict[int, Plate] = field(default_factory=dict)
    plate_id: int = 0
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)
    next_track: int = 1

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def some(self, among: list[int]) -> tuple[int, ...]:
        """Positions of some tasks."""
        chosen = [task for task in among if self.chance(0.6)] or [self.random.choice(among)]
        return tuple(sorted(self.tasks.index(task) for task in chosen))

    def box(self) -> QuarterBox:
        draw = self.random.randint
        return QuarterBox(draw(-20, 240), draw(-20, 180), draw(1, 80), draw(1, 60))

    def speed(self) -> Speed:
        return self.random.choice((STILL, Speed(self.random.randint(-40, 40), 9, 1, 0)))

    def atom(self, box: QuarterBox, members: tuple[int, ...]) -> Atom:
        may = self.plate_id > 0 and all(self.tasks[member] in self.plated for member in members)
        payload = self.random.randbytes(3)
        return Atom(Window.around(box), None, 4, False, may and self.chance(0.7), payload)

    def step(self) -> StreamPacket:
        """The next packet."""
        first = self.seq < 0
        self.seq += self.random.choice((1, 1, 1, 2))
        started, stopped = self.switch_tasks(first)
        lists = first or self.chance(0.2)
        cut = lists and not first and self.chance(0.2)
        if cut:
            self.live = []
        plates = self.new_plates(bool(started))
        plated = tuple(index for index, task in enumerate(self.tasks) if task in self.plated and self.plate_id)
        records = {"moves": (), "keys": (), "ends": ()}
        if lists:
            records = {"moves": () if cut else self.list_tracks(), "keys": self.new_keys(), "ends": ()}
            self.listed = self.seq
            self.tags = {}
        elif self.chance(0.7):
            records = {"ends": self.some_ends(), "moves": self.some_moves(), "keys": self.new_keys()}
        tags = self.new_tags() if self.chance(0.2) else {}
        for index in started:
            self.tags.pop(self.tasks[index], None)
        self.tags |= {self.tasks[index]: listed for index, listed in tags.items()}
        base = None if lists else self.random.randint(self.changed, self.last)
        timed = not plated or len(plated) < len(self.tasks)
        packet = StreamPacket(
            b"abc",
            self.seq,
            0,
            self.plate_id if plated else 0,
            self.oldest(records["moves"], base),
            tuple(self.tasks),
            base=base,
            cut=cut,
            plated=plated,
            drift=5 if plated else None,
            capture_us=self.seq * 100_000 if timed else None,
            size=SIZE if timed and (base is None or started) else None,
            plates=tuple(dataclasses.replace(plate, members=tuple(range(len(self.tasks)))) for plate in plates),
            started=started,
            stopped=stopped,
            tags=tuple(sorted(tags.items())),
            **records,
        )
        self.last = self.seq
        if lists or not packet.quiet:
            self.changed = self.seq
        return packet

    def finish(self, packet: StreamPacket) -> None:
        """Forget tasks that the packet stopped; call it when the packet's pictures were looked at."""
        for index in sorted(packet.stopped, reverse=True):
            task = self.tasks.pop(index)
            for track in self.live:
                track.tasks.discard(task)
        self.live = [track for track in self.live if track.tasks]

    def switch_tasks(self, first: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if first:
            self.tasks = list(self.pool[:2])
            return (), ()
        missing = [task for task in self.pool if task not in self.tasks]
        if missing and self.chance(0.15):
            task = self.random.choice(missing)
            self.tasks = sorted([*self.tasks, task])
            return (self.tasks.index(task),), ()
        if len(self.tasks) > 1 and self.chance(0.05):
            return (), (self.random.randrange(len(self.tasks)),)
        return (), ()

    def new_plates(self, whole: bool) -> list[Plate]:
        if not whole and not self.chance(0.3 if self.plate_id else 0.7):
            return []
        number = self.plate_id + self.random.randint(1, 3)
        parent = self.plates.get(self.plate_id)
        if parent and not whole and parent.depth < 15 and self.chance(0.6):
            tone = Tone((1, 0, 0), (0, 0, 0))
            plate = Plate(number, *SIZE, (), None, parent.plate_id, parent.depth + 1, tone=tone)
        else:
            plate = Plate(number, *SIZE, (), Clock(10**15, self.seq, 100_000, 1000), quality=3, payload=b"plate")
        self.plates[number] = plate
        self.plate_id = number
        return [plate]

    def new_tags(self) -> dict[int, tuple[int, ...]]:
        return {index: tuple(sorted(self.random.sample(range(50), 3))) for index in self.some(self.tasks)}

    def new_keys(self) -> tuple[Key, ...]:
        keys: list[Key] = []
        for slot in range(self.random.choice((0, 0, 1, 2))):
            again = [track for track in self.live if track.seen < self.seq or self.chance(0.5)]
            renewed = self.random.choice(again) if again and self.chance(0.5) else None
            number = renewed.track if renewed else self.next_track
            if any(key.track == number for key in keys):
                continue
            self.next_track += renewed is None
            members, box = self.some(self.tasks), self.box()
            key = Key(
                3 * slot, number, box, self.random.randint(0, 63),
                tuple((member, self.random.randint(0, 99)) for member in members), self.speed(),
                self.random.choice((0, 0, -7)), self.atom(box, members) if self.chance(0.8) else None,
            )  # fmt: skip
            keys.append(key)
            named = {self.tasks[member] for member in members}
            for track in self.live:
                if track.track == number:
                    track.tasks -= named
            self.live = [track for track in self.live if track.tasks]
            drawn = self.seq if key.atom else None
            self.live.append(
                Live(Ref(self.seq, key.slot), number, key, named, box, self.seq, key.speed, key.score, key.lift, drawn)
            )
        return tuple(keys)

    def earlier(self) -> list[Live]:
        """Tracks that may be mentioned, in the order of the format."""
        return sorted(
            (track for track in self.live if track.ref.seq < self.seq), key=lambda t: (-t.ref.seq, t.ref.slot)
        )

    def move(self, track: Live, lists: bool) -> Move:
        """A move for all tasks of a track."""
        random, members = self.random, tuple(sorted(self.tasks.index(task) for task in track.tasks))
        predicted = track.key.box.after(track.key.speed, self.seq - track.ref.seq)
        kind = random.choice(("predicted", "changed", "box", "refresh"))
        delta = Delta(random.randint(-9, 9), random.randint(-9, 9), random.randint(0, 3), 1)
        box = predicted if kind == "predicted" else predicted.changed(delta) if kind == "changed" else self.box()
        atom = self.atom(box, members) if kind == "refresh" else None
        place = None if kind == "predicted" else delta if kind == "changed" else box
        score = random.choice((None, random.randint(0, 63)))
        speed = random.choice((None, None, self.speed()))
        lift = random.choice((None, None, 5))
        key_drawn = track.ref.seq if track.key.atom else None
        source = track.drawn if lists and atom is None and track.drawn != key_drawn else None
        track.box, track.seen, track.hidden = box, self.seq, self.chance(0.1)
        track.score = score if score is not None else track.key.score if lists else track.score
        track.speed = speed if speed is not None else track.key.speed if lists else track.speed
        track.lift = lift if lift is not None else track.key.lift if lists else track.lift
        track.drawn = self.seq if atom else track.drawn
        return Move(track.ref, members, place, score, speed, lift, track.hidden, None, source, atom)

    def list_tracks(self) -> tuple[Move, ...]:
        tracks = [track for track in self.earlier() if self.chance(0.9)]
        self.live = tracks
        return tuple(self.move(track, True) for track in tracks)

    def some_moves(self) -> tuple[Move, ...]:
        return tuple(self.move(track, False) for track in self.earlier() if self.chance(0.5))

    def some_ends(self) -> tuple[End, ...]:
        over = [track for track in self.earlier() if self.chance(0.1)]
        self.live = [track for track in self.live if track not in over]
        return tuple(End(track.ref, tuple(sorted(self.tasks.index(task) for task in track.tasks))) for track in over)

    def oldest(self, moves: tuple[Move, ...], base: int | None) -> int:
        """From where all of this can be read: what is drawn now, and the last packet that listed all tracks."""
        needed = [self.seq, *(track.ref.seq for track in self.live), *(move.ref.seq for move in moves)]
        return min([*needed, self.listed_needs]) if base is not None else self.needs(min(needed))

    listed_needs: int = 0

    def needs(self, oldest: int) -> int:
        self.listed_needs = oldest
        return oldest


@cache
def stream(seed: int, count: int = 30) -> tuple[tuple[StreamPacket, ...], tuple[Step, ...], dict[int, Plate]]:
    """A stream, what a decoder that gets all of it makes of it, and its plates."""
    encoder = Encoder(Random(seed))
    state, packets, steps = StreamState(), [], []
    for _ in range(count):
        packet = encoder.step()
        step = apply(state, packet)
        for task in encoder.tasks:
            if encoder.tasks.index(task) not in packet.stopped:
                check_against(encoder, task, step.state.tasks[task])
        encoder.finish(packet)
        state = step.state
        packets.append(packet)
        steps.append(step)
    return tuple(packets), tuple(steps), encoder.plates


def check_against(encoder: Encoder, task: int, state: TaskState) -> None:
    """That a decoder that lacks nothing sees what the encoder meant."""
    mine = [track for track in encoder.live if task in track.tasks]
    regions = []
    for track in sorted(mine, key=lambda track: track.ref):
        position = encoder.tasks.index(task)
        label = dict(track.key.labels).get(position, -1) if track.ref.seq == encoder.seq else None
        found = state.tracks[track.ref]
        assert label in (None, found.label)
        assert (found.drawn, found.hidden) == (track.drawn, track.hidden)
        if not track.hidden:
            regions.append(Region(found.label, track.score / 63, track.at(encoder.seq).pixels, track.track))
    assert state.regions() == tuple(regions)
    assert set(state.tracks) == {track.ref for track in mine}
    bottoms = [
        (track.at(encoder.seq).bottom + track.lift, track.ref)
        for track in mine
        if not track.hidden and track.drawn is not None
    ]
    assert state.order() == tuple(ref for _, ref in sorted(bottoms))
    assert state.tags == encoder.tags.get(task, ())


def plates_alone(plates: dict[int, Plate]) -> StreamPacket:
    return StreamPacket(
        b"abc", 0, 0, 0, 0, (), capture_us=0, size=(64, 48), plates=tuple(plates[number] for number in sorted(plates)),
        regions_only=any(plate.is_bare for plate in plates.values()),
    )  # fmt: skip


def holding(plates: dict[int, Plate]) -> StreamState:
    """The state of a decoder that has got these plates and nothing else."""
    state, numbers = StreamState(), sorted(plates)
    for first in range(0, len(numbers), MAX_PLATES):
        few = {number: plates[number] for number in numbers[first : first + MAX_PLATES]}
        state = apply(state, plates_alone(few)).state
    return state


BOX = QuarterBox(40, 40, 64, 64)
ON_PLATE = Atom(Window.around(BOX), None, 4, False, True, b"")
KEY = Key(0, 5, BOX, 50, ((0, 3),), Speed(16, -8, 0, 0), atom=ON_PLATE)
FIRST = StreamPacket(b"abc", 10, 0, 7, 10, (11,), plated=(0,), drift=0, keys=(KEY,))


def after(first: StreamPacket, seq: int, **changes: object) -> StreamPacket:
    packet = StreamPacket(b"abc", seq, 0, 7, first.seq, (11,), base=seq - 1, plated=(0,), drift=0)
    return dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def with_plate(seed: int = 0) -> StreamState:
    plate = next(plate for plate in stream(seed)[2].values() if plate.clock)
    return holding({7: dataclasses.replace(plate, plate_id=7)})
