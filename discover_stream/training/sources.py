"""Where the examples of joint stages come from: crops drawn afresh, or a bank of crops with references.

A source looks for objects in its pictures, once per picture: their names are the tags that the prior is shown, and
their boxes are the masks of the papers' recipe, in which a task's latent is what its labels' boxes cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from torch import Tensor

from discover_stream.codec.scales import STILL
from discover_stream.semantics.detector import CLASSES, DetectOptions, detect
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.training.autoencoders import Autoencoder, encode
from discover_stream.training.compute import Compute
from discover_stream.training.data import CropSampler
from discover_stream.training.masks import random_mask
from discover_stream.training.pairs import CELLS, Examples, PairBank
from discover_stream.types import CELL, Image, InputError

Masks = Literal["whole", "paper", "ours"]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TRIES = 100


class Crops(Protocol):
    """Draws crops; see `data.CropSampler`."""

    crop: int
    random: np.random.Generator

    def batch(self, count: int) -> Tensor:
        """(count, 3, crop, crop), RGB in 0..1."""
        ...


class FolderSampler:
    """Draws crops from the pictures below a folder, however many: each is opened when it is drawn.

    Pictures of which a side is shorter than the crop are passed over.

    Raises:
        InputError: the folder holds no pictures.
    """

    def __init__(self, folder: Path, crop: int, seed: int) -> None:
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise InputError(f"{folder}: no pictures below it ({', '.join(SUFFIXES)}); name a folder with some")
        self.folder, self.crop = folder, crop
        self.random = np.random.default_rng(seed)

    def one(self) -> Image:
        """One crop, (crop, crop, 3) uint8 RGB. Raises InputError where pictures are too small or damaged."""
        for _ in range(TRIES):
            path = self.files[int(self.random.integers(len(self.files)))]
            try:
                with PillowImage.open(path) as opened:
                    if min(opened.size) < self.crop:
                        continue
                    picture = np.asarray(opened.convert("RGB"))
            except (OSError, UnidentifiedImageError):
                continue
            return CropSampler([picture], [1.0], self.crop, int(self.random.integers(2**31))).one()
        raise InputError(f"{self.folder}: of {TRIES} pictures drawn none is readable and {self.crop} pixels a side")

    def batch(self, count: int) -> Tensor:
        """`count` crops as a float tensor (count, 3, crop, crop), RGB in 0..1."""
        stacked = np.stack([self.one() for _ in range(count)])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(255)


@dataclass(frozen=True)
class Seen:
    """What a detector found in a picture: tags, and boxes (n, 4) in pixels with their classes (n,)."""

    text: str
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


class Looker:
    """The shipped grounder, looking at training pictures."""

    def __init__(self) -> None:
        self._network, self._options = NanoGrounder.load().network, DetectOptions()

    def look(self, pictures: Tensor) -> list[Seen]:
        """What is in pictures (n, 3, H, W) uint8; tags in the order of the grounder's classes."""
        seen = []
        for picture in pictures:
            (found,) = detect(self._network, [picture.permute(1, 2, 0).contiguous().numpy()], self._options)
            present = set(found.classes.tolist())
            text = ", ".join(name for index, name in enumerate(CLASSES) if index in present)
            seen.append(Seen(text, np.asarray(found.boxes, np.float32), np.asarray(found.classes)))
        return seen


def mask_of(scheme: Masks, random: np.random.Generator, cells: int, seen: Seen | None) -> npt.NDArray[np.float32]:
    """Which cells (cells, cells) of a still picture are sent.

    Args:
        scheme: `whole`: all. `ours`: boxes as tasks have them, or all but them; 0 to 99 % are missing. `paper`: those
            under the boxes of some of the classes that were found, a task's labels; all where nothing was.
        random: what is drawn.
        cells: a side.
        seen: what was found, for `paper`.
    """
    if scheme == "ours":
        return random_mask(random, cells)
    mask = np.zeros((cells, cells), np.float32)
    if scheme == "paper" and seen is not None and len(seen.boxes):
        present = np.unique(seen.classes)
        chosen = random.permutation(present)[: int(random.integers(1, len(present) + 1))]
        for x0, y0, x1, y1 in seen.boxes[np.isin(seen.classes, chosen)] / CELL:
            mask[int(max(0, y0)) : int(np.ceil(y1)), int(max(0, x0)) : int(np.ceil(x1))] = 1
    return mask if mask.any() else np.ones_like(mask)


class Source(Protocol):
    """Draws batches for a joint stage."""

    generators: Sequence[np.random.Generator]

    def draw(self, random: np.random.Generator, side: int, count: int) -> Examples:
        """`count` examples of `side` x `side` pixels, with their tags."""
        ...


class FreshSource:
    """Crops drawn afresh, all of them still pictures without a reference; see `Source`.

    Args:
        crops: where they come from; at least as large as any `side`.
        vae: on the run's device.
        masks: see `mask_of`.
        compute: where latents are computed.
        look: whether tags are looked for.
    """

    def __init__(self, crops: Crops, vae: Autoencoder, masks: Masks, compute: Compute, *, look: bool) -> None:
        self._crops, self._vae, self._masks, self._compute = crops, vae, masks, compute
        self._looker = Looker() if look or masks == "paper" else None
        self.generators: Sequence[np.random.Generator] = (crops.random,)

    def draw(self, random: np.random.Generator, side: int, count: int) -> Examples:
        """See `Source.draw`."""
        pictures = self._crops.batch(count)
        top, left = random.integers(0, self._crops.crop - side + 1, 2)
        pictures = pictures[:, :, top : top + side, left : left + side].contiguous(memory_format=torch.channels_last)
        seen = None if self._looker is None else self._looker.look((pictures * 255).round().to(torch.uint8))
        looked = [None] * count if seen is None else seen
        masks = [mask_of(self._masks, random, side // CELL, one) for one in looked]
        placed = self._compute.place(pictures)
        with torch.no_grad(), self._compute.autocast():
            latents = encode(self._vae, placed).float()
        kinds = torch.full((count,), STILL, dtype=torch.long)
        return Examples(
            placed,
            latents,
            torch.zeros_like(latents),
            torch.from_numpy(np.stack(masks))[:, None],
            kinds,
            () if seen is None else tuple(one.text for one in seen),
        ).on(self._compute.device)


class BankSource:
    """Crops with references from a bank; see `Source`."""

    def __init__(
        self, bank: PairBank, masks: Masks, random: np.random.Generator, compute: Compute, *, look: bool
    ) -> None:
        self._bank, self._compute = bank, compute
        self.generators: Sequence[np.random.Generator] = ()
        looker = Looker() if look or masks == "paper" else None
        seen = [] if looker is None else looker.look(bank.pictures)
        bank.texts = [one.text for one in seen]
        if masks != "ours":  # the bank's own
            for index in torch.argwhere(bank.kinds == STILL).flatten().tolist():
                found = seen[index] if seen else None
                bank.masks[index] = torch.from_numpy(mask_of(masks, random, CELLS, found))

    def draw(self, random: np.random.Generator, side: int, count: int) -> Examples:
        """See `Source.draw`."""
        return self._bank.draw(random, side, count).on(self._compute.device)
