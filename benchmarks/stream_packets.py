"""What stream mode's packets cost without what the coders make of pixels: `python -m benchmarks.stream_packets`.

Sizes of typical packets by part, over random but plausible tracks, and the time to write, read, route and apply one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from random import Random

from discover_stream.codec.plates import Clock, Plate, PlateCoding
from discover_stream.codec.records import Atom, Delta, Key, Move, QuarterBox, Ref, Sighting, Speed, Window
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_coding import StreamSizes, packet_sizes, parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket, route_stream
from discover_stream.codec.stream_state import StreamState
from discover_stream.types import Box

SEQ = 300_000
"""Eight hours at ten frames a second."""
KEY_AGE = 40
ROUNDS = 100


def packet(tasks: int = 1, lists: bool = False, **records: object) -> StreamPacket:
    """A frame of tasks that are shown on a plate."""
    keys = tuple(range(1000, 1000 + tasks))
    base = None if lists else SEQ - 1
    return StreamPacket(
        b"abc", SEQ, 3, 40, SEQ - KEY_AGE, keys, base=base, plated=tuple(range(tasks)), drift=4,
        **records,  # type: ignore[arg-type]
    )  # fmt: skip


def moves(random: Random, count: int, off: float, members: tuple[int, ...] = (0,)) -> tuple[Move, ...]:
    """Tracks of a 640x352 picture with keys of the last four seconds, predicted to within `off` pixels or so."""
    found = []
    for distance in sorted(random.sample(range(1, KEY_AGE), count)):
        spread = (4 * off, 2 * off, off, off)
        delta = Delta(*(round(random.gauss(0, width)) for width in spread))
        found.append(Move(Ref(SEQ - distance, 0), members, delta if any(delta.values) else None))
    return tuple(found)


def held(random: Random, count: int) -> tuple[Move, ...]:
    """Tracks at their predicted boxes."""
    return tuple(Move(move.ref, move.members) for move in moves(random, count, 1))


def key(random: Random, slot: int = 0) -> Key:
    """A car somewhere in a 640x352 picture."""
    box = QuarterBox(random.randint(0, 2400), random.randint(0, 1200), random.randint(80, 400), random.randint(60, 300))
    speed = Speed(round(random.gauss(0, 100)), round(random.gauss(0, 40)), round(random.gauss(0, 6)), 1)
    atom = Atom(Window.around(box), None, 4, random.random() < 0.5, True, b"")
    return Key(slot, random.randint(1, 2000), box, 50, ((0, random.randint(0, 100)),), speed, 0, atom)


def sightings(random: Random, count: int) -> tuple[Sighting, ...]:
    """Regions without track in a 640x352 picture."""
    found = []
    for _ in range(count):
        x, y = random.randint(0, 540), random.randint(0, 250)
        box = Box(x, y, x + random.randint(10, 100), y + random.randint(10, 100))
        found.append(Sighting(box, 50, 0, ((0, random.randint(0, 100)),)))
    return tuple(found)


CASES: dict[str, Callable[[Random], StreamPacket]] = {
    "hold (nothing changed)": lambda random: packet(),
    "hold, 3 tasks in the archive": lambda random: packet(3),
    "1 track moves, 0.5 px off": lambda random: packet(moves=moves(random, 1, 0.5)),
    "1 track moves, 3 px off": lambda random: packet(moves=moves(random, 1, 3)),
    "1 track moves, 20 px off": lambda random: packet(moves=moves(random, 1, 20)),
    "8 tracks move, 0.5 px off": lambda random: packet(moves=moves(random, 8, 0.5)),
    "8 tracks move, 3 px off": lambda random: packet(moves=moves(random, 8, 3)),
    "8 tracks move, 20 px off": lambda random: packet(moves=moves(random, 8, 20)),
    "8 tracks listed where predicted": lambda random: packet(lists=True, moves=held(random, 8)),
    "1 key": lambda random: packet(keys=(key(random),)),
    "1 untracked region": lambda random: packet(sightings=sightings(random, 1)),
    "8 untracked regions": lambda random: packet(sightings=sightings(random, 8)),
    "3 tags": lambda random: packet(tags=((0, tuple(sorted(random.sample(range(100), 3)))),)),
}


def mean(sizes: list[StreamSizes], of: Callable[[StreamSizes], int]) -> float:
    """Mean over packets."""
    return statistics.fmean(of(size) for size in sizes)


def records(size: StreamSizes) -> int:
    """Bits of a packet's records."""
    return size.keys + size.moves + size.ends + size.sightings + size.tags + size.events


def seconds(work: Callable[[], object]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print both tables."""
    random = Random(1)
    print("bytes of packets, bytes of their headers, bits of the rest of the frame, bits of its records")
    print(f"{'packet':34}{'bytes':>7}{'kbit/s at 10':>14}{'header':>8}{'frame':>7}{'records':>9}")
    for name, make in CASES.items():
        sizes = [packet_sizes(make(random)) for _ in range(ROUNDS)]
        total = mean(sizes, lambda size: size.total)
        print(
            f"{name:34}{total:7.1f}{total * 0.08:14.2f}{mean(sizes, lambda s: s.header) / 8:8.1f}"
            f"{mean(sizes, lambda s: s.frame):7.1f}{mean(sizes, records):9.1f}"
        )
    plate = Plate(40, 640, 352, (0,), Clock(10**15, SEQ, 100_000, 1000), coding=PlateCoding.AV1, payload=b"")
    bare, with_plate = packet_sizes(packet()), packet_sizes(packet(plates=(plate,)))
    print(f"{'a plate, over a hold':34}{with_plate.total - bare.total:7}")
    busy = packet(3, moves=moves(random, 8, 3, (0, 1)), keys=(key(random),))
    data = stream_packet_bytes(busy)
    timed = {
        "write": lambda: stream_packet_bytes(busy),
        "read": lambda: parse_stream_packet(data),
        "route to one task": lambda: route_stream(busy, {1000}),
        "apply": lambda: apply(StreamState(), busy),
    }
    for name, work in timed.items():
        print(f"{name:34}{1e6 * seconds(work):7.0f} us, 8 moves and a key of 3 tasks")


if __name__ == "__main__":
    main()
