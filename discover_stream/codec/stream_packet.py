"""Stream mode's packets: what one frame of a fixed camera is, for one task or several.

A packet either *continues* the state after an earlier one (`base`): tracks that it does not mention stay,
gliding at their speed; or it *lists* all tracks there are (`base` None): those it does not mention are over.
See docs/bitstream.md for the bits and `stream_state` for what a decoder makes of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from discover_stream.codec.framing import KEY_BITS, MAX_REGIONS, MAX_TASKS, MODEL_BYTES, check_tags
from discover_stream.codec.plates import MAX_PLATE, TIME_BITS, Plate, check_size
from discover_stream.codec.records import (
    MAX_CELLS,
    MAX_DISTANCE,
    Atom,
    End,
    Key,
    Move,
    Ref,
    Sighting,
    within,
)

HEADER_LIMIT = 16
"""Bytes before the side information for seq < 2**28, and incarnation, plate id and distance below 2**7."""
MAX_SEQ = 2**56 - 1
MAX_PLATES = 16
MAX_TRACKS = 4096
MAX_GAP = 2**30
MAX_VIEW = 2**13
MAX_DRIFT = 2**50
MAX_PACKET_CELLS = 2 * MAX_CELLS
"""Cells of the grids of all atoms of a packet, and of all other grids with a mask: what a parser allocates for
masks, and how much a few bytes can ask a decoder to decode."""


class GapReason(IntEnum):
    """Why frames before this one are not there."""

    UNKNOWN = 0
    SOURCE = 1
    """The camera or the way from it gave none."""
    LOAD = 2
    """Left out before encoding, by the camera's policy."""
    POISON = 3
    """Put aside, since processing died of them."""
    RETENTION = 4
    """Expired before they were processed."""
    RESTART = 5
    """Lost with the process that held them."""
    RATE = 6
    """Left out to keep to the bit rate."""


@dataclass(frozen=True, slots=True)
class LostFrames:
    """Frames right before this one that are not there. `frames` is 0 where nobody knows how many."""

    frames: int
    reason: GapReason

    def __post_init__(self) -> None:
        within("a number of lost frames", self.frames, 0, MAX_GAP)


@dataclass(frozen=True, slots=True)
class StreamPacket:
    """One frame of a fixed camera.

    Attributes:
        model: the three bytes that name the codec's weights.
        seq: of the frame.
        incarnation: of the encoder.
        plate_id: the plate under this frame; 0 for none.
        oldest_ref: the frame from which a decoder that knows nothing but plates has to read to have
            everything this packet refers to.
        tasks: 16-bit keys, ascending.
        base: the frame whose state this packet continues; None where it lists all tracks.
        cut: the scene is another one: nothing earlier is shown any more.
        plated: positions of the tasks that are shown on the plate.
        drift: ticks of the plate's clock by which the frame is off its nominal time; None without a plate.
        capture_us: capture time in microseconds; where some task has no plate.
        size: of the picture, (width, height); where some task has no plate and its state starts here.
        plates: that come with the packet, by ascending id.
        started: positions of tasks that begin with this packet.
        stopped: positions of tasks that end with this packet.
        gap: frames lost before this one.
        tags: for some tasks, (position, ascending label indices) of what is in the picture as a whole.
        view: the plate is shown shifted by (right, down) quarter pixels in this frame.
        keys: by ascending slot.
        moves: by descending frame of their key, then ascending slot.
        ends: in the same order.
        sightings: regions of this frame only.
        regions_only: there is nothing of the picture: no payloads, and of plates only clocks and sizes.
    """

    model: bytes
    seq: int
    incarnation: int
    plate_id: int
    oldest_ref: int
    tasks: tuple[int, ...]
    base: int | None = None
    cut: bool = False
    plated: tuple[int, ...] = ()
    drift: int | None = None
    capture_us: int | None = None
    size: tuple[int, int] | None = None
    plates: tuple[Plate, ...] = ()
    started: tuple[int, ...] = ()
    stopped: tuple[int, ...] = ()
    gap: LostFrames | None = None
    tags: tuple[tuple[int, tuple[int, ...]], ...] = ()
    view: tuple[int, int] = (0, 0)
    keys: tuple[Key, ...] = ()
    moves: tuple[Move, ...] = ()
    ends: tuple[End, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    regions_only: bool = False

    def __post_init__(self) -> None:
        _check_header(self)
        _check_time(self)
        _check_events(self)
        _check_tracks(self)
        _check_atoms(self)
        _check_pixels(self)

    @property
    def special(self) -> bool:
        """Whether there is any of what most packets do not have."""
        return bool(self.plates or self.started or self.stopped or self.gap or self.tags or self.view != (0, 0))

    @property
    def quiet(self) -> bool:
        """Whether the packet says nothing but that it is there."""
        return not (self.special or self.keys or self.moves or self.ends or self.sightings)

    @property
    def payloads(self) -> tuple[bytes, ...]:
        """What the entropy coder made, in the packet's order: plates, keys, refreshes."""
        plates = [plate.payload for plate in self.plates if plate.payload is not None]
        return (*plates, *(atom.payload for atom, _ in self.atoms()))

    def atoms(self) -> Iterator[tuple[Atom, tuple[int, ...]]]:
        """Atoms of tracks and the positions of their tasks, in the packet's order."""
        records: tuple[Key | Move, ...] = (*self.keys, *self.moves)
        for record in records:
            if record.atom is not None:
                yield record.atom, record.members


def needs_time(plate_id: int, tasks: Collection[int], plated: Collection[int]) -> bool:
    """Whether a packet states its capture time in full: no plate's clock serves all its tasks."""
    return plate_id == 0 or len(plated) < len(tasks)


def needs_size(plate_id: int, tasks: Collection[int], plated: Collection[int], starts: bool) -> bool:
    """Whether a packet states the picture's size. `starts`: it lists all tracks, or a task starts."""
    return starts and needs_time(plate_id, tasks, plated)


def _check_positions(positions: tuple[int, ...], tasks: int) -> None:
    if list(positions) != sorted(set(positions)):
        raise ValueError("tasks must be named once each, in ascending order")
    for position in positions:
        within("the position of a task", position, 0, tasks - 1)


def _check_header(packet: StreamPacket) -> None:
    if len(packet.model) != MODEL_BYTES:
        raise ValueError(f"a model is named by {MODEL_BYTES} bytes, not by {len(packet.model)}")
    within("seq", packet.seq, 0, MAX_SEQ)
    within("incarnation", packet.incarnation, 0, MAX_SEQ)
    within("a plate id", packet.plate_id, 0, MAX_PLATE)
    within("oldest_ref", packet.oldest_ref, max(0, packet.seq - MAX_DISTANCE), packet.seq)
    within("the number of tasks", len(packet.tasks), 0, MAX_TASKS)
    if list(packet.tasks) != sorted(set(packet.tasks)):
        raise ValueError("the tasks are not in ascending order")
    for key in packet.tasks:
        within("a task key", key, 0, 2**KEY_BITS - 1)
    if packet.base is not None:
        within("the frame a packet continues", packet.base, packet.oldest_ref, packet.seq - 1)
    if packet.cut and (packet.base is not None or packet.moves):
        raise ValueError("a packet of a new scene refers to nothing earlier")


def _check_time(packet: StreamPacket) -> None:
    _check_positions(packet.plated, len(packet.tasks))
    if bool(packet.plated) != bool(packet.plate_id and packet.tasks):
        raise ValueError("a packet names a plate where one of its tasks is shown on it, and only there")
    timed = needs_time(packet.plate_id, packet.tasks, packet.plated)
    starts = packet.base is None or bool(packet.started)
    sized = needs_size(packet.plate_id, packet.tasks, packet.plated, starts)
    has = packet.drift is not None, packet.capture_us is not None, packet.size is not None
    if has != (packet.plate_id > 0, timed, sized):
        raise ValueError("drift goes with a plate, capture time and size with tasks that have none")
    if packet.drift is not None:
        within("a drift", packet.drift, -MAX_DRIFT, MAX_DRIFT)
    if packet.capture_us is not None:
        within("a capture time in microseconds", packet.capture_us, 0, 2**TIME_BITS - 1)
    if packet.size is not None:
        check_size(*packet.size)


def _check_events(packet: StreamPacket) -> None:
    tasks = len(packet.tasks)
    _check_positions(packet.started, tasks)
    _check_positions(packet.stopped, tasks)
    if set(packet.started) & set(packet.stopped):
        raise ValueError("a task cannot start and stop in one packet")
    check_tags(packet.tags, tasks)
    for value in packet.view:
        within("a view's shift", value, -MAX_VIEW, MAX_VIEW)
    within("the number of plates", len(packet.plates), 0, MAX_PLATES)
    ids = [plate.plate_id for plate in packet.plates]
    if ids != sorted(set(ids)):
        raise ValueError("plates must come by ascending id")
    for plate in packet.plates:
        _check_positions(plate.members, tasks)
        if bool(plate.members) != bool(tasks):
            raise ValueError("a plate belongs to tasks of its packet, unless there are none")


def _check_refs(packet: StreamPacket, refs: Iterable[Ref]) -> None:
    order = [(-ref.seq, ref.slot) for ref in refs]
    if order != sorted(set(order)):
        raise ValueError("tracks must come by descending frame and ascending slot of their keys")
    for seq, slot in order:
        within("the frame of a key", -seq, packet.oldest_ref, packet.seq - 1)
        within("a slot", slot, 0, MAX_TRACKS - 1)


def _check_tracks(packet: StreamPacket) -> None:
    tasks = len(packet.tasks)
    within("the number of keys", len(packet.keys), 0, MAX_TRACKS)
    within("the number of moves", len(packet.moves), 0, MAX_TRACKS)
    within("the number of ends", len(packet.ends), 0, MAX_TRACKS)
    within("the number of regions", len(packet.sightings), 0, MAX_REGIONS)
    slots = [key.slot for key in packet.keys]
    if slots != sorted(set(slots)):
        raise ValueError("keys must come by ascending slot")
    named = [(task, key.track) for key in packet.keys for task in key.members]
    if len(named) != len(set(named)):
        raise ValueError("a packet holds two keys of one track for one task")
    _check_refs(packet, [move.ref for move in packet.moves])
    _check_refs(packet, [end.ref for end in packet.ends])
    records: tuple[Key | Move | End, ...] = (*packet.keys, *packet.moves, *packet.ends)
    for record in records:
        _check_positions(record.members, tasks)
    for sighting in packet.sightings:
        _check_positions(tuple(task for task, _ in sighting.labels), tasks)
    if packet.ends and packet.base is None:
        raise ValueError("a packet that lists all tracks ends the others by not listing them")
    earlier = [record.members for record in packet.moves] + [record.members for record in packet.ends]
    if any(set(members) & set(packet.started) for members in earlier):
        raise ValueError("a task that starts has no earlier tracks")
    ended = {(end.ref, task) for end in packet.ends for task in end.members}
    for move in packet.moves:
        if any((move.ref, task) in ended for task in move.members):
            raise ValueError("a track moves and ends in one packet")
        if move.source is not None:
            if packet.base is not None:
                raise ValueError("only a packet that lists all tracks says which refresh they show")
            within("the frame of a refresh", move.source, packet.oldest_ref, packet.seq - 1)


def _check_atoms(packet: StreamPacket) -> None:
    cells = 0
    for atom, members in packet.atoms():
        if atom.on_plate and not set(members) <= set(packet.plated):
            raise ValueError("an atom is coded on a plate that one of its tasks does not have")
        cells += atom.window.rows * atom.window.columns
    masks = [plate.cells for plate in packet.plates] + [move.shown for move in packet.moves]
    cells += sum(mask.rows * mask.columns for mask in masks if mask)
    within("the number of cells in grids of atoms and masks", cells, 0, MAX_PACKET_CELLS)


def _check_pixels(packet: StreamPacket) -> None:
    """That packets of regions only hold no pixels, and others no bare plates."""
    if any(plate.is_bare != packet.regions_only for plate in packet.plates):
        raise ValueError("plates are bare in packets of regions only, and nowhere else")
    drawn = any(move.shown or move.source is not None for move in packet.moves)
    if packet.regions_only and (packet.payloads or drawn or packet.view != (0, 0)):
        raise ValueError("a packet of regions only says nothing of pixels; see `stripped_stream`")


def route_stream(packet: StreamPacket, tasks: Collection[int]) -> StreamPacket:
    """The packet of a subscriber of `tasks` (keys): what concerns them, payloads as they are.

    Keys that the packet does not have are ignored.
    """
    kept = [index for index, key in enumerate(packet.tasks) if key in tasks]
    renumber = {old: new for new, old in enumerate(kept)}

    def those(positions: Iterable[int]) -> tuple[int, ...]:
        return tuple(renumber[old] for old in positions if old in renumber)

    def labels(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((renumber[old], label) for old, label in pairs if old in renumber)

    plated, started = those(packet.plated), those(packet.started)
    # A packet for no task at all still says of which plate it was.
    plate_id = packet.plate_id if plated or not kept else 0
    timed = needs_time(plate_id, kept, plated)
    sized = needs_size(plate_id, kept, plated, packet.base is None or bool(started))
    replace = dataclasses.replace
    return replace(
        packet,
        plate_id=plate_id,
        tasks=tuple(packet.tasks[index] for index in kept),
        plated=plated,
        drift=packet.drift if plate_id else None,
        capture_us=packet.capture_us if timed else None,
        size=packet.size if sized else None,
        plates=tuple(
            replace(plate, members=those(plate.members))
            for plate in packet.plates
            if those(plate.members) or not packet.tasks
        ),
        started=started,
        stopped=those(packet.stopped),
        tags=tuple((renumber[task], tags) for task, tags in packet.tags if task in renumber),
        keys=tuple(replace(key, labels=labels(key.labels)) for key in packet.keys if labels(key.labels)),
        moves=tuple(replace(move, members=those(move.members)) for move in packet.moves if those(move.members)),
        ends=tuple(replace(end, members=those(end.members)) for end in packet.ends if those(end.members)),
        sightings=tuple(
            replace(sighting, labels=labels(sighting.labels))
            for sighting in packet.sightings
            if labels(sighting.labels)
        ),
    )


def stripped_stream(packet: StreamPacket) -> StreamPacket:
    """The packet without anything of the picture: where tracks are, what they are, and every event stay.

    Of plates only their clocks and sizes are left, by which capture times are told.
    """
    replace = dataclasses.replace
    return replace(
        packet,
        plates=tuple(plate.bare() for plate in packet.plates),
        view=(0, 0),
        keys=tuple(replace(key, atom=None) for key in packet.keys),
        moves=tuple(replace(move, atom=None, source=None, shown=None) for move in packet.moves),
        regions_only=True,
    )


def thinned(packet: StreamPacket, dropped: Collection[Ref]) -> StreamPacket:
    """The packet for a subscriber who does not get some refreshes, for the sake of its task's own bit rate.

    A router that leaves out a refresh passes its key here for this packet and for all later ones of the
    subscriber, until it lets a later refresh of that key through or the track has a new key.

    Args:
        packet: as `route_stream` made it.
        dropped: keys of tracks whose newest refresh the subscriber does not get: they move with an older atom.
    """
    moves = tuple(
        dataclasses.replace(move, atom=None, source=None, shown=None) if move.ref in dropped else move
        for move in packet.moves
    )
    return dataclasses.replace(packet, moves=moves)
