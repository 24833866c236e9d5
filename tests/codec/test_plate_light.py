from __future__ import annotations

import numpy as np
import pytest
from street import HEIGHT, WIDTH, road

from discover_stream.codec.background import Background
from discover_stream.codec.plate_light import Light, measure_light


def test_light_is_told_from_what_is_there() -> None:
    before = road()
    after = np.clip(before * 1.1 + np.array([8.0, 4.0, -6.0]), 0, 255).astype(np.uint8)
    after[10:40, 20:60] = 255  # something that came
    free = np.ones((HEIGHT // 16, WIDTH // 16), bool)
    light, size = measure_light(after, before, free)
    assert size > 5
    back = light.removed(after).astype(int)
    assert np.abs(back[60:] - before[60:]).mean() < 2
    assert measure_light(before, before, free) == (Light(), 0.0)
    assert measure_light(after, before, ~free) == (Light(), 0.0)


def test_a_tone_says_what_the_light_is() -> None:
    light = Light((0.125, 0.0, -0.25), (2.5, -1.0, 0.0))
    tone = light.tone()
    assert tone is not None
    assert (tone.gains, tone.offsets) == ((32, 0, -64), (10, -4, 0))
    assert Light.of(tone) == light
    assert Light().tone() is None


def test_frames_are_given_back_in_the_light_of_the_plate() -> None:
    seen = Background().see(road(15), road(), [], 0.0)
    assert seen.tone == pytest.approx(15, abs=2)
    assert np.abs(seen.image.astype(int) - road()).mean() < 2
    assert seen.differing == 0
