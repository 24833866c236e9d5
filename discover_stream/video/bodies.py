"""What simulated objects are made of: coloured panels and strokes in an object's own axes.

Convention: x to the object's right, y up from the ground, z forward, metres; colours RGB 0..255.
A panel is a flat polygon with decals (windows, lights, wheels) that are seen when it is seen.
A stroke is a thick line, for limbs and frames of two-wheelers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from discover_stream.video.geometry import Floats

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Decal:
    """A flat polygon (N, 3) painted on a panel. `lit` decals glow and are not shaded."""

    points: Floats
    colour: Colour
    lit: bool = False


@dataclass(frozen=True)
class Panel:
    """A flat polygon (N, 3) seen from the side its normal (3,) points to."""

    points: Floats
    normal: Floats
    colour: Colour
    decals: tuple[Decal, ...] = ()


@dataclass(frozen=True)
class Stroke:
    """A line through points (N, 3) of `radius` metres, closed to a loop where asked."""

    points: Floats
    radius: float
    colour: Colour
    closed: bool = False


Part = tuple[Panel | Stroke, ...]


@dataclass(frozen=True)
class Item:
    """One thing to draw: vertices start..stop of the body. A radius of 0 means a filled polygon."""

    start: int
    stop: int
    radius: float = 0.0
    closed: bool = False


@dataclass(frozen=True)
class Body:
    """Parts (drawn far to near) with the size of their bounding box in metres."""

    parts: tuple[Part, ...]
    length: float
    width: float
    height: float

    @cached_property
    def items(self) -> tuple[tuple[Item, ...], ...]:
        """Per panel or stroke: what to draw for it, in order."""
        groups: list[tuple[Item, ...]] = []
        at = 0
        for primitive in self._primitives:
            stop = at + len(primitive.points)
            if isinstance(primitive, Stroke):
                groups.append((Item(at, stop, primitive.radius, primitive.closed),))
            else:
                shapes = [Item(at, stop)]
                for decal in primitive.decals:
                    shapes.append(Item(stop, stop + len(decal.points)))
                    stop += len(decal.points)
                groups.append(tuple(shapes))
            at = stop
        return tuple(groups)

    @cached_property
    def paint(self) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Of all items in order: colours (I, 3), their panel or stroke (I,), whether they glow (I,)."""
        colours: list[Colour] = []
        owners: list[int] = []
        lit: list[bool] = []
        for group, primitive in enumerate(self._primitives):
            decals = primitive.decals if isinstance(primitive, Panel) else ()
            colours += [primitive.colour, *(decal.colour for decal in decals)]
            owners += [group] * (1 + len(decals))
            lit += [False, *(decal.lit for decal in decals)]
        return np.array(colours), np.array(owners, dtype=np.intp), np.array(lit)

    @cached_property
    def corners(self) -> Floats:
        """The eight corners of a box that casts about the same shadow, (8, 3)."""
        half = self.width / 2
        return np.array(
            [
                [x, y, z]
                for x in (-half, half)
                for y in (0.0, self.height * 0.92)
                for z in (-self.length / 2, self.length / 2)
            ]
        )

    @cached_property
    def vertices(self) -> Floats:
        """All points of all items, (P, 3)."""
        stack: list[Floats] = []
        for primitive in self._primitives:
            stack.append(primitive.points)
            if isinstance(primitive, Panel):
                stack.extend(decal.points for decal in primitive.decals)
        return np.concatenate(stack)

    @cached_property
    def normals(self) -> Floats:
        """Per panel or stroke (G, 3); zero for strokes, which are seen from everywhere."""
        return np.array([p.normal if isinstance(p, Panel) else np.zeros(3) for p in self._primitives])

    @cached_property
    def centres(self) -> Floats:
        """Middle of every panel or stroke, (G, 3)."""
        return np.array([p.points.mean(axis=0) for p in self._primitives])

    @cached_property
    def part_centres(self) -> Floats:
        """Middle of the part that every panel or stroke belongs to, (G, 3)."""
        middles = [np.mean([primitive.points.mean(axis=0) for primitive in part], axis=0) for part in self.parts]
        return np.array([middle for middle, part in zip(middles, self.parts, strict=True) for _ in part])

    @property
    def _primitives(self) -> list[Panel | Stroke]:
        return [primitive for part in self.parts for primitive in part]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour times a factor, kept within 0..255."""
    red, green, blue = (min(255.0, max(0.0, channel * factor)) for channel in colour)
    return red, green, blue


@dataclass(frozen=True)
class Loft:
    """A body drawn as a side outline with a width at every point.

    `outline` holds (z, y, half width) from the rear bottom over the roof to the front bottom, metres.
    """

    outline: tuple[tuple[float, float, float], ...]

    def strip(self, index: int, across: tuple[float, float], along: tuple[float, float]) -> Floats:
        """A quad (4, 3) on the surface between outline points `index` and `index + 1`.

        `across` is in -1..1 from left to right, `along` in 0..1 from the first point to the second.
        """
        (z0, y0, w0), (z1, y1, w1) = self.outline[index], self.outline[index + 1]
        corners = []
        for u, v in (
            (across[0], along[0]),
            (across[1], along[0]),
            (across[1], along[1]),
            (across[0], along[1]),
        ):
            half = w0 + (w1 - w0) * v
            corners.append([u * half, y0 + (y1 - y0) * v, z0 + (z1 - z0) * v])
        return np.array(corners)

    def panels(self, colour: Colour, decals: dict[int, Sequence[Decal]]) -> list[Panel]:
        """One panel for every pair of neighbouring outline points."""
        made = []
        for index in range(len(self.outline) - 1):
            (z0, y0, _), (z1, y1, _) = self.outline[index], self.outline[index + 1]
            normal = np.array([0.0, z1 - z0, -(y1 - y0)])
            normal /= np.linalg.norm(normal)
            made.append(Panel(self.strip(index, (-1, 1), (0, 1)), normal, colour, tuple(decals.get(index, ()))))
        return made

    def side(self, sign: int, first: int, last: int) -> Floats:
        """The outline from point `first` to `last` on the right (+1) or left (-1) side, (N, 3)."""
        return np.array([[sign * w, y, z] for z, y, w in self.outline[first : last + 1]])


def quad(x: float, z: tuple[float, float], y: tuple[float, float]) -> Floats:
    """An upright rectangle at side position x, (4, 3)."""
    return np.array([[x, y[0], z[0]], [x, y[0], z[1]], [x, y[1], z[1]], [x, y[1], z[0]]])


def disc(x: float, z: float, y: float, radius: float, sides: int = 14) -> Floats:
    """An upright disc at side position x, (sides, 3)."""
    angles = np.arange(sides) * (2 * np.pi / sides)
    return np.column_stack([np.full(sides, x), y + radius * np.sin(angles), z + radius * np.cos(angles)])


def wheel(x: float, z: float, radius: float) -> list[Decal]:
    """A wheel in its arch, seen on a side panel: arch, tyre, rim, hub."""
    return [
        Decal(disc(x, z, radius * 1.05, radius * 1.2), (22, 22, 24)),
        Decal(disc(x * 1.01, z, radius, radius), (38, 38, 40)),
        Decal(disc(x * 1.015, z, radius, radius * 0.62), (150, 152, 156)),
        Decal(disc(x * 1.015, z, radius, radius * 0.46), (92, 94, 98)),
        Decal(disc(x * 1.02, z, radius, radius * 0.16), (170, 172, 176)),
    ]
