"""The still part of the simulated scene: sky, ground, houses and trees, painted once per camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.types import Image
from discover_stream.video.geometry import NEAR, Floats, Pinhole
from discover_stream.video.raster import Light
from discover_stream.video.traffic import BAY_RIGHT, CROSSWALK_Z, ROAD_LEFT, ROAD_RIGHT

_LARGE = 2_000_000
"""Pictures of fewer pixels than this are painted at twice their size and reduced, for smooth edges."""

HOUSE_X = 16.0
WALLS = ((176, 120, 96), (204, 190, 164), (150, 142, 136), (188, 164, 128), (134, 86, 72), (214, 208, 198))
_LANE_LINES = (-4.0, 4.0)

Mask = npt.NDArray[np.float32]

Tree = tuple[float, float, float]
"""A street tree: x, z and height in metres."""


@dataclass(frozen=True)
class _Ground:
    """World coordinates of every ground pixel, (H, W) each; `seen` is 0 above the horizon."""

    x: Mask
    z: Mask
    seen: Mask


def paint_backdrop(camera: Pinhole, light: Light, seed: int) -> Image:
    """The empty scene as seen by the camera, (H, W, 3)."""
    rng = np.random.default_rng((seed, 77))
    scale = 2 if camera.width * camera.height_px < _LARGE else 1
    large = Pinhole(
        camera.width * scale,
        camera.height_px * scale,
        camera.focal * scale,
        camera.x,
        camera.height,
        camera.z,
        camera.yaw,
        camera.pitch,
    )
    sky = _sky(large, light, rng)
    ground = _ground(large)
    seen: Floats = ground.seen[..., None].astype(np.float64)
    trees = _tree_positions(rng)
    picture = sky * (1 - seen) + _paint_ground(ground, light, rng, trees) * seen
    canvas = _bytes(picture)
    _houses_and_trees(canvas, large, light, (rng, trees))
    return np.asarray(
        cv2.resize(canvas, (camera.width, camera.height_px), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def value_noise(rng: np.random.Generator, size: int, octaves: int) -> Mask:
    """Smooth noise that tiles nowhere, (size, size), mean 0 and about -1..1."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = max(2, size >> (octaves - octave))
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / (1.3 ** (octave + 1))
    return total


def _bytes(colours: Floats) -> Image:
    return np.asarray(np.clip(colours, 0, 255).astype(np.uint8))


def _resized(values: Mask, width: int, height: int) -> Mask:
    grown = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, dtype=np.float32)


def _sky(camera: Pinhole, light: Light, rng: np.random.Generator) -> Floats:
    rows = np.linspace(0, 1, camera.height_px)[:, None, None]
    top, low = np.array([112, 156, 206.0]), light.haze
    share = np.clip(rows * 2.6, 0, 1)
    sky = top * (1 - share) + low * share
    clouds = _resized(value_noise(rng, 512, 5), camera.width, camera.height_px)
    amount = np.clip(clouds * 0.7, 0, 0.7)[..., None]
    painted: Floats = sky * (1 - amount) + np.array([238.0, 240, 242]) * amount
    return painted


def _ground(camera: Pinhole) -> _Ground:
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height_px) + 0.5)
    x, z = camera.ground_under(np.column_stack([columns.ravel(), rows.ravel()]))
    shape = (camera.height_px, camera.width)
    seen = np.isfinite(z) & (z < 2000)
    x, z = np.where(seen, x, 0.0), np.where(seen, z, 0.0)
    return _Ground(
        x.reshape(shape).astype(np.float32),
        z.reshape(shape).astype(np.float32),
        seen.reshape(shape).astype(np.float32),
    )


def _sample(noise: Mask, ground: _Ground, metres: float) -> Mask:
    """Noise laid on the ground, one tile every `metres`, mirrored at its edges."""
    size = noise.shape[0] - 1
    u = np.abs((ground.x / metres + 512) % 2 - 1) * size
    v = np.abs((ground.z / metres) % 2 - 1) * size
    return np.asarray(cv2.remap(noise, u, v, cv2.INTER_LINEAR), dtype=np.float32)


def _band(values: Mask, low: float, high: float, blur: Mask) -> Mask:
    """1 inside low..high and 0 outside, softened over `blur` (what one pixel covers, metres)."""
    inside = np.minimum(values - low, high - values) / blur + 0.5
    return np.asarray(np.clip(inside, 0, 1), dtype=np.float32)


def _mix(under: Floats, colour: tuple[float, float, float], amount: Mask) -> Floats:
    mixed: Floats = under + (np.array(colour) - under) * amount[..., None]
    return mixed


def _paint_ground(ground: _Ground, light: Light, rng: np.random.Generator, trees: Sequence[Tree]) -> Floats:
    x, z = ground.x, ground.z
    per_pixel = np.clip(np.abs(np.gradient(z, axis=0)), 0.02, 50).astype(np.float32)
    per_column = np.clip(np.abs(np.gradient(x, axis=1)), 0.01, 5).astype(np.float32)
    coarse, fine = value_noise(rng, 512, 6), rng.normal(0, 1, (512, 512)).astype(np.float32)
    patches, grain = _sample(coarse, ground, 26.0), _sample(fine, ground, 9.0)
    fade = np.clip(0.12 / per_pixel, 0, 1)

    picture: Floats = np.zeros((*x.shape, 3)) + np.array([104.0, 124, 74])
    picture += (patches * 9 + grain * 7 * fade)[..., None] * np.array([1.0, 1.0, 0.6])
    slabs = np.zeros_like(x) + 1.0
    pavement = _mix(picture * 0, (172, 168, 160), slabs) + (patches * 7 + grain * 4 * fade)[..., None]
    joints = np.maximum(_band((x + 100) % 0.9, 0, 0.05, per_column), _band(z % 0.9, 0, 0.05, per_pixel))
    pavement -= (joints * 26 * np.clip(0.3 / per_pixel, 0, 1))[..., None]
    on_pavement = np.maximum(
        _band(x, ROAD_LEFT - 4.6, ROAD_LEFT, per_column), _band(x, ROAD_RIGHT, BAY_RIGHT + 4.2, per_column)
    )
    picture = picture * (1 - on_pavement[..., None]) + pavement * on_pavement[..., None]
    asphalt = np.zeros_like(picture) + np.array([98.0, 99, 103])
    wear = np.zeros_like(x)
    for centre in (-6.4, -5.0, -3.0, -1.6, 1.6, 3.0, 5.0, 6.4):
        wear += np.exp(-(((x - centre) / 0.35) ** 2))
    asphalt += (patches * 7 + grain * 5.5 * fade - wear * 7)[..., None]
    on_road = _band(x, ROAD_LEFT, ROAD_RIGHT, per_column)
    picture = picture * (1 - on_road[..., None]) + asphalt * on_road[..., None]
    bay = _band(x, ROAD_RIGHT, BAY_RIGHT, per_column)
    picture = picture * (1 - bay[..., None]) + (asphalt * 0.9 + 10) * bay[..., None]
    picture = _markings(picture, ground, (per_column, per_pixel), patches)
    for edge in (ROAD_LEFT, BAY_RIGHT):
        picture = _mix(picture, (150, 148, 144), _band(x, edge - 0.12, edge + 0.12, per_column))
    picture = _tree_shade(picture, ground, light, (rng, trees))
    distance = np.hypot(x, z)
    return _mix(picture, tuple(light.haze), (1 - np.exp(-distance / light.reach)).astype(np.float32))


def _markings(picture: Floats, ground: _Ground, blur: tuple[Mask, Mask], patches: Mask) -> Floats:
    x, z = ground.x, ground.z
    across, along = blur
    clear_of_crossing = 1 - _band(z, CROSSWALK_Z - 3.4, CROSSWALK_Z + 3.4, along)
    lines = np.zeros_like(x)
    for centre in _LANE_LINES:
        dashes = _band(z % 9.0, 0.0, 3.2, along)
        lines = np.maximum(lines, _band(x, centre - 0.07, centre + 0.07, across) * dashes)
    for centre in (-0.16, 0.16, ROAD_LEFT + 0.9, ROAD_RIGHT - 0.9):
        lines = np.maximum(lines, _band(x, centre - 0.06, centre + 0.06, across))
    lines *= clear_of_crossing
    zebra = _band((x + 100) % 1.2, 0.3, 0.9, across) * _band(z, CROSSWALK_Z - 1.7, CROSSWALK_Z + 1.7, along)
    lines = np.maximum(lines, zebra * _band(x, ROAD_LEFT + 0.2, ROAD_RIGHT - 0.2, across))
    bays = _band((z + 2.0) % 7.5, 0.0, 0.12, along) * _band(x, ROAD_RIGHT + 0.2, BAY_RIGHT - 0.2, across)
    lines = np.maximum(lines, bays * (1 - _band(z, CROSSWALK_Z - 3.4, CROSSWALK_Z + 3.4, along)))
    worn = np.clip(0.82 - np.maximum(patches, 0) * 0.25, 0, 1).astype(np.float32)
    return _mix(picture, (222, 222, 216), lines * worn)


def _tree_positions(rng: np.random.Generator) -> list[Tree]:
    """(x, z, height) of street trees behind the pavements, metres."""
    trees = []
    for x in (-13.6, 14.8):
        for z in np.arange(12.0, 150.0, 13.0):
            if rng.random() < 0.78:
                position = (x + float(rng.uniform(-0.4, 0.4)), float(z + rng.uniform(-3, 3)), 6.5)
                trees.append(position)
    return trees


def _tree_shade(
    picture: Floats, ground: _Ground, light: Light, plan: tuple[np.random.Generator, Sequence[Tree]]
) -> Floats:
    rng, trees = plan
    # Drawn on a map of the ground, 5 points to the metre, and looked up for every pixel.
    xs, zs = np.meshgrid(np.arange(-30, 30, 0.2), np.arange(-5, 170, 0.2))
    shade = np.zeros(xs.shape, np.float32)
    drift = light.sun / light.sun[1]
    for x, z, height in trees:
        cx, cz = x - drift[0] * height * 0.7, z - drift[2] * height * 0.7
        for _ in range(7):
            dx, dz = rng.normal(0, 1.0, 2)
            rows = slice(*np.searchsorted(zs[:, 0], [cz + dz - 2, cz + dz + 2]))
            reach = ((xs[rows] - cx - dx) / 1.3) ** 2 + ((zs[rows] - cz - dz) / 1.3) ** 2
            shade[rows] = np.maximum(shade[rows], np.clip(1.4 - reach, 0, 1))
    seen = cv2.remap(shade, (ground.x + 30) * 5, (ground.z + 5) * 5, cv2.INTER_LINEAR)
    darker: Floats = picture * (1 - 0.32 * light.strength * np.asarray(seen)[..., None])
    return darker


def _houses_and_trees(
    canvas: Image, camera: Pinhole, light: Light, plan: tuple[np.random.Generator, Sequence[Tree]]
) -> None:
    """Paints rows of houses on both sides and street trees before them, far to near."""
    rng, trees = plan
    _skyline(canvas, camera, light, rng)
    houses: list[tuple[float, int, float, float, float]] = []
    for side in (-1, 1):
        z = 14.0
        while z < 170:
            depth = float(rng.uniform(11, 20))
            houses.append((z, side, depth, float(rng.uniform(7.5, 15)), float(rng.random())))
            z += depth + (float(rng.uniform(3, 9)) if rng.random() < 0.4 else 0.3)
    things: list[tuple[float, int, tuple[float, ...]]] = [(z, 0, (s, d, h, c)) for z, s, d, h, c in houses]
    things += [(z - 0.5, 1, (x, z, height)) for x, z, height in trees]
    for z, what, detail in sorted(things, key=lambda thing: -thing[0]):
        if what == 0:
            _house(canvas, camera, light, rng, (z, *detail))
        else:
            _tree(canvas, camera, light, rng, detail)


def _skyline(canvas: Image, camera: Pinhole, light: Light, rng: np.random.Generator) -> None:
    """A hazy row of trees on the horizon."""
    points = np.column_stack([np.arange(-600, 601, 4.0), np.zeros(301), np.full(301, 420.0)])
    points[:, 1] = 14 + np.cumsum(rng.normal(0, 0.8, 301)).clip(-6, 9) + rng.normal(0, 1.2, 301)
    outline = np.concatenate([points, np.array([[600.0, -2, 420], [-600.0, -2, 420]])])
    axes = camera.to_camera(outline)
    if float(axes[:, 2].min()) < NEAR:
        axes = axes[axes[:, 2] >= NEAR]
    colour = light.haze * 0.72 + np.array([20.0, 28, 14])
    pixels = np.round(camera.to_pixels(axes)).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], tuple(float(c) for c in colour), cv2.LINE_AA)


def _haze(colours: Floats, distance: float, light: Light) -> Floats:
    clear = np.exp(-distance / light.reach)
    hazy: Floats = colours * clear + light.haze * (1 - clear)
    return hazy


def _facade(rng: np.random.Generator, colour: Floats, size: tuple[float, float], shop: bool) -> Image:
    """A wall with windows, (H, W, 3), 24 pixels to the metre; `size` is (width, height) in metres."""
    width, height = int(size[0] * 24), int(size[1] * 24)
    wall = np.zeros((height, width, 3)) + colour
    wall += (_resized(value_noise(rng, 128, 5), width, height) * 7)[..., None]
    wall[::8] -= 6
    image = _bytes(wall)
    floors, bays = max(2, int(size[1] / 3)), max(2, int(size[0] / 2.6))
    floor_h, bay_w = height / floors, width / bays
    for floor in range(floors):
        top = int(height - (floor + 1) * floor_h)
        if floor == 0 and shop:
            cv2.rectangle(image, (8, top + 22), (width - 8, height - 10), (46, 52, 58), -1)
            sign = tuple(int(c) for c in rng.integers(60, 220, 3))
            cv2.rectangle(image, (4, top + 2), (width - 4, top + 20), sign, -1)
            continue
        for bay in range(bays):
            left = int((bay + 0.25) * bay_w)
            right, low, high = int((bay + 0.75) * bay_w), int(top + floor_h * 0.78), int(top + floor_h * 0.22)
            cv2.rectangle(image, (left - 3, high - 3), (right + 3, low + 4), (222, 218, 210), -1)
            tone = int(rng.integers(38, 110))
            cv2.rectangle(image, (left, high), (right, low), (tone, tone + 8, tone + 18), -1)
            cv2.line(image, ((left + right) // 2, high), ((left + right) // 2, low), (214, 210, 202), 2)
    return image


def _house(canvas: Image, camera: Pinhole, light: Light, rng: np.random.Generator, form: tuple[float, ...]) -> None:
    z, side, depth, height, pick = form
    colour = np.array(WALLS[int(pick * len(WALLS))], dtype=np.float64)
    x = side * HOUSE_X
    shop = rng.random() < 0.4
    along = [(x, z), (x, z + depth)] if side < 0 else [(x, z + depth), (x, z)]
    front = [(x, z), (x + side * 14, z)] if side > 0 else [(x + side * 14, z), (x, z)]
    for corners, size, tone, shops in ((along, depth, 0.98, shop), (front, 14.0, 0.74, False)):
        wall = np.array(
            [[corners[0][0], height, corners[0][1]], [corners[1][0], height, corners[1][1]],
             [corners[1][0], 0, corners[1][1]], [corners[0][0], 0, corners[0][1]]]
        )  # fmt: skip
        axes = camera.to_camera(wall)
        if float(axes[:, 2].min()) < NEAR:
            continue
        levels = np.arange(256.0)[:, None] * tone * np.ones(3)
        table = _bytes(_haze(levels, float(np.hypot(x, z)), light))[:, None]
        texture = np.asarray(cv2.LUT(_facade(rng, colour, (size, height), shops), table), dtype=np.uint8)
        _warp_onto(canvas, texture, camera.to_pixels(axes))


def _warp_onto(canvas: Image, texture: Image, corners: Floats) -> None:
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)) + 1, canvas.shape[1::-1]).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return
    height, width = texture.shape[:2]
    corners32 = (corners - np.array([x0, y0])).astype(np.float32)
    # Textures much finer than the picture would flicker from pixel to pixel: reduce them first.
    extent = max(8.0, float(np.ptp(corners32[:, 0])))
    if width > 2 * extent:
        width = int(extent * 1.5)
        reduced = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
        texture = np.asarray(reduced, dtype=np.uint8)
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(source, corners32)
    painted = cv2.warpPerspective(texture, warp, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round(corners32).astype(np.int32)], (255.0,))
    canvas[y0:y1, x0:x1][mask > 0] = painted[mask > 0]


def _tree(canvas: Image, camera: Pinhole, light: Light, rng: np.random.Generator, form: tuple[float, ...]) -> None:
    x, z, height = form
    foot, top = np.array([x, 0.0, z]), np.array([x, height * 0.62, z])
    axes = camera.to_camera(np.stack([foot, top]))
    if float(axes[:, 2].min()) < 2.0:
        return
    pixels = np.round(camera.to_pixels(axes)).astype(int)
    scale = camera.focal / float(axes[0, 2])
    distance = float(np.hypot(x, z))
    bark = tuple(float(c) for c in _haze(np.array([78.0, 64, 52]), distance, light))
    cv2.line(canvas, pixels[0].tolist(), pixels[1].tolist(), bark, max(1, int(0.3 * scale)), cv2.LINE_AA)
    green = np.array([70.0, 104, 46]) * rng.uniform(0.85, 1.15)
    leaves = rng.normal(0, 1, (170, 3)) * np.array([1.25, 1.15, 1.25])
    leaves = leaves[np.linalg.norm(leaves / np.array([1.25, 1.15, 1.25]), axis=1) < 2.1]
    order = np.argsort(leaves @ light.sun)
    for offset in leaves[order]:
        centre = camera.to_camera((np.array([x, height * 0.8, z]) + offset)[None])
        if float(centre[0, 2]) < 1.0:
            continue
        u, v = np.round(camera.to_pixels(centre)[0]).astype(int).tolist()
        tone = 0.78 + 0.16 * float(offset @ light.sun) + float(rng.uniform(-0.12, 0.12))
        colour = tuple(float(c) for c in np.clip(_haze(green * tone, distance, light), 0, 255))
        radius = max(1, int(scale * rng.uniform(0.22, 0.5)))
        cv2.circle(canvas, (u, v), radius, colour, -1, cv2.LINE_AA)
