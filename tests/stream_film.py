"""Nine frames of a fixed camera for two tasks, in stream mode; what each task must see is written by hand."""

from __future__ import annotations

import dataclasses

import numpy as np

from discover_stream.codec.av1 import encode_av1
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone
from discover_stream.codec.records import (
    Atom,
    AtomCoding,
    Delta,
    End,
    Key,
    Move,
    QuarterBox,
    Ref,
    Sighting,
    Window,
)
from discover_stream.codec.stream_packet import GapReason, LostFrames, StreamPacket
from discover_stream.types import Box, Region

WIDTH, HEIGHT = 64, 48
START_NS = 1_700_000_000_000_000_000
INTERVAL_NS = 100_000_000
FRAMES = 9
FIRST_PLATE = Plate(
    1,
    WIDTH,
    HEIGHT,
    (0, 1),
    Clock(START_NS // 1000, 0, INTERVAL_NS // 1000, 1000),
    coding=PlateCoding.AV1,
    payload=bytes(200),
)
_DARKER = Plate(2, WIDTH, HEIGHT, (0, 1), None, 1, 1, tone=Tone((-9, -9, -9), (0, 0, 0)))
_CAR, _BUS, _VAN = QuarterBox(40, 40, 64, 48), QuarterBox(120, 80, 80, 60), QuarterBox(0, 0, 40, 40)
_LATER = QuarterBox(60, 40, 64, 48)
_CAR_REF, _BUS_REF, _VAN_REF = Ref(0, 0), Ref(0, 1), Ref(5, 0)


def film(tasks: tuple[int, int] = (11, 22), model: bytes = b"abc") -> tuple[StreamPacket, ...]:
    """The packets: a plate, a key of both tasks, an AV1 key of the second alone, moves, a quiet frame, a refresh, a
    region of one frame, a gap with a second plate and a key that the plate shows, an end, and a list of all tracks."""

    def packet(seq: int, **changes: object) -> StreamPacket:
        usual = {"base": seq - 1, "plated": (0, 1), "drift": 0}
        return StreamPacket(model, seq, 0, 2 if seq >= 5 else 1, 0, tasks, **(usual | changes))  # type: ignore[arg-type]

    car = Atom(Window.around(_CAR), None, 4, True, True, b"car in a latent")
    bus = Atom(Window.around(_BUS, 1), None, 0, False, True, b"bus in AV1", AtomCoding.AV1, 1)
    again = Atom(Window.around(_LATER), None, 4, False, True, b"car again")
    return (
        packet(
            0,
            base=None,
            plates=(FIRST_PLATE,),
            keys=(
                Key(0, 1, _CAR, 63, ((0, 1), (1, 0)), atom=car),
                Key(1, 2, _BUS, 21, ((1, 1),), atom=bus),
            ),
        ),
        packet(
            1, moves=(Move(_CAR_REF, (0, 1), Delta(4, 0, 0, 0)), Move(_BUS_REF, (1,), Delta(0, -8, 0, 0), score=42))
        ),
        packet(2),
        packet(3, base=1, moves=(Move(_CAR_REF, (0, 1), _LATER, atom=again),), tags=((0, (0, 1)),)),
        packet(4, sightings=(Sighting(Box(1, 2, 9, 10), 63, 0, ((1, 1),)),)),
        packet(
            5,
            plates=(_DARKER,),
            gap=LostFrames(0, GapReason.SOURCE),
            keys=(Key(0, 3, _VAN, 63, ((0, 0),)),),
        ),
        packet(6, ends=(End(_BUS_REF, (1,)),)),
        packet(7, base=None, moves=(Move(_VAN_REF, (0,)), Move(_CAR_REF, (0, 1), Delta(24, 0, 0, 0), source=3))),
        packet(8),
    )


def _grey(width: int, height: int, value: int) -> bytes:
    return encode_av1(np.full((height, width, 3), value, np.uint8), 20)


def _painted(atom: Atom | None, value: int) -> Atom | None:
    """The atom as an AV1 still of one grey, not coded on anything."""
    if atom is None:
        return None
    still = _grey(16 * atom.window.columns, 16 * atom.window.rows, value)
    return dataclasses.replace(atom, coding=AtomCoding.AV1, quality=0, own_z=False, on_plate=False, payload=still)


def painted_film(tasks: tuple[int, int] = (11, 22), model: bytes = b"abc") -> tuple[StreamPacket, ...]:
    """The film with pictures in it: a dark plate, a car that gets brighter, a bright bus."""
    made = []
    for packet in film(tasks, model):
        plates = tuple(
            plate if plate.payload is None else dataclasses.replace(plate, payload=_grey(WIDTH, HEIGHT, 60))
            for plate in packet.plates
        )
        keys = tuple(dataclasses.replace(key, atom=_painted(key.atom, 150 + 60 * key.slot)) for key in packet.keys)
        moves = tuple(dataclasses.replace(move, atom=_painted(move.atom, 200)) for move in packet.moves)
        made.append(dataclasses.replace(packet, plates=plates, keys=keys, moves=moves))
    return tuple(made)


def seen(seq: int, position: int) -> set[Region]:
    """The regions that the first or the second task must see in a frame: boxes in pixels."""
    left = 10 if seq == 0 else 11 if seq < 3 else 15 if seq < 7 else 16
    car = Region((1, 0)[position], 1.0, Box(left, 10, left + 16, 22), 1)
    if position == 0:
        return {car, Region(0, 1.0, Box(0, 0, 10, 10), 3)} if seq >= 5 else {car}
    top = 20 if seq == 0 else 18
    bus = Region(1, 21 / 63 if seq == 0 else 42 / 63, Box(30, top, 50, top + 15), 2)
    once = {Region(1, 1.0, Box(1, 2, 9, 10), 0)} if seq == 4 else set()
    return {car, *once} | ({bus} if seq < 6 else set())


def capture_ns(seq: int) -> int:
    """When a frame was captured."""
    return START_NS + seq * INTERVAL_NS
