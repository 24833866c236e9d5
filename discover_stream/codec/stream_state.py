"""What a decoder of stream mode holds: which plates, keys and tracks, but no pixels.

`stream_apply.apply` takes it from packet to packet and says whether all that a packet refers to is there.
Readers use it to tell at any point whether a picture is whole, what of it is missing, and where to start
reading to mend that; decoders take from it what to draw, where, in which order, and with which provenance.

The state of a task depends on its own records only, so routing first or restricting afterwards is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from discover_stream.codec.plates import Clock
from discover_stream.codec.records import MAX_SCORE, STILL, Cells, Key, QuarterBox, Ref, Speed, Window
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import Provenance, Region

MAX_HELD_PLATES = 32
"""A decoder keeps the plates of the highest ids it has got, this many for a task."""


class Lack(IntEnum):
    """What kind of thing a packet refers to that is not there."""

    STATE = 0
    """The state it continues: a packet was lost, or reading began after it."""
    PLATE = 1
    PARENT = 2
    KEY = 3
    REFRESH = 4
    ATOM = 5
    """An atom that came, but not what it is coded on."""


@dataclass(frozen=True, slots=True, order=True)
class Absence:
    """Something that is not there.

    Attributes:
        task: key of the task that lacks it.
        what: its kind.
        name: the frame of a state, a key, a refresh or an atom; the id of a plate.
        slot: of the track's key; 0 for a state or a plate.
    """

    task: int
    what: Lack
    name: int
    slot: int = 0


@dataclass(frozen=True, slots=True)
class HeldPlate:
    """A plate that is there. Of a bare one, or one with a bare parent, only size and clock are known."""

    width: int
    height: int
    depth: int
    clock: Clock
    bare: bool = False


@dataclass(frozen=True, slots=True)
class HeldAtom:
    """An atom that came, and whether what it is coded on was there too."""

    seq: int
    window: Window
    decodable: bool


@dataclass(frozen=True, slots=True)
class Track:
    """A track that is alive, as far as its key has come.

    Attributes:
        key: as it came, without its payload and with the one label of the task.
        label: index into the task's label set.
        seen: the frame that last mentioned it.
        box: in frame `seen`; None while unknown, after a loss.
        score: 0..63.
        speed: by which the box glides after `seen`.
        lift: for the order of drawing.
        hidden: not to be seen.
        shown: cells of the drawn atom that are drawn; None for all.
        own: the key's atom; None where the plate shows the object.
        refresh: the newest refresh that came.
        drawn: the frame of the atom that is drawn (the key's or a refresh's); None for the plate.
        bare: the key came in a packet of regions only, so what it shows is unknown.
    """

    key: Key
    label: int
    seen: int
    box: QuarterBox | None
    score: int
    speed: Speed = STILL
    lift: int = 0
    hidden: bool = False
    shown: Cells | None = None
    own: HeldAtom | None = None
    refresh: HeldAtom | None = None
    drawn: int | None = None
    bare: bool = False

    @property
    def atom(self) -> HeldAtom | None:
        """The atom that is drawn, where it is there."""
        return next((atom for atom in (self.refresh, self.own) if atom and atom.seq == self.drawn), None)

    def at(self, seq: int) -> QuarterBox | None:
        """The box in a frame not before `seen`; None while unknown."""
        return self.box and self.box.after(self.speed, seq - self.seen)


@dataclass(frozen=True, slots=True)
class TaskState:
    """What is there for one task.

    Attributes:
        seq: of the last packet; -1 before the first.
        changed: of the last packet that said anything but that it was there.
        complete: all tracks that are alive are there, and their boxes are known.
        tracks: by the key they refer to.
        plates: by id.
        plate_id: under the last frame; 0 for none.
        plate_there: whether that plate is, and not a bare one.
        tags: of the picture as a whole.
        sightings: regions of the last frame only.
        regions_only: nothing of the last frame's picture was sent.
    """

    seq: int = -1
    changed: int = -1
    complete: bool = False
    tracks: Mapping[Ref, Track] = field(default_factory=dict)
    plates: Mapping[int, HeldPlate] = field(default_factory=dict)
    plate_id: int = 0
    plate_there: bool = False
    tags: tuple[int, ...] = ()
    sightings: tuple[Region, ...] = ()
    regions_only: bool = False

    def background(self) -> Provenance:
        """Where what no track covers in the last frame comes from. MISSING without a plate."""
        return Provenance.PLATE if self.plate_there else Provenance.MISSING

    def provenance(self, ref: Ref) -> Provenance:
        """Where what the last frame shows of a track comes from. What is absent is MISSING, never generated."""
        track = self.tracks.get(ref)
        if track is None or track.box is None:
            return Provenance.MISSING
        if track.drawn is None:
            return Provenance.MISSING if track.bare else self.background()
        if track.atom is None or not track.atom.decodable:
            return Provenance.MISSING
        return Provenance.SENT if track.drawn == self.seq else Provenance.PROPAGATED

    def regions(self) -> tuple[Region, ...]:
        """The task's regions in the last frame: tracks by their keys, then what was only there in this frame."""
        found = []
        for _, track in sorted(self.tracks.items(), key=lambda item: item[0]):
            box = track.at(self.seq)
            if box is not None and not track.hidden:
                found.append(Region(track.label, track.score / MAX_SCORE, box.pixels, track.key.track))
        return (*found, *self.sightings)

    def order(self) -> tuple[Ref, ...]:
        """Tracks to be drawn in the last frame, first to last: by lower edge and lift, then by key."""
        ranked = []
        for ref, track in self.tracks.items():
            box = track.at(self.seq)
            if box is not None and not track.hidden and track.drawn is not None:
                ranked.append((box.bottom + track.lift, ref))
        return tuple(ref for _, ref in sorted(ranked))


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a decoder holds. The empty one is where reading starts.

    Attributes:
        incarnation: of the last packet.
        seq: of the last packet; -1 before the first.
        tasks: what is there, by task key.
        plates: that came apart from any task, by id.
    """

    incarnation: int = 0
    seq: int = -1
    tasks: Mapping[int, TaskState] = field(default_factory=dict)
    plates: Mapping[int, HeldPlate] = field(default_factory=dict)

    def only(self, tasks: Collection[int]) -> StreamState:
        """The state of a decoder that has got these tasks' packets only."""
        return dataclasses.replace(self, tasks={key: state for key, state in self.tasks.items() if key in tasks})


@dataclass(frozen=True, slots=True)
class Step:
    """What `apply` answers.

    Attributes:
        state: after the packet. Where something is absent, it holds what is sure all the same: tracks whose
            place is unknown have no box, and nothing is guessed.
        absent: what the packet refers to, or the picture needs, and is not there; empty for a whole picture.
        rewind: where to start reading, with an empty state and the camera's plates, to have this picture whole.
    """

    state: StreamState
    absent: tuple[Absence, ...]
    rewind: int

    @property
    def whole(self) -> bool:
        """Whether everything is there that the packet refers to."""
        return not self.absent


def capture_ns(state: StreamState, packet: StreamPacket) -> int | None:
    """A packet's capture time; None where the clock it is told by is not there.

    Exact to a microsecond without plate, to half a tick of the plate's clock with one.
    """
    if packet.capture_us is not None:
        return 1000 * packet.capture_us
    plate = plate_under(state, packet)
    return None if plate is None or packet.drift is None else plate.clock.capture_ns(packet.seq, packet.drift)


def plate_under(state: StreamState, packet: StreamPacket) -> HeldPlate | None:
    """The plate that a packet names, from the state after it; None where it is not there."""
    held = [state.tasks[key].plates for key in packet.tasks if key in state.tasks]
    return next((plates[packet.plate_id] for plates in (*held, state.plates) if packet.plate_id in plates), None)
