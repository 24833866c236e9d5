from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.atoms import cell_grid, cells_of, plan_atoms
from discover_stream.types import CELL, Box, Region

sides = st.integers(1, 130)
ordinary = st.one_of(st.integers(-40, 170).map(float), st.floats(-40, 170, width=32))
strange = st.one_of(ordinary, st.sampled_from([-1e300, 1e300, math.inf, -math.inf, math.nan]))


def regions(coordinate: st.SearchStrategy[float], most: int = 5) -> st.SearchStrategy[list[Region]]:
    box = st.builds(Box, coordinate, coordinate, coordinate, coordinate)
    return st.lists(st.builds(Region, st.just(0), st.just(1.0), box), max_size=most)


tasks = st.dictionaries(st.sampled_from("abcd"), regions(strange), max_size=4)


def covered(box: Box, row: int, column: int, width: int, height: int) -> bool:
    """Whether some of the picture inside a cell lies inside a box."""
    across = max(box.x0, column * CELL) < min(box.x1, (column + 1) * CELL, width)
    down = max(box.y0, row * CELL) < min(box.y1, (row + 1) * CELL, height)
    numbers = not any(math.isnan(value) for value in (box.x0, box.y0, box.x1, box.y1))
    return numbers and across and down


@settings(max_examples=60)
@given(tasks, sides, sides)
def test_atoms_partition_exactly_the_cells_that_boxes_cover(
    wanted: Mapping[str, Sequence[Region]], width: int, height: int
) -> None:
    plans = plan_atoms(wanted, width, height)
    rows, columns = cell_grid(width, height)
    count = np.zeros((rows, columns), dtype=int)
    for plan in plans:
        assert plan.mask.shape == (rows, columns)
        assert plan.mask.dtype == bool
        assert plan.mask.any()
        assert plan.tasks == tuple(sorted(plan.tasks)) != ()
        count += plan.mask
    assert count.max(initial=0) <= 1
    for row in range(rows):
        for column in range(columns):
            owners = {
                task
                for task, listed in wanted.items()
                if any(covered(region.box, row, column, width, height) for region in listed)
            }
            given_to = {task for plan in plans if plan.mask[row, column] for task in plan.tasks}
            assert given_to == owners, (row, column)


@settings(max_examples=40)
@given(tasks, sides, sides, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_regions_or_tasks(
    wanted: dict[str, list[Region]], width: int, height: int, order: random.Random
) -> None:
    names = list(wanted)
    order.shuffle(names)
    shuffled = {name: order.sample(wanted[name], len(wanted[name])) for name in names}
    one, two = plan_atoms(wanted, width, height), plan_atoms(shuffled, width, height)
    assert [plan.tasks for plan in one] == [plan.tasks for plan in two]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one, two, strict=True))


@settings(max_examples=40)
@given(regions(ordinary, most=6), sides, sides)
def test_an_atom_stays_inside_the_smallest_box_of_its_cells(listed: list[Region], width: int, height: int) -> None:
    rows, columns = cell_grid(width, height)
    boxes = [box for region in listed if (box := region.box.clipped(width, height)).area > 0]
    for plan in plan_atoms({"a": listed}, width, height):
        owners = []
        for row, column in np.argwhere(plan.mask).tolist():
            areas = [box.area for box in boxes if covered(box, row, column, width, height)]
            owners.append(min(areas))
        assert len(set(owners)) == 1
        holders = [box for box in boxes if box.area == owners[0]]
        touched = []
        for box in holders:
            cells = np.zeros((rows, columns), dtype=bool)
            cells[cells_of(box, rows, columns)] = True
            touched.append(cells)
        assert any((cells | ~plan.mask).all() for cells in touched)


def region(x0: float, y0: float, x1: float, y1: float) -> Region:
    return Region(0, 1.0, Box(x0, y0, x1, y1))


def test_a_cell_of_two_tasks_is_coded_once_and_goes_to_both() -> None:
    plans = plan_atoms({"b": [region(0, 0, 32, 16)], "a": [region(16, 0, 48, 16)]}, 64, 16)
    assert {(plan.tasks, tuple(np.flatnonzero(plan.mask))) for plan in plans} == {
        (("b",), (0,)),
        (("a", "b"), (1,)),
        (("a",), (2,)),
    }


def test_two_objects_of_one_task_are_two_atoms() -> None:
    plans = plan_atoms({"a": [region(0, 0, 64, 16), region(16, 0, 32, 16)]}, 64, 16)
    assert [np.flatnonzero(plan.mask).tolist() for plan in plans] == [[1], [0, 2, 3]]


def test_a_box_that_ends_on_a_cells_edge_does_not_touch_the_next_cell() -> None:
    assert cells_of(Box(16, 16, 32, 48), 4, 4) == (slice(1, 3), slice(1, 2))
    assert cells_of(Box(15.9, 16, 32.1, 48), 4, 4) == (slice(1, 3), slice(0, 3))


def test_what_lies_in_the_padding_of_the_last_cell_costs_nothing() -> None:
    assert plan_atoms({"a": [region(17, 0, 32, 16)]}, 17, 16) == ()
    assert len(plan_atoms({"a": [region(16.5, 0, 32, 16)]}, 17, 16)) == 1


def test_nothing_to_send_is_no_atom() -> None:
    assert plan_atoms({}, 100, 100) == ()
    assert plan_atoms({"a": [], "b": [region(5, 5, 5, 9), region(-9, -9, 0, 0)]}, 100, 100) == ()


@given(st.integers(1, 63), sides, sides)
@settings(max_examples=15)
def test_as_many_tasks_as_the_format_allows(count: int, width: int, height: int) -> None:
    wanted = {f"t{index:02}": [region(0, 0, 16 * index + 1, 300)] for index in range(count)}
    plans = plan_atoms(wanted, width, height)
    for plan in plans:
        columns = np.flatnonzero(plan.mask.any(axis=0)).tolist()
        for column in columns:
            assert plan.tasks == tuple(f"t{index:02}" for index in range(count) if 16 * index + 1 > 16 * column)
    assert sum(int(plan.mask.sum()) for plan in plans) == (
        cell_grid(width, height)[0] * min(count, cell_grid(width, height)[1])
    )
