"""Training pictures: crops from the clips and photographs that may shape shipped weights.

Layout of the data folder: see `docs/training.md`. Clips give their *first halves* only, so that
their second halves stay unseen for reports.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from discover_stream.types import Image, InputError
from discover_stream.video.simulate import SimulatedCamera

TRAIN_CLIPS = ("carpark.mp4", "suburb.mp4", "topdown.mp4", "motorway_fog.mp4")
"""Clips whose licence lets them shape shipped weights."""

PHOTOGRAPH_FOLDERS = ("vehicles/images", "natural")


def clip_first_half(path: Path, every: int) -> list[Image]:
    """Every `every`-th frame of the first half of a clip, (H, W, 3) uint8 RGB each."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.duration is None or stream.time_base is None:
            raise InputError(f"{path}: the container states no duration; remux the clip first")
        half = float(stream.duration * stream.time_base) / 2
        pictures = []
        for index, frame in enumerate(container.decode(stream)):
            if frame.time is not None and frame.time >= half:
                break
            if index % every == 0:
                pictures.append(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False))
    return pictures


def photographs(folder: Path, longest: int) -> list[Image]:
    """All JPEG and PNG pictures of a folder, shrunk so that no side exceeds `longest` pixels."""
    pictures = []
    for path in sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]):
        with PillowImage.open(path) as picture:
            rgb = picture.convert("RGB")
            rgb.thumbnail((longest, longest), PillowImage.Resampling.LANCZOS)
            pictures.append(np.asarray(rgb))
    return pictures


def simulated_pictures(scenes: int, each: int) -> list[Image]:
    """Pictures of simulated streets, seeds from 1000 on: lower seeds are for demos and reports."""
    pictures = []
    for seed in range(1000, 1000 + scenes):
        camera = SimulatedCamera(f"train-{seed}", seed=seed)
        pictures += [camera.render(index * 70)[0].image for index in range(each)]
    return pictures


def load_pictures(data: Path, *, every: int = 8, longest: int = 512) -> tuple[list[Image], list[float]]:
    """All training pictures and their sampling weights.

    Clips, photographs and simulated streets are drawn 40, 35 and 25 times in a hundred, however many
    pictures there are of each.

    Raises:
        InputError: the data folder lacks clips or photographs.
    """
    clips: list[Image] = []
    for name in TRAIN_CLIPS:
        path = data / "video" / name
        if path.exists():
            clips += clip_first_half(path, every)
    photos: list[Image] = []
    for name in PHOTOGRAPH_FOLDERS:
        photos += photographs(data / name, longest)
    if not clips or not photos:
        raise InputError(f"{data}: no training clips or photographs found; see docs/training.md for the layout")
    simulated = simulated_pictures(scenes=10, each=6)
    weights = []
    for share, pictures in ((0.40, clips), (0.35, photos), (0.25, simulated)):
        weights += [share / len(pictures)] * len(pictures)
    return clips + photos + simulated, weights


class CropSampler:
    """Draws random crops with flips, brightness and scale changes; the same seed gives the same crops."""

    def __init__(self, pictures: list[Image], weights: list[float], crop: int, seed: int) -> None:
        self.pictures = [p for p in pictures if min(p.shape[:2]) >= crop]
        kept = [w for p, w in zip(pictures, weights, strict=True) if min(p.shape[:2]) >= crop]
        if not self.pictures:
            raise InputError(f"no training picture is at least {crop} pixels high and wide")
        self.weights = np.asarray(kept) / sum(kept)
        self.crop = crop
        self.random = np.random.default_rng(seed)

    def one(self) -> Image:
        """One crop, (crop, crop, 3) uint8 RGB."""
        picture = self.pictures[self.random.choice(len(self.pictures), p=self.weights)]
        height, width = picture.shape[:2]
        # A third of the crops are taken larger and shrunk: finer detail than the data holds by itself.
        largest = min(height, width)
        size = self.crop if self.random.random() < 2 / 3 else int(self.random.integers(self.crop, largest + 1))
        top = int(self.random.integers(0, height - size + 1))
        left = int(self.random.integers(0, width - size + 1))
        crop = picture[top : top + size, left : left + size]
        if size != self.crop:
            shrunk = PillowImage.fromarray(crop).resize((self.crop, self.crop), PillowImage.Resampling.BOX)
            crop = np.asarray(shrunk)
        if self.random.random() < 0.5:
            crop = crop[:, ::-1]
        if self.random.random() < 0.3:
            gain = self.random.uniform(0.6, 1.2)
            crop = np.clip(crop * gain, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(crop)

    def batch(self, count: int) -> Tensor:
        """`count` crops as a float tensor (count, 3, crop, crop), RGB in 0..1."""
        stacked = np.stack([self.one() for _ in range(count)])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(255)
