"""What trained weights give on pictures: rate against quality beside what people use, and how parts decode.

    python -m benchmarks.weights --data ../shared/data --deep-features ../shared/weights/squeezenet_imagenet.h5 \
        [--frames 3] [--weights DIR] [--missing] [--json figures.json]

Pictures are Kodak's, frames of clips that no training saw, and frames of second halves of the clips whose first halves
it did. *ours still* are the shipped weights with one step of diffusion, on the whole picture at all qualities; with
`--weights`, so are those of another folder (what has to be in it: `Renderer.load`). Peers are those of `discover eval
images --grid quick`. Rates are means of bits per pixel, every byte counted; so are qualities.
The second table says how many of a peer's bits ours needs at equal deep-feature distance: below 1 is fewer; the best
setting of the peer counts at every point.

`--missing` shows what a task's decode is worth where only boxes are sent: 30 to 95 % of the cells are missing. Inside
is what was sent, outside what was not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.background import cells_of
from discover_stream.codec.sprites import cell_samples
from discover_stream.evaluation.datasets import TRAINED_CLIPS, UNSEEN_CLIPS, later_half
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.pictures import ms_ssim, psnr
from discover_stream.evaluation.registry import ORIGINAL, build_system, grid, image_grid, is_ours
from discover_stream.evaluation.summary import rate_at
from discover_stream.evaluation.systems import Clip, Setting, SystemSpec
from discover_stream.evaluation.truth import read_picture
from discover_stream.types import Box, Image, Region
from discover_stream.video.source import open_source

QUALITIES = tuple(range(1, 9))
MISSING = (0.3, 0.5, 0.7, 0.9, 0.95)
MISSING_QUALITY = 4
LOW_RATE = 0.15
"""Bits per pixel up to which rates at equal distance are aimed at."""
SEED = 7


@dataclass(frozen=True)
class Point:
    """A system at a setting on one kind of pictures: means."""

    source: str
    system: str
    setting: str
    bpp: float
    psnr: float
    ms_ssim: float
    distance: float


@dataclass(frozen=True)
class Part:
    """A decode of which a share of the cells was not sent: bits per sent pixel, and means inside and outside."""

    system: str
    missing: float
    bpp: float
    psnr_inside: float
    psnr_outside: float
    distance_inside: float
    distance: float


def sources(data: Path, frames: int) -> dict[str, list[Image]]:
    """Pictures by kind."""
    found: dict[str, list[Image]] = {}
    kodak = sorted((data / "kodak").glob("*.png"))
    if kodak:
        found["kodak"] = [read_picture(path) for path in kodak]
    for title, names in (("never seen", UNSEEN_CLIPS), ("second halves", TRAINED_CLIPS)):
        shown: list[Image] = []
        for name in names:
            if (data / "video" / name).exists():
                with open_source(data / "video" / name, camera=name) as source:
                    pictures = [frame.image for frame in source]
                later = later_half(pictures) if names is TRAINED_CLIPS else pictures
                shown += [later[int(at)] for at in np.linspace(0, len(later) - 1, frames)]
        if shown:
            found[title] = shown
    return found


def ours(weights: Path | None, settings: Mapping[str, tuple[Setting, ...]]) -> Iterator[SystemSpec]:
    """Still mode with the shipped weights, and with those of a folder where one is named."""
    yield from grid("ours-still", settings)
    if weights is not None:
        yield from grid("ours-still", {**settings, "weights": (str(weights),)})


def systems(weights: Path | None) -> Iterator[SystemSpec]:
    """What is measured on whole pictures."""
    yield from ours(weights, {"quality": QUALITIES, "sends": ("picture",)})
    left_out = ("ours-still", "svt-av1-intra")
    yield from (one for one in image_grid("quick") if one != ORIGINAL and one.name not in left_out)


def measured(source: str, pictures: Sequence[Image], spec: SystemSpec, features: DeepFeatures) -> Point:
    """A system on some pictures."""
    system, rates, values = build_system(spec), [], []
    for picture in pictures:
        coded = system.encode(Clip(source, (picture,), 0.0, ((),)))
        (shown,) = system.decode(coded).frames
        rates.append(8 * coded.total / (picture.shape[0] * picture.shape[1]))
        values.append((psnr(picture, shown), ms_ssim(picture, shown), features.distance(picture, shown)))
    return Point(source, spec.name, spec.text(), float(np.mean(rates)), *np.mean(values, axis=0).tolist())


def show_points(points: Sequence[Point]) -> None:
    """All points of our systems, and the peers' hulls by distance at their rates."""
    print("\n| pictures | system | bpp | PSNR | MS-SSIM | distance |\n|---|---|---|---|---|---|")
    for one in sorted(points, key=lambda p: (p.source, not is_ours(p.system), p.system, p.bpp)):
        values = f"{one.bpp:.3f} | {one.psnr:.2f} | {one.ms_ssim:.3f} | {one.distance:.3f}"
        print(f"| {one.source} | {one.setting} | {values} |")


def show_ratios(points: Sequence[Point]) -> None:
    """Our rate over each peer's at equal distance."""
    by_source: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for one in points:
        by_source[one.source][one.system].append(one)
    peers = list(dict.fromkeys(one.system for one in points if not is_ours(one.system)))
    print(f"\nour bits over a peer's at equal distance; * above {LOW_RATE} bpp\n")
    print(f"| pictures | ours | bpp | {' | '.join(peers)} |\n|---|---|---|{'---|' * len(peers)}")
    for source, systems_ in by_source.items():
        for name in filter(is_ours, systems_):
            for one in sorted(systems_[name], key=lambda point: point.bpp):
                cells = [ratio(one, systems_.get(peer, [])) for peer in peers]
                high = "*" if one.bpp > LOW_RATE else ""
                print(f"| {source} | {one.setting} | {one.bpp:.3f}{high} | {' | '.join(cells)} |")


def ratio(ours: Point, peer: Sequence[Point]) -> str:
    """Our rate over what a peer needs for our distance, in words where it has no such setting."""
    pairs = [(one.bpp, one.distance) for one in peer]
    if not pairs:
        return ""
    reached = rate_at(pairs, ours.distance, lower=True)
    if reached is None:
        return "it never gets there"
    least = min(pairs)
    return f"{ours.bpp / reached:.2f}" + (" or more" if reached == least[0] else "")


def boxes(random: np.random.Generator, width: int, height: int, sent: float) -> tuple[Region, ...]:
    """Boxes that touch about a share of the cells."""
    found: list[Region] = []
    while not found or box_cells(found, width, height).mean() < sent - 0.02:
        sides = random.uniform(0.08, 0.35, 2) * (width, height)
        if found and sent < 0.2:
            sides *= 0.4
        x, y = random.uniform(0, width - sides[0]), random.uniform(0, height - sides[1])
        found.append(Region(0, 1.0, Box(x, y, x + sides[0], y + sides[1]), track=len(found) + 1))
    return tuple(found)


def box_cells(regions: Sequence[Region], width: int, height: int) -> CellMask:
    """The cells (rows, columns) of a picture that boxes touch: what still mode sends of it."""
    return cells_of([region.box for region in regions], width, height)


def parts(pictures: Sequence[Image], spec: SystemSpec, missing: float, features: DeepFeatures) -> Part:
    """A system on some pictures of which only boxes are sent; the same boxes for all systems."""
    system, random, rates, values = build_system(spec), np.random.default_rng(SEED), [], []
    for picture in pictures:
        height, width = picture.shape[:2]
        regions = boxes(random, width, height, 1 - missing)
        coded = system.encode(Clip("part", (picture,), 0.0, (regions,)))
        (shown,) = system.decode(coded).frames
        inside = cell_samples(box_cells(regions, width, height))[:height, :width]
        rates.append(8 * coded.total / inside.sum())
        values.append(
            (
                psnr(picture, shown, inside),
                psnr(picture, shown, ~inside),
                features.distance(picture, shown, inside),
                features.distance(picture, shown),
            )
        )
    return Part(spec.text(), missing, float(np.mean(rates)), *np.mean(values, axis=0).tolist())


def show_parts(pictures: Sequence[Image], weights: Path | None, features: DeepFeatures) -> list[Part]:
    """Measure and print the table of parts."""
    specs = tuple(ours(weights, {"quality": (MISSING_QUALITY,), "sends": ("task",), "generate": (1, 0)}))
    print("\n| system | missing | bpp of sent | PSNR inside | outside | distance inside | whole |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for missing in MISSING:
        for spec in specs:
            one = parts(pictures, spec, missing, features)
            found.append(one)
            print(
                f"| {one.system} | {one.missing:.0%} | {one.bpp:.3f} | {one.psnr_inside:.2f} | {one.psnr_outside:.2f} |"
                f" {one.distance_inside:.4f} | {one.distance:.4f} |",
                flush=True,
            )
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--deep-features", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=3, help="of each clip")
    parser.add_argument("--weights", type=Path, help="a folder with others than those that ship, measured beside them")
    parser.add_argument("--missing", action="store_true", help="the table of parts, too")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    features = DeepFeatures.load(given.deep_features)
    found = sources(given.data, given.frames)
    points = []
    for source, pictures in found.items():
        for spec in systems(given.weights):
            points.append(measured(source, pictures, spec, features))
            print(f"  done: {source}, {spec.text()}", file=sys.stderr, flush=True)
    show_points(points)
    show_ratios(points)
    cut: list[Part] = []
    if given.missing:
        everything = [picture for pictures in found.values() for picture in pictures[:: max(1, len(pictures) // 4)]]
        cut = show_parts(everything, given.weights, features)
    if given.json:
        written: Mapping[str, object] = {"points": [asdict(p) for p in points], "parts": [asdict(p) for p in cut]}
        given.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
