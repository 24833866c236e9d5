"""The nano detector: a small anchor-free network that finds people and vehicles on a CPU.

Convention: pictures are (H, W, 3) uint8 RGB; inside the network they are (B, 3, h, w) float in
-1..1, h and w multiples of 32; boxes are xyxy, in network pixels inside `Detector` and
`decode_outputs` and in pixels of the original picture everywhere else.

    picture --stem--> 1/4 --> c3 (1/8) --> c4 (1/16) --> c5 (1/32)
                               |            |             |
                              p3 <--up---- p4 <---up---- p5      one head, shared by the levels,
                               |            |             |      with a learned scale per level
                              head         head          head -> class logits, box

Every cell of a level predicts one box as (dx, dy, log w, log h) in units of its stride, the centre
relative to the centre of the cell: boxes smaller than a stride are as easy to say as large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms  # type: ignore[import-untyped]

from discover_stream.types import Image

CLASSES: tuple[str, ...] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
"""What the detector tells apart; an index into this tuple is a class everywhere in the package."""

STRIDES: tuple[int, ...] = (8, 16, 32)
GRID = 32
"""Sides of the network's input are multiples of this many pixels."""
PAD_VALUE = 114
"""Grey that fills what the letterbox adds; a middle value keeps the borders quiet."""
MAX_LOG_SIDE = 8.0
"""Largest log side (in strides) that a box may claim: keeps `exp` finite for any weights."""


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Sizes of the network. The shipped `nano` weights use the defaults."""

    stem: int = 16
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)  # at 1/4, 1/8, 1/16, 1/32
    depths: tuple[int, int, int, int] = (1, 2, 3, 2)
    neck: int = 64
    classes: int = len(CLASSES)


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found in one picture, best score first.

    `boxes` is (n, 4) float32 xyxy in pixels of the picture, `scores` (n,) float32 in 0..1 and
    `classes` (n,) int64, indices into `CLASSES`.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> Detections:
        """The detections that score at least `threshold`."""
        keep = self.scores >= threshold
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep])


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture was fitted into the network's input: scaled, then padded right and below."""

    scale_x: float
    scale_y: float
    width: int
    height: int


class ConvBlock(nn.Sequential):
    """Convolution, batch norm, ReLU. (B, cin, h, w) -> (B, cout, h / stride, w / stride)."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(cout),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Bottleneck residual block: 1x1 to half the channels, 3x3 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels // 2, 1), ConvBlock(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the block learned: (B, C, h, w) -> the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class Detector(nn.Module):
    """The network. `forward` gives raw outputs; `decode_outputs` turns them into boxes."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DetectorConfig()
        w, d, neck = config.widths, config.depths, config.neck
        self.stem = ConvBlock(3, config.stem, 3, 2)
        stages = []
        for cin, cout, depth in zip((config.stem, *w[:3]), w, d, strict=True):
            stages.append(nn.Sequential(ConvBlock(cin, cout, 3, 2), *(Residual(cout) for _ in range(depth))))
        self.stages = nn.ModuleList(stages)
        self.context = ConvBlock(2 * w[3], w[3], 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, neck, 1) for c in w[1:])
        self.smooth = nn.ModuleList(ConvBlock(neck, neck, 3) for _ in STRIDES)
        self.trunk = ConvBlock(neck, neck, 3)
        self.classify = nn.Sequential(ConvBlock(neck, neck, 1), nn.Conv2d(neck, config.classes, 1))
        self.locate = nn.Sequential(ConvBlock(neck, neck, 1), nn.Conv2d(neck, 4, 1))
        self.level_scale = nn.Parameter(torch.ones(len(STRIDES), 4))
        last = self.classify[1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, -4.6)  # sigmoid = 0.01: objects are rare, start from there

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Raw outputs per level.

        Args:
            x: (B, 3, h, w) in -1..1, h and w multiples of `GRID`.

        Returns:
            per stride s in `STRIDES`: class logits (B, classes, h/s, w/s) and raw boxes (B, 4, h/s, w/s).
        """
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        c3, c4, c5 = features[1:]
        pooled = F.max_pool2d(c5, 5, 1, 2)
        c5 = self.context(torch.cat([c5, F.max_pool2d(pooled, 5, 1, 2)], 1))
        p5 = self.lateral[2](c5)
        p4 = self.lateral[1](c4) + F.interpolate(p5, scale_factor=2.0)
        p3 = self.lateral[0](c3) + F.interpolate(p4, scale_factor=2.0)
        outputs = []
        for level, p in enumerate((p3, p4, p5)):
            t = self.trunk(self.smooth[level](p))
            outputs.append((self.classify(t), self.locate(t) * self.level_scale[level][:, None, None]))
        return outputs


def decode_outputs(outputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Raw outputs of all levels as one list of cells.

    Args:
        outputs: what `Detector.forward` returns.

    Returns:
        class logits (B, cells, classes) and boxes (B, cells, 4) xyxy in network pixels, fp32,
        levels in the order of `STRIDES`, row by row.
    """
    logits, boxes = [], []
    for (cls, raw), stride in zip(outputs, STRIDES, strict=True):
        h, w = cls.shape[2:]
        centres = cell_centres(h, w, stride).to(raw.device)
        flat = raw.float().flatten(2).transpose(1, 2)
        xy = centres + flat[..., :2] * stride
        half = flat[..., 2:].clamp(-MAX_LOG_SIDE, MAX_LOG_SIDE).exp() * (stride / 2)
        boxes.append(torch.cat([xy - half, xy + half], -1))
        logits.append(cls.float().flatten(2).transpose(1, 2))
    return torch.cat(logits, 1), torch.cat(boxes, 1)


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """Centres (x, y) of a level's cells in network pixels, (rows * columns, 2), row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack([x, y], -1).reshape(-1, 2).float() + 0.5) * stride


def letterbox_plan(width: int, height: int, long_side: int) -> Letterbox:
    """Fit a picture into the network: its long side becomes `long_side`, the short side follows.

    Each side keeps at least one pixel, so a 4096x1 strip is as valid as a 1x1 picture.
    """
    scale = long_side / max(width, height)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    return Letterbox(w / width, h / height, w, h)


def _grid_up(n: int) -> int:
    return -(-n // GRID) * GRID


def preprocess(image: Image, plan: Letterbox) -> npt.NDArray[np.uint8]:
    """Scale and pad a picture to (h, w, 3) uint8 with h and w multiples of `GRID`."""
    shrinking = plan.scale_x < 1
    resized = cv2.resize(
        image, (plan.width, plan.height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    out = np.full((_grid_up(plan.height), _grid_up(plan.width), 3), PAD_VALUE, np.uint8)
    out[: plan.height, : plan.width] = resized
    return out


def to_input(batch: npt.NDArray[np.uint8]) -> Tensor:
    """(B, h, w, 3) uint8 RGB -> (B, 3, h, w) fp32 in -1..1, channels last in memory."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """How pictures are fitted and raw outputs become detections.

    A picture's long side is scaled to `long_side` pixels, but no picture is enlarged more than `enlarge` times.
    A second look scales it to `far_side`, as if from further away; it counts for objects whose longer side is at
    least `far_part` of the picture's, which fill more than what the network sees at once in the first look. It is
    left out where it would show the picture at more than half of the first look's size.
    """

    long_side: int = 768
    enlarge: float = 1.5
    far_side: int = 256
    far_part: float = 0.25
    threshold: float = 0.325
    iou: float = 0.5
    limit: int = 300


def look_sides(width: int, height: int, options: DetectOptions) -> tuple[int, ...]:
    """The long sides, in network pixels, of the looks at a picture of (width, height) pixels, the first look first."""
    near = min(options.long_side, max(GRID, round(options.enlarge * max(width, height))))
    return (near, options.far_side) if 2 * options.far_side <= near else (near,)


def look(network: nn.Module, image: Image, long_side: int) -> tuple[Tensor, Tensor]:
    """Run a network over a picture whose long side is scaled to `long_side` pixels.

    Args:
        network: a `Detector` in eval mode.
        image: (H, W, 3) uint8 RGB.
        long_side: in network pixels.

    Returns:
        class logits (cells, classes) and boxes (cells, 4) xyxy in pixels of the picture, not clipped to it.
    """
    plan = letterbox_plan(image.shape[1], image.shape[0], long_side)
    logits, boxes = decode_outputs(network(to_input(preprocess(image, plan)[None])))
    return logits[0], boxes[0] / torch.tensor([plan.scale_x, plan.scale_y] * 2)


def select(logits: Tensor, boxes: Tensor, size: tuple[int, int], options: DetectOptions) -> Detections:
    """Threshold and non-maximum suppression for one picture.

    Args:
        logits: (cells, classes).
        boxes: (cells, 4) xyxy in pixels of the picture.
        size: (width, height) of the picture.
        options: thresholds.

    Returns:
        detections clipped to the picture, best first.
    """
    scores, classes = logits.sigmoid().max(1)
    keep = torch.nonzero(scores >= options.threshold)[:, 0]
    scores, classes, boxes = scores[keep], classes[keep], boxes[keep]
    # Vehicles exclude each other whatever their kind (a van is not also a car), and so do a person and
    # a person; but a rider and the bicycle share most of their box.
    groups = torch.where(
        classes == CLASSES.index("person"),
        0,
        torch.where((classes == CLASSES.index("bicycle")) | (classes == CLASSES.index("motorcycle")), 1, 2),
    )
    order = batched_nms(boxes, scores, groups, options.iou)[: options.limit]
    width, height = size
    xyxy = boxes[order]
    xyxy[:, 0::2] = xyxy[:, 0::2].clamp(0, width)
    xyxy[:, 1::2] = xyxy[:, 1::2].clamp(0, height)
    solid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    return Detections(xyxy[solid].numpy(), scores[order][solid].numpy(), classes[order][solid].numpy())


@torch.inference_mode()
def detect(network: nn.Module, images: Sequence[Image], options: DetectOptions) -> list[Detections]:
    """Run a network over pictures of any sizes.

    One picture after the other: on a CPU a batch is not faster, and its sums round differently, so that what is
    found in a picture would depend, in the last bits, on the pictures beside it.

    Args:
        network: a `Detector` in eval mode.
        images: (H, W, 3) uint8 RGB each.
        options: input size and thresholds.

    Returns:
        one `Detections` per picture, in the order given.
    """
    return [_detect_one(network, image, options) for image in images]


def _detect_one(network: nn.Module, image: Image, options: DetectOptions) -> Detections:
    height, width = image.shape[:2]
    near, *far = look_sides(width, height, options)
    logits, boxes = look(network, image, near)
    for side in far:
        more_logits, more_boxes = look(network, image, side)
        large = (more_boxes[:, 2:] - more_boxes[:, :2]).amax(1) >= options.far_part * max(width, height)
        logits, boxes = torch.cat([logits, more_logits[large]]), torch.cat([boxes, more_boxes[large]])
    return select(logits, boxes, (width, height), options)
