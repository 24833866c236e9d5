import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from discover_stream.generation.windows import (
    Nested,
    Placed,
    Window,
    WindowOptions,
    batches,
    feather,
    plan_tiles,
    plan_windows,
)

ALIGN = 4
sides = st.integers(1, 12).map(lambda blocks: blocks * ALIGN)
fields = st.tuples(sides, sides).flatmap(
    lambda shape: arrays(bool, shape, elements=st.sampled_from([False] * 30 + [True]))
)


def holds(window: Window, top: int, left: int, bottom: int, right: int) -> bool:
    return (
        window.top <= top
        and window.left <= left
        and window.top + window.rows >= bottom
        and window.left + window.columns >= right
    )


@settings(max_examples=60)
@given(fields, st.integers(0, 3), st.integers(0, 5), st.integers(1, 4), st.integers(1, 8))
def test_windows_hold_all_that_is_active_with_its_margins_and_stay_inside(
    active: np.ndarray, margin: int, reach: int, step: int, most: int
) -> None:
    options = WindowOptions(margin=margin, reach=reach, align=ALIGN, step=step, most=most)
    windows = plan_windows(active, options)
    assert len(windows) <= most
    assert bool(windows) == bool(active.any())
    rows, columns = active.shape
    for inner, outer in ((nested.inner, nested.outer) for nested in windows):
        assert holds(Window(0, 0, rows, columns), outer.top, outer.left, outer.top + outer.rows, 0)
        assert outer.left + outer.columns <= columns
        # The networks' coarsest grid lies in a window as it does in the whole picture.
        assert [side % ALIGN for side in (outer.top, outer.left, outer.rows, outer.columns)] == [0] * 4
        wanted = inner.grown(reach if inner != outer else 0, (rows, columns))
        assert holds(outer, wanted.top, wanted.left, wanted.top + wanted.rows, wanted.left + wanted.columns)
    for row, column in np.argwhere(active):
        top, bottom = max(0, row - margin), min(rows, row + margin + 1)
        left, right = max(0, column - margin), min(columns, column + margin + 1)
        assert any(holds(nested.inner, top, left, bottom, right) for nested in windows)


def test_far_objects_have_windows_of_their_own_and_a_full_picture_is_one() -> None:
    active = np.zeros((40, 60), dtype=bool)
    active[4:6, 6:8] = True
    active[30:33, 50:52] = True
    windows = plan_windows(active, WindowOptions(margin=1, reach=2, overhead=10))
    assert windows == (
        Nested(Window(3, 5, 4, 4), Window(0, 0, 12, 12)),
        Nested(Window(29, 49, 6, 4), Window(24, 44, 16, 12)),
    )
    assert len(plan_windows(active, WindowOptions(overhead=100_000))) == 1
    active[::4, ::4] = True
    assert plan_windows(active) == (Nested(Window(0, 0, 40, 60), Window(0, 0, 40, 60)),)


def test_objects_on_a_diagonal_cost_what_they_cover_and_not_the_box_around_them() -> None:
    active = np.zeros((80, 80), dtype=bool)
    for corner in range(0, 80, 16):
        active[corner : corner + 3, corner : corner + 3] = True
    windows = plan_windows(active, WindowOptions(overhead=10))
    assert len(windows) == 5
    assert sum(nested.outer.area for nested in windows) < 0.2 * active.size


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([4, 8, 16]))
def test_tiles_cover_every_sample_once(rows: int, columns: int, side: int) -> None:
    covered = np.zeros((rows, columns), int)
    for nested in plan_tiles(rows, columns, side, 4, 2):
        assert nested.kept is not None
        covered[nested.kept.slices()] += 1
        assert nested.inner == nested.kept.grown(2, (rows, columns))
        assert max(nested.outer.rows, nested.outer.columns) <= side + 8
    assert (covered == 1).all()


windows_of_pictures = st.lists(
    st.tuples(st.sampled_from([(16, 24), (32, 32)]), st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)),
    max_size=12,
)


@given(windows_of_pictures, st.integers(0, 400), st.integers(1, 600))
def test_batches_are_of_one_size_and_hold_every_window_once(
    drawn: list[tuple[tuple[int, int], int, int, int]], overhead: int, most: int
) -> None:
    placed = [
        Placed(shape, Window(4 * top, 4 * left, min(4 * size, shape[0] - 4 * top), 4))
        for shape, top, left, size in drawn
    ]
    found = batches(placed, overhead, most)
    assert sorted(index for batch in found for index, _ in batch) == list(range(len(placed)))
    for batch in found:
        assert len({(window.rows, window.columns) for _, window in batch}) == 1
        assert len(batch) == 1 or sum(window.area for _, window in batch) <= most
        for index, window in batch:
            one = placed[index]
            assert holds(Window(0, 0, *one.shape), window.top, window.left, window.top + window.rows, 0)
            assert window.left + window.columns <= one.shape[1]
            assert window.top % 4 == window.left % 4 == 0
            own = one.window
            assert holds(window, own.top, own.left, own.top + own.rows, own.left + own.columns)


def test_a_dear_batch_joins_sizes_and_a_cheap_one_does_not() -> None:
    placed = [Placed((64, 64), Window(0, 0, 8, 8)), Placed((64, 64), Window(56, 52, 8, 12))]
    assert len(batches(placed, 10, 10_000)) == 2
    assert batches(placed, 100, 10_000) == [[(0, Window(0, 0, 8, 12)), (1, Window(56, 52, 8, 12))]]


def test_the_feather_is_whole_where_active_and_gone_beyond_the_margin() -> None:
    active = np.zeros((20, 20), dtype=bool)
    active[9, 9] = True
    weights = feather(Window(5, 5, 9, 9), active, margin=2, scale=2)
    assert weights.shape == (18, 18)
    assert (weights[8:10, 8:10] == 1).all()
    assert (weights[:4] == 0).all()
    assert (np.diff(weights[8, :9]) >= 0).all()
    assert feather(Window(0, 0, 2, 2), np.ones((2, 2), bool), 1, 1).tolist() == [[1, 1], [1, 1]]
