import numpy as np
import pytest

from discover_stream.generation.invention import InventionRules, invention_score
from discover_stream.types import Box, InputError, Provenance, Region

GENERATED_RIGHT = np.full((4, 8), Provenance.SENT, np.uint8)
GENERATED_RIGHT[:, 4:] = Provenance.GENERATED  # from x = 64 on


def car(x0: float, score: float = 0.6) -> Region:
    return Region(0, score, Box(x0, 16, x0 + 32, 48))


def test_what_stands_in_generated_cells_and_was_not_announced_counts() -> None:
    assert invention_score([], GENERATED_RIGHT, []) == 0
    assert invention_score([car(0)], GENERATED_RIGHT, []) == 0
    assert invention_score([car(80)], GENERATED_RIGHT, []) == pytest.approx(0.6)
    assert invention_score([car(80), car(90, 0.5)], GENERATED_RIGHT, []) == pytest.approx(0.8)
    assert invention_score([car(80, 1.3)], GENERATED_RIGHT, []) == 1
    # A region that came with the picture explains it where it covers at least half of it.
    assert invention_score([car(80)], GENERATED_RIGHT, [car(90)]) == 0
    assert invention_score([car(80)], GENERATED_RIGHT, [car(100)]) == pytest.approx(0.6)


def test_half_of_an_object_in_generated_cells_is_enough() -> None:
    assert invention_score([car(48)], GENERATED_RIGHT, []) == pytest.approx(0.6)
    assert invention_score([car(46)], GENERATED_RIGHT, []) == 0
    assert invention_score([car(46)], GENERATED_RIGHT, [], InventionRules(share=0.4)) == pytest.approx(0.6)


def test_missing_cells_are_not_generated_and_no_map_is_refused() -> None:
    assert invention_score([car(80)], np.zeros((4, 8), np.uint8), []) == 0
    with pytest.raises(InputError, match="provenance"):
        invention_score([car(80)], np.zeros(8, np.uint8), [])
