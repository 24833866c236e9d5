"""Training examples of atoms with what their decoder already knows of the place.

Kinds (as in `codec.scales`): 0, part of a still frame, nothing known; 1, a track's key, the plate is known;
2, a refresh, an earlier look at the object pasted on the plate is known. Scenes are the first halves of clips
of fixed cameras and simulated streets; their plates are temporal medians, and their small objects are sampled
finer than the picture (`records.Atom.zoom`). Photographs give keys as well: one
is the plate, a soft ellipse of another the object; and the vehicles cut out of them (`cutouts`) keys and refreshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.scales import KEY, REFRESH, STILL
from discover_stream.training.autoencoders import Autoencoder, encode, latent_channels
from discover_stream.training.compute import bf16_on_cpu
from discover_stream.training.cutouts import load_cutouts, place
from discover_stream.training.data import TRAIN_CLIPS, CropSampler, clip_first_half, load_pictures
from discover_stream.training.masks import random_mask
from discover_stream.types import CELL, Image
from discover_stream.video.simulate import SimulatedCamera

CROP = 192
CELLS = CROP // CELL
FRAMES_A_SECOND = 5
PLATE_FRAMES = 41
MOVING = 20.0
"""Blurred difference to the plate, in grey levels, from which on a pixel belongs to an object."""
KIND_SHARES = (0.35, 0.35, 0.30)
"""How often each kind is drawn, unless a configuration says otherwise."""

CUTOUT_SHARE = 0.45
"""Share of keys and refreshes that show a vehicle cut out of a photograph, where there are any."""

SMALL_OBJECT, LARGE_OBJECT = 48, 200
"""Shorter sides of objects, in pixels, below which atoms are sampled finer, and above which coarser."""

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """What a fixed camera saw, and its plate; pictures (H, W, 3) uint8 RGB."""

    frames: tuple[Image, ...]
    plate: Image


@dataclass(frozen=True)
class Examples:
    """A batch: pictures (B, 3, H, W) RGB 0..1, their z_c (B, L, H/8, W/8), reference latents of the same shape
    (zero for kind 0), masks (B, 1, H/16, W/16) of sent cells, kinds (B,), and tags where they were looked for."""

    pictures: Tensor
    latents: Tensor
    references: Tensor
    masks: Tensor
    kinds: Tensor
    texts: tuple[str, ...] = ()

    def on(self, device: torch.device) -> Examples:
        """The same on a device."""
        fields = (self.pictures, self.latents, self.references, self.masks, self.kinds)
        pictures, latents, references, masks, kinds = (field.to(device, non_blocking=True) for field in fields)
        return Examples(pictures, latents, references, masks, kinds, self.texts)


@dataclass(frozen=True)
class Sources:
    """Where examples come from: fixed cameras, the sampler of single pictures, and vehicles cut out of photographs."""

    scenes: tuple[Scene, ...]
    crops: CropSampler
    cutouts: tuple[Image, ...] = ()


def median_plate(frames: tuple[Image, ...]) -> Image:
    """The temporal median of at most `PLATE_FRAMES` frames, spread evenly."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), PLATE_FRAMES)).round().astype(int)
    stacked = np.stack([frames[index] for index in chosen])
    return np.asarray(np.median(stacked, axis=0), dtype=np.uint8)


def load_scenes(data: Path, *, simulated: int = 8, each: int = 30) -> Sources:
    """Scenes and single pictures of a data folder; see `training.data` for its layout."""
    found = []
    for name in TRAIN_CLIPS:
        path = data / "video" / name
        if path.exists():
            frames = tuple(clip_first_half(path, every=5))
            found.append(Scene(frames, median_plate(frames)))
    for seed in range(1000, 1000 + simulated):
        camera = SimulatedCamera(f"train-{seed}", seed=seed, fps=FRAMES_A_SECOND)
        frames = tuple(camera.render(index * 2)[0].image for index in range(each))
        found.append(Scene(frames, median_plate(frames)))
    pictures, weights = load_pictures(data)
    return Sources(tuple(found), CropSampler(pictures, weights, crop=CROP, seed=2), load_cutouts(data))


def difference(picture: Image, plate: Image) -> Field:
    """Blurred difference of two pictures, (H, W), the largest over the colours, in grey levels."""
    apart = cv2.absdiff(picture, plate).max(axis=2).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(apart, (0, 0), 2.0), dtype=np.float32)


def cell_mask(moving: npt.NDArray[np.bool_]) -> Field:
    """Cells (h, w) of which at least a twentieth belongs to an object, of a pixel mask (16h, 16w)."""
    rows, columns = moving.shape[0] // CELL, moving.shape[1] // CELL
    shares = moving.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
    return np.asarray(shares >= 0.05, dtype=np.float32)


SEARCH = 64
"""How far an object may have moved between two looks, in pixels."""


def object_at(moving: npt.NDArray[np.bool_], row: int, column: int) -> npt.NDArray[np.bool_]:
    """The connected part of what moves that holds a place, its gaps of a few pixels closed; (H, W)."""
    closed = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, parts = cv2.connectedComponents(closed)
    return np.asarray(parts == parts[row, column])


def shift_between(earlier: Image, later: Image, where: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Motion (dx, dy) in pixels of the object in `where`, from `earlier` to `later`, by template matching."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    height, width = where.shape
    y0, x0 = max(0, top - SEARCH), max(0, left - SEARCH)
    field = earlier[y0 : min(height, bottom + SEARCH), x0 : min(width, right + SEARCH)]
    scores = cv2.matchTemplate(field, later[top:bottom, left:right], cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(left - x0 - column), int(top - y0 - row)


def extent_of(thing: npt.NDArray[np.bool_]) -> int:
    """The shorter side of an object's box, in pixels; `thing` (H, W) is not empty."""
    rows, columns = np.flatnonzero(thing.any(axis=1)), np.flatnonzero(thing.any(axis=0))
    return int(min(rows[-1] - rows[0], columns[-1] - columns[0])) + 1


def sampled(picture: Image) -> Image:
    """A square cut of a picture as an atom of `CROP` samples a side sees it."""
    if picture.shape[0] == CROP:
        return np.ascontiguousarray(picture)
    how = cv2.INTER_AREA if picture.shape[0] > CROP else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (CROP, CROP), interpolation=how), dtype=np.uint8)


@dataclass(frozen=True)
class Example:
    """One crop: picture and reference (192, 192, 3) uint8 RGB (the reference None for kind 0), cells sent."""

    picture: Image
    reference: Image | None
    mask: Field
    kind: int


class ExampleMaker:
    """Draws examples; the same seed gives the same ones. `shares` says how often each kind is drawn."""

    def __init__(self, sources: Sources, seed: int, shares: Sequence[float] = KIND_SHARES) -> None:
        self._sources, self._shares = sources, np.asarray(shares) / sum(shares)
        self._random = np.random.default_rng(seed)

    def one(self) -> Example:
        """An example of a random kind."""
        kind = int(self._random.choice(3, p=self._shares))
        if kind != STILL and self._sources.cutouts and self._random.random() < CUTOUT_SHARE:
            return self._cut_out(kind)
        if kind != STILL:
            made = self._pasted() if kind == KEY and self._random.random() < 0.4 else self._moving(kind)
            if made is not None:
                return made
        return Example(self._sources.crops.one(), None, random_mask(self._random, CELLS), STILL)

    def _cut_out(self, kind: int) -> Example:
        """A vehicle of a photograph on a street's plate or on another picture, some of them sampled finer."""
        side = CROP if self._random.random() < 0.6 else CROP // 2
        plate = self._sources.crops.one()
        if self._random.random() < 0.6:
            plate = self._sources.scenes[int(self._random.integers(len(self._sources.scenes)))].plate
        height, width = plate.shape[:2]
        top, left = (int(self._random.integers(0, edge - side + 1)) for edge in (height, width))
        under = plate[top : top + side, left : left + side]
        placed = place(self._random, under, self._sources.cutouts)
        known = under if kind == KEY else placed.remembered
        mask = cell_mask(cv2.resize(placed.where, (CROP, CROP)) > 0.3)
        return Example(sampled(placed.picture), self._worn(sampled(known)), mask, kind)

    def _pasted(self) -> Example:
        """A soft ellipse of one picture on another."""
        plate, other = self._sources.crops.one(), self._sources.crops.one()
        rows, columns = np.mgrid[0:CROP, 0:CROP].astype(np.float32)
        middle = self._random.uniform(48, CROP - 48, 2)
        radius = self._random.uniform(14, 70, 2)
        distance = np.hypot((rows - middle[0]) / radius[0], (columns - middle[1]) / radius[1])
        soft = np.clip((1.0 - distance) * 6 + 0.5, 0, 1)[:, :, None]
        mixed = plate * (1 - soft) + other * soft
        return Example(mixed.round().astype(np.uint8), plate, cell_mask(soft[:, :, 0] > 0.3), KEY)

    def _moving(self, kind: int) -> Example | None:
        """Something that differs from its scene's plate; None where this draw met nothing."""
        scene = self._sources.scenes[int(self._random.integers(len(self._sources.scenes)))]
        height, width = scene.plate.shape[:2]
        now = int(self._random.integers(2, len(scene.frames)))
        picture = scene.frames[now]
        moving = difference(picture, scene.plate) > MOVING
        places = np.argwhere(moving)
        if len(places) < 60:
            return None
        row, column = places[int(self._random.integers(len(places)))]
        thing = object_at(moving, int(row), int(column))
        side = self._side(thing)
        centre = np.array([row, column]) + self._random.integers(-side // 5, side // 5 + 1, 2)
        top = int(np.clip(centre[0] - side // 2, 0, height - side))
        left = int(np.clip(centre[1] - side // 2, 0, width - side))
        cut = (slice(top, top + side), slice(left, left + side))
        mask = cell_mask(cv2.resize(thing[cut].astype(np.uint8), (CROP, CROP), interpolation=cv2.INTER_NEAREST) > 0)
        if not mask.any():
            return None
        known = scene.plate
        if kind == REFRESH:
            known = self._remembered(scene, now, thing)
            left_open = difference(picture, known)[thing].mean()
            if left_open > 0.8 * difference(picture, scene.plate)[thing].mean():
                known, kind = scene.plate, KEY  # a memory that tells less than the plate is not used
        return Example(sampled(picture[cut]), self._worn(sampled(known[cut])), mask, kind)

    def _side(self, thing: npt.NDArray[np.bool_]) -> int:
        """Pixels a side of the cut around an object: atoms of small ones are sampled finer, of large ones coarser."""
        extent, draw = extent_of(thing), self._random.random()
        if extent < SMALL_OBJECT:
            return CROP // 4 if draw < 0.15 and extent < SMALL_OBJECT / 2 else CROP // 2 if draw < 0.75 else CROP
        fits = min(thing.shape) >= 2 * CROP
        return 2 * CROP if extent > LARGE_OBJECT and fits and draw < 0.4 else CROP

    def _remembered(self, scene: Scene, now: int, thing: npt.NDArray[np.bool_]) -> Image:
        """The plate with an earlier look at an object, moved to where it is now (nearly)."""
        earlier = scene.frames[max(0, now - int(self._random.integers(1, 6)))]
        dx, dy = shift_between(earlier, scene.frames[now], thing)
        jitter = self._random.normal(0, 0.7, 2)
        matrix = np.array([[1, 0, dx + jitter[0]], [0, 1, dy + jitter[1]]], dtype=np.float32)
        height, width = thing.shape
        warped = np.asarray(cv2.warpAffine(earlier, matrix, (width, height)), dtype=np.uint8)
        was = (difference(warped, scene.plate) > MOVING) & (cv2.dilate(thing.astype(np.uint8), np.ones((9, 9))) > 0)
        soft = cv2.GaussianBlur(was.astype(np.float32), (0, 0), 1.5)[:, :, None]
        return np.asarray((scene.plate * (1 - soft) + warped * soft).round(), dtype=np.uint8)

    def _worn(self, reference: Image) -> Image:
        """As a decoder has it: sometimes with the damage of coarse coding."""
        if self._random.random() < 0.5:
            return np.ascontiguousarray(reference)
        quality = int(self._random.integers(20, 70))
        coded = cv2.imencode(".jpg", reference, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


class PairBank:
    """Examples with their latents computed once: the VAE is frozen, so its encoder need not run again.

    `texts` are the tags of each, or none; who needs them fills them in.
    """

    def __init__(
        self, sources: Sources, vae: Autoencoder, count: int, seed: int, shares: Sequence[float] = KIND_SHARES
    ) -> None:
        maker = ExampleMaker(sources, seed, shares)
        side = CROP // 8
        self.texts: list[str] = []
        self.pictures = torch.empty(count, 3, CROP, CROP, dtype=torch.uint8)
        self.latents = torch.empty(count, latent_channels(vae), side, side, dtype=torch.bfloat16)
        self.references = torch.zeros_like(self.latents)
        self.masks = torch.empty(count, CELLS, CELLS)
        self.kinds = torch.empty(count, dtype=torch.long)
        for index in range(count):
            example = maker.one()
            self.pictures[index] = torch.from_numpy(example.picture.copy()).permute(2, 0, 1)
            self.masks[index] = torch.from_numpy(example.mask)
            self.kinds[index] = example.kind
            self.latents[index] = latent_of(vae, example.picture)
            if example.reference is not None:
                self.references[index] = latent_of(vae, example.reference)

    def draw(self, random: np.random.Generator, side: int, count: int) -> Examples:
        """`count` examples of `side` x `side` pixels (a multiple of 64, at most 192), cut around sent cells."""
        cells = side // CELL
        chosen = random.integers(0, len(self.pictures), count)
        corners = [self._corner(random, int(index), cells) for index in chosen]

        def cut(stored: Tensor, scale: int) -> Tensor:
            parts = [
                stored[index, ..., top * scale : (top + cells) * scale, left * scale : (left + cells) * scale]
                for index, (top, left) in zip(chosen, corners, strict=True)
            ]
            return torch.stack(parts).float()

        references = cut(self.references, 2)
        kinds = self.kinds[torch.from_numpy(chosen)]
        noise = torch.from_numpy(random.uniform(0, 0.12, (count, 1, 1, 1))).float() * torch.randn_like(references)
        masks = cut(self.masks, 1)[:, None]
        return Examples(
            cut(self.pictures, CELL).div_(255).contiguous(memory_format=torch.channels_last),
            cut(self.latents, 2),
            references + noise * (kinds > 0).view(-1, 1, 1, 1),
            masks,
            kinds,
            tuple(self.texts[int(index)] for index in chosen) if self.texts else (),
        )

    def _corner(self, random: np.random.Generator, index: int, cells: int) -> tuple[int, int]:
        """Upper left cell of a square that holds a sent cell."""
        sent = torch.argwhere(self.masks[index] > 0).numpy()
        row, column = sent[int(random.integers(len(sent)))] - random.integers(0, cells, 2)
        return int(np.clip(row, 0, CELLS - cells)), int(np.clip(column, 0, CELLS - cells))


def latent_of(vae: Autoencoder, picture: Image) -> Tensor:
    """z_c (L, H/8, W/8) of a picture (H, W, 3), kept in bfloat16."""
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float().div_(255)
    with torch.no_grad(), bf16_on_cpu():
        latent: Tensor = encode(vae, tensor.contiguous(memory_format=torch.channels_last))
    return latent[0].to(torch.bfloat16)
