"""Bodies of four-wheeled vehicles: cars of three shapes, vans, trucks and buses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from discover_stream.video.bodies import (
    Body,
    Colour,
    Decal,
    Loft,
    Panel,
    Part,
    quad,
    shade,
    wheel,
)

PAINTS: tuple[Colour, ...] = (
    (226, 228, 230),
    (168, 172, 176),
    (92, 96, 102),
    (34, 35, 40),
    (176, 24, 30),
    (28, 62, 138),
    (70, 132, 190),
    (24, 92, 62),
    (202, 178, 128),
    (214, 118, 28),
    (232, 196, 44),
    (110, 26, 46),
    (96, 66, 46),
    (120, 160, 150),
)
"""Colours that vehicles are painted in, RGB."""

GLASS: Colour = (36, 44, 54)
SKY_IN_GLASS: Colour = (104, 122, 140)
TRIM: Colour = (30, 31, 33)
HEAD_LIGHT: Colour = (250, 246, 226)
TAIL_LIGHT: Colour = (206, 22, 22)
PLATE: Colour = (226, 224, 206)

# Outlines: (z, y, half width) with z and half width as shares of the length and half the width,
# y as a share of the height, from the rear bottom over the roof to the front bottom.
# Point 4 is where the rear window starts, point 8 where the windscreen ends.
_SALOON = (
    (-0.485, 0.19, 0.92), (-0.5, 0.38, 0.97), (-0.492, 0.6, 0.97), (-0.465, 0.67, 0.94), (-0.35, 0.7, 0.92),
    (-0.205, 0.965, 0.76), (-0.04, 1.0, 0.74), (0.085, 0.97, 0.76), (0.245, 0.68, 0.92), (0.44, 0.575, 0.92),
    (0.49, 0.47, 0.95), (0.5, 0.31, 0.94), (0.485, 0.18, 0.9),
)  # fmt: skip
_HATCHBACK = (
    (-0.48, 0.19, 0.92), (-0.5, 0.36, 0.97), (-0.496, 0.52, 0.97), (-0.488, 0.62, 0.95), (-0.475, 0.66, 0.93),
    (-0.36, 0.95, 0.78), (-0.14, 1.0, 0.76), (0.04, 0.97, 0.78), (0.225, 0.66, 0.92), (0.43, 0.565, 0.92),
    (0.488, 0.46, 0.95), (0.5, 0.31, 0.94), (0.485, 0.18, 0.9),
)  # fmt: skip
_OFFROADER = (
    (-0.48, 0.22, 0.94), (-0.5, 0.36, 0.98), (-0.498, 0.52, 0.98), (-0.495, 0.6, 0.97), (-0.488, 0.64, 0.95),
    (-0.43, 0.96, 0.83), (-0.18, 1.0, 0.82), (0.06, 0.975, 0.83), (0.2, 0.66, 0.94), (0.44, 0.6, 0.94),
    (0.492, 0.5, 0.97), (0.5, 0.34, 0.96), (0.485, 0.22, 0.92),
)  # fmt: skip
_VAN = (
    (-0.49, 0.14, 0.94), (-0.5, 0.25, 0.97), (-0.5, 0.4, 0.98), (-0.499, 0.52, 0.98), (-0.497, 0.56, 0.98),
    (-0.485, 0.97, 0.9), (-0.1, 1.0, 0.9), (0.22, 0.97, 0.9), (0.385, 0.57, 0.95), (0.465, 0.47, 0.94),
    (0.492, 0.38, 0.95), (0.5, 0.24, 0.95), (0.49, 0.13, 0.92),
)  # fmt: skip


def _scaled(shares: Sequence[tuple[float, float, float]], length: float, width: float, height: float) -> Loft:
    return Loft(tuple((z * length, y * height, w * width / 2) for z, y, w in shares))


def _glass(loft: Loft, strip: int, inset: float = 0.9) -> list[Decal]:
    """A window across a strip with a paler band where it mirrors the sky."""
    return [
        Decal(loft.strip(strip, (-inset, inset), (0.06, 0.94)), GLASS),
        Decal(loft.strip(strip, (-inset * 0.96, inset * 0.5), (0.55, 0.9)), shade(SKY_IN_GLASS, 0.8)),
    ]


def _rear(loft: Loft, lights: int) -> dict[int, Sequence[Decal]]:
    return {
        0: [Decal(loft.strip(0, (-0.96, 0.96), (0.0, 0.75)), TRIM)],
        lights - 1: [Decal(loft.strip(lights - 1, (-0.24, 0.24), (0.55, 0.95)), PLATE)],
        lights: [
            Decal(loft.strip(lights, (-0.97, -0.6), (0.1, 0.92)), TAIL_LIGHT, lit=True),
            Decal(loft.strip(lights, (0.6, 0.97), (0.1, 0.92)), TAIL_LIGHT, lit=True),
        ],
    }


def _nose(loft: Loft, strip: int) -> dict[int, Sequence[Decal]]:
    return {
        strip: [
            Decal(loft.strip(strip, (-0.55, 0.55), (0.25, 0.95)), TRIM),
            Decal(loft.strip(strip, (-0.97, -0.6), (0.0, 0.75)), HEAD_LIGHT, lit=True),
            Decal(loft.strip(strip, (0.6, 0.97), (0.0, 0.75)), HEAD_LIGHT, lit=True),
        ],
        strip + 1: [
            Decal(loft.strip(strip + 1, (-0.25, 0.25), (0.05, 0.65)), PLATE),
            Decal(loft.strip(strip + 1, (-0.95, 0.95), (0.7, 1.0)), TRIM),
        ],
    }


def _side(loft: Loft, sign: int, colour: Colour, wheels: Sequence[float], radius: float) -> Panel:
    """The lower half of a side (everything but the cabin) with sill, seams and wheels."""
    outline = np.concatenate([loft.side(sign, 0, 4), loft.side(sign, 8, 12)])
    reach = float(np.abs(outline[:, 0]).max()) * sign
    rear, front = float(outline[:, 2].min()), float(outline[:, 2].max())
    belt = float(min(loft.outline[4][1], loft.outline[8][1]))
    middle = (rear + front) / 2
    decals = [
        Decal(quad(reach, (rear * 0.97, front * 0.97), (belt * 0.26, belt * 0.42)), shade(colour, 0.45)),
        Decal(quad(reach, (rear * 0.97, front * 0.95), (belt * 0.74, belt * 0.8)), shade(colour, 1.18)),
        Decal(quad(reach, (middle - 0.02, middle + 0.02), (belt * 0.4, belt * 0.96)), shade(colour, 0.6)),
        Decal(quad(reach, (middle + 0.1, middle + 0.3), (belt * 0.84, belt * 0.89)), TRIM),
    ]
    for z in wheels:
        decals += wheel(reach, z, radius)
    return Panel(outline, np.array([float(sign), 0.0, 0.0]), colour, tuple(decals))


def _cabin_side(loft: Loft, sign: int, colour: Colour, panes: Sequence[tuple[float, float]]) -> Panel:
    """The upper half of a side; `panes` are shares 0..1 of the belt line, rear to front."""
    outline = loft.side(sign, 4, 8)
    belt0, roof0, roof1, belt1 = outline[0], outline[1], outline[-2], outline[-1]
    decals = []
    for start, stop in panes:
        low0, low1 = belt0 + (belt1 - belt0) * start, belt0 + (belt1 - belt0) * stop
        high0, high1 = roof0 + (roof1 - roof0) * start, roof0 + (roof1 - roof0) * stop
        pane = [
            low0 + (high0 - low0) * 0.06,
            low1 + (high1 - low1) * 0.06,
            low1 + (high1 - low1) * 0.86,
            low0 + (high0 - low0) * 0.86,
        ]
        decals.append(Decal(np.array(pane), GLASS))
        gleam = [pane[0] * 0.35 + pane[3] * 0.65, pane[1] * 0.35 + pane[2] * 0.65, pane[2], pane[3]]
        decals.append(Decal(np.array(gleam), shade(SKY_IN_GLASS, 0.7)))
    normal = np.array([float(sign), 0.35, 0.0])
    return Panel(outline, normal / np.linalg.norm(normal), colour, tuple(decals))


def _passenger(loft: Loft, colour: Colour, panes: Sequence[tuple[float, float]], radius: float) -> Body:
    length = loft.outline[11][0] - loft.outline[1][0]
    width = 2 * max(w for _, _, w in loft.outline)
    height = max(y for _, y, _ in loft.outline)
    decals: dict[int, Sequence[Decal]] = {4: _glass(loft, 4), 7: _glass(loft, 7)}
    decals.update(_rear(loft, 2 if loft.outline[3][1] < 0.62 * height else 1))
    decals.update(_nose(loft, 10))
    axles = (-0.30 * length, 0.305 * length)
    panels = loft.panels(colour, decals)
    for sign in (-1, 1):
        panels.append(_side(loft, sign, shade(colour, 0.96), axles, radius))
        panels.append(_cabin_side(loft, sign, colour, panes))
    return Body((tuple(panels),), length, width, height)


def car(colour: Colour, shape: int) -> Body:
    """A car: saloon (0), hatchback (1) or off-roader (2)."""
    if shape == 0:
        return _passenger(_scaled(_SALOON, 4.6, 1.84, 1.45), colour, ((0.2, 0.49), (0.53, 0.84)), 0.32)
    if shape == 1:
        return _passenger(_scaled(_HATCHBACK, 4.0, 1.78, 1.5), colour, ((0.12, 0.5), (0.54, 0.86)), 0.3)
    return _passenger(_scaled(_OFFROADER, 4.55, 1.92, 1.74), colour, ((0.08, 0.3), (0.34, 0.6), (0.64, 0.9)), 0.37)


def van(colour: Colour, glazed: bool) -> Body:
    """A van of 5.4 m, with side windows behind the driver or without."""
    panes = ((0.06, 0.33), (0.36, 0.63), (0.68, 0.93)) if glazed else ((0.7, 0.93),)
    return _passenger(_scaled(_VAN, 5.4, 2.0, 2.25), colour, panes, 0.35)


def _crate(z: tuple[float, float], y: tuple[float, float], width: float) -> Loft:
    """A box with slightly rounded upper edges."""
    half, rounding = width / 2, 0.08
    return Loft(
        (
            (z[0], y[0], half),
            (z[0], y[1] - rounding, half),
            (z[0] + rounding, y[1], half - rounding),
            (z[1] - rounding, y[1], half - rounding),
            (z[1], y[1] - rounding, half),
            (z[1], y[0], half),
        )
    )


def _crate_side(loft: Loft, sign: int, colour: Colour, decals: Sequence[Decal]) -> Panel:
    return Panel(loft.side(sign, 0, len(loft.outline) - 1), np.array([float(sign), 0.0, 0.0]), colour, tuple(decals))


def _lights(loft: Loft, strip: int, low: float, colour: Colour) -> list[Decal]:
    band = (low, low + 0.1) if strip == 0 else (0.9 - low, 1.0 - low)
    return [
        Decal(loft.strip(strip, (-0.94, -0.7), band), colour, lit=True),
        Decal(loft.strip(strip, (0.7, 0.94), band), colour, lit=True),
    ]


def bus(colour: Colour) -> Body:
    """A city bus of 11 m with a row of windows, doors on the right and a lit display."""
    loft = _crate((-5.5, 5.5), (0.32, 3.1), 2.5)
    front, rear = 4, 0
    decals: dict[int, Sequence[Decal]] = {
        rear: [
            Decal(loft.strip(rear, (-0.86, 0.86), (0.55, 0.92)), GLASS),
            Decal(loft.strip(rear, (-0.95, 0.95), (0.0, 0.08)), TRIM),
            Decal(loft.strip(rear, (-0.3, 0.3), (0.1, 0.18)), PLATE),
            *_lights(loft, rear, 0.2, TAIL_LIGHT),
        ],
        front: [
            Decal(loft.strip(front, (-0.93, 0.93), (0.15, 0.66)), GLASS),
            Decal(loft.strip(front, (-0.9, 0.2), (0.18, 0.36)), shade(SKY_IN_GLASS, 0.8)),
            Decal(loft.strip(front, (-0.7, 0.7), (0.02, 0.13)), (40, 38, 30)),
            Decal(loft.strip(front, (-0.5, 0.5), (0.04, 0.11)), (250, 176, 40), lit=True),
            Decal(loft.strip(front, (-0.95, 0.95), (0.93, 1.0)), TRIM),
            *_lights(loft, front, 0.12, HEAD_LIGHT),
        ],
    }
    panels = loft.panels(colour, decals)
    for sign in (-1, 1):
        x = sign * 1.25
        painted = [
            Decal(quad(x, (-5.45, 5.45), (0.32, 0.5)), TRIM),
            Decal(quad(x, (-5.45, 5.45), (0.98, 1.12)), shade(colour, 0.7)),
            Decal(quad(x, (-5.2, 5.35), (1.42, 2.68)), TRIM),
        ]
        for start in np.arange(-5.1, 4.2, 1.33):
            painted.append(Decal(quad(x, (start, start + 1.2), (1.47, 2.62)), GLASS))
            painted.append(Decal(quad(x, (start, start + 1.2), (2.2, 2.6)), shade(SKY_IN_GLASS, 0.75)))
        if sign > 0:
            for start in (4.15, -0.7):
                painted.append(Decal(quad(x, (start, start + 1.15), (0.42, 2.62)), shade(GLASS, 1.5)))
                painted.append(Decal(quad(x, (start + 0.55, start + 0.6), (0.42, 2.62)), TRIM))
        for z in (-3.1, 3.0):
            painted += wheel(x, z, 0.48)
        panels.append(_crate_side(loft, sign, colour, painted))
    return Body((tuple(panels),), 11.0, 2.5, 3.1)


def truck(colour: Colour, box_colour: Colour) -> Body:
    """A delivery lorry of 7.6 m: a cab in front of a closed box, on a dark chassis."""
    box = _crate((-3.8, 1.75), (0.95, 3.35), 2.4)
    cab = Loft(
        (
            (1.9, 0.5, 1.12),
            (1.9, 2.45, 1.1),
            (2.05, 2.62, 1.05),
            (3.1, 2.58, 1.05),
            (3.62, 1.55, 1.12),
            (3.76, 1.3, 1.13),
            (3.8, 0.45, 1.12),
        )
    )
    rear: dict[int, Sequence[Decal]] = {
        0: [
            Decal(box.strip(0, (-0.94, 0.94), (0.03, 0.97)), shade(box_colour, 0.86)),
            Decal(box.strip(0, (-0.015, 0.015), (0.03, 0.97)), shade(box_colour, 0.5)),
            *_lights(box, 0, 0.0, TAIL_LIGHT),
        ]
    }
    front: dict[int, Sequence[Decal]] = {
        3: [
            Decal(cab.strip(3, (-0.93, 0.93), (0.08, 0.94)), GLASS),
            Decal(cab.strip(3, (-0.9, 0.2), (0.12, 0.45)), shade(SKY_IN_GLASS, 0.8)),
        ],
        5: [
            Decal(cab.strip(5, (-0.6, 0.6), (0.08, 0.5)), TRIM),
            Decal(cab.strip(5, (-0.95, 0.95), (0.82, 1.0)), TRIM),
            Decal(cab.strip(5, (-0.22, 0.22), (0.65, 0.78)), PLATE),
            Decal(cab.strip(5, (-0.95, -0.68), (0.48, 0.68)), HEAD_LIGHT, lit=True),
            Decal(cab.strip(5, (0.68, 0.95), (0.48, 0.68)), HEAD_LIGHT, lit=True),
        ],
    }
    box_panels = box.panels(box_colour, rear)
    cab_panels = cab.panels(colour, front)
    chassis_panels: list[Panel] = _chassis()
    for sign in (-1, 1):
        stripe = [
            Decal(quad(sign * 1.2, (-3.6, 1.6), (1.05, 1.25)), shade(colour, 0.9)),
            Decal(quad(sign * 1.2, (-2.6, 0.8), (1.9, 2.6)), shade(colour, 0.95)),
        ]
        box_panels.append(_crate_side(box, sign, box_colour, stripe))
        x = sign * 1.12
        window: list[Decal] = [
            Decal(np.array([[x, 1.55, 2.3], [x, 1.55, 3.5], [x, 2.35, 3.1], [x, 2.35, 2.3]]), GLASS),
            Decal(quad(x, (2.2, 2.23), (0.6, 2.4)), shade(colour, 0.6)),
            *wheel(x, 2.75, 0.46),
        ]
        cab_panels.append(_crate_side(cab, sign, colour, window))
    parts: tuple[Part, ...] = (tuple(chassis_panels), tuple(box_panels), tuple(cab_panels))
    return Body(parts, 7.6, 2.4, 3.35)


def _chassis() -> list[Panel]:
    loft = _crate((-3.7, 2.0), (0.42, 0.98), 2.1)
    panels = loft.panels(TRIM, {0: _lights(loft, 0, 0.6, TAIL_LIGHT)})
    for sign in (-1, 1):
        x = sign * 1.1
        painted = [*wheel(x, -2.2, 0.46), *wheel(x, -1.2, 0.46)]
        panels.append(_crate_side(loft, sign, TRIM, painted))
    return panels
