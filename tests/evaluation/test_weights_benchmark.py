"""The comparison of trained weights: boxes that leave a share out, rates at equal distance, a system on pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.weights import MISSING, QUALITIES, Point, box_cells, boxes, measured, ratio, systems
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.registry import is_ours
from discover_stream.evaluation.systems import SystemSpec


def point(system: str, bpp: float, distance: float) -> Point:
    return Point("kodak", system, system, bpp, 30.0, 0.9, distance)


@pytest.mark.parametrize("missing", MISSING)
def test_boxes_leave_about_the_share_out_that_is_asked_for(missing: float) -> None:
    regions = boxes(np.random.default_rng(1), 640, 352, 1 - missing)
    assert box_cells(regions, 640, 352).mean() == pytest.approx(1 - missing, abs=0.1)
    assert len({region.track for region in regions}) == len(regions)


def test_rates_are_compared_at_equal_distance() -> None:
    peer = [point("jpeg", 0.2, 0.4), point("jpeg", 0.4, 0.2), point("jpeg", 0.5, 0.25)]
    assert ratio(point("ours-still", 0.15, 0.3), peer) == "0.50"
    assert ratio(point("ours-still", 0.1, 0.5), peer) == "0.50 or more", "the peer's least rate is better than that"
    assert ratio(point("ours-still", 0.1, 0.1), peer) == "it never gets there"
    assert ratio(point("ours-still", 0.1, 0.1), []) == ""


def test_every_byte_of_a_picture_counts() -> None:
    class Brightness:
        def distance(self, original: np.ndarray, decoded: np.ndarray) -> float:
            return float(abs(original.mean() - decoded.mean()))

    flat = np.full((176, 176, 3), 90, np.uint8)
    features: DeepFeatures = Brightness()  # type: ignore[assignment]
    found = measured("flat", [flat, flat], SystemSpec.parse("jpeg:quality=30"), features)
    assert 100 * 8 / 176**2 < found.bpp < 1000 * 8 / 176**2
    assert found.psnr > 40
    assert found.distance < 2


def test_weights_of_another_folder_are_measured_beside_the_shipped_ones() -> None:
    shipped, both = (set(systems(folder)) for folder in (None, Path("runs/codec")))
    assert shipped < both
    assert {spec.values()["weights"] for spec in both - shipped} == {"runs/codec"}
    ours = [{spec.values()["quality"] for spec in group if is_ours(spec.name)} for group in (shipped, both - shipped)]
    assert ours == [set(QUALITIES)] * 2
    assert {"jpeg", "webp", "avif", "x265-intra"} <= {spec.name for spec in shipped}
