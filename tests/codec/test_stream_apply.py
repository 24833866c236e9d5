from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import random_packet
from stream_encoder import BOX, FIRST, KEY, ON_PLATE, SIZE, after, holding, plates_alone, stream, with_plate

from discover_stream.codec.plates import Plate, Tone
from discover_stream.codec.records import Cells, Move, Ref, Window
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket, route_stream, stripped_stream, thinned
from discover_stream.codec.stream_state import Absence, Lack, StreamState, TaskState, capture_ns
from discover_stream.types import BitstreamError, Provenance, Region

seeds = st.integers(0, 2**32 - 1)


def seen(state: TaskState) -> tuple[object, ...]:
    """What a task's picture is made of."""
    drawn = tuple((ref, state.tracks[ref].drawn, state.provenance(ref)) for ref in state.order())
    return state.regions(), drawn, state.tags, state.plate_id, state.background()


@settings(max_examples=40)
@given(seeds)
def test_who_gets_everything_sees_what_was_meant(seed: int) -> None:
    _, steps, _ = stream(seed)
    assert [step.absent for step in steps if step.absent] == []


@settings(max_examples=60)
@given(seeds, seeds)
def test_a_picture_is_whole_only_where_it_is_what_was_meant(seed: int, losses: int) -> None:
    """Whatever packets are lost, whichever tasks are read: a packet is accepted only with all it refers to."""
    packets, steps, _ = stream(seed)
    random = Random(losses)
    tasks = set(random.sample((11, 22, 33), random.randint(1, 3)))
    share = random.choice((0.05, 0.2, 0.5))
    state, got, plates = StreamState(), set(), Plates()
    for packet, perfect in zip(packets, steps, strict=True):
        if random.random() < share:
            continue
        got.add(packet.seq)
        plates.see(packet, tasks)
        step = apply(state, route_stream(packet, tasks))
        state = step.state
        lacking = {absence.task for absence in step.absent}
        assert lacking <= tasks & set(packet.tasks)
        for task, whole in perfect.state.tasks.items():
            if task in tasks and task in packet.tasks and task not in lacking:
                assert seen(state.tasks[task]) == seen(whole)
                check_received(packet, task, got)
                plates.check(state.tasks[task], task)
        for task in lacking & set(state.tasks):
            drawn = state.tasks[task]
            assert all(drawn.provenance(ref) != Provenance.GENERATED for ref in drawn.tracks)


class Plates:
    """Which plates have come for which task, and which the atoms need that have."""

    def __init__(self) -> None:
        self.came: dict[int, set[int]] = {}
        self.needed: dict[tuple[Ref, int], set[int]] = {}

    def see(self, packet: StreamPacket, tasks: set[int]) -> None:
        for plate in packet.plates:
            for task in tasks & {packet.tasks[member] for member in plate.members}:
                held = self.came.setdefault(task, set())
                held |= {plate.plate_id} if plate.parent in held | {0} else set()
        for key in packet.keys:
            if key.atom:
                ref = Ref(packet.seq, key.slot)
                self.needed[ref, packet.seq] = {packet.plate_id} if key.atom.on_plate else set()
        for move in packet.moves:
            if move.atom:
                own = {packet.plate_id} if move.atom.on_plate else set()
                self.needed[move.ref, packet.seq] = own | self.needed.get((move.ref, move.ref.seq), set())

    def check(self, state: TaskState, task: int) -> None:
        """That all that is drawn can be decoded."""
        for ref in state.order():
            drawn = state.tracks[ref].drawn
            assert drawn is not None
            assert self.needed[ref, drawn] <= self.came.get(task, set())


def check_received(packet: StreamPacket, task: int, got: set[int]) -> None:
    position = packet.tasks.index(task)
    for move in packet.moves:
        if position in move.members:
            assert move.ref.seq in got
            assert move.source is None or move.source in got
    for end in packet.ends:
        assert position not in end.members or end.ref.seq in got
    if packet.base is not None and position not in packet.started:
        assert packet.base in got or max((seq for seq in got if seq < packet.seq), default=-1) > packet.base


@settings(max_examples=40)
@given(seeds, st.data())
def test_reading_from_where_a_packet_says_makes_it_whole(seed: int, data: st.DataObject) -> None:
    packets, steps, plates = stream(seed)
    wanted = data.draw(st.integers(0, len(packets) - 1))
    packet = packets[wanted]
    state = holding(plates)
    # What came before a loss does not matter either.
    if data.draw(st.booleans()):
        for before in packets[: wanted // 2]:
            state = apply(state, before).state if before.seq < packet.oldest_ref else state
    for earlier in packets:
        if packet.oldest_ref <= earlier.seq <= packet.seq:
            last = apply(state, earlier)
            state = last.state
    assert last.whole, (packet.oldest_ref, last.absent)
    for task, whole in steps[wanted].state.tasks.items():
        if task in packet.tasks:
            assert seen(state.tasks[task]) == seen(whole)


@settings(max_examples=40)
@given(seeds, seeds)
def test_routing_then_applying_is_applying_then_restricting(seed: int, losses: int) -> None:
    packets, _, _ = stream(seed)
    random = Random(losses)
    tasks = set(random.sample((11, 22, 33), random.randint(0, 3)))
    everything = routed = StreamState()
    for packet in packets:
        if random.random() < 0.15:
            continue
        full, part = apply(everything, packet), apply(routed, route_stream(packet, tasks))
        everything, routed = full.state, part.state
        assert routed == everything.only(tasks)
        assert part.absent == tuple(absence for absence in full.absent if absence.task in tasks)
        assert part.rewind == full.rewind


@settings(max_examples=40)
@given(seeds, seeds)
def test_without_pictures_the_regions_are_the_same_and_nothing_is_missing(seed: int, losses: int) -> None:
    packets, _, _ = stream(seed)
    random = Random(losses)
    full = bare = StreamState()
    for packet in packets:
        if random.random() < 0.1:
            continue
        step, plain = apply(full, packet), apply(bare, stripped_stream(packet))
        full, bare = step.state, plain.state
        pictures = {Lack.PLATE, Lack.PARENT, Lack.REFRESH, Lack.ATOM}
        # What a whole decoder lacks of tracks, this one lacks too, and of clocks what came before it began.
        assert [lack for lack in plain.absent if lack.what not in pictures] == [
            lack for lack in step.absent if lack.what not in pictures
        ]
        assert not any(lack.what in (Lack.REFRESH, Lack.ATOM) for lack in plain.absent)
        assert capture_ns(bare, packet) == capture_ns(full, packet)
        for task, state in bare.tasks.items():
            assert state.regions() == full.tasks[task].regions()
            assert state.tags == full.tasks[task].tags
            assert state.order() == ()
            assert state.background() == Provenance.MISSING
            assert all(state.provenance(ref) == Provenance.MISSING for ref in state.tracks)


def test_a_plate_that_is_sent_whole_takes_the_place_of_a_bare_one() -> None:
    plate = next(plate for plate in stream(0)[2].values() if plate.clock)
    whole, bare = ({7: dataclasses.replace(one, plate_id=7)} for one in (plate, plate.bare()))
    for first, second in ((bare, whole), (whole, bare)):
        step = apply(apply(holding(first), plates_alone(second)).state, FIRST)
        assert step.whole
        assert step.state.tasks[11].plate_there
    step = apply(holding(bare), FIRST)
    # The key's atom is coded on it.
    assert step.absent == (Absence(11, Lack.PLATE, 7), Absence(11, Lack.ATOM, 10, 0))
    assert step.state.tasks[11].background() == Provenance.MISSING
    assert apply(holding(bare), stripped_stream(FIRST)).whole


def test_pixels_after_regions_only_are_missing_until_they_are_sent() -> None:
    state = apply(with_plate(), stripped_stream(FIRST)).state
    assert state.tasks[11].regions_only
    # Neither is the street empty where the plate is there, nor is the track the plate's.
    assert not state.tasks[11].plate_there
    assert state.tasks[11].provenance(Ref(10, 0)) == Provenance.MISSING
    step = apply(state, after(FIRST, 11))
    assert step.absent == (Absence(11, Lack.ATOM, 10, 0),)
    assert step.state.tasks[11].plate_there
    assert step.state.tasks[11].provenance(Ref(10, 0)) == Provenance.MISSING
    refresh = Move(Ref(10, 0), (0,), BOX, atom=ON_PLATE)
    step = apply(step.state, after(FIRST, 12, moves=(refresh,)))
    assert step.absent == ()
    assert step.state.tasks[11].provenance(Ref(10, 0)) == Provenance.SENT
    again = apply(state, after(FIRST, 12, base=10, keys=(KEY,)))
    assert again.whole


def test_a_plate_on_a_bare_one_is_not_there_either() -> None:
    clock = next(plate.clock for plate in stream(0)[2].values() if plate.clock)
    parent = Plate(6, *SIZE, (), clock)
    child = Plate(7, *SIZE, (), None, 6, 1, tone=Tone((1, 0, 0), (0, 0, 0)))
    state = apply(holding({6: parent}), plates_alone({7: child})).state
    step = apply(state, FIRST)
    assert Absence(11, Lack.PLATE, 7) in step.absent
    assert not step.state.tasks[11].plate_there
    assert capture_ns(step.state, FIRST) is not None


@settings(max_examples=40)
@given(seeds, st.sets(st.sampled_from((11, 22, 33))), st.sets(st.sampled_from((11, 22, 33))))
def test_routing_twice_is_routing_once_and_stays_on_the_wire(seed: int, first: set[int], second: set[int]) -> None:
    for packet in stream(seed)[0]:
        once = route_stream(packet, first & second)
        # A packet for nobody may still name its plate; it holds nothing else.
        if first & second & set(packet.tasks):
            assert route_stream(route_stream(packet, first), second) == once
        assert parse_stream_packet(stream_packet_bytes(once)) == once


@settings(max_examples=60)
@given(seeds)
def test_random_packets_never_break_a_decoder(seed: int) -> None:
    """Packets that belong to no stream: they are refused, or something is absent, or they stand alone."""
    random = Random(seed)
    state = StreamState()
    for _ in range(4):
        packet = random_packet(random)
        before = state
        try:
            step = apply(before, packet, camera="north")
        except BitstreamError as error:
            assert f"camera north, seq {packet.seq}: " in str(error)  # noqa: PT017
            continue
        state = step.state
        if packet.moves and not before.tasks:
            assert not step.whole
        chosen = set(random.sample(packet.tasks, random.randint(0, len(packet.tasks))))
        if chosen:
            part = apply(before.only(chosen), route_stream(packet, chosen))
            assert part.state == state.only(chosen)


def quiet_pair() -> tuple[StreamPacket, ...]:
    """A list with one key, a move, a hold."""
    for seed in range(1000):
        packets, _, _ = stream(seed)
        for first, second, third in zip(packets, packets[1:], packets[2:], strict=False):
            if first.base is None and first.keys and second.moves and not second.keys and third.quiet:
                return first, second, third
    raise AssertionError("no such stream")


def test_a_hold_after_a_lost_move_is_refused() -> None:
    first, second, third = quiet_pair()
    third = dataclasses.replace(third, base=second.seq)
    state = apply(StreamState(), first).state
    held = apply(state, third)
    task = first.tasks[0]
    assert Absence(task, Lack.STATE, second.seq) in held.absent
    lost = held.state.tasks[task]
    assert lost.regions() == ()
    assert lost.tracks
    assert all(lost.provenance(ref) == Provenance.MISSING for ref in lost.tracks)
    assert held.rewind == third.oldest_ref


def test_holds_may_be_left_out() -> None:
    first, second, third = quiet_pair()
    state = apply(apply(StreamState(), first).state, second).state
    after = dataclasses.replace(third, seq=third.seq + 7, base=second.seq)
    assert apply(state, after).absent == apply(apply(state, third).state, dataclasses.replace(after)).absent


def test_packets_that_come_twice_or_from_before_a_restart_are_refused() -> None:
    packets, _, _ = stream(1)
    state = apply(StreamState(), packets[0]).state
    with pytest.raises(BitstreamError, match="camera south, seq 0: it does not come after"):
        apply(state, packets[0], camera="south")
    restarted = apply(state, dataclasses.replace(packets[1], incarnation=4)).state
    with pytest.raises(BitstreamError, match="incarnation 4"):
        apply(restarted, packets[2])


def test_a_restart_forgets_tracks_and_keeps_plates() -> None:
    packets, steps, _ = next(
        found
        for found in map(stream, range(50))
        if found[1][0].state.tasks[11].tracks and found[1][0].state.tasks[11].plates
    )
    state = steps[0].state
    after = apply(state, dataclasses.replace(packets[1], incarnation=1, base=0, plates=(), moves=(), ends=(), keys=()))
    assert not after.whole
    assert not after.state.tasks[11].tracks
    assert after.state.tasks[11].plates == state.tasks[11].plates


def packets_with_refreshes() -> Iterator[StreamPacket]:
    for seed in range(30):
        for packet in stream(seed)[0]:
            if any(move.atom for move in packet.moves):
                yield packet


def test_thinning_leaves_tracks_moving_with_older_atoms() -> None:
    """A router that drops all refreshes of all tracks: nothing is missing, keys are drawn."""
    thin_of = 0
    for seed in range(20):
        packets, steps, _ = stream(seed)
        state, dropped = StreamState(), set[Ref]()
        for packet, perfect in zip(packets, steps, strict=True):
            routed = route_stream(packet, {11})
            dropped |= {move.ref for move in routed.moves if move.atom}
            thin_of += sum(move.atom is not None for move in routed.moves)
            step = apply(state, thinned(routed, dropped))
            state = step.state
            assert step.whole
            if 11 in state.tasks:
                assert state.tasks[11].regions() == perfect.state.tasks[11].regions()
                tracks = state.tasks[11].tracks
                assert all(track.drawn in (None, ref.seq) for ref, track in tracks.items())
    assert thin_of > 10
    assert all(len(stream_packet_bytes(thinned(p, {m.ref for m in p.moves}))) for p in packets_with_refreshes())


def test_what_is_coded_on_an_absent_plate_stays_missing_until_the_next_key() -> None:
    ref = Ref(10, 0)
    step = apply(StreamState(), FIRST)
    assert step.absent == (Absence(11, Lack.PLATE, 7), Absence(11, Lack.ATOM, 10))
    assert step.state.tasks[11].provenance(ref) == Provenance.MISSING
    # A refresh that does not look at the plate is still coded on the key, which nobody could decode.
    late = dataclasses.replace(step.state, plates=with_plate().plates)
    refresh = Move(ref, (0,), BOX, atom=dataclasses.replace(ON_PLATE, on_plate=False))
    step = apply(late, after(FIRST, 11, moves=(refresh,)))
    assert step.absent == (Absence(11, Lack.ATOM, 11),)
    assert step.state.tasks[11].provenance(ref) == Provenance.MISSING
    assert step.state.tasks[11].background() == Provenance.PLATE
    # It is there all the same: where it is and what it is are known.
    assert step.state.tasks[11].regions() == (Region(3, 50 / 63, BOX.pixels, 5),)
    step = apply(step.state, after(FIRST, 12, keys=(KEY,)))
    assert step.whole
    assert step.state.tasks[11].provenance(Ref(12, 0)) == Provenance.SENT


def test_cells_of_another_grid_than_the_drawn_atom_are_refused() -> None:
    key = dataclasses.replace(KEY, atom=dataclasses.replace(ON_PLATE, window=Window(10, 10, 1, 2)))
    state = apply(with_plate(), dataclasses.replace(FIRST, keys=(key,))).state
    fits = Move(Ref(10, 0), (0,), shown=Cells(1, 2, b"\x80"))
    assert apply(state, after(FIRST, 11, moves=(fits,))).whole
    other = dataclasses.replace(fits, shown=Cells(2, 1, b"\x80"))
    with pytest.raises(BitstreamError, match="camera west, seq 11: a move shows cells of another grid"):
        apply(state, after(FIRST, 11, moves=(other,)), camera="west")


def test_a_plate_never_changes_and_fits_its_parent() -> None:
    plate = next(plate for plate in stream(0)[2].values() if plate.clock)
    first = dataclasses.replace(plate, plate_id=7, members=(0,))
    state = apply(with_plate(), dataclasses.replace(FIRST, plates=(first,))).state
    assert apply(state, after(FIRST, 11, plates=(first,))).whole
    with pytest.raises(BitstreamError, match="another one"):
        apply(state, after(FIRST, 11, plates=(dataclasses.replace(first, width=65),)))
    for changes in ({"depth": 2}, {"width": 65}):
        child = dataclasses.replace(first, plate_id=8, parent=7, **{"depth": 1, **changes})
        with pytest.raises(BitstreamError, match="does not fit its parent"):
            apply(state, after(FIRST, 11, plates=(child,)))
    orphan = dataclasses.replace(first, plate_id=9, parent=6, depth=1)
    assert apply(state, after(FIRST, 11, plates=(orphan,))).absent == (Absence(11, Lack.PARENT, 6),)


def test_only_the_newest_plates_are_kept() -> None:
    state = StreamState()
    plate = next(plate for plate in stream(0)[2].values() if plate.clock)
    for number in range(1, 100):
        state = apply(state, plates_alone({number: dataclasses.replace(plate, plate_id=number)})).state
    assert sorted(state.plates) == list(range(68, 100))
