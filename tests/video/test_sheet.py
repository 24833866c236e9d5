import numpy as np
import pytest

from discover_stream.types import Box, InputError, Provenance
from discover_stream.video.sheet import (
    BACKGROUND,
    PROVENANCE_COLOURS,
    contact_sheet,
    draw_boxes,
    overlay_provenance,
    side_by_side,
)


def flat(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def count(image, colour):
    return int((image == np.array(colour, np.uint8)).all(axis=2).sum())


def test_side_by_side_holds_every_pixel():
    left, right = flat(40, 60, (200, 0, 0)), flat(20, 30, (0, 200, 0))
    sheet = side_by_side([left, right], ["original", "decoded"])
    assert count(sheet, (200, 0, 0)) == 40 * 60
    assert count(sheet, (0, 200, 0)) == 20 * 30
    reds, greens = (np.argwhere((sheet == c).all(axis=2)) for c in ((200, 0, 0), (0, 200, 0)))
    assert reds[:, 1].max() < greens[:, 1].min()
    assert reds[:, 0].min() > 8


def test_titles_are_drawn_above_their_pictures():
    image = flat(30, 120, (0, 0, 0))
    silent, titled = (side_by_side([image, image], [title, ""]) for title in ("", "hello"))
    changed = np.argwhere((silent != titled).any(axis=2))
    assert len(changed) > 20
    assert changed[:, 1].max() < titled.shape[1] // 2
    assert changed[:, 0].max() < titled.shape[0] - 30
    long = side_by_side([image, image], ["x" * 500, ""])
    assert (long[:, titled.shape[1] // 2 :] == silent[:, titled.shape[1] // 2 :]).all()


def test_contact_sheet_rows_and_columns():
    colours = [[(10, 0, 0), (20, 0, 0)], [(30, 0, 0), (40, 0, 0)], [(50, 0, 0), (60, 0, 0)]]
    sheet = contact_sheet([[flat(9, 12, c) for c in row] for row in colours], ["a", "b"])
    places = {c: np.argwhere((sheet == c).all(axis=2)).mean(axis=0) for row in colours for c in row}
    assert all(count(sheet, c) == 9 * 12 for row in colours for c in row)
    assert places[(10, 0, 0)][0] < places[(30, 0, 0)][0] < places[(50, 0, 0)][0]
    assert places[(10, 0, 0)][1] < places[(20, 0, 0)][1]
    assert tuple(sheet[-1, -1]) == BACKGROUND


def test_contact_sheet_refuses_uneven_rows():
    image = flat(4, 4, (1, 1, 1))
    with pytest.raises(InputError, match="row 1 has 1 pictures for 2 titles"):
        contact_sheet([[image, image], [image]], ["a", "b"])
    with pytest.raises(InputError, match="no pictures"):
        contact_sheet([], [])


def test_boxes_are_drawn_on_a_copy():
    image = flat(100, 200, (0, 0, 0))
    drawn = draw_boxes(image, [Box(20.2, 40, 80, 90), Box(150, 60, 400, 300)], ["", ""])
    assert not image.any()
    changed = drawn.any(axis=2)
    assert changed[40, 20:80].all()
    assert changed[89, 20:80].all()
    assert changed[40:90, 20].all()
    assert changed[40:90, 79].all()
    assert not changed[41:89, 21:79].any()
    assert changed[60, 150:].all()
    assert draw_boxes(image, [], []).shape == image.shape


def test_captions_share_colours_by_name():
    image = flat(100, 300, (0, 0, 0))
    boxes = [Box(10, 40, 60, 90), Box(110, 40, 160, 90), Box(210, 40, 260, 90)]
    drawn = draw_boxes(image, boxes, ["car", "bus", "car"])
    assert tuple(drawn[80, 10]) == tuple(drawn[80, 210]) != tuple(drawn[80, 110])
    assert drawn[25:40, 10:30].any()


def test_boxes_outside_and_on_tiny_pictures_do_no_harm():
    image = flat(3, 3, (9, 9, 9))
    assert (draw_boxes(image, [Box(50, 50, 60, 60)], ["car"]) == image).all()
    assert draw_boxes(image, [Box(0, 0, 3, 3)], ["car"]).shape == (3, 3, 3)
    with pytest.raises(InputError, match="1 boxes but 0 captions"):
        draw_boxes(image, [Box(0, 0, 1, 1)], [])


def test_each_class_has_its_own_tint():
    image = flat(160, 16 * 5, (100, 100, 100))
    cells = np.tile(np.arange(5, dtype=np.uint8), (10, 1))
    shown = overlay_provenance(image, cells, opacity=0.5)
    for kind in Provenance:
        expected = (100 + np.array(PROVENANCE_COLOURS[kind])) / 2
        patch = shown[:16, 16 * kind : 16 * kind + 16].reshape(-1, 3)
        assert np.abs(patch - expected).max() <= 1
    assert len({tuple(shown[2, 16 * kind + 8]) for kind in Provenance}) == 5


def test_legend_lists_only_what_occurs():
    image = flat(160, 320, (100, 100, 100))
    sent = np.full((10, 20), Provenance.SENT, np.uint8)
    mixed = sent.copy()
    mixed[:5] = Provenance.MISSING
    assert count(overlay_provenance(image, mixed), PROVENANCE_COLOURS[Provenance.MISSING]) > 50
    assert count(overlay_provenance(image, sent), PROVENANCE_COLOURS[Provenance.MISSING]) == 0
    assert count(overlay_provenance(image, sent), PROVENANCE_COLOURS[Provenance.SENT]) > 50


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (352, 640)])
def test_cells_cover_odd_sizes(height, width):
    cells = np.full((-(-height // 16), -(-width // 16)), Provenance.PLATE, np.uint8)
    assert overlay_provenance(flat(height, width, (0, 0, 0)), cells).shape == (height, width, 3)


def test_cells_that_do_not_fit_are_refused():
    image = flat(32, 33, (0, 0, 0))
    with pytest.raises(InputError, match="do not cover 33x32"):
        overlay_provenance(image, np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="no class 9"):
        overlay_provenance(image, np.full((2, 3), 9, np.uint8))
