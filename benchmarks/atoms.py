r"""AV1 atoms: what they cost by themselves, on the plate or not, finer or coarser, and how fast pictures are composed.

    python -m benchmarks.atoms --data ../shared/data --judge ../shared/weights/yolox_nano.onnx \
        [--frames 8] [--sheet sheet.png]

Objects are what a detector finds in the *first* halves of four fixed-camera clips where the picture differs clearly
from the median of the half (in at least 40 % of the box): the pixels that do are the object's own. They are coded as
whole crops and as residuals on an AV1 plate, at several quantizers; quality is PSNR of the composed picture against
the frame inside the object's own pixels, errors of all objects pooled, and bytes are those of the payloads. A rate is
compared at equal PSNR (Bjontegaard, akima). Times are of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from discover_stream.codec.atom_sprites import av1_atom, sprite_of
from discover_stream.codec.av1 import decode_av1, encode_av1
from discover_stream.codec.composing import Drawn, PlatePicture, compose
from discover_stream.codec.records import QUARTER, QuarterBox
from discover_stream.evaluation.bjontegaard import Curve, bd_rate
from discover_stream.evaluation.detectors import Detector
from discover_stream.evaluation.onnx_detectors import load_onnx_detector
from discover_stream.types import Image, InputError, Provenance
from discover_stream.video.sheet import contact_sheet
from discover_stream.video.source import open_source

CLIPS = ("suburb", "topdown", "carpark", "motorway_fog")
PLATE_QUANTIZER = 40
CROPS = (24, 32, 40, 48, 56, 63)
RESIDUALS = (10, 18, 26, 34, 42, 50)
"""Residuals are halved: the same error needs a step half as large."""
MOVING = 30
LEAST_AREA = 60
MOVED = 0.4
SIZES = ((0, 24), (24, 64), (64, 9999))
"""Longer sides of objects, in pixels."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Thing:
    """An object in a frame: its box and its own pixels (H, W)."""

    clip: str
    frame: Image
    plate: PlatePicture
    box: QuarterBox
    mask: Mask

    @property
    def side(self) -> float:
        """The longer one, in pixels."""
        return max(self.box.width, self.box.height) / QUARTER


def first_half(path: Path) -> list[Image]:
    """Every third frame of a clip's first half."""
    with open_source(path, camera=path.stem) as source:
        frames = [frame.image for frame in source]
    return frames[: len(frames) // 2 : 3]


def things(clip: str, frames: Sequence[Image], count: int, judge: Detector) -> Iterator[Thing]:
    """What a detector finds in some of the frames, without what stands still."""
    background = np.median(np.stack(frames[:: max(1, len(frames) // 40)]), axis=0).astype(np.uint8)
    height, width = background.shape[:2]
    plate = PlatePicture(decode_av1(encode_av1(background, PLATE_QUANTIZER), width, height))
    for frame in frames[5 :: max(1, len(frames) // count)]:
        far = cv2.GaussianBlur(cv2.absdiff(frame, background).max(axis=2), (0, 0), 1) > MOVING
        closed = cv2.morphologyEx(far.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        for one in judge.detect(frame):
            edges = one.box.clipped(width, height)
            part = slice(int(edges.y0), int(edges.y1)), slice(int(edges.x0), int(edges.x1))
            mask = np.zeros((height, width), bool)
            mask[part] = closed[part]
            if edges.area >= LEAST_AREA and mask.sum() > MOVED * edges.area:
                yield Thing(clip, frame, plate, QuarterBox.of(edges), mask)


def coded(thing: Thing, quantizer: int, on_plate: bool, zoom: int = 0) -> tuple[int, float, Image]:
    """Bytes, the sum of squared errors in the object's pixels, and the composed picture."""
    height, width = thing.frame.shape[:2]
    atom = av1_atom(thing.frame, thing.box, quantizer, zoom=zoom, plate=thing.plate if on_plate else None)
    sprite = sprite_of(atom, thing.box, (width, height), plate=thing.plate)
    if not on_plate:  # without the soft edge that serves when it is moved
        sprite = dataclasses.replace(sprite, alpha=np.full_like(sprite.alpha, 255))
    image = compose(thing.plate, [Drawn(thing.box, sprite)]).image
    error = float(np.square(image[thing.mask].astype(float) - thing.frame[thing.mask]).sum())
    return len(atom.payload), error, image


def curve(name: str, found: Sequence[Thing], quantizers: Sequence[int], on_plate: bool, zoom: int = 0) -> Curve:
    """Bytes an object, and PSNR of all their pixels together."""
    points = []
    pixels = 3 * sum(int(thing.mask.sum()) for thing in found)
    for quantizer in quantizers:
        results = [coded(thing, quantizer, on_plate, zoom)[:2] for thing in found]
        size = sum(size for size, _ in results) / len(found)
        points.append((size, 10 * math.log10(255**2 * pixels / sum(error for _, error in results))))
    points.sort()
    return Curve(name, tuple(size for size, _ in points), tuple(quality for _, quality in points))


def shown(one: Curve) -> str:
    """A curve in a line."""
    return "  ".join(f"{size:.0f} B {quality:.1f}" for size, quality in zip(one.rates, one.qualities, strict=True))


def saving(anchor: Curve, test: Curve) -> str:
    """More (+) or less (-) rate at the same quality."""
    try:
        return f"{bd_rate(anchor, test):+.0f} %"
    except InputError:
        return "no common quality"


def overhead(frame: Image) -> None:
    """What pictures of some sizes cost, and how long that takes."""
    print("| samples | flat grey | crop, quantizer 30 | crop, quantizer 50 | encode ms | decode ms |")
    print("|---|---|---|---|---|---|")
    for width, height in ((16, 16), (32, 32), (48, 96), (128, 96), (640, 352)):
        flat = np.full((height, width, 3), 128, np.uint8)
        crop = np.ascontiguousarray(frame[frame.shape[0] - height :, frame.shape[1] // 2 - width // 2 :][:, :width])
        sizes = [len(encode_av1(flat, 30)), len(encode_av1(crop, 30))]
        start = time.process_time()
        data = encode_av1(crop, 50)
        middle = time.process_time()
        for _ in range(10):
            decode_av1(data, width, height)
        spent = (time.process_time() - middle) / 10
        print(
            f"| {width}x{height} | {sizes[0]} B | {sizes[1]} B | {len(data)} B"
            f" | {1000 * (middle - start):.1f} | {1000 * spent:.2f} |"
        )


def speed(found: Sequence[Thing], tracks: int = 8, rounds: int = 50) -> None:
    """Milliseconds to decode sprites and to compose pictures with some tracks."""
    chosen = sorted(found, key=lambda thing: thing.side)[len(found) // 2 :][:tracks]
    height, width = chosen[0].frame.shape[:2]
    atoms = [av1_atom(thing.frame, thing.box, 26, plate=thing.plate) for thing in chosen]
    start = time.process_time()
    sprites = [
        sprite_of(atom, thing.box, (width, height), plate=thing.plate)
        for atom, thing in zip(atoms, chosen, strict=True)
    ]
    decoding = (time.process_time() - start) / len(sprites)
    start = time.process_time()
    for step in range(rounds):
        drawn = [
            Drawn(
                QuarterBox(thing.box.x + step, thing.box.y + 1, thing.box.width + step // 4, thing.box.height),
                sprite,
                Provenance.PROPAGATED,
            )
            for thing, sprite in zip(chosen, sprites, strict=True)
        ]
        compose(chosen[0].plate, drawn)
    composing = (time.process_time() - start) / rounds
    sides = sum(thing.side for thing in chosen) / len(chosen)
    print(
        f"{width}x{height}, {len(chosen)} tracks of {sides:.0f} px: {1000 * decoding:.1f} ms to decode an atom to a"
        f" sprite, {1000 * composing:.1f} ms to compose a picture"
    )


def sheet(found: Sequence[Thing], path: Path) -> None:
    """Some objects as they are, as a crop and as a residual of about as many bytes."""
    rows = []
    for thing in sorted(found, key=lambda thing: -thing.side)[:: max(1, len(found) // 10)][:10]:
        size, _, residual = coded(thing, 34, True)
        crops = [coded(thing, quantizer, False) for quantizer in range(24, 64, 3)]
        _, _, crop = min(crops, key=lambda result: abs(result[0] - size))
        edges = thing.box.pixels
        part = slice(int(edges.y0), int(edges.y1)), slice(int(edges.x0), int(edges.x1))
        rows.append([_large(image[part]) for image in (thing.frame, thing.plate.image, crop, residual)])
    picture = contact_sheet(rows, ("frame", "plate", "crop", "residual"))
    PillowImage.fromarray(picture).save(path)
    print(f"\nwrote {path}")


def _large(image: Image) -> Image:
    height, width = image.shape[:2]
    factor = 220 / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    enlarged: Image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    return enlarged


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True, help="an ONNX detector")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--sheet", type=Path)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    judge = load_onnx_detector(chosen.judge, floor=0.3, threads=1)
    found: list[Thing] = []
    for clip in CLIPS:
        found += things(clip, first_half(chosen.data / "video" / f"{clip}.mp4"), chosen.frames, judge)
    overhead(found[0].frame)
    print()
    speed([thing for thing in found if thing.clip == "suburb"])
    print("\n| objects | how many | crops | residuals on the plate | rate of residuals |\n|---|---|---|---|---|")
    groups = {clip: [thing for thing in found if thing.clip == clip] for clip in CLIPS}
    groups |= {f"{low} to {high} px": [one for one in found if low <= one.side < high] for low, high in SIZES}
    for name, group in groups.items():
        if group:
            crops, residuals = curve(name, group, CROPS, False), curve(name, group, RESIDUALS, True)
            line = f"{shown(crops)} | {shown(residuals)} | {saving(crops, residuals)}"
            print(f"| {name} | {len(group)} | {line} |", flush=True)
    print("\n| objects | zoom -1 | zoom 0 | zoom 1 | rate of -1 and of 1 against 0 |\n|---|---|---|---|---|")
    for low, high in SIZES:
        group = [one for one in found if low <= one.side < high]
        if group:
            coarse, usual, fine = (curve("zoom", group, RESIDUALS, True, zoom) for zoom in (-1, 0, 1))
            line = " | ".join(map(shown, (coarse, usual, fine)))
            print(f"| {low} to {high} px | {line} | {saving(usual, coarse)}, {saving(usual, fine)} |", flush=True)
    if chosen.sheet:
        sheet(found, chosen.sheet)


if __name__ == "__main__":
    main()
