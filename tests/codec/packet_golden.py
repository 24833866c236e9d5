"""Packets whose bytes must never change. `python tests/codec/packet_golden.py` writes `packet_golden.txt` anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.packet import MAX_LABEL, MAX_TRACK, Packet, PacketAtom, PacketRegion, packet_bytes
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone, Warp
from discover_stream.codec.records import (
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
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_packet import GapReason, LostFrames, StreamPacket
from discover_stream.types import Box

PATH = Path(__file__).with_suffix(".txt")

STILL = {
    "still-empty": Packet(b"\x01\x02\x03", 1, 0, 0, 0, 1, 1, (), (), b"", ()),
    "still-two-tasks": Packet(
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
    ),
    "still-one-task": Packet(
        b"xyz", 8, 2**56 - 1, 2**14 - 1, 2**64 - 1, 8192, 4096, (65535,),
        (PacketRegion(Box(0, 0, 8192, 4096), 63, 1, ((0, 0),)),), bytes(200), (PacketAtom((0,), bytes(range(130))),),
    ),
    "still-tags": Packet(
        b"abc", 4, 300, 2, 1, 64, 48, (17, 4711), (), b"coarse", (PacketAtom((1,), b"x"),),
        tags=((0, ()), (1, (0, 3, 100))),
    ),
    "still-regions-only": Packet(
        b"abc", 4, 300, 2, 1, 64, 48, (17, 4711), (PacketRegion(Box(0, 0, 64, 48), 50, 7, ((0, 3), (1, 90))),), b"", (),
        tags=((1, (5,)),), regions_only=True,
    ),
}  # fmt: skip


def _cells(rows: int, columns: int, *left_out: tuple[int, int]) -> Cells:
    mask = np.ones((rows, columns), dtype=bool)
    for place in left_out:
        mask[place] = False
    cells = Cells.of(mask)
    assert cells is not None
    return cells


_CLOCK = Clock(1_700_000_000_123_456, 290_000, 100_000, 1000)
_CAR, _VAN = QuarterBox(1200, 700, 200, 140), QuarterBox(-21, 333, 127, 65)
_CAR_WINDOW, _VAN_WINDOW = Window.around(_CAR), Window(-6, 80, 2, 3)

STREAM = {
    "stream-hold": StreamPacket(b"abc", 300_000, 3, 40, 299_960, (4711,), base=299_999, plated=(0,), drift=4),
    "stream-move": StreamPacket(
        b"abc", 300_001, 3, 40, 299_960, (4711,), base=299_998, plated=(0,), drift=-5,
        moves=(Move(Ref(299_980, 0), (0,), Delta(-9, 4, 1, 0)),),
    ),
    "stream-plate-alone": StreamPacket(
        b"abc", 290_000, 3, 0, 290_000, (), capture_us=_CLOCK.capture_us, size=(640, 352),
        plates=(Plate(40, 640, 352, (), _CLOCK, quality=5, own_z=True, payload=b"plate"),),
    ),
    "stream-cut": StreamPacket(
        b"abc", 300_100, 3, 41, 300_100, (17, 4711), cut=True, plated=(1,), drift=0,
        capture_us=1_700_000_010_000_000, size=(640, 352),
        plates=(
            Plate(41, 640, 352, (1,), _CLOCK, coding=PlateCoding.AV1, payload=b"av1 still"),
            Plate(42, 640, 352, (1,), None, 41, 1, PlateCoding.ATOM, 3,
                  cells=_cells(*cell_grid(640, 352), (0, 0), (7, 39)), warp=Warp(-3, 2, 1, 0),
                  tone=Tone((2, 0, -1), (0, 5, 0)), payload=b"partial"),
        ),
        gap=LostFrames(12, GapReason.SOURCE),
        keys=(
            Key(0, 7, _CAR, 50, ((1, 5),), Speed(120, -30, 4, 2), 0, Atom(_CAR_WINDOW, None, 4, False, True, b"car")),
            Key(3, 300, _VAN, 63, ((0, 0), (1, 99)), lift=-40,
                atom=Atom(_VAN_WINDOW, _cells(2, 3, (0, 0), (1, 0)), 8, True, False, b"")),
            Key(4, 2, QuarterBox(0, 0, 1, 1), 0, ((0, MAX_LABEL),)),
        ),
    ),
    "stream-list": StreamPacket(
        b"abc", 300_120, 3, 42, 300_100, (17, 4711), plated=(0, 1), drift=11, started=(0,),
        tags=((0, ()), (1, (0, 3, 100))), view=(-2, 1),
        moves=(
            Move(Ref(300_105, 0), (1,), source=300_110),
            Move(Ref(300_100, 0), (1,), QuarterBox(1300, 690, 210, 141), 44, Speed(), 3, True, _cells(3, 4, (2, 3)),
                 atom=Atom(Window.around(QuarterBox(1300, 690, 210, 141)), None, 1, False, True, b"refresh")),
            Move(Ref(300_100, 3), (1,), Delta(0, 0, 0, -1), 1),
        ),
        keys=(Key(0, 9, _CAR, 1, ((0, 1),)),),
        sightings=(Sighting(Box(10, 20, 640, 352), 63, 0, ((1, 0),)), Sighting(Box(0, 0, 1, 1), 0, 8, ((0, 2),))),
    ),
    "stream-regions-only": StreamPacket(
        b"abc", 300_125, 3, 44, 300_100, (4711,), base=300_124, plated=(0,), drift=0,
        plates=(Plate(43, 640, 352, (0,), _CLOCK), Plate(44, 640, 352, (0,), None, 43, 1)),
        keys=(Key(0, 7, _CAR, 50, ((0, 5),)),), regions_only=True,
    ),
    "stream-av1": StreamPacket(
        b"abc", 300_130, 3, 42, 300_100, (4711,), base=300_129, plated=(0,), drift=0,
        moves=(
            Move(Ref(300_120, 1), (0,), _VAN,
                 atom=Atom(Window.around(_VAN, 2), None, 0, False, True, b"residual", AtomCoding.AV1, 2)),
        ),
        keys=(
            Key(0, 7, _CAR, 50, ((0, 5),), atom=Atom(Window.around(_CAR, -1), None, 2, True, True, b"coarse", zoom=-1)),
            Key(1, 8, _VAN, 50, ((0, 5),),
                atom=Atom(_VAN_WINDOW, _cells(2, 3, (1, 2)), 0, False, False, b"samples", AtomCoding.AV1, 1)),
        ),
    ),
    "stream-ends": StreamPacket(
        b"abc", 300_121, 3, 0, 300_100, (17, 4711), base=300_119, capture_us=1, stopped=(1,),
        ends=(End(Ref(300_120, 0), (0,)), End(Ref(300_100, 0), (0, 1)), End(Ref(300_100, 3), (1,))),
    ),
}  # fmt: skip


def lines() -> list[str]:
    """Name and bytes of every packet, one a line."""
    still = [f"{name} {packet_bytes(packet).hex()}" for name, packet in STILL.items()]
    return still + [f"{name} {stream_packet_bytes(packet).hex()}" for name, packet in STREAM.items()]


if __name__ == "__main__":
    PATH.write_text("\n".join(lines()) + "\n", encoding="ascii")
