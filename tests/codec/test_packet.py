from __future__ import annotations

import dataclasses

import crc32c
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from discover_stream.codec.bits import BitWriter
from discover_stream.codec.packet import (
    HEADER_LIMIT,
    MAX_ATOMS,
    MAX_LABEL,
    MAX_PACKET,
    MAX_PIXELS,
    MAX_REGIONS,
    MAX_SIDE,
    MAX_TASKS,
    MAX_TRACK,
    Packet,
    PacketAtom,
    PacketRegion,
    packet_bytes,
    packet_size,
    parse_packet,
    route,
    stripped,
    task_key,
    whole_pixels,
)
from discover_stream.types import BitstreamError, Box


@st.composite
def packets(draw: st.DrawFn, most_tasks: int = 6, most_bytes: int = 40) -> Packet:
    width, height = draw(st.integers(1, MAX_SIDE)), draw(st.integers(1, MAX_SIDE))
    assume(width * height <= MAX_PIXELS)
    tasks = tuple(sorted(draw(st.sets(st.integers(0, 2**16 - 1), max_size=most_tasks))))
    payload = st.binary(max_size=most_bytes)
    regions, atoms, tags = [], [], ()
    regions_only = draw(st.booleans())
    if tasks:
        members = st.sets(st.integers(0, len(tasks) - 1), min_size=1).map(lambda chosen: tuple(sorted(chosen)))
        for _ in range(draw(st.integers(0, 4))):
            x0, x1 = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
            y0, y1 = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
            label = st.one_of(st.integers(0, 120), st.integers(0, MAX_LABEL))
            labels = tuple((task, draw(label)) for task in draw(members))
            track = draw(st.one_of(st.integers(0, 99), st.integers(0, MAX_TRACK)))
            regions.append(PacketRegion(Box(x0, y0, x1, y1), draw(st.integers(0, 63)), track, labels))
        atoms = [] if regions_only else draw(st.lists(st.builds(PacketAtom, members, payload), max_size=5))
        tagged = draw(st.sets(st.integers(0, len(tasks) - 1)))
        listed = st.sets(st.one_of(st.integers(0, 120), st.integers(0, MAX_LABEL)), max_size=6)
        tags = tuple((task, tuple(sorted(draw(listed)))) for task in sorted(tagged))
    return Packet(
        model=draw(st.binary(min_size=3, max_size=3)),
        quality=draw(st.integers(1, 8)),
        seq=draw(st.one_of(st.integers(0, 2**28 - 1), st.integers(0, 2**56 - 1))),
        incarnation=draw(st.one_of(st.integers(0, 2**14 - 1), st.integers(0, 2**56 - 1))),
        capture_ns=draw(st.integers(0, 2**64 - 1)),
        width=width,
        height=height,
        tasks=tasks,
        regions=tuple(regions),
        coarse=b"" if regions_only else draw(payload),
        atoms=tuple(atoms),
        tags=tags,
        regions_only=regions_only,
    )


def repaired(data: bytes) -> bytes:
    """The bytes with the checksum that fits them."""
    if len(data) < 6:
        return data
    return data[:2] + crc32c.crc32c(data[6:], crc32c.crc32c(data[:2])).to_bytes(4, "little") + data[6:]


@settings(max_examples=40)
@given(packets())
def test_a_packet_comes_back(packet: Packet) -> None:
    assert parse_packet(packet_bytes(packet)) == packet


@settings(max_examples=40)
@given(packets())
def test_the_parts_add_up_to_all_bytes(packet: Packet) -> None:
    size = packet_size(packet)
    assert size.total == len(packet_bytes(packet))
    assert size.coarse == len(packet.coarse)
    assert size.atoms == sum(len(atom.payload) for atom in packet.atoms)
    assert min(dataclasses.astuple(size)) >= 0
    if packet.seq < 2**28 and packet.incarnation < 2**14:
        assert size.header <= HEADER_LIMIT <= 16


@settings(max_examples=6)
@given(packets(most_tasks=3, most_bytes=12))
def test_every_flipped_byte_and_every_cut_is_refused(packet: Packet) -> None:
    data = packet_bytes(packet)
    for place in range(len(data)):
        for change in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(BitstreamError, match="camera north"):
                parse_packet(bytes(damaged), camera="north")
        with pytest.raises(BitstreamError, match="camera north"):
            parse_packet(data[:place], camera="north")
    with pytest.raises(BitstreamError, match="camera north"):
        parse_packet(data + b"\0", camera="north")


def small_packet(**changes: object) -> Packet:
    """Two tasks, three regions, three atoms."""
    packet = Packet(
        model=b"abc",
        quality=4,
        seq=300,
        incarnation=2,
        capture_ns=1_700_000_000_000_000_000,
        width=640,
        height=352,
        tasks=(17, 4711),
        regions=(
            PacketRegion(Box(0, 0, 64, 64), 50, 7, ((0, 3), (1, 90))),
            PacketRegion(Box(10, 20, 640, 352), 63, 0, ((1, 0),)),
            PacketRegion(Box(5, 5, 6, 6), 0, MAX_TRACK, ((0, MAX_LABEL),)),
        ),
        coarse=b"coarse",
        atoms=(PacketAtom((0,), b"first"), PacketAtom((0, 1), b"second!"), PacketAtom((1,), b"")),
        tags=((0, (0, 3, 90)),),
    )
    return dataclasses.replace(packet, **changes)  # type: ignore[arg-type]


def test_every_changed_byte_of_a_small_packet_is_refused() -> None:
    data = packet_bytes(small_packet())
    for place in range(len(data)):
        for change in range(1, 256):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(BitstreamError):
                parse_packet(bytes(damaged))


def test_errors_name_the_sequence_number_where_it_can_be_trusted() -> None:
    data = bytearray(packet_bytes(small_packet()))
    data.insert(len(data), 0)
    with pytest.raises(BitstreamError, match="camera south, seq 300: 1 bytes are left over"):
        parse_packet(repaired(bytes(data)), camera="south")


@settings(max_examples=100)
@given(
    packets(most_tasks=4),
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10**4),
)
def test_forged_bytes_parse_in_their_one_form_or_are_refused(
    packet: Packet, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(packet_bytes(packet))
    for place, value in changes:
        data[6 + place % (len(data) - 6)] = value
    if cut % 3 == 0:
        del data[11 + cut % (len(data) - 11) :]
    forged = repaired(bytes(data))
    try:
        parsed = parse_packet(forged)
    except BitstreamError:
        return
    assert packet_bytes(parsed) == forged


@given(st.binary(max_size=60))
def test_any_bytes_behind_a_header_parse_or_are_refused(body: bytes) -> None:
    forged = repaired(bytes([0xD5, 0x10]) + b"...." + b"abc\x04" + body)
    try:
        parsed = parse_packet(forged)
    except BitstreamError:
        return
    assert packet_bytes(parsed) == forged


def test_counts_are_bounded_before_anything_is_read() -> None:
    most = packet_bytes(small_packet(tasks=(5,), regions=(), atoms=(PacketAtom((0,), b""),) * MAX_ATOMS))
    assert len(parse_packet(most).atoms) == MAX_ATOMS
    region = PacketRegion(Box(0, 0, 1, 1), 1, 1, ((0, 1),))
    full = packet_bytes(small_packet(tasks=(5,), regions=(region,) * MAX_REGIONS, atoms=()))
    assert len(parse_packet(full).regions) == MAX_REGIONS
    with pytest.raises(ValueError, match="at most"):
        packet_bytes(small_packet(tasks=(5,), regions=(), atoms=(PacketAtom((0,), b""),) * (MAX_ATOMS + 1)))
    with pytest.raises(ValueError, match="at most"):
        packet_bytes(small_packet(tasks=(5,), regions=(region,) * (MAX_REGIONS + 1), atoms=()))


def test_the_largest_side_information_reads_as_fast_as_it_is_long() -> None:
    """A reader that shifts all remaining bits for every bit would not come back from this."""
    tasks = tuple(range(MAX_TASKS))
    everyone = PacketAtom(tasks, b"")
    region = PacketRegion(Box(0, 0, 1, 1), 63, MAX_TRACK, tuple((task, MAX_LABEL) for task in tasks))
    packet = small_packet(tasks=tasks, regions=(region,) * 1000, atoms=(everyone,) * 4000)
    assert parse_packet(packet_bytes(packet)) == packet


def test_a_packet_beyond_its_bound_is_refused_by_both_sides() -> None:
    with pytest.raises(BitstreamError, match="bound"):
        packet_bytes(small_packet(coarse=bytes(MAX_PACKET)))
    with pytest.raises(BitstreamError, match="bound"):
        parse_packet(packet_bytes(small_packet()) + bytes(MAX_PACKET))


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 2**56},
        {"seq": -1},
        {"incarnation": 2**56},
        {"capture_ns": 2**64},
        {"capture_ns": -1},
        {"width": MAX_SIDE + 1},
        {"width": 0},
        {"model": b"four"},
        {"quality": 0},
        {"quality": 9},
        {"tasks": tuple(range(64)), "regions": (), "atoms": (), "tags": ()},
        {"tasks": (2**16,), "regions": (), "atoms": (), "tags": ()},
        {"tags": ((2, ()),)},
        {"tags": ((1, (0,)), (0, (0,)))},
        {"tags": ((0, (3, 3)),)},
        {"tags": ((0, (MAX_LABEL + 1,)),)},
        {"regions_only": True, "atoms": ()},
        {"regions_only": True, "coarse": b""},
        {"regions": (PacketRegion(Box(0, 0, 1, 1), 64, 0, ((0, 0),)),)},
        {"regions": (PacketRegion(Box(0, 0, 1, 1), 0, MAX_TRACK + 1, ((0, 0),)),)},
        {"regions": (PacketRegion(Box(0, 0, 1, 1), 0, 0, ((0, MAX_LABEL + 1),)),)},
        {"regions": (PacketRegion(Box(9, 0, 8, 1), 1, 1, ((0, 0),)),)},
        {"regions": (PacketRegion(Box(1024, 0, 1024, 1), 0, 0, ((0, 0),)),)},
    ],
)
def test_a_field_that_does_not_fit_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        packet_bytes(small_packet(**changes))


def test_foreign_bytes_versions_and_modes_are_told_apart() -> None:
    data = packet_bytes(small_packet())
    with pytest.raises(BitstreamError, match="too short"):
        parse_packet(b"")
    with pytest.raises(BitstreamError, match="magic"):
        parse_packet(repaired(b"\xd4" + data[1:]))
    with pytest.raises(BitstreamError, match="version 2, mode 0"):
        parse_packet(repaired(data[:1] + b"\x20" + data[2:]))
    with pytest.raises(BitstreamError, match="version 1, mode 1"):
        parse_packet(repaired(data[:1] + b"\x11" + data[2:]))
    for quality in (0, 9, 255):
        with pytest.raises(BitstreamError, match=f"quality {quality}"):
            parse_packet(repaired(data[:9] + bytes([quality]) + data[10:]))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": (4711, 17)}, "ascending"),
        ({"tasks": (17, 17)}, "ascending"),
        ({"width": 8192, "height": 8192}, "pixels"),
        ({"width": 641, "regions": (PacketRegion(Box(0, 0, 642, 1), 1, 1, ((0, 0),)),)}, "outside"),
        ({"regions": (PacketRegion(Box(0, 0, 1024, 1), 0, 0, ((0, 0),)),)}, "outside"),
        ({"regions": (PacketRegion(Box(0, 0, 8, 1), 1, 1, ()),)}, "no task"),
        ({"atoms": (PacketAtom((), b"x"),)}, "no task"),
        ({"tasks": (), "regions": (), "atoms": (PacketAtom((), b"x"),), "tags": ()}, "no task"),
    ],
)
def test_packets_that_contradict_themselves_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(BitstreamError, match=reason):
        parse_packet(packet_bytes(small_packet(**changes)))


@settings(max_examples=40)
@given(packets(), st.data())
def test_routing_keeps_what_a_subscriber_wants_and_nothing_else(packet: Packet, data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from(packet.tasks or (0,))))
    routed = route(packet, wanted)
    assert routed.tasks == tuple(key for key in packet.tasks if key in wanted)
    names = dict(enumerate(packet.tasks))
    new_names = dict(enumerate(routed.tasks))
    expected = [
        ({names[task] for task in atom.tasks} & wanted, atom.payload)
        for atom in packet.atoms
        if {names[task] for task in atom.tasks} & wanted
    ]
    assert [({new_names[task] for task in atom.tasks}, atom.payload) for atom in routed.atoms] == expected
    labels = [
        (region.box, region.score, region.track, {names[t]: label for t, label in region.labels if names[t] in wanted})
        for region in packet.regions
        if any(names[task] in wanted for task, _ in region.labels)
    ]
    assert [
        (region.box, region.score, region.track, {new_names[t]: label for t, label in region.labels})
        for region in routed.regions
    ] == labels
    expected_tags = {names[task]: listed for task, listed in packet.tags if names[task] in wanted}
    assert {new_names[task]: listed for task, listed in routed.tags} == expected_tags
    same = ("model", "quality", "seq", "incarnation", "capture_ns", "width", "height", "coarse", "regions_only")
    assert all(getattr(routed, name) == getattr(packet, name) for name in same)
    assert parse_packet(packet_bytes(routed)) == routed


@settings(max_examples=40)
@given(packets(), st.data())
def test_routing_twice_is_routing_once(packet: Packet, data: st.DataObject) -> None:
    keys = st.sets(st.one_of(st.sampled_from(packet.tasks or (0,)), st.integers(0, 2**16 - 1)))
    first, second = data.draw(keys), data.draw(keys)
    assert route(packet, packet.tasks) == packet
    assert route(route(packet, first), first) == route(packet, first)
    assert route(route(packet, first | second), first) == route(packet, first)
    assert route(route(packet, first), second) == route(packet, first & second)


@settings(max_examples=40)
@given(packets(), st.data())
def test_a_task_pays_for_its_own_atoms_only(packet: Packet, data: st.DataObject) -> None:
    assume(packet.tasks)
    key = data.draw(st.sampled_from(packet.tasks))
    position = packet.tasks.index(key)
    size = packet_size(route(packet, {key}))
    assert size.atoms == sum(len(atom.payload) for atom in packet.atoms if position in atom.tasks)
    assert size.total <= packet_size(packet).total


@settings(max_examples=40)
@given(packets(), st.data())
def test_stripping_leaves_regions_and_tags_and_commutes_with_routing(packet: Packet, data: st.DataObject) -> None:
    bare = stripped(packet)
    assert parse_packet(packet_bytes(bare)) == bare
    assert stripped(bare) == bare
    wanted = data.draw(st.sets(st.sampled_from(packet.tasks or (0,))))
    assert route(bare, wanted) == stripped(route(packet, wanted))
    same = ("model", "quality", "seq", "incarnation", "capture_ns", "width", "height", "tasks", "regions", "tags")
    assert all(getattr(bare, name) == getattr(packet, name) for name in same)
    size = packet_size(bare)
    assert (size.coarse, size.atoms) == (0, 0)
    assert size.framing == 1 + (size.side_information > 127) + (size.side_information > 2**14 - 1)
    assert size.total <= packet_size(packet).total


def test_regions_only_is_told_from_a_coarse_atom_of_no_bytes() -> None:
    empty = small_packet(coarse=b"", atoms=())
    bare = stripped(empty)
    assert parse_packet(packet_bytes(empty)) != parse_packet(packet_bytes(bare)) == bare
    # Lengths of the coarse atom and the count of atoms are not sent.
    assert len(packet_bytes(bare)) < len(packet_bytes(empty))
    with pytest.raises(BitstreamError, match="left over"):
        parse_packet(repaired(packet_bytes(bare) + b"\0"))


def test_tags_cost_a_few_bits() -> None:
    none = len(packet_bytes(small_packet(tasks=(5,), regions=(), atoms=(), tags=())))
    most = len(packet_bytes(small_packet(tasks=(5,), regions=(), atoms=(), tags=((0, tuple(range(20))),))))
    assert most - none <= 11  # 20 tags of 4 bits, their number, padding


def test_a_tag_beyond_all_labels_is_refused() -> None:
    """Each step is within its bound, their sum is not."""
    writer = BitWriter()
    for value, bits in ((0, 13), (0, 13), (0, 64), (1, 6), (5, 16)):
        writer.put(value, bits)
    writer.put_gamma(1)
    writer.put(1, 1)
    writer.put_golomb(2, 2)
    for step in (MAX_LABEL, 0):
        writer.put_golomb(step, 3)
    side = writer.bytes()
    data = repaired(bytes([0xD5, 0x18]) + b"...." + b"abc\x04\x01\x00" + bytes((len(side),)) + side)
    with pytest.raises(BitstreamError, match="seq 1: a tag is beyond"):
        parse_packet(data)


def test_labels_stay_with_their_tasks_whatever_their_order() -> None:
    mixed = small_packet(regions=(PacketRegion(Box(0, 0, 1, 1), 1, 1, ((1, 90), (0, 3))),))
    (region,) = parse_packet(packet_bytes(mixed)).regions
    assert region.labels == ((0, 3), (1, 90))


def test_a_task_key_names_the_task_and_its_version() -> None:
    keys = {task_key(name, version) for name in ("vehicles", "pedestrians", "everything") for version in range(1, 30)}
    assert len(keys) == 87
    assert all(0 <= key < 2**16 for key in keys)
    assert task_key("vehicles", 1) == task_key("vehicles", 1)


tenths = st.lists(st.integers(-4000, 4000).map(lambda value: value / 10), min_size=2, max_size=2, unique=True).map(
    sorted
)


@given(st.integers(1, 300), st.integers(1, 300), tenths, tenths)
def test_whole_pixels_cover_what_the_box_covers(width: int, height: int, x: list[float], y: list[float]) -> None:
    box = Box(x[0], y[0], x[1], y[1])
    cut, whole = box.clipped(width, height), whole_pixels(box, width, height)
    assert 0 <= whole.x0 <= cut.x0 <= cut.x1 <= whole.x1 <= width
    assert 0 <= whole.y0 <= cut.y0 <= cut.y1 <= whole.y1 <= height
    assert whole.x0 > cut.x0 - 1
    assert whole.x1 < cut.x1 + 1
    assert whole.y0 > cut.y0 - 1
    assert whole.y1 < cut.y1 + 1
    assert whole == whole_pixels(whole, width, height)
