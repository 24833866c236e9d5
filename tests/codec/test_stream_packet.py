from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_golden import STREAM
from stream_cases import random_packet

from discover_stream.codec.plates import Clock, Plate, PlateCoding
from discover_stream.codec.records import Atom, Delta, End, Key, Move, QuarterBox, Ref, Window
from discover_stream.codec.stream_coding import packet_sizes, parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import (
    GapReason,
    LostFrames,
    StreamPacket,
    route_stream,
    stripped_stream,
    thinned,
)

BOX = QuarterBox(0, 0, 64, 64)
KEY = Key(0, 1, BOX, 1, ((0, 1),), atom=Atom(Window.around(BOX), None, 4, False, False, b"key"))
MOVE = Move(Ref(90, 0), (0,), Delta(1, 0, 0, 0))
PLATE = Plate(4, 64, 48, (0,), Clock(0, 0, 1, 1), coding=PlateCoding.AV1, payload=b"x")
NEXT = StreamPacket(b"abc", 100, 0, 4, 60, (7, 8), base=99, plated=(0, 1), drift=0)
LISTS = dataclasses.replace(NEXT, base=None)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.data())
def test_routing_keeps_what_a_subscriber_wants_and_nothing_else(seed: int, data: st.DataObject) -> None:
    packet = random_packet(Random(seed))
    wanted = data.draw(st.sets(st.sampled_from(packet.tasks or (0,))))
    routed = route_stream(packet, wanted)
    assert parse_stream_packet(stream_packet_bytes(routed)) == routed
    names, new_names = dict(enumerate(packet.tasks)), dict(enumerate(routed.tasks))
    assert routed.tasks == tuple(key for key in packet.tasks if key in wanted)

    def records(of: StreamPacket, names: dict[int, int]) -> list[object]:
        """All records with the names of the wanted tasks in place of positions."""
        found: list[object] = []
        for record in (*of.plates, *of.moves, *of.ends):
            tasks = {names[task] for task in record.members} & wanted
            if tasks or not packet.tasks:
                found.append((dataclasses.replace(record, members=(9,)), tasks))
        for labelled in (*of.keys, *of.sightings):
            labels = {(names[task], label) for task, label in labelled.labels if names[task] in wanted}
            if labels:
                found.append((dataclasses.replace(labelled, labels=((9, 9),)), labels))
        events = of.started, of.stopped, of.plated
        found += [{names[task] for task in positions} & wanted for positions in events]
        found.append([(names[task], tags) for task, tags in of.tags if names[task] in wanted])
        return found

    assert records(routed, new_names) == records(packet, names)
    for name in ("model", "seq", "incarnation", "oldest_ref", "base", "cut", "gap", "view"):
        assert getattr(routed, name) == getattr(packet, name)
    if len(wanted) > 1:
        (one, *_) = wanted
        assert route_stream(routed, {one}) == route_stream(packet, {one})


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.data())
def test_stripping_leaves_no_payload_and_commutes_with_routing(seed: int, data: st.DataObject) -> None:
    packet = random_packet(Random(seed))
    bare = stripped_stream(packet)
    assert parse_stream_packet(stream_packet_bytes(bare)) == bare == stripped_stream(bare)
    assert bare.payloads == ()
    wanted = data.draw(st.sets(st.sampled_from(packet.tasks or (0,))))
    assert route_stream(bare, wanted) == stripped_stream(route_stream(packet, wanted))
    for name in ("tasks", "base", "cut", "drift", "started", "stopped", "gap", "tags", "ends", "sightings"):
        assert getattr(bare, name) == getattr(packet, name)
    assert [plate.clock for plate in bare.plates] == [plate.clock for plate in packet.plates]
    sizes = packet_sizes(bare)
    assert sizes.plate_payloads == sizes.key_payloads == sizes.refresh_payloads == sizes.lengths == 0


def test_a_task_without_plate_learns_nothing_of_it() -> None:
    packet = STREAM["stream-cut"]
    routed = route_stream(packet, {17})
    assert (routed.plate_id, routed.drift, routed.plates) == (0, None, ())
    assert (routed.capture_us, routed.size) == (packet.capture_us, (640, 352))
    plated = route_stream(packet, {4711})
    assert (plated.capture_us, plated.size) == (None, None)
    assert (plated.plate_id, plated.drift) == (packet.plate_id, packet.drift)
    assert [key.slot for key in plated.keys] == [0, 3]
    assert plated.payloads == (b"av1 still", b"partial", b"car", b"")


@pytest.mark.parametrize(
    ("packet", "changes", "reason"),
    [
        (NEXT, {"model": b"four"}, "model"),
        (NEXT, {"seq": 2**56, "oldest_ref": 2**56 - 1, "base": 2**56 - 1}, "seq"),
        (NEXT, {"incarnation": -1}, "incarnation"),
        (NEXT, {"oldest_ref": 101}, "oldest_ref"),
        (NEXT, {"base": 100}, "continues"),
        (NEXT, {"base": 59}, "continues"),
        (NEXT, {"tasks": (8, 7)}, "ascending"),
        (NEXT, {"tasks": (7, 2**16)}, "task key"),
        (NEXT, {"cut": True}, "new scene"),
        (LISTS, {"cut": True, "moves": (MOVE,)}, "new scene"),
        (NEXT, {"plated": ()}, "plate"),
        (NEXT, {"plated": (0,)}, "capture time"),
        (NEXT, {"drift": None}, "drift"),
        (NEXT, {"drift": 2**51}, "drift"),
        (NEXT, {"capture_us": 1}, "capture time"),
        (NEXT, {"size": (1, 1)}, "size"),
        (LISTS, {"plated": (0,), "capture_us": 1}, "size"),
        (LISTS, {"plated": (0,), "capture_us": 1, "size": (0, 1)}, "width"),
        (NEXT, {"started": (0,), "stopped": (0,)}, "start and stop"),
        (NEXT, {"started": (2,)}, "position"),
        (NEXT, {"tags": ((0, (1, 1)),)}, "tags"),
        (NEXT, {"view": (2**14, 0)}, "view"),
        (NEXT, {"keys": (KEY, KEY)}, "slot"),
        (NEXT, {"keys": (KEY, dataclasses.replace(KEY, slot=1))}, "two keys"),
        (NEXT, {"keys": (dataclasses.replace(KEY, labels=((2, 0),)),)}, "position"),
        (NEXT, {"moves": (MOVE, MOVE)}, "descending"),
        (NEXT, {"moves": (dataclasses.replace(MOVE, ref=Ref(100, 0)),)}, "frame of a key"),
        (NEXT, {"moves": (dataclasses.replace(MOVE, ref=Ref(59, 0)),)}, "frame of a key"),
        (NEXT, {"moves": (dataclasses.replace(MOVE, source=95),)}, "lists all tracks"),
        (LISTS, {"moves": (dataclasses.replace(MOVE, source=100),)}, "refresh"),
        (NEXT, {"moves": (MOVE,), "ends": (End(MOVE.ref, (0, 1)),)}, "moves and ends"),
        (NEXT, {"moves": (MOVE,), "started": (0,)}, "no earlier"),
        (LISTS, {"ends": (End(MOVE.ref, (0,)),)}, "not listing"),
        (NEXT, {"keys": (KEY,), "regions_only": True}, "regions only"),
        (NEXT, {"view": (1, 0), "regions_only": True}, "regions only"),
        (LISTS, {"moves": (dataclasses.replace(MOVE, source=95),), "regions_only": True}, "regions only"),
        (NEXT, {"plates": (PLATE,), "regions_only": True}, "bare"),
        (NEXT, {"plates": (PLATE.bare(),)}, "bare"),
    ],
)
def test_packets_that_contradict_themselves_are_not_made(
    packet: StreamPacket, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def test_an_atom_on_a_plate_is_for_tasks_on_the_plate() -> None:
    assert KEY.atom is not None
    key = dataclasses.replace(KEY, labels=((0, 1), (1, 1)), atom=dataclasses.replace(KEY.atom, on_plate=True))
    dataclasses.replace(NEXT, keys=(key,))
    with pytest.raises(ValueError, match="does not have"):
        dataclasses.replace(NEXT, keys=(key,), plated=(0,), capture_us=1)


def test_more_records_than_the_format_allows_are_refused() -> None:
    keys = tuple(dataclasses.replace(KEY, slot=min(slot, 4095), track=slot + 1) for slot in range(4097))
    with pytest.raises(ValueError, match="number of keys"):
        dataclasses.replace(NEXT, keys=keys)
    packet = dataclasses.replace(NEXT, keys=keys[:4096])
    assert parse_stream_packet(stream_packet_bytes(packet)) == packet
    with pytest.raises(ValueError, match="lost frames"):
        LostFrames(2**30 + 1, GapReason.LOAD)


def test_thinning_drops_refreshes_of_the_named_tracks_only() -> None:
    refresh = dataclasses.replace(MOVE, place=BOX, atom=KEY.atom)
    other = dataclasses.replace(refresh, ref=Ref(80, 2))
    packet = dataclasses.replace(LISTS, moves=(refresh, other))
    thin = thinned(packet, {refresh.ref})
    assert thin.moves == (dataclasses.replace(refresh, atom=None), other)
    assert thin.payloads == (b"key",)


@pytest.mark.parametrize(("tags", "bits"), [((), 3), ((0,), 7), ((3, 5, 90), 21)])
def test_tags_cost_a_few_bits(tags: tuple[int, ...], bits: int) -> None:
    routed = route_stream(dataclasses.replace(NEXT, tags=((0, tags),)), {7})
    assert packet_sizes(routed).tags == bits
