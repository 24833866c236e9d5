from __future__ import annotations

import dataclasses

import numpy as np
from street import BLUE, SIZE, frame, picture, road

from discover_stream.codec.plate_pictures import plate_picture
from discover_stream.codec.plate_policy import PlateAction
from discover_stream.codec.plates import Plate
from discover_stream.codec.stream_plates import Demand, PlateMaker
from discover_stream.types import Box, Image

SPOT = {1: (BLUE, 50.0, 40.0)}
BOX = Box(50, 40, 50 + SIZE[0], 40 + SIZE[1])
FINE = 15


def step(maker: PlateMaker, seq: int, image: Image, demand: Demand) -> Plate | None:
    shot = dataclasses.replace(frame(seq, {}), image=image)
    return maker.update(shot, maker.see(shot, demand.moving), demand, FINE)


def apart(image: Image, other: Image, box: Box) -> float:
    part = (slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1)))
    return float(np.abs(image[part].astype(int) - other[part]).mean())


def test_records_give_decoders_the_same_pictures() -> None:
    maker, decoder = PlateMaker(100_000, 7), None
    kinds = set()
    for seq in range(45):
        # A car that stands there leaves, something new is put down, it grows dark.
        image = picture(SPOT if seq < 3 else {2: (BLUE, 100, 8)} if seq > 12 else {}, -1.2 * max(0, seq - 33))
        demand = Demand(released=(BOX,)) if seq == 3 else Demand()
        record = step(maker, seq, image, demand)
        if record is not None:
            decoder = plate_picture(record, decoder if record.parent else None)
            kinds.add(maker.decision.action)
        assert decoder is not None
        assert np.array_equal(decoder.image, maker.picture.image)
    assert {PlateAction.WHOLE, PlateAction.CELLS, PlateAction.TONE} <= kinds
    assert apart(maker.picture.image, picture({2: (BLUE, 100, 8)}), Box(100, 8, 140, 32)) < 25
    assert maker.plate_id == maker.next_id - 1


def test_what_leaves_is_replaced_at_once() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, picture(SPOT), Demand())
    record = step(maker, 1, road(), Demand(released=(BOX,)))
    assert record is not None
    assert record.parent == 1
    assert record.cells is not None
    assert record.cells.mask.sum() <= 20
    assert apart(maker.picture.image, road(), BOX) < 5


def test_what_parks_is_taken_in() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    assert step(maker, 1, picture(SPOT), Demand(moving=(BOX,))) is None
    assert step(maker, 2, picture(SPOT), Demand(moving=(BOX,), parked=(BOX,))) is not None
    assert apart(maker.picture.image, picture(SPOT), BOX) < 8


def test_a_whole_plate_is_the_background_without_what_moves() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    for seq in range(1, 6):
        step(maker, seq, picture(SPOT), Demand(moving=(BOX,)))
    record = step(maker, 6, picture(SPOT), Demand(moving=(BOX,), whole=True))
    assert record is not None
    assert record.parent == 0
    assert apart(maker.picture.image, road(), BOX) < 6


def test_another_scene_is_a_new_plate() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    other = np.ascontiguousarray(255 - road()[:, ::-1] // 2)
    other[::8] = 0
    other[:, ::8] = 255
    records = [step(maker, seq, other, Demand()) for seq in range(1, 12)]
    whole = [record for record in records if record is not None and not record.parent]
    assert len(whole) == 1
    assert np.abs(maker.picture.image.astype(int) - other).mean() < 12
