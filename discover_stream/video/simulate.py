"""A simulated traffic camera: a road scene rendered by ourselves, with exact ground truth.

A frame is a pure function of (seed, size, fps, sequence number), so any frame can be rendered at
any time, in any order, on any machine with the same versions of NumPy and OpenCV.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.types import Box, Frame, Image, InputError
from discover_stream.video import figures, vehicles
from discover_stream.video.backdrop import paint_backdrop
from discover_stream.video.bodies import Body
from discover_stream.video.geometry import Pinhole
from discover_stream.video.portal import PORTAL_Z, SEEN, Portal, darkened, daylight
from discover_stream.video.raster import Light, Sprite, draw_body, ground_shadows, paste
from discover_stream.video.traffic import LENGTHS, Actor, Traffic
from discover_stream.video.turns import Turns

KINDS = tuple(LENGTHS)
"""Names of what can appear. A rider belongs to the bicycle or motorcycle; walkers are `person`."""

SCENES = {
    "road": "a street with all that drives, walks and parks there",
    "turn": "cars that turn round before the camera",
    "tunnel": "the street leads out of a tunnel: cars come out of the dark and grow fast",
    "clouds": "the street, and clouds that take a third of its light within half a second",
}
"""What can be simulated, and what it shows."""

MIN_PIXELS = 12
"""Objects with fewer visible pixels than this are drawn but not reported."""

_SEEN = 64
_COVERS = 128
_MAX_SIDE = 4096


@dataclass(frozen=True, slots=True)
class TrueObject:
    """What is really there: `box` encloses the visible pixels, `visible` is their share of the object (0..1).

    The share counts both what other objects hide and what lies outside the picture.
    """

    track: int
    kind: str
    box: Box
    visible: float


class SimulatedCamera:
    """A fixed camera over a street, iterable as (frame, true objects in painting order).

    The picture is `width` x `height` pixels at `fps` frames a second; it ends after `duration_s`
    seconds or never. `start_ns` is the capture time of frame 0; `scene` is one of `SCENES`. Raises InputError for
    sizes, rates, seeds or scenes that cannot be rendered.
    """

    def __init__(
        self,
        name: str,
        *,
        width: int = 640,
        height: int = 352,
        fps: float = 10.0,
        seed: int = 0,
        duration_s: float | None = None,
        start_ns: int = 0,
        scene: str = "road",
    ) -> None:
        _check(name, (width, height), (fps, duration_s), seed)
        if scene not in SCENES:
            raise InputError(f"simulated camera {name}: there is no scene {scene!r}; use {', '.join(SCENES)}")
        self.name, self.width, self.height, self.fps, self.seed = name, width, height, fps, seed
        self.start_ns = start_ns
        self.frames = None if duration_s is None else max(1, math.floor(duration_s * fps + 1e-6))
        rng = np.random.default_rng((seed, 5))
        self._camera = _mount(width, height, rng)
        self._light = _sunlight(rng)
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._tint = rng.uniform(0.97, 1.03, 3)
        self._traffic = Turns(seed) if scene == "turn" else Traffic(seed)
        self._cloudy = scene == "clouds"
        self._backdrop = paint_backdrop(self._camera, self._light, seed)
        tunnel = scene == "tunnel"
        self._portal = Portal.build(self._backdrop, self._camera, self._light, seed) if tunnel else None
        self._noise = _noise_bank(rng, width, height)

    def __iter__(self) -> Iterator[tuple[Frame, tuple[TrueObject, ...]]]:
        seq = 0
        while self.frames is None or seq < self.frames:
            yield self.render(seq)
            seq += 1

    def render(
        self, seq: int, *, without: Collection[int] = (), shadows: bool = True
    ) -> tuple[Frame, tuple[TrueObject, ...]]:
        """Frame `seq` and what is visible in it; tracks in `without` are left out of the scene.

        Raises InputError for a sequence number before 0 or after the last frame.
        """
        if seq < 0 or (self.frames is not None and seq >= self.frames):
            raise InputError(
                f"simulated camera {self.name}: there is no frame {seq};"
                f" ask for 0 to {'any number' if self.frames is None else self.frames - 1}"
            )
        time = seq / self.fps
        actors = [actor for actor in self._traffic.at(time) if actor.track not in without]
        if self._portal is not None:  # nobody walks in the tunnel
            actors = [actor for actor in actors if actor.kind != "person" or actor.z < PORTAL_Z - 1.0]
        picture = self._backdrop.copy()
        if shadows:
            self._cast_shadows(picture, actors, time)
        objects = self._draw(picture, _far_to_near(actors, self._camera))
        image = self._expose(picture, seq, time)
        capture_ns = self.start_ns + round(seq * 1e9 / self.fps)
        return Frame(self.name, seq, capture_ns, image), objects

    def _draw(self, picture: Image, actors: list[Actor]) -> tuple[TrueObject, ...]:
        owner = np.full((self.height, self.width), -1, np.int16)
        drawn: list[tuple[int, Actor, Sprite]] = []
        walled = self._portal is None
        for index, actor in enumerate(actors):
            if self._portal is not None and not walled and actor.z <= PORTAL_Z:
                walled = self._wall_off(self._portal, picture, owner)
            body = _body_of(actor)
            sprite = draw_body(body, (actor.x, actor.z, actor.heading), self._camera, self._light)
            if sprite is None:
                continue
            if self._portal is not None:
                sprite = darkened(sprite, actor.z)
            paste(picture, sprite)
            rows, columns = sprite.coverage.shape
            area = owner[sprite.y : sprite.y + rows, sprite.x : sprite.x + columns]
            free = area < 0
            area[(sprite.coverage >= _COVERS) | (free & (sprite.coverage >= _SEEN))] = index
            if self._portal is None or daylight(actor.z) >= SEEN:
                drawn.append((index, actor, sprite))
        if self._portal is not None and not walled:
            self._wall_off(self._portal, picture, owner)
        found = (_true_object(index, actor, sprite, owner) for index, actor, sprite in drawn)
        return tuple(item for item in found if item is not None)

    @staticmethod
    def _wall_off(portal: Portal, picture: Image, owner: npt.NDArray[np.int16]) -> bool:
        """Draw the tunnel's wall over what is inside; it hides what it covers."""
        paste(picture, portal.wall)
        owner[portal.wall.coverage >= _COVERS] = -1
        return True

    def _cast_shadows(self, picture: Image, actors: list[Actor], time: float) -> None:
        """Darkens the ground beside and under everybody; the sun's part follows the passing clouds."""
        shade = np.zeros((self.height, self.width), np.uint8)
        sunny = self._light.strength * (0.75 + 0.25 * math.sin(time * 2 * math.pi / 37.0 + self._phase))
        hulls = []
        for actor in actors:
            place = (actor.x, actor.z, actor.heading)
            pair = ground_shadows(_body_of(actor), place, self._light.sun, self._camera)
            if pair is not None:
                hulls.append(pair)
        for cast, _ in hulls:
            cv2.fillConvexPoly(shade, cast, (150.0 * sunny,))
        for _, below in hulls:
            cv2.fillConvexPoly(shade, below, (165.0,))
        lit = 255 - np.asarray(cv2.blur(shade, (5, 5)), dtype=np.uint8)
        through = cv2.cvtColor(lit, cv2.COLOR_GRAY2RGB)
        cv2.multiply(picture, through, dst=picture, scale=1 / 255)

    def _expose(self, picture: Image, seq: int, time: float) -> Image:
        """Slow drift of the light, the camera's tone curve and the sensor's noise."""
        gain = 1.0 + 0.06 * math.sin(time * 2 * math.pi / 83.0 + self._phase)
        gain += 0.025 * math.sin(time * 2 * math.pi / 29.0 + 2 * self._phase)
        gain *= _cloud(time) if self._cloudy else 1.0
        warm = 0.015 * math.sin(time * 2 * math.pi / 61.0 + self._phase)
        channels = self._tint * gain * np.array([1 + warm, 1.0, 1 - warm])
        levels = np.arange(256)[:, None] / 255 * channels
        curve = 255 * np.clip(levels, 0, 1.4) / (1 + 0.25 * np.maximum(levels - 0.75, 0))
        table = np.clip(np.round(curve), 0, 255).astype(np.uint8)[:, None, :]
        exposed = cv2.LUT(picture, table)
        rng = np.random.default_rng((self.seed, 11, seq))
        top, left = int(rng.integers(64)), int(rng.integers(64))
        noise = self._noise[top : top + self.height, left : left + self.width]
        if rng.random() < 0.5:
            noise = noise[:, ::-1]
        return np.asarray(cv2.add(exposed, np.ascontiguousarray(noise), dtype=cv2.CV_8U), dtype=np.uint8)


def _cloud(time: float) -> float:
    """What clouds leave of the light: they come every 12 seconds, stay for 5, and take half a second to do so."""
    since = time % 12.0
    covered = min(max((since - 3.0) / 0.5, 0.0), 1.0) - min(max((since - 8.0) / 0.5, 0.0), 1.0)
    return 1.0 - 0.34 * covered


def _check(name: str, size: tuple[int, int], rates: tuple[float, float | None], seed: int) -> None:
    width, height = size
    fps, duration_s = rates
    where = f"simulated camera {name}"
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise InputError(f"{where}: {width}x{height} pixels cannot be rendered; use 1 to {_MAX_SIDE} a side")
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{where}: {fps} frames a second cannot be rendered; use a number above 0")
    if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
        raise InputError(f"{where}: it cannot run for {duration_s} seconds; use a number above 0")
    if seed < 0:
        raise InputError(f"{where}: seed {seed} is negative; use 0 or more")


def _mount(width: int, height: int, rng: np.random.Generator) -> Pinhole:
    """Hangs the camera on a mast at the left of the road, looking along it and down."""
    focal = max(width, height * 1.6) * float(rng.uniform(0.86, 1.0))
    return Pinhole(
        width=width,
        height_px=height,
        focal=focal,
        x=float(rng.uniform(-7.0, -2.5)),
        height=float(rng.uniform(5.2, 7.0)),
        z=0.0,
        yaw=float(rng.uniform(0.06, 0.16)),
        pitch=float(rng.uniform(0.15, 0.2)),
    )


def _sunlight(rng: np.random.Generator) -> Light:
    sun = np.array([rng.uniform(-0.7, 0.1), 0.9, rng.uniform(-0.7, -0.25)])
    haze = np.array([200.0, 208, 216]) + rng.uniform(-8, 8)
    return Light(sun / np.linalg.norm(sun), float(rng.uniform(0.65, 1.0)), haze, float(rng.uniform(420, 900)))


def _noise_bank(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.int16]:
    """Sensor noise, larger than the picture so that every frame can take another part of it."""
    grey = rng.normal(0, 1.5, (height + 64, width + 64, 1))
    colour = rng.normal(0, 1.1, (height + 64, width + 64, 3))
    return np.round(grey + colour).astype(np.int16)


def _body_of(actor: Actor) -> Body:
    if actor.kind in ("person", "bicycle"):
        stride = 1.45 if actor.kind == "person" else 5.0
        phase = int(actor.travelled / stride * figures.PHASES) % figures.PHASES
        return _body(actor.kind, actor.look, phase)
    return _body(actor.kind, actor.look, 0)


@functools.lru_cache(maxsize=2048)
def _body(kind: str, look: int, phase: int) -> Body:
    if kind == "person":
        return figures.walker(look, phase)
    if kind == "bicycle":
        return figures.bicycle(look, phase)
    return figures.motorcycle(look) if kind == "motorcycle" else _vehicle(kind, look)


def _vehicle(kind: str, look: int) -> Body:
    rng = np.random.default_rng(look)
    paint = vehicles.PAINTS[rng.integers(len(vehicles.PAINTS))]
    if kind == "bus":
        return vehicles.bus(paint)
    if kind == "truck":
        boxes = ((232, 232, 228), (206, 208, 212), paint, (60, 96, 150))
        return vehicles.truck(paint, boxes[rng.integers(len(boxes))])
    if kind == "van":
        return vehicles.van(paint, bool(rng.random() < 0.4))
    return vehicles.car(paint, int(rng.integers(3)))


def _far_to_near(actors: list[Actor], camera: Pinhole) -> list[Actor]:
    """Painting order: who can be hidden comes before who can hide."""

    def extent(actor: Actor) -> tuple[float, float, float, float]:
        length = LENGTHS[actor.kind] / 2
        half = {"person": 0.3, "bicycle": 0.35, "motorcycle": 0.4}.get(actor.kind, 1.0)
        along = abs(math.cos(actor.heading)) * length + abs(math.sin(actor.heading)) * half
        aside = abs(math.sin(actor.heading)) * length + abs(math.cos(actor.heading)) * half
        return actor.x - aside, actor.x + aside, actor.z - along, actor.z + along

    def before(first: Actor, second: Actor) -> int:
        left0, right0, near0, far0 = extent(first)
        left1, right1, near1, far1 = extent(second)
        if near0 >= far1 or near1 >= far0:
            return _sign(second.z - first.z)
        if left0 >= right1 or left1 >= right0:
            return _sign(abs(second.x - camera.x) - abs(first.x - camera.x))
        return _sign(second.z - first.z)

    ordered = sorted(actors, key=lambda actor: (-actor.z, actor.track))
    return sorted(ordered, key=functools.cmp_to_key(before))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _true_object(index: int, actor: Actor, sprite: Sprite, owner: npt.NDArray[np.int16]) -> TrueObject | None:
    rows, columns = sprite.coverage.shape
    mine = owner[sprite.y : sprite.y + rows, sprite.x : sprite.x + columns] == index
    count = int(np.count_nonzero(mine))
    if count < MIN_PIXELS:
        return None
    across, down = np.flatnonzero(mine.any(axis=0)), np.flatnonzero(mine.any(axis=1))
    box = Box(
        float(sprite.x + across[0]),
        float(sprite.y + down[0]),
        float(sprite.x + across[-1] + 1),
        float(sprite.y + down[-1] + 1),
    )
    drawn = int(np.count_nonzero(sprite.coverage >= _SEEN))
    return TrueObject(actor.track, actor.kind, box, min(1.0, count / drawn) * sprite.inside)
