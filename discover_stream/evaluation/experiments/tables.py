"""The tables: on which data, by which networks, which systems, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from discover_stream.evaluation.bjontegaard import Curve, bd_quality, bd_rate, overlap, rising_part
from discover_stream.evaluation.experiments.data import Layout
from discover_stream.evaluation.experiments.modes import is_mode
from discover_stream.evaluation.experiments.parts import Gathered
from discover_stream.evaluation.peers.vvc import installed_encoder
from discover_stream.evaluation.registry import ORIGINAL, grid
from discover_stream.evaluation.systems import Setting, SystemSpec
from discover_stream.types import InputError, Profile

TableName = Literal["detection", "segmentation", "classification", "perception", "ablation"]

LOWER = ("FID", "KID", "LPIPS", "DISTS", "distance")
"""Scores of which less is better."""


@dataclass(frozen=True)
class Table:
    """What belongs to a table.

    Attributes:
        layout: of the data.
        on: the set that the papers take.
        task: whose label set says what is looked for.
        judge: the papers' network; of `perception` those that figures need.
        profile: who looks, which decides on DISCOVER's number of steps.
        modes: what is compared.
        measures: scores that differences are taken of, the first one leads.
    """

    layout: Layout
    on: str
    task: str
    judge: str
    profile: Profile
    modes: tuple[str, ...]
    measures: tuple[str, ...]


_ALL = ("discover-task", "discover-full", "diff-icmh", "ours", "ours-full")
_BOXES, _AP = "torchvision:fasterrcnn_resnet50_fpn", ("AP", "AP50")

TABLES: Mapping[TableName, Table] = {
    "detection": Table("coco", "coco", "object-detection", _BOXES, "machine", _ALL, _AP),
    "segmentation": Table(
        "coco",
        "coco",
        "instance-segmentation",
        "torchvision:maskrcnn_resnet50_fpn",
        "machine",
        _ALL,
        ("mask AP", "mask AP50"),
    ),
    "classification": Table(
        "classes", "imagenet", "image-classification", "torchvision:resnet50", "machine", _ALL, ("top-1",)
    ),
    "perception": Table(
        "pictures",
        "kodak",
        "object-detection",
        "",
        "human",
        ("discover-full", "diff-icmh", "ours-full"),
        ("FID", "DISTS", "LPIPS", "KID", "distance", "PSNR", "MS-SSIM"),
    ),
    "ablation": Table("coco", "coco", "object-detection", _BOXES, "machine", (), _AP),
}

ABLATIONS: tuple[tuple[str, str, dict[str, Setting]], ...] = (
    ("DISCOVER", "discover-task", {}),
    ("DISCOVER without disentanglement", "discover-full", {}),
    ("DISCOVER without composition", "discover-task", {"generate": 0}),
    ("DISCOVER in 1 step", "discover-task", {"steps": 1}),
    ("DISCOVER in 50 steps", "discover-task", {"steps": 50}),
    ("Diff-ICMH", "diff-icmh", {}),
    ("Diff-ICMH without tags", "diff-icmh", {"tags": 0}),
    ("Diff-ICMH without guidance", "diff-icmh", {"guidance": 1}),
    ("Diff-ICMH for the task's cells", "diff-icmh", {"sends": "task"}),
    ("ours", "ours", {}),
    ("ours without bounds", "ours", {"bounded": 0}),
    ("ours with tags", "ours", {"tags": 1}),
)
"""Decode-time ablations: title, mode, its settings. What changes training is `discover train ablation`'s."""


def table_of(name: str) -> Table:
    """A table by its name. Raises InputError where there is none."""
    if name not in get_args(TableName):
        raise InputError(f"there is no table {name!r}; use {', '.join(get_args(TableName))}")
    found: TableName = next(one for one in get_args(TableName) if one == name)
    return TABLES[found]


def anchors() -> tuple[SystemSpec, ...]:
    """What the modes are compared with: VVC where an encoder is installed, else x265 intra; and AVIF."""
    if installed_encoder() is not None:
        first = grid("vvc-intra", {"qp": (27, 32, 37, 42, 47)})
    else:
        first = grid("x265-intra", {"crf": (24, 30, 36, 42, 48), "preset": ("slow",)})
    return (*first, *grid("avif", {"quality": (2, 10, 22, 40, 60), "speed": (6,)}))


def default_systems(name: str, qualities: Sequence[int]) -> tuple[SystemSpec, ...]:
    """What a table compares: the originals, every mode at every quality, the anchors."""
    if name == "ablation":
        modes = [
            SystemSpec.of(mode, quality=quality, **changes) for _, mode, changes in ABLATIONS for quality in qualities
        ]
    else:
        modes = [SystemSpec.of(mode, quality=quality) for mode in table_of(name).modes for quality in qualities]
    return (ORIGINAL, *modes, *anchors())


@dataclass(frozen=True)
class Line:
    """A system in a table.

    Attributes:
        name: without its quality.
        system: the specification.
        bpp: all bits over all pixels.
        scores: by name.
    """

    name: str
    system: str
    bpp: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """A mode against an anchor by a score.

    Attributes:
        name: of the mode.
        anchor: what it is compared with.
        measure: by which score.
        rate: BD-rate, percent of bits that the mode needs more at equal score; None where the curves do not meet.
        quality: the difference in score at equal bits (BD-AP, BD-FID, BD-DISTS); None likewise.
        shared: the share (0..1) of the range of scores that both reach, on which `rate` rests.
    """

    name: str
    anchor: str
    measure: str
    rate: float | None
    quality: float | None
    shared: float | None


def lines_of(gathered: Iterable[tuple[Gathered, dict[str, float]]]) -> list[Line]:
    """Lines of what was gathered and its scores."""
    return [
        Line(one.name, one.spec.text(), round(one.bpp, 5), {key: round(value, 5) for key, value in scores.items()})
        for one, scores in gathered
    ]


def differences(lines: Sequence[Line], measures: Sequence[str]) -> list[Difference]:
    """Every mode against every anchor by the scores that are there."""
    names = list(dict.fromkeys(line.name for line in lines if line.system != ORIGINAL.text()))
    of_mode = {line.name: is_mode(line.system.partition(":")[0]) for line in lines}
    found = []
    for measure in measures:
        for name in (name for name in names if of_mode[name]):
            for anchor in (name for name in names if not of_mode[name]):
                test, base = (curve_of(lines, one, measure) for one in (name, anchor))
                if test is not None and base is not None:
                    found.append(_difference(test, base, measure))
    return found


def curve_of(lines: Sequence[Line], name: str, measure: str) -> Curve | None:
    """The rising part of a system's curve; None where it has no such score."""
    points = sorted((line.bpp, line.scores[measure]) for line in lines if line.name == name and measure in line.scores)
    if not points:
        return None
    rates, scores = tuple(bpp for bpp, _ in points), tuple(score for _, score in points)
    return rising_part(Curve(name, rates, scores, measure in LOWER))


def _difference(test: Curve, base: Curve, measure: str) -> Difference:
    rate, quality = (_figure(function, base, test) for function in (bd_rate, bd_quality))
    shared = None if rate is None else round(overlap(base, test), 3)
    return Difference(test.name, base.name, measure, rate, quality, shared)


def _figure(function: Any, base: Curve, test: Curve) -> float | None:
    try:
        value = float(function(base, test))
    except InputError:  # too few points, or nothing in common: the table shows a gap
        return None
    return round(value, 4) if math.isfinite(value) else None


def as_json(lines: Sequence[Line], found: Sequence[Difference]) -> dict[str, Any]:
    """Lines and differences as JSON holds them."""
    return {"lines": [asdict(line) for line in lines], "differences": [asdict(one) for one in found]}
