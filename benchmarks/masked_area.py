r"""AP50 against bits per pixel of the masked area: atoms of ours and of AV1 in composed street frames, in one plot.

    python -m benchmarks.masked_area --data ../shared/data --judge ../shared/weights/yolox_nano.onnx \
        [--weights DIR] [--half second] [--frames 8] [--plot curve.png]

Objects are those of `benchmarks.atoms`: what a detector finds where the picture differs from the plate. Each is coded
as an atom of its own, decoded, cut out softly where it differs from the decoded plate, and drawn on the plate; the
judge then looks at the composed picture. Truth is what it finds in the original, of which only the objects that were
drawn count. A rate is the bytes of the atoms' payloads over the pixels in which an object differs from the plate:
plate, boxes and packets are the same for all and left out. *av1 residual* are the atoms that stream mode sends, *av1
crop* plain stills of the box. *still* is our codec on the box alone, its coarse atom included; *key* knows the plate,
and *key, finer* samples small objects two or four times as finely. All three are decoded by the VAE without diffusion;
the weights are the shipped ones unless `--weights` names a folder with others. First halves are for tuning, second
ones for reports.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.atoms import CLIPS, Thing, things
from discover_stream.codec.atom_sprites import av1_atom, latent_window, sprite_of
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.composing import Drawn, compose
from discover_stream.codec.latent_atoms import LatentCodec
from discover_stream.codec.mask import write_mask
from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec, shipped_weights
from discover_stream.codec.records import QUARTER, Window
from discover_stream.codec.sprites import Sprite, cell_samples, grid_samples, grid_size, inside, soft_mask
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.evaluation.average_precision import score_detections
from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.detectors import Detector, load_detector
from discover_stream.evaluation.truth import as_truth
from discover_stream.generation.render import VAE_FILE, load_vae
from discover_stream.painting import autoencoder
from discover_stream.training.autoencoders import Autoencoder, decode
from discover_stream.training.pairs import SMALL_OBJECT
from discover_stream.types import Box, Frame, Image, Region
from discover_stream.video.source import open_source

QUANTIZERS = {"av1 residual": (14, 22, 30, 38, 46, 54, 62), "av1 crop": (24, 32, 40, 48, 56, 63)}
QUALITIES = (1, 2, 3, 4, 5, 6, 8)
LEAST_OVERLAP = 0.5
"""Of a box of truth with an object that was drawn: others need not be found."""

SURE = 0.3
"""Score from which on something is found."""

Coder = Callable[[Thing, int], tuple[int, Sprite]]
"""Codes an object at a setting: bytes, and what a decoder draws."""


@dataclass(frozen=True)
class Point:
    """One setting of a system: bits per masked pixel, and what the judge makes of the composed pictures.

    AP50 is a mean over classes, of which one may have a single object; `found` is the share of all objects that were
    drawn which the judge finds again, as the same class.
    """

    system: str
    setting: int
    bpp: float
    ap50: float
    found: float = 0.0


def av1(on_plate: bool) -> Coder:
    """AV1 atoms."""

    def code(thing: Thing, quantizer: int) -> tuple[int, Sprite]:
        height, width = thing.frame.shape[:2]
        plate = thing.plate if on_plate else None
        atom = av1_atom(thing.frame, thing.box, quantizer, plate=plate)
        sprite = sprite_of(atom, thing.box, (width, height), plate=thing.plate)
        return len(atom.payload), sprite

    return code


def drawn_sprite(thing: Thing, window: Window, samples: Image, cells: CellMask) -> Sprite:
    """What a decoder draws of decoded samples (16 rows, 16 columns, 3): what differs from the plate in the cells."""
    height, width = thing.frame.shape[:2]
    allowed = inside(window, 0, width, height) & cell_samples(cells)
    alpha = soft_mask(samples, grid_samples(thing.plate.image, window, 0), 0, allowed)
    return Sprite(samples, alpha, window, 0, thing.box, width, height)


def decoded_samples(vae: Autoencoder, latent: torch.Tensor, window: Window) -> Image:
    """The window's samples of a latent of its padded picture."""
    rows, columns = grid_size(window)
    with torch.no_grad():
        picture = decode(vae, latent)[0, :, :rows, :columns].clamp(0, 1)
    return np.ascontiguousarray(picture.permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy())


def finer(thing: Thing) -> int:
    """The zoom of an atom that samples small objects as training does (`training.pairs`)."""
    shorter = min(thing.box.width, thing.box.height) / QUARTER
    return 2 if shorter < SMALL_OBJECT / 2 else 1 if shorter < SMALL_OBJECT else 0


def key(codec: LatentCodec, zoom_of: Callable[[Thing], int] = lambda thing: 0) -> Coder:
    """Keys as stream mode sends them: masked cells of the box, the plate known."""

    def code(thing: Thing, quality: int) -> tuple[int, Sprite]:
        height, width = thing.frame.shape[:2]
        samples, job = latent_window(thing.frame, thing.box, zoom=zoom_of(thing), plate=thing.plate)
        atom = codec.sketch(samples, job).atom(quality)
        writer = BitWriter()
        if atom.cells is not None:
            write_mask(writer, atom.cells.mask)
        sprite = sprite_of(atom, thing.box, (width, height), plate=thing.plate, painter=codec)
        return len(atom.payload) + len(writer.bytes()), sprite

    return code


def still(model: CodecModel, vae: Autoencoder) -> Coder:
    """Still mode, each box a picture of its own."""

    def code(thing: Thing, quality: int) -> tuple[int, Sprite]:
        window = Window.around(thing.box, 0)
        samples = grid_samples(thing.frame, window, 0)
        height, width = samples.shape[:2]
        whole = Region(label=0, score=1.0, box=Box(0, 0, width, height), track=0)
        packet = encode_frame(model, Frame("atom", 0, 0, samples), {"all": [whole]}, {"all": 1}, quality=quality)
        size = len(packet.coarse) + sum(len(atom.payload) for atom in packet.atoms)
        latent = decode_packet(model, packet).latent
        cells = np.ones((window.rows, window.columns), bool)
        return size, drawn_sprite(thing, window, decoded_samples(vae, latent, window), cells)

    return code


def frames_of(found: Sequence[Thing]) -> list[list[Thing]]:
    """Objects by the frame they are in, those lower in the picture last, as they are drawn."""
    frames: dict[int, list[Thing]] = {}
    for thing in found:
        frames.setdefault(id(thing.frame), []).append(thing)
    return [sorted(group, key=lambda thing: thing.box.y + thing.box.height) for group in frames.values()]


def truth_of(group: Sequence[Thing], judge: Detector) -> tuple[Detection, ...]:
    """What the judge finds in an original; what was not drawn need not be found."""
    boxes = [thing.box.pixels for thing in group]
    sure = as_truth(judge.detect(group[0].frame), faint=0.1)
    return tuple(
        one if any(one.box.iou(box) >= LEAST_OVERLAP for box in boxes) else replace(one, crowd=True) for one in sure
    )


def measured(name: str, code: Coder, setting: int, frames: Sequence[Sequence[Thing]], judge: Detector) -> Point:
    """A point of a curve: all objects coded at one setting, all frames composed and looked at."""
    bits, pixels, found = 0, 0, []
    for group in frames:
        drawn = []
        for thing in group:
            size, sprite = code(thing, setting)
            bits += 8 * size
            pixels += int(thing.mask.sum())
            drawn.append(Drawn(thing.box, sprite))
        found.append(judge.detect(compose(group[0].plate, drawn).image))
    truth = [truth_of(group, judge) for group in frames]
    known = sorted({one.label for each in truth for one in each if not one.crowd})
    ap50 = score_detections(truth, found, classes=known).ap50
    return Point(name, setting, bits / pixels, ap50, found_share(truth, found))


def found_share(truth: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]]) -> float:
    """The share of objects that are found again: as the same class, half overlapping, with a score that counts."""
    wanted = [(one, seen) for there, seen in zip(truth, found, strict=True) for one in there if not one.crowd]
    again = [
        any(each.label == one.label and each.score >= SURE and each.box.iou(one.box) >= LEAST_OVERLAP for each in seen)
        for one, seen in wanted
    ]
    return sum(again) / max(1, len(again))


def curves(coders: dict[str, Coder], frames: Sequence[Sequence[Thing]], judge: Detector) -> list[Point]:
    """All points, fewest bits first within each system."""
    points = [
        measured(name, code, setting, frames, judge)
        for name, code in coders.items()
        for setting in QUANTIZERS.get(name, QUALITIES)
    ]
    order = list(coders)
    return sorted(points, key=lambda point: (order.index(point.system), point.bpp))


def plot(points: Sequence[Point], title: str) -> bytes:
    """The curves as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    sides = figure.subplots(1, 2)
    for axes, measure in zip(sides, ("ap50", "found"), strict=True):
        for name in dict.fromkeys(point.system for point in points):
            own = [point for point in points if point.system == name]
            style = "--" if name.startswith("av1") else "-"
            heights = [getattr(point, measure) for point in own]
            axes.plot([point.bpp for point in own], heights, style, marker="o", markersize=3, label=name)
        axes.axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("bits per pixel of the masked area")
        axes.grid(alpha=0.25)
    sides[0].set_ylabel("AP50 in composed frames, mean over classes")
    sides[1].set_ylabel("share of objects found again")
    sides[1].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def half_of(path: Path, half: str) -> list[Image]:
    """Every third frame of one half of a clip."""
    with open_source(path, camera=path.stem) as source:
        frames = [frame.image for frame in source]
    middle = len(frames) // 2
    return (frames[:middle] if half == "first" else frames[middle:])[::3]


def coders_of(weights: Path) -> dict[str, Coder]:
    """AV1, and the codec of a weights folder with and without the plate."""
    model, vae = load_codec(weights / MODEL_FILE), load_vae(weights / VAE_FILE)
    learned = LatentCodec(model, autoencoder(vae))
    return {
        "av1 residual": av1(True),
        "av1 crop": av1(False),
        "still": still(model, vae),
        "key": key(learned),
        "key, finer": key(learned, finer),
    }


def main() -> None:
    """Print the points, write plot and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True, help="an ONNX detector")
    parser.add_argument("--weights", type=Path, default=shipped_weights(), help="folder of a codec and its autoencoder")
    parser.add_argument("--clips", nargs="+", default=list(CLIPS))
    parser.add_argument("--half", choices=("first", "second"), default="first")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    # Objects are what is surely there; the judge of the curve keeps what it doubts, as AP wants it.
    sure, judge = (load_detector(f"onnx:{chosen.judge}", floor=floor) for floor in (SURE, 0.01))
    found: list[Thing] = []
    for clip in chosen.clips:
        frames = half_of(chosen.data / "video" / f"{clip}.mp4", chosen.half)
        found += things(clip, frames, chosen.frames, sure)
    groups = frames_of(found)
    points = curves(coders_of(chosen.weights), groups, judge)
    print(f"{len(found)} objects in {len(groups)} frames, {chosen.half} halves of {', '.join(chosen.clips)}\n")
    print("| system | setting | bits per masked pixel | AP50 | found |\n|---|---|---|---|---|")
    for point in points:
        print(f"| {point.system} | {point.setting} | {point.bpp:.3f} | {point.ap50:.3f} | {point.found:.3f} |")
    if chosen.plot is not None:
        chosen.plot.write_bytes(plot(points, f"{', '.join(chosen.clips)}: {chosen.half} halves, {len(found)} objects"))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n")


if __name__ == "__main__":
    main()
