from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from street import BLUE, SIZE, frame, picture, road

from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.plate_pictures import plate_picture
from discover_stream.codec.plate_policy import PlateAction, PlateRules
from discover_stream.codec.plates import Plate
from discover_stream.codec.stream_plates import Demand, PlateMaker
from discover_stream.types import Box, Image

SPOT = {1: (BLUE, 50.0, 40.0)}
BOX = Box(50, 40, 50 + SIZE[0], 40 + SIZE[1])
FINE = 15


def step(maker: PlateMaker, seq: int, image: Image, demand: Demand) -> tuple[Plate, ...]:
    shot = dataclasses.replace(frame(seq, {}), image=image)
    return maker.update(shot, maker.see(shot, demand.moving), demand, FINE)


def apart(image: Image, other: Image, box: Box) -> float:
    part = (slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1)))
    return float(np.abs(image[part].astype(int) - other[part]).mean())


def test_records_give_decoders_the_same_pictures() -> None:
    maker, decoder = PlateMaker(100_000, 7), None
    kinds = set()
    for seq in range(90):
        # A car that stands there leaves, something new is put down, it grows dark.
        image = picture(SPOT if seq < 3 else {2: (BLUE, 100, 8)} if seq > 12 else {}, -1.2 * min(max(0, seq - 60), 12))
        demand = Demand(released=(BOX,)) if seq == 3 else Demand()
        records = step(maker, seq, image, demand)
        for record in records:
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
    (record,) = step(maker, 1, road(), Demand(released=(BOX,)))
    assert record.parent == 1
    assert record.cells is not None
    assert record.cells.mask.sum() <= 20
    assert apart(maker.picture.image, road(), BOX) < 5


def test_what_parks_is_taken_in() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    assert not step(maker, 1, picture(SPOT), Demand(moving=(BOX,)))
    assert step(maker, 2, picture(SPOT), Demand(moving=(BOX,), parked=(BOX,)))
    assert apart(maker.picture.image, picture(SPOT), BOX) < 8


def test_a_whole_plate_is_the_background_without_what_moves() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    for seq in range(1, 6):
        step(maker, seq, picture(SPOT), Demand(moving=(BOX,)))
    record, *_ = step(maker, 6, picture(SPOT), Demand(moving=(BOX,), whole=True))
    assert record.parent == 0
    assert apart(maker.picture.image, road(), BOX) < 6


def test_another_scene_is_a_new_plate() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, road(), Demand())
    other = np.ascontiguousarray(255 - road()[:, ::-1] // 2)
    other[::8] = 0
    other[:, ::8] = 255
    records = [record for seq in range(1, 12) for record in step(maker, seq, other, Demand())]
    whole = [record for record in records if not record.parent]
    assert len(whole) == 1
    assert np.abs(maker.picture.image.astype(int) - other).mean() < 12


def test_objects_on_a_plate_are_finer_than_what_is_around_them() -> None:
    """A parked car is what a detector looks at; the trees behind it take most of the bytes."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 50, (96, 160, 1)), (0, 0), 1.0)[..., None]
    image = np.clip(picture(SPOT) + noise, 0, 255).astype(np.uint8)
    rules = PlateRules(coarser=24)
    finer, plain = PlateMaker(100_000, rules=rules), PlateMaker(100_000, rules=rules)
    records = step(finer, 0, image, Demand(shown=(BOX,)))
    step(plain, 0, image, Demand())
    base, cells = records
    assert (base.parent, base.depth, cells.parent, cells.depth) == (0, 0, base.plate_id, 1)
    assert cells.cells is not None
    assert cells.cells.mask.sum() < cells.cells.mask.size / 3
    assert apart(finer.picture.image, image, BOX) < 0.8 * apart(plain.picture.image, image, BOX)
    assert np.array_equal(plate_picture(cells, plate_picture(base, None)).image, finer.picture.image)


def test_a_change_passes_into_what_is_around_it_without_an_edge() -> None:
    """A part of a wall is lit from some moment on, less and less to the sides: no step is to be seen there."""
    flat = np.full((96, 160, 3), 90, np.uint8)
    lit = (flat + np.clip(40 - np.abs(np.arange(160) - 100), 0, 30)[None, :, None]).astype(np.uint8)
    maker = PlateMaker(100_000)
    step(maker, 0, flat, Demand(moving=(Box(60, 0, 100, 96),)))
    records = [record for seq in range(1, 60) for record in step(maker, seq, lit, Demand())]
    assert any(record.cells is not None and not record.cells.mask.all() for record in records)
    rows = maker.picture.image[40:56].astype(int).mean(axis=(0, 2))
    assert rows[100] > 110
    assert np.abs(np.diff(rows)).max() < 6


def test_cells_in_which_nothing_moves_wait() -> None:
    maker, busy, calm = PlateMaker(100_000), Box(0, 0, 32, 32), Box(128, 48, 160, 80)
    step(maker, 0, road(), Demand())
    image, times = road(), dict[str, float]()
    for box in (busy, calm):
        image[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] += 16
    for seq in range(1, 130):
        demand = Demand(moving=(busy,)) if seq < 3 else Demand()
        for record in step(maker, seq, road() if seq < 3 else image, demand):
            assert record.cells is not None
            for name, box in (("busy", busy), ("calm", calm)):
                if record.cells.mask[int(box.y0 + box.y1) // 32, int(box.x0 + box.x1) // 32]:
                    times.setdefault(name, seq / 10)
    rules = PlateRules()
    assert times["busy"] <= rules.pause + 0.5
    assert rules.rest <= times["calm"] <= rules.rest + rules.pause


def test_a_full_chain_begins_again_on_its_whole_plate() -> None:
    maker = PlateMaker(100_000, rules=PlateRules(chain=2))
    held: dict[int, Image] = {}
    pictures: dict[int, PlatePicture] = {}
    actions = []
    for seq in range(24):
        box = Box(50 + 20 * (seq // 6), 40, 50 + 20 * (seq // 6) + SIZE[0], 40 + SIZE[1])
        image = picture({1: (BLUE, box.x0, box.y0)})
        for record in step(maker, seq, image, Demand(parked=(box,)) if seq and seq % 6 == 0 else Demand()):
            pictures[record.plate_id] = plate_picture(record, pictures[record.parent] if record.parent else None)
            held[record.plate_id] = pictures[record.plate_id].image
            actions.append((maker.decision.action, record.parent, record.depth))
        assert np.array_equal(held[maker.plate_id], maker.picture.image)
    gathered = [(parent, depth) for action, parent, depth in actions if action == PlateAction.GATHER]
    assert (1, 1) in gathered
    assert all(depth <= 3 for _, _, depth in actions), "a change may be two records"
    assert [action for action, _, _ in actions].count(PlateAction.WHOLE) == 1


def test_a_chain_that_begins_again_keeps_the_light() -> None:
    maker = PlateMaker(100_000, rules=PlateRules(chain=3))
    pictures: dict[int, PlatePicture] = {}
    gathered = False
    for seq in range(60):
        light = -14.0 if seq >= 12 else 0.0
        box = Box(20 + 12 * (seq // 15), 40, 20 + 12 * (seq // 15) + SIZE[0], 40 + SIZE[1])
        image = picture({1: (BLUE, box.x0, box.y0)}, light)
        for record in step(maker, seq, image, Demand(parked=(box,)) if seq and seq % 15 == 0 else Demand()):
            pictures[record.plate_id] = plate_picture(record, pictures[record.parent] if record.parent else None)
            gathered |= maker.decision.action == PlateAction.GATHER and record.tone is not None
        assert np.array_equal(pictures[maker.plate_id].image, maker.picture.image)
    assert gathered
    assert apart(maker.picture.image, picture({1: (BLUE, box.x0, box.y0)}, light), Box(0, 0, 160, 96)) < 9


def test_what_follows_one_that_leaves_hides_the_street_only_until_it_has_passed() -> None:
    maker = PlateMaker(100_000)
    step(maker, 0, picture(SPOT), Demand())
    ahead = Box(BOX.x0 + 24, BOX.y0, BOX.x1 + 24, BOX.y1)
    step(maker, 1, picture({1: (BLUE, ahead.x0, ahead.y0)}), Demand(moving=(ahead,), released=(BOX,)))
    for seq in range(2, 9):
        step(maker, seq, road(), Demand())
    assert apart(maker.picture.image, road(), BOX) < 5


def test_one_that_is_lost_and_gone_leaves_the_plate_but_not_one_that_only_is_not_found() -> None:
    maker, parked = PlateMaker(100_000), PlateMaker(100_000)
    for seq in range(9):
        there = picture(SPOT)
        step(maker, seq, there if seq < 2 else road(), Demand(lost=(BOX,)) if seq > 1 else Demand())
        step(parked, seq, there, Demand(lost=(BOX,)) if seq > 1 else Demand())
    assert apart(maker.picture.image, road(), BOX) < 5
    assert apart(parked.picture.image, picture(SPOT), BOX) < 8
