import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from discover_stream.generation.windows import Window, WindowOptions, by_size, feather, plan_windows

fields = st.tuples(st.integers(1, 40), st.integers(1, 60)).flatmap(
    lambda shape: arrays(bool, shape, elements=st.sampled_from([False] * 30 + [True]))
)


@settings(max_examples=60)
@given(fields, st.integers(0, 3), st.integers(1, 6), st.integers(1, 8))
def test_windows_hold_every_active_cell_with_its_margin_and_stay_inside(
    active: np.ndarray, margin: int, step: int, most: int
) -> None:
    windows = plan_windows(active, WindowOptions(margin, step, most))
    assert len(windows) <= most
    rows, columns = active.shape
    for window in windows:
        assert min(window.top, window.left) >= 0
        assert window.top + window.rows <= rows
        assert window.left + window.columns <= columns
        assert window.rows % step == 0 or window.rows == rows
        assert window.columns % step == 0 or window.columns == columns
    for row, column in np.argwhere(active):
        top, bottom = max(0, row - margin), min(rows, row + margin + 1)
        left, right = max(0, column - margin), min(columns, column + margin + 1)
        assert any(
            w.top <= top and bottom <= w.top + w.rows and w.left <= left and right <= w.left + w.columns
            for w in windows
        )
    assert bool(windows) == bool(active.any())


def test_far_objects_have_windows_of_their_own_and_a_full_picture_is_one() -> None:
    active = np.zeros((40, 60), dtype=bool)
    active[3:5, 4:6] = True
    active[30:33, 50:52] = True
    windows = plan_windows(active)
    assert windows == (Window(1, 2, 8, 8), Window(28, 48, 8, 8))
    assert list(by_size([(0, windows[0]), (1, windows[1])])) == [(8, 8)]
    active[::4, ::4] = True
    assert plan_windows(active) == (Window(0, 0, 40, 60),)


def test_the_feather_is_whole_on_active_cells_and_gone_beyond_the_margin() -> None:
    active = np.zeros((20, 20), dtype=bool)
    active[9, 9] = True
    weights = feather(Window(5, 5, 9, 9), active, margin=2, scale=2)
    assert weights.shape == (18, 18)
    assert (weights[8:10, 8:10] == 1).all()
    assert (weights[:4] == 0).all()
    assert (np.diff(weights[8, :9]) >= 0).all()
    assert feather(Window(0, 0, 2, 2), np.ones((2, 2), bool), 1, 1).tolist() == [[1, 1], [1, 1]]
