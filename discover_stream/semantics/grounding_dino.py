"""Grounding DINO behind the `Grounder` interface: boxes for any words, on a GPU or, slowly, on a CPU.

Per picture the backbone runs once; then every caption of every label set is one pass through the rest of the network,
which answers with 900 boxes and a score of every caption token for each. A label's score for a box is the largest
over the label's tokens; the box gets the label that scores best. What several captions say of one object is merged by
non-maximum suppression within the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pictures
from torch import Tensor, nn
from torchvision.ops import nms  # type: ignore[import-untyped]

from discover_stream.semantics.grounding_dino_captions import Caption, CaptionPlan, Token, plan_captions
from discover_stream.semantics.grounding_dino_compat import Seen, ask, build_network, see
from discover_stream.semantics.grounding_dino_files import (
    find_files,
    load_tokenizer,
    load_weights,
    read_bert_config,
    read_settings,
)
from discover_stream.types import Box, Image, InputError, LabelSet, Region

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB values in 0..1: what the network was trained with."""

_STRIDES = (8, 16, 32, 64)

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class GroundingDinoOptions:
    """Where and how the network runs, and what counts as found.

    `device` is `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`. Pictures are scaled to `short_side`
    pixels, but not beyond `long_side`. `batch` pairs of a picture and a caption share a forward pass; None means 1
    on a CPU and 8 on a GPU. A box counts from `threshold` on; of two of a task that overlap by more than `iou`,
    the better one stays.
    """

    device: str = "auto"
    precision: Precision = "float32"
    batch: int | None = None
    short_side: int = 800
    long_side: int = 1333
    threshold: float = 0.35
    iou: float = 0.7
    limit: int = 300


class GroundingDino:
    """Grounding DINO as a `Grounder`; use `load` to get one.

    A task's regions do not depend on the other tasks, to the bit. With `batch` 1 they do not depend on the other
    pictures either; in larger batches these may move the last bits, as sums are then added up in another order.

    Args:
        network: groundingdino-py's, in eval mode.
        tokenizer: its fast tokenizer.
        options: where and how it runs.

    Raises:
        InputError: a device that is not there, or a precision that it lacks.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, options: GroundingDinoOptions | None = None) -> None:
        self.options = options or GroundingDinoOptions()
        self._device = _device(self.options.device)
        if self._device.type == "cpu" and self.options.precision == "float16":
            raise InputError("Grounding DINO: float16 needs a GPU; use bfloat16 or float32 on a CPU")
        self._network = network.to(self._device)
        self._tokenizer = tokenizer
        self._batch = self.options.batch or (1 if self._device.type == "cpu" else 8)
        self._plan = lru_cache(maxsize=256)(self._make_plan)

    @classmethod
    def load(cls, source: str | Path | None = None, options: GroundingDinoOptions | None = None) -> GroundingDino:
        """Load a model from a folder or the hub.

        Args:
            source: see `find_files`; None for the published Swin-T model.
            options: where and how it runs.

        Raises:
            InputError: files are missing, damaged or do not belong together; the message names the remedy.
        """
        options = options or GroundingDinoOptions()
        _device(options.device)  # said before much is fetched
        files = find_files(source)
        tokenizer = load_tokenizer(files.text)
        settings, bert = read_settings(files.settings), read_bert_config(files.text)
        try:
            network = build_network(settings, tokenizer, bert)
        except (AssertionError, AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"Grounding DINO: settings {files.settings or 'of the package'} and {files.text}: no network can be "
                f"made of them ({reason}); use the files that come with the weights"
            ) from error
        load_weights(network, files.weights)
        return cls(network, tokenizer, options)

    def ground(self, images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
        """Ground every label set in every picture; see `Grounder.ground`.

        Raises:
            InputError: two label sets of one task, or a label that no caption holds.
        """
        plans = {label_set.task: self._plan(label_set) for label_set in label_sets}
        if len(plans) != len(label_sets):
            raise InputError("two label sets of one task; ground one version of a task at a time")
        inputs = [prepare(image, self.options, self._queries) for image in images]
        answers: list[dict[str, tuple[Region, ...]]] = [{} for _ in images]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(inputs):
            shapes.setdefault(item.pixels.shape, []).append(index)
        for members in shapes.values():
            for start in range(0, len(members), self._batch):
                chosen = members[start : start + self._batch]
                seen = self._see([inputs[index] for index in chosen])
                for task, plan in plans.items():
                    for index, found in zip(chosen, self._ask(seen, len(chosen), plan), strict=True):
                        height, width = images[index].shape[:2]
                        answers[index][task] = regions_from(found, width, height, self.options)
        return answers

    def unsupported(self, label_set: LabelSet) -> tuple[str, ...]:
        """The labels that the vocabulary knows nothing of; see `Grounder.unsupported`."""
        return self._plan(label_set).unsupported

    def captions(self, label_set: LabelSet) -> tuple[Caption, ...]:
        """The captions that a label set is spread over."""
        return self._plan(label_set).captions

    @property
    def _queries(self) -> int:
        return int(self._network.num_queries)  # type: ignore[arg-type]

    def _make_plan(self, label_set: LabelSet) -> CaptionPlan:
        return plan_captions(label_set, self._encode, int(self._network.max_text_len))  # type: ignore[arg-type]

    def _encode(self, text: str) -> list[Token]:
        found = self._tokenizer(text, return_offsets_mapping=True)
        unknown = self._tokenizer.unk_token_id
        pairs = zip(found["offset_mapping"], found["input_ids"], strict=True)
        return [Token(start, end, token != unknown) for (start, end), token in pairs]

    @torch.inference_mode()
    def _see(self, items: Sequence[Prepared]) -> Seen:
        pixels = torch.stack([item.pixels for item in items]).to(self._device)
        outside = torch.stack([item.outside for item in items]).to(self._device)
        with self._autocast():
            return see(self._network, pixels, outside)

    @torch.inference_mode()
    def _ask(self, seen: Seen, count: int, plan: CaptionPlan) -> list[list[Candidates]]:
        """What each of `count` pictures' captions find. Only pairs of one label set share a batch, or another task
        would change how this one's sums are rounded."""
        found: list[list[Candidates]] = [[] for _ in range(count)]
        pairs = [(row, caption) for row in range(count) for caption in plan.captions]
        for start in range(0, len(pairs), self._batch):
            batch = pairs[start : start + self._batch]
            with self._autocast():
                scores, places = ask(
                    self._network, seen.rows([row for row, _ in batch]), [caption.text for _, caption in batch]
                )
            logits, boxes = scores.float().cpu().numpy(), places.float().cpu().numpy()
            for n, (row, caption) in enumerate(batch):
                found[row].append(score_labels(logits[n], boxes[n], caption, self.options.threshold))
        return found

    def _autocast(self) -> torch.autocast:
        dtype: torch.dtype = getattr(torch, self.options.precision)
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as the network takes it: `pixels` (3, h, w) fp32, normalised; `outside` (h, w), true on padding."""

    pixels: Tensor
    outside: Tensor


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes (n, 4) cxcywh in parts of the picture, with a label index and a score in 0..1 each."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def scaled_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """The size that a picture is scaled to: its short side becomes `short_side`, unless the long one would exceed
    `long_side` (but for rounding); at least one pixel each way. The same rounding as groundingdino-py's transforms."""
    short, long = min(width, height), max(width, height)
    side = short_side
    if long / short * side > long_side:
        side = round(long_side * short / long)
        if side == 0:  # thinner than the package can scale
            return (1, long_side) if width < height else (long_side, 1)
    if width < height:
        return side, max(1, int(side * height / width))
    return max(1, int(side * width / height)), side


def prepare(image: Image, options: GroundingDinoOptions, queries: int) -> Prepared:
    """Scale and normalise a picture, and pad it where it is so thin that the network has fewer places than queries.

    Args:
        image: (H, W, 3) uint8 RGB.
        options: the size.
        queries: boxes that the network picks among its places.
    """
    width, height = scaled_size(image.shape[1], image.shape[0], options.short_side, options.long_side)
    scaled = Pictures.fromarray(image).resize((width, height), Pictures.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(scaled).copy()).permute(2, 0, 1).float().div_(255)
    values = (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    full_height, full_width = height, width
    while sum(-(-full_height // s) * -(-full_width // s) for s in _STRIDES) < queries:
        full_height, full_width = max(full_height, full_width // 2) + 8, max(full_width, full_height // 2) + 8
    pixels = torch.zeros(3, full_height, full_width)
    pixels[:, :height, :width] = values
    outside = torch.ones(full_height, full_width, dtype=torch.bool)
    outside[:height, :width] = False
    return Prepared(pixels, outside)


def score_labels(
    logits: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], caption: Caption, threshold: float
) -> Candidates:
    """The boxes that one of a caption's labels scores at least `threshold` for, each with its best label.

    A label scores the largest of its tokens' sigmoids; of labels that score the same the first wins.

    Args:
        logits: (queries, tokens), -inf where there is no token.
        boxes: (queries, 4).
        caption: names the columns of each label.
        threshold: in 0..1.
    """
    best = np.stack([logits[:, first:last].max(1) for first, last in caption.spans], 1)
    winner = best.argmax(1)
    top = best[np.arange(len(best)), winner].astype(np.float64)
    scores = (1 / (1 + np.exp(-np.clip(top, -60, 60)))).astype(np.float32)
    keep = (scores >= threshold) & np.isfinite(boxes).all(1)
    return Candidates(boxes[keep], np.array(caption.labels, np.int64)[winner[keep]], scores[keep])


def regions_from(
    found: Sequence[Candidates], width: int, height: int, options: GroundingDinoOptions
) -> tuple[Region, ...]:
    """One task's regions in a picture of `width` x `height` pixels, from what its captions found; best first."""
    regions = []
    for part in found:
        for (cx, cy, w, h), label, score in zip(
            part.boxes.astype(np.float64).tolist(), part.labels.tolist(), part.scores.tolist(), strict=True
        ):
            box = Box((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
            box = box.clipped(width, height)
            if box.area > 0:
                regions.append(Region(label, score, box))
    # The order decides which of two equally good boxes stays, and must not depend on the network's.
    regions.sort(key=lambda r: (-r.score, r.label, r.box.x0, r.box.y0, r.box.x1, r.box.y1))
    if not regions:
        return ()
    corners = torch.tensor([[r.box.x0, r.box.y0, r.box.x1, r.box.y1] for r in regions], dtype=torch.float64)
    scores = torch.tensor([r.score for r in regions], dtype=torch.float64)
    kept = nms(corners, scores, options.iou)[: options.limit].tolist()
    return tuple(regions[index] for index in sorted(kept))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"Grounding DINO: no such device: {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"Grounding DINO: device {name!r}, but {torch.cuda.device_count()} usable GPUs here; use auto or cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"Grounding DINO: device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    return device
