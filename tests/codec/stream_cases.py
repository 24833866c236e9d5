"""Random packets of stream mode, each valid by itself; tests draw the seed."""

from __future__ import annotations

from random import Random

import numpy as np

from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.framing import MAX_LABEL, MAX_TRACK
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone, Warp
from discover_stream.codec.records import (
    MAX_LIFT,
    MAX_SLOT,
    Atom,
    AtomCoding,
    Cells,
    Delta,
    End,
    Key,
    Move,
    QuarterBox,
    Ref,
    Sighting,
    Speed,
    Window,
)
from discover_stream.codec.stream_packet import (
    GapReason,
    LostFrames,
    StreamPacket,
    needs_size,
    needs_time,
    stripped_stream,
)
from discover_stream.types import Box


def some(random: Random, count: int) -> tuple[int, ...]:
    """Some of the first `count` numbers, at least one where there is one."""
    chosen = [number for number in range(count) if random.random() < 0.5]
    return tuple(chosen or ([random.randrange(count)] if count else []))


def size_of_any(random: Random, most: int, least: int = 0) -> int:
    """A number of random magnitude."""
    return min(most, max(least, random.getrandbits(random.randint(0, most.bit_length()))))


def signed(random: Random, most: int) -> int:
    return random.choice((-1, 1)) * size_of_any(random, most)


def cells(random: Random, rows: int, columns: int) -> Cells | None:
    mask = np.array([random.random() < 0.7 for _ in range(rows * columns)]).reshape(rows, columns)
    return Cells.of(mask) if mask.any() else None


def box(random: Random) -> QuarterBox:
    return QuarterBox(
        signed(random, 2**16), signed(random, 2**16), size_of_any(random, 2**12, 1), size_of_any(random, 2**12, 1)
    )


def speed(random: Random) -> Speed:
    return random.choice((Speed(), Speed(*(signed(random, 2**13) for _ in range(4)))))


def labels(random: Random, tasks: int) -> tuple[tuple[int, int], ...]:
    return tuple((task, size_of_any(random, MAX_LABEL)) for task in some(random, tasks))


def atom(random: Random, around: QuarterBox, members: tuple[int, ...], plated: tuple[int, ...]) -> Atom:
    zoom = random.choice((0, 0, -1, 1, 2))
    window = Window.around(around, zoom)
    if random.random() < 0.4:
        window = Window(
            window.x + signed(random, 99), window.y + signed(random, 99), random.randint(1, 9), random.randint(1, 9)
        )
    holes = cells(random, window.rows, window.columns) if window.rows * window.columns < 200 else None
    coding = random.choice(tuple(AtomCoding))
    latent = coding == AtomCoding.LATENT
    return Atom(
        window,
        holes if random.random() < 0.5 else None,
        random.randint(1, 8) if latent else 0,
        latent and random.random() < 0.5,
        set(members) <= set(plated) and random.random() < 0.5,
        random.randbytes(size_of_any(random, 300)),
        coding,
        zoom,
    )


def key(random: Random, slot: int, track: int, tasks: int, plated: tuple[int, ...]) -> Key:
    place, named = box(random), labels(random, tasks)
    coded = atom(random, place, tuple(task for task, _ in named), plated) if random.random() < 0.7 else None
    lift = signed(random, MAX_LIFT) if random.random() < 0.2 else 0
    return Key(slot, track, place, random.randint(0, 63), named, speed(random), lift, coded)


def move(random: Random, ref: Ref, seq: int, tasks: int, plated: tuple[int, ...], lists: bool) -> Move:
    members = some(random, tasks)
    kind = random.choice(("stays", "delta", "delta", "delta", "box"))
    place: Delta | QuarterBox | None = None
    if kind == "delta":
        place = Delta(signed(random, 500) or 1, signed(random, 90), signed(random, 30), signed(random, 30))
    elif kind == "box":
        place = box(random)
    refresh = atom(random, place, members, plated) if isinstance(place, QuarterBox) and random.random() < 0.5 else None
    earlier = lists and refresh is None and ref.seq + 1 < seq and random.random() < 0.5
    rich = random.random() < 0.3
    return Move(
        ref,
        members,
        place,
        score=random.randint(0, 63) if rich else None,
        speed=speed(random) if rich and random.random() < 0.5 else None,
        lift=signed(random, 99) if rich and random.random() < 0.5 else None,
        hidden=rich and random.random() < 0.5,
        shown=cells(random, random.randint(1, 6), random.randint(1, 6)) if rich and random.random() < 0.5 else None,
        source=random.randint(ref.seq + 1, seq - 1) if earlier else None,
        atom=refresh,
    )


def plate(random: Random, number: int, members: tuple[int, ...], size: tuple[int, int]) -> Plate:
    parent = random.randint(0, number - 1) if random.random() < 0.5 else 0
    clock = Clock(
        random.getrandbits(51), random.getrandbits(30), random.randint(0, 10**6), random.choice((1, 1000, 10**6))
    )
    warp = Warp(signed(random, 99) or 1, 0, signed(random, 9), 0) if parent and random.random() < 0.5 else None
    tone = Tone((signed(random, 255), 1, 2), (0, 0, signed(random, 1023))) if parent and random.random() < 0.5 else None
    if (warp or tone) and random.random() < 0.5:
        return Plate(number, *size, members, None, parent, random.randint(1, 15), warp=warp, tone=tone)
    coding = random.choice(tuple(PlateCoding))
    return Plate(
        number,
        *size,
        members,
        clock if not parent or random.random() < 0.5 else None,
        parent,
        random.randint(1, 15) if parent else 0,
        coding,
        random.randint(1, 8) if coding == PlateCoding.ATOM else 0,
        coding == PlateCoding.ATOM and random.random() < 0.5,
        cells(random, *cell_grid(*size)) if random.random() < 0.5 else None,
        warp,
        tone,
        random.randbytes(size_of_any(random, 500)),
    )


def refs(random: Random, seq: int, oldest: int) -> list[Ref]:
    found = {Ref(random.randint(oldest, seq - 1), size_of_any(random, 40)) for _ in range(size_of_any(random, 9))}
    return sorted(found, key=lambda ref: (-ref.seq, ref.slot))


def random_packet(random: Random, most_tasks: int = 5) -> StreamPacket:
    """Any packet: every record and every optional part occurs."""
    packet = packet_with_pixels(random, most_tasks)
    return stripped_stream(packet) if random.random() < 0.2 else packet


def packet_with_pixels(random: Random, most_tasks: int = 5) -> StreamPacket:
    """Any packet that is not of regions only."""
    count = random.choice((1, 1, random.randint(0, most_tasks)))
    tasks = tuple(sorted(random.sample(range(2**16), count)))
    seq = size_of_any(random, 2**56 - 1)
    oldest = max(0, seq - size_of_any(random, 2**16))
    continues = oldest < seq and random.random() < 0.6
    base = random.choice((seq - 1, random.randint(oldest, seq - 1))) if continues else None
    cut = not continues and random.random() < 0.3
    plate_id = random.choice((0, size_of_any(random, 2**31 - 1, 1)))
    plated = random.choice((tuple(range(count)), some(random, count))) if plate_id else ()
    common = {
        "model": random.randbytes(3), "seq": seq, "incarnation": size_of_any(random, 2**56 - 1), "plate_id": plate_id,
        "oldest_ref": oldest, "tasks": tasks, "base": base, "cut": cut, "plated": plated,
        "drift": signed(random, 2**40) if plate_id else None,
    }  # fmt: skip
    started = some(random, count) if random.random() < 0.2 else ()
    size = random.randint(1, 200), random.randint(1, 200)
    if needs_time(plate_id, tasks, plated):
        common["capture_us"] = random.getrandbits(56)
    if needs_size(plate_id, tasks, plated, base is None or bool(started)):
        common["size"] = size
    if random.random() < 0.1:
        return StreamPacket(**common, started=started)  # type: ignore[arg-type]
    slots = sorted(random.sample(range(random.choice((9, MAX_SLOT + 1))), size_of_any(random, 4))) if count else []
    tracks = random.sample(range(1, random.choice((99, MAX_TRACK))), len(slots))
    old = refs(random, seq, oldest) if count and oldest < seq and not cut else []
    moves = [move(random, ref, seq, count, plated, base is None) for ref in old if random.random() < 0.8]
    moves = [record for record in moves if not set(record.members) & set(started)]
    ends = []
    if base is not None:
        moving = {record.ref for record in moves}
        ends = [End(ref, some(random, count)) for ref in old if ref not in moving]
        ends = [end for end in ends if not set(end.members) & set(started)]
    numbers = sorted({size_of_any(random, 2**31 - 1, 1) for _ in range(size_of_any(random, 3))})
    sightings = []
    for _ in range(size_of_any(random, 5) if count else 0):
        x0, y0 = size_of_any(random, 8191), size_of_any(random, 8191)
        corners = Box(x0, y0, random.randint(x0 + 1, 8192), random.randint(y0 + 1, 8192))
        track = random.choice((0, size_of_any(random, MAX_TRACK)))
        sightings.append(Sighting(corners, random.randint(0, 63), track, labels(random, count)))
    stopped = tuple(task for task in some(random, count) if task not in started) if random.random() < 0.2 else ()
    tagged = some(random, count) if random.random() < 0.3 else ()
    return StreamPacket(
        **common,  # type: ignore[arg-type]
        started=started,
        stopped=stopped,
        plates=tuple(plate(random, number, some(random, count), size) for number in numbers),
        gap=LostFrames(size_of_any(random, 2**30), random.choice(tuple(GapReason))) if random.random() < 0.3 else None,
        tags=tuple((task, tuple(sorted(random.sample(range(MAX_LABEL), random.randint(0, 9))))) for task in tagged),
        view=(signed(random, 2**13), signed(random, 9)) if random.random() < 0.2 else (0, 0),
        keys=tuple(key(random, slot, track, count, plated) for slot, track in zip(slots, tracks, strict=True)),
        moves=tuple(moves),
        ends=tuple(ends),
        sightings=tuple(sightings),
    )
