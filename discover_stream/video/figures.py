"""Bodies that are drawn with strokes: walkers, cyclists and motorcyclists.

The phase of a walk or of pedalling is an integer in 0..`PHASES` - 1, so that bodies can be cached.
"""

from __future__ import annotations

import math

import numpy as np

from discover_stream.video.bodies import Body, Colour, Stroke, shade
from discover_stream.video.geometry import Floats

PHASES = 16
"""Steps in one walking or pedalling cycle."""

CLOTHES: tuple[Colour, ...] = (
    (40, 44, 58),
    (176, 40, 46),
    (44, 78, 150),
    (226, 222, 212),
    (62, 110, 72),
    (214, 176, 64),
    (120, 74, 128),
    (206, 122, 60),
    (88, 90, 96),
    (90, 160, 190),
    (232, 140, 160),
)
TROUSERS: tuple[Colour, ...] = ((32, 36, 48), (52, 66, 98), (70, 64, 58), (24, 24, 26), (120, 110, 92))
SKIN: tuple[Colour, ...] = ((232, 190, 160), (206, 154, 118), (150, 102, 72), (98, 66, 48))
HAIR: tuple[Colour, ...] = ((32, 26, 22), (84, 56, 34), (168, 130, 74), (150, 148, 146), (120, 52, 26))
SHOES: Colour = (34, 30, 30)
TYRE: Colour = (30, 30, 32)


def _stroke(points: list[list[float]], radius: float, colour: Colour) -> Stroke:
    return Stroke(np.array(points, dtype=np.float64), radius, colour)


def _limb(top: Floats, bend: float, angle: float, lengths: tuple[float, float]) -> Floats:
    """Top, joint and end of a limb that hangs at `angle` (forward positive) and bends back by `bend`."""
    joint = top + lengths[0] * np.array([0.0, -math.cos(angle), math.sin(angle)])
    lower = angle - bend
    end = joint + lengths[1] * np.array([0.0, -math.cos(lower), math.sin(lower)])
    return np.stack([top, joint, end])


def walker(look: int, phase: int) -> Body:
    """A person in mid-stride; `look` picks size, clothes, hair and luggage."""
    rng = np.random.default_rng(look)
    tall = float(rng.uniform(1.55, 1.88))
    shirt, legs = CLOTHES[rng.integers(len(CLOTHES))], TROUSERS[rng.integers(len(TROUSERS))]
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    bag, coat = rng.random() < 0.35, rng.random() < 0.3
    swing = math.sin(phase * 2 * math.pi / PHASES)
    unit = tall / 1.75
    hip, shoulder = 0.9 * unit, 1.44 * unit
    strokes: list[Stroke] = []
    for side in (-1, 1):
        thigh = side * swing * 0.48
        bend = 0.12 + max(0.0, -side * math.cos(phase * 2 * math.pi / PHASES)) * 0.6
        leg = _limb(np.array([side * 0.085, hip, 0.0]), bend, thigh, (0.43 * unit, 0.43 * unit))
        strokes.append(Stroke(leg[:2], 0.088 * unit, legs))
        strokes.append(Stroke(leg[1:], 0.066 * unit, shade(legs, 0.92)))
        toe = leg[2] + np.array([0.0, -0.02, 0.15])
        strokes.append(Stroke(np.stack([leg[2], toe]), 0.05, SHOES))
        arm = _limb(
            np.array([side * 0.225 * unit, shoulder - 0.04, 0.0]),
            -0.35,
            -side * swing * 0.5,
            (0.29 * unit, 0.25 * unit),
        )
        strokes.append(Stroke(arm[:2], 0.058 * unit, shade(shirt, 0.9)))
        strokes.append(Stroke(arm[1:], 0.046 * unit, shade(shirt, 0.86)))
        strokes.append(Stroke(arm[2:], 0.05 * unit, skin))
    hem = hip - (0.3 if coat else 0.02)
    strokes += [
        _stroke([[x * 0.9, hem, 0], [x * 1.15, shoulder - 0.07, 0]], 0.11 * unit, shirt) for x in (-0.1, 0.0, 0.1)
    ]
    neck, head = 1.5 * unit, 1.63 * unit
    strokes.append(_stroke([[0, shoulder, 0], [0, neck + 0.02, 0.01]], 0.055, shade(skin, 0.85)))
    strokes.append(_stroke([[0, head - 0.045, 0.015], [0, head + 0.01, 0.015]], 0.098, skin))
    strokes.append(_stroke([[0, head + 0.045, -0.03], [0, head + 0.05, 0.01]], 0.1, hair))
    strokes.append(_stroke([[0, head - 0.03, -0.05], [0, head + 0.02, -0.04]], 0.085, hair))
    if bag:
        colour = CLOTHES[rng.integers(len(CLOTHES))]
        strokes.append(_stroke([[0, hip + 0.14, -0.2], [0, shoulder - 0.14, -0.19]], 0.15, colour))
    return Body((tuple(strokes),), 0.6, 0.55, tall)


def _ring(z: float, radius: float, thickness: float) -> Stroke:
    angles = np.arange(20) * (2 * math.pi / 20)
    points = np.column_stack([np.zeros(20), radius + radius * np.sin(angles), z + radius * np.cos(angles)])
    return Stroke(points, thickness, TYRE, closed=True)


def bicycle(look: int, phase: int) -> Body:
    """A cyclist who pedals."""
    rng = np.random.default_rng(look)
    shirt, legs = CLOTHES[rng.integers(len(CLOTHES))], TROUSERS[rng.integers(len(TROUSERS))]
    skin, frame = SKIN[rng.integers(len(SKIN))], CLOTHES[rng.integers(len(CLOTHES))]
    helmet = CLOTHES[rng.integers(len(CLOTHES))]
    strokes = [_ring(-0.52, 0.33, 0.024), _ring(0.52, 0.33, 0.024)]
    saddle, crank, bars = [0.0, 0.92, -0.2], [0.0, 0.32, -0.06], [0.0, 0.98, 0.4]
    tubes = (
        [[0.0, 0.33, -0.52], crank, saddle, [0.0, 0.33, -0.52]],
        [crank, [0.0, 0.82, 0.36], saddle],
        [[0.0, 0.33, 0.52], bars],
    )
    strokes += [_stroke(tube, 0.022, frame) for tube in tubes]
    strokes.append(_stroke([[-0.25, 1.0, 0.4], [0.25, 1.0, 0.4]], 0.02, TYRE))
    strokes.append(_stroke([[0, 0.95, -0.3], [0, 0.95, -0.1]], 0.05, TYRE))
    for side in (-1, 1):
        angle = phase * 2 * math.pi / PHASES + (math.pi if side > 0 else 0.0)
        foot = [side * 0.1, 0.32 + 0.17 * math.sin(angle), 0.0 + 0.17 * math.cos(angle)]
        knee = [side * 0.1, 0.68 + 0.1 * math.sin(angle), 0.22 + 0.05 * math.cos(angle)]
        strokes.append(_stroke([[side * 0.09, 1.0, -0.16], knee], 0.085, legs))
        strokes.append(_stroke([knee, foot], 0.06, shade(legs, 0.9)))
        strokes.append(_stroke([foot, [foot[0], foot[1] - 0.02, foot[2] + 0.14]], 0.045, SHOES))
        strokes.append(
            _stroke([[side * 0.2, 1.5, 0.1], [side * 0.25, 1.2, 0.22], [side * 0.22, 1.04, 0.38]], 0.05, skin)
        )
    strokes += [_stroke([[x, 1.05, -0.16], [x * 1.3, 1.48, 0.08]], 0.12, shirt) for x in (-0.09, 0.09)]
    strokes.append(_stroke([[0, 1.68, 0.16], [0, 1.72, 0.17]], 0.1, skin))
    strokes.append(_stroke([[0, 1.76, 0.1], [0, 1.76, 0.22]], 0.09, helmet))
    return Body((tuple(strokes),), 1.75, 0.6, 1.85)


def motorcycle(look: int) -> Body:
    """A motorcycle with a rider in a full helmet."""
    rng = np.random.default_rng(look)
    paint = CLOTHES[rng.integers(1, len(CLOTHES))]
    jacket, legs = CLOTHES[rng.integers(len(CLOTHES))], TROUSERS[rng.integers(len(TROUSERS))]
    helmet = CLOTHES[rng.integers(len(CLOTHES))]
    strokes = [_ring(-0.7, 0.3, 0.075), _ring(0.72, 0.3, 0.065)]
    strokes += [_stroke([[0, 0.3, z - 0.02], [0, 0.3, z + 0.02]], 0.16, (120, 122, 126)) for z in (-0.7, 0.72)]
    strokes.append(_stroke([[0, 0.42, -0.25], [0, 0.45, 0.3]], 0.2, (70, 72, 76)))
    strokes.append(_stroke([[0.16, 0.32, -0.2], [0.18, 0.42, -0.85]], 0.06, (170, 172, 176)))
    strokes.append(_stroke([[0, 0.8, 0.05], [0, 0.84, 0.4]], 0.19, paint))
    strokes.append(_stroke([[0, 0.78, -0.75], [0, 0.74, -0.1]], 0.12, shade(paint, 0.7)))
    strokes.append(_stroke([[0, 0.3, 0.72], [0, 1.02, 0.46]], 0.05, (150, 152, 156)))
    strokes.append(_stroke([[0, 0.86, 0.55], [0, 0.98, 0.58]], 0.15, paint))
    strokes.append(_stroke([[0, 0.9, 0.7], [0, 0.93, 0.7]], 0.07, (252, 248, 230)))
    strokes.append(_stroke([[-0.06, 0.8, -0.92], [0.06, 0.8, -0.92]], 0.05, (210, 24, 24)))
    strokes.append(_stroke([[-0.34, 1.06, 0.4], [0.34, 1.06, 0.4]], 0.03, TYRE))
    for side in (-1, 1):
        knee, foot = [side * 0.26, 0.72, 0.24], [side * 0.24, 0.34, -0.12]
        strokes.append(_stroke([[side * 0.12, 0.86, -0.25], knee], 0.1, legs))
        strokes.append(_stroke([knee, foot, [side * 0.24, 0.3, 0.06]], 0.07, shade(legs, 0.9)))
        arm = [[side * 0.23, 1.38, -0.04], [side * 0.34, 1.16, 0.14], [side * 0.3, 1.08, 0.38]]
        strokes.append(_stroke(arm, 0.07, shade(jacket, 0.92)))
    strokes += [_stroke([[x, 0.94, -0.28], [x * 1.2, 1.38, -0.04]], 0.14, jacket) for x in (-0.11, 0.11)]
    strokes.append(_stroke([[0, 1.58, 0.04], [0, 1.64, 0.05]], 0.145, helmet))
    strokes.append(_stroke([[-0.06, 1.62, 0.16], [0.06, 1.62, 0.16]], 0.06, (26, 28, 34)))
    return Body((tuple(strokes),), 2.1, 0.7, 1.75)
