from __future__ import annotations

import dataclasses

from stream_encoder import FIRST, KEY, after, stream, with_plate

from discover_stream.codec.records import Move, QuarterBox, Ref, Speed
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_packet import route_stream
from discover_stream.codec.stream_state import StreamState, capture_ns
from discover_stream.types import Provenance


def test_capture_times_come_back_to_half_a_tick() -> None:
    packets, steps, plates = stream(3)
    clocks = {number: plate.clock for number, plate in plates.items() if plate.clock}
    told = 0
    for packet, step in zip(packets, steps, strict=True):
        time = capture_ns(step.state, packet)
        if packet.capture_us is not None:
            assert time == 1000 * packet.capture_us
        elif packet.plate_id in clocks:
            clock = clocks[packet.plate_id]
            assert time == 1000 * (clock.capture_us + (packet.seq - clock.seq) * 100_000 + 5000)
            told += 1
        routed = route_stream(packet, {11})
        if routed.plate_id and 11 not in [packet.tasks[index] for index in packet.stopped]:
            assert capture_ns(StreamState(), routed) is None or routed.capture_us is not None
    assert told or any(packet.capture_us is not None for packet in packets)


def test_a_track_glides_propagated_until_it_is_mentioned() -> None:
    ref, state = Ref(10, 0), apply(with_plate(), FIRST).state
    step = apply(state, after(FIRST, 11))
    assert step.whole
    assert step.state.tasks[11].provenance(ref) == Provenance.PROPAGATED
    assert step.state.tasks[11].tracks[ref].at(11) == QuarterBox(42, 39, 64, 64)
    step = apply(step.state, after(FIRST, 14, base=11, moves=(Move(ref, (0,), speed=Speed()),)))
    assert step.state.tasks[11].tracks[ref].at(99) == QuarterBox(48, 36, 64, 64)
    step = apply(step.state, after(FIRST, 15, moves=(Move(ref, (0,), hidden=True),)))
    assert step.whole
    assert step.state.tasks[11].regions() == ()
    assert step.state.tasks[11].order() == ()


def test_lifts_change_the_order_of_drawing() -> None:
    other = dataclasses.replace(KEY, slot=1, track=6, box=QuarterBox(40, 60, 64, 64))
    both = dataclasses.replace(FIRST, keys=(KEY, other))
    assert apply(with_plate(), both).state.tasks[11].order() == (Ref(10, 0), Ref(10, 1))
    lifted = dataclasses.replace(FIRST, keys=(dataclasses.replace(KEY, lift=30), other))
    assert apply(with_plate(), lifted).state.tasks[11].order() == (Ref(10, 1), Ref(10, 0))


def test_what_the_plate_shows_is_not_drawn() -> None:
    step = apply(with_plate(), dataclasses.replace(FIRST, keys=(dataclasses.replace(KEY, atom=None),)))
    task = step.state.tasks[11]
    assert (task.order(), task.provenance(Ref(10, 0))) == ((), Provenance.PLATE)
    assert len(task.regions()) == 1
