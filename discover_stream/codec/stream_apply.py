"""From a decoder's state and the next packet to the state after it, and what is missing for that.

A pure function: it holds no pixels and decodes nothing. See `stream_state`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from discover_stream.codec.plates import Plate
from discover_stream.codec.records import MAX_SCORE, Atom, Key, Move, Ref
from discover_stream.codec.stream_packet import MAX_TRACKS, StreamPacket
from discover_stream.codec.stream_state import (
    MAX_HELD_PLATES,
    Absence,
    HeldAtom,
    HeldPlate,
    Lack,
    Step,
    StreamState,
    TaskState,
    Track,
)
from discover_stream.types import BitstreamError, Region

T = TypeVar("T")


def apply(state: StreamState, packet: StreamPacket, *, camera: str = "?") -> Step:
    """The state after a packet, and what is missing for it.

    Args:
        state: before it; packets in between may be lost, the frames must ascend.
        packet: as it came, for any tasks. One without tasks only brings plates and may come at any time.
        camera: named in errors.

    Raises:
        BitstreamError: the packet does not follow the state, or contradicts what came before.
    """
    if packet.plates and not packet.tasks:
        return _plates_alone(state, packet, camera)
    if packet.incarnation < state.incarnation or (packet.incarnation == state.incarnation and packet.seq <= state.seq):
        raise BitstreamError(
            f"camera {camera}, seq {packet.seq}: it does not come after incarnation {state.incarnation},"
            f" seq {state.seq}; leave out packets that came twice"
        )
    # After a restart of the encoder only plates are still what they were.
    fresh = packet.incarnation > state.incarnation
    known = {key: TaskState(plates=old.plates) if fresh else old for key, old in state.tasks.items()}
    absent: list[Absence] = []
    try:
        for position, key in enumerate(packet.tasks):
            advance = _Advance(known.get(key, TaskState()), packet, position, state.plates)
            known[key] = advance.after()
            absent += advance.absent
    except (BitstreamError, ValueError) as error:
        raise BitstreamError(f"camera {camera}, seq {packet.seq}: {error}") from None
    for position in packet.stopped:
        del known[packet.tasks[position]]
    after = StreamState(packet.incarnation, packet.seq, known, state.plates)
    return Step(after, tuple(sorted(set(absent))), packet.oldest_ref)


def _plates_alone(state: StreamState, packet: StreamPacket, camera: str) -> Step:
    absent: list[Absence] = []
    plates = state.plates
    try:
        for plate in packet.plates:
            plates = _with_plate(plates, plate, {}, 0, absent)
    except BitstreamError as error:
        raise BitstreamError(f"camera {camera}, seq {packet.seq}: {error}") from None
    return Step(dataclasses.replace(state, plates=plates), tuple(sorted(absent)), packet.oldest_ref)


def _with_plate(
    held: Mapping[int, HeldPlate], plate: Plate, shared: Mapping[int, HeldPlate], task: int, absent: list[Absence]
) -> Mapping[int, HeldPlate]:
    """What is there with one more plate, unless its parent is absent."""
    number = plate.plate_id
    clock, bare = plate.clock, plate.is_bare
    same = held.get(number)
    if same is not None:
        new = HeldPlate(plate.width, plate.height, plate.depth, clock or same.clock, same.bare)
        if new != same:
            raise BitstreamError(f"plate {number} came before and was another one")
        if bare or not same.bare:
            return held
    if plate.parent:
        parent = _fullest(plate.parent, held, shared)
        if parent is None:
            absent.append(Absence(task, Lack.PARENT, plate.parent))
            return held
        if (plate.width, plate.height, plate.depth) != (parent.width, parent.height, parent.depth + 1):
            raise BitstreamError(f"plate {number} does not fit its parent {plate.parent}")
        clock, bare = clock or parent.clock, bare or parent.bare
    if clock is None:
        raise BitstreamError(f"plate {number} has no clock")
    new = HeldPlate(plate.width, plate.height, plate.depth, clock, bare)
    more = {**held, number: new}
    return {kept: more[kept] for kept in sorted(more)[-MAX_HELD_PLATES:]}


def _fullest(plate_id: int, *places: Mapping[int, HeldPlate]) -> HeldPlate | None:
    """A plate from where more of it is there than its clock and size, else from where it is there at all."""
    found = [plates[plate_id] for plates in places if plate_id in plates]
    return min(found, key=lambda plate: plate.bare) if found else None


class _Advance:
    """One packet for one task. `after` once."""

    def __init__(self, old: TaskState, packet: StreamPacket, position: int, shared: Mapping[int, HeldPlate]) -> None:
        self.absent: list[Absence] = []
        self._old, self._packet, self._position, self._shared = old, packet, position, shared
        self._task = packet.tasks[position]
        self._plates = old.plates
        self._on_plate = True
        self._said = False

    def after(self) -> TaskState:
        """The task's state after the packet."""
        packet, position = self._packet, self._position
        for plate in packet.plates:
            if position in plate.members:
                self._said = True
                self._plates = _with_plate(self._plates, plate, self._shared, self._task, self.absent)
        plate_id = packet.plate_id if position in packet.plated else 0
        under = _fullest(plate_id, self._plates, self._shared)
        # Of its plate, a packet of regions only needs the clock.
        if plate_id and (under is None or (under.bare and not packet.regions_only)):
            self._lacks(Lack.PLATE, plate_id)
        self._on_plate = not plate_id or (under is not None and not under.bare)
        tracks, complete = self._tracks()
        self._check_drawn(tracks)
        if len(tracks) > MAX_TRACKS:
            raise BitstreamError(f"more than {MAX_TRACKS} tracks are alive")
        begins = packet.base is None or position in packet.started
        tags = dict(packet.tags).get(position, () if begins else self._old.tags)
        self._said |= begins or position in dict(packet.tags) or position in packet.stopped
        changed = packet.seq if self._said else self._old.changed
        there = plate_id > 0 and self._on_plate and not packet.regions_only
        return TaskState(
            packet.seq,
            changed,
            complete,
            tracks,
            self._plates,
            plate_id,
            there,
            tags,
            self._sightings(),
            packet.regions_only,
        )

    def _sightings(self) -> tuple[Region, ...]:
        return tuple(
            Region(label, sighting.score / MAX_SCORE, sighting.box, sighting.track)
            for sighting in self._packet.sightings
            for position, label in sighting.labels
            if position == self._position
        )

    def _check_drawn(self, tracks: Mapping[Ref, Track]) -> None:
        """Note atoms that the picture needs and that are not there."""
        if self._packet.regions_only:
            return
        for ref, track in tracks.items():
            if track.drawn is None and track.bare:
                self._lacks(Lack.ATOM, ref.seq, ref.slot)
            elif track.drawn is not None and track.box is not None:
                if track.atom is None:
                    self._lacks(Lack.REFRESH, track.drawn, ref.slot)
                elif not track.atom.decodable:
                    self._lacks(Lack.ATOM, track.drawn, ref.slot)

    def _lacks(self, what: Lack, name: int, slot: int = 0) -> None:
        self.absent.append(Absence(self._task, what, name, slot))

    def _tracks(self) -> tuple[dict[Ref, Track], bool]:
        """The tracks that are there after the packet, and whether these are all."""
        packet, position = self._packet, self._position
        before = {} if position in packet.started else dict(self._old.tracks)
        listed: dict[Ref, Track] = {}
        whole = True
        for move in packet.moves:
            if position not in move.members:
                continue
            self._said = True
            if move.ref in before:
                listed[move.ref] = self._moved(before[move.ref], move)
            else:
                whole = False
                self._lacks(Lack.KEY, move.ref.seq, move.ref.slot)
        # Also where a key of this very packet takes a track's place: what is named has to be there.
        self._check_drawn(listed)
        if packet.base is None or position in packet.started:
            tracks, complete = listed, whole
        else:
            linked = self._old.changed <= packet.base <= self._old.seq
            complete = self._old.complete and linked
            if not complete:
                self._lacks(Lack.STATE, packet.base)
            if not linked:
                before = {ref: dataclasses.replace(track, box=None) for ref, track in before.items()}
            tracks = before | listed
            self._end(tracks)
            complete = complete and whole
        for key in packet.keys:
            if position in key.members:
                self._said = True
                tracks = {ref: track for ref, track in tracks.items() if track.key.track != key.track}
                tracks[Ref(packet.seq, key.slot)] = self._keyed(key)
        return tracks, complete

    def _end(self, tracks: dict[Ref, Track]) -> None:
        for end in self._packet.ends:
            if self._position in end.members:
                self._said = True
                if tracks.pop(end.ref, None) is None:
                    self._lacks(Lack.KEY, end.ref.seq, end.ref.slot)

    def _held(self, atom: Atom) -> HeldAtom:
        return HeldAtom(self._packet.seq, atom.window, self._on_plate or not atom.on_plate)

    def _keyed(self, key: Key) -> Track:
        own = self._held(key.atom) if key.atom else None
        label = dict(key.labels)[self._position]
        atom = key.atom and dataclasses.replace(key.atom, payload=b"")
        bare = dataclasses.replace(key, labels=((0, label),), atom=atom)
        seq = self._packet.seq
        return Track(
            bare,
            label,
            seq,
            key.box,
            key.score,
            key.speed,
            key.lift,
            own=own,
            drawn=seq if own else None,
            bare=self._packet.regions_only,
        )

    def _moved(self, track: Track, move: Move) -> Track:
        packet, key = self._packet, track.key
        lists = packet.base is None
        box = move.box(key.box.after(key.speed, packet.seq - move.ref.seq))
        refresh, drawn = track.refresh, track.drawn
        if move.atom is not None:
            refresh, drawn = self._held(move.atom), packet.seq
            if track.own and not track.own.decodable:
                refresh = dataclasses.replace(refresh, decodable=False)
        elif lists:
            drawn = move.source if move.source is not None else (move.ref.seq if track.own else None)
        moved = Track(
            key,
            track.label,
            packet.seq,
            box,
            _stated(move.score, key.score if lists else track.score),
            _stated(move.speed, key.speed if lists else track.speed),
            _stated(move.lift, key.lift if lists else track.lift),
            move.hidden,
            move.shown,
            track.own,
            refresh,
            drawn,
            track.bare,
        )
        atom = moved.atom
        if move.shown and atom and (move.shown.rows, move.shown.columns) != (atom.window.rows, atom.window.columns):
            raise BitstreamError("a move shows cells of another grid than its atom's")
        return moved


def _stated(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
