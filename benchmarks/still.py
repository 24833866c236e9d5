"""What the shipped weights give, in still mode: bits, picture quality, and what a detector still sees.

    python -m benchmarks.still --data ../shared/data [--judge ../shared/weights/yolox_nano.onnx] [--frames 6]

Frames come from the second halves of the clips whose first halves were trained on, from clips that no
weights have seen, and from simulated streets with seeds that no training uses. All bytes of a packet
count. JPEG (Pillow, 4:2:0, optimised) stands beside each quality at its smallest size that is not below
ours, in column "jpeg bpp". A judge detector, where given, tells what share
of the vehicles it sees in the original it finds again (any vehicle class, IoU 0.5) in each decode.
"""

from __future__ import annotations

import argparse
import io
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage

from discover_stream.codec.packet import packet_bytes, route, task_key
from discover_stream.codec.still import encode_frame
from discover_stream.decoding import FrameDecoder
from discover_stream.semantics.detector import CLASSES
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import Box, Frame, Image
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.source import open_source

CLIPS = {
    "carpark.mp4": "second half",
    "suburb.mp4": "second half",
    "topdown.mp4": "second half",
    "motorway_fog.mp4": "second half",
    "motorway_trucks.mp4": "unseen",
    "crossing.mp4": "unseen",
}
VEHICLES = ("bicycle", "car", "motorcycle", "bus", "truck")
QUALITIES = (1, 3, 5, 8)
TASK = "vehicles"

Judge = Callable[[Image], list[Box]]


@dataclass(frozen=True)
class Row:
    """Means over the frames of one source at one quality."""

    source: str
    quality: int
    figures: dict[str, float]


def psnr(first: Image, second: Image, mask: npt.NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, over a mask (H, W) where given."""
    error = np.square(first.astype(np.float64) - second).mean(axis=2)
    mean = error.mean() if mask is None else error[mask].mean()
    return float(10 * np.log10(255**2 / max(mean, 1e-9)))


def jpeg_of_size(image: Image, size: int) -> tuple[Image, int]:
    """The smallest JPEG of at least `size` bytes (or the largest there is), decoded, and its bytes."""
    data = b""
    for quality in range(1, 96):
        buffer = io.BytesIO()
        PillowImage.fromarray(image).save(buffer, "jpeg", quality=quality, optimize=True)
        data = buffer.getvalue()
        if len(data) >= size:
            break
    return np.asarray(PillowImage.open(io.BytesIO(data))), len(data)


def found_again(truth: Sequence[Box], left: list[Box]) -> int:
    """How many of the boxes on the original are found again (IoU 0.5) among those on the decode, which it uses up."""
    hits = 0
    for box in truth:
        best = max(left, key=box.iou, default=None)
        if best is not None and box.iou(best) >= 0.5:
            hits += 1
            left.remove(best)
    return hits


def clip_frames(path: Path, count: int) -> list[Image]:
    """`count` frames spread over the second half of a clip."""
    with open_source(str(path), camera=path.stem) as source:
        pictures = [frame.image for frame in source]
    chosen = np.linspace(len(pictures) // 2, len(pictures) - 1, count).astype(int)
    return [pictures[i] for i in chosen]


def simulated_frames(seed: int, count: int) -> list[Image]:
    """`count` frames of a simulated street."""
    camera = SimulatedCamera(f"sim-{seed}", seed=seed)
    return [camera.render(30 + 25 * i)[0].image for i in range(count)]


class Bench:
    """The shipped weights and a judge."""

    def __init__(self, judge: Judge | None) -> None:
        self.decoder = FrameDecoder.load()
        self.grounder = NanoGrounder.load()
        self.tasks = builtin_tasks()
        self.keys = {name: task_key(name, task.label_set.version) for name, task in self.tasks.items()}
        self.judge = judge

    def measure(self, source: str, pictures: Sequence[Image], quality: int) -> Row:
        """Mean figures over some pictures."""
        sums: dict[str, list[float]] = {}
        hits = {"task": 0, "all": 0, "jpeg": 0, "truth": 0}
        for index, image in enumerate(pictures):
            frame = Frame(source, index, 0, image)
            for key, value in self._one(frame, quality, hits).items():
                sums.setdefault(key, []).append(value)
        figures = {key: float(np.mean(values)) for key, values in sums.items()}
        if hits["truth"]:
            figures |= {f"found {k}": hits[k] / hits["truth"] for k in ("task", "all", "jpeg")}
        return Row(source, quality, figures)

    def _one(self, frame: Frame, quality: int, hits: dict[str, int]) -> dict[str, float]:
        image = frame.image
        pixels = image.shape[0] * image.shape[1]
        (regions,) = self.grounder.ground([image], [task.label_set for task in self.tasks.values()])
        packet = encode_frame(self.decoder.model, frame, regions, self.keys, quality=quality)
        substream = route(packet, {self.keys[TASK]})
        size, task_size = len(packet_bytes(packet)), len(packet_bytes(substream))
        everything = self.decoder.decode(packet, camera=frame.camera).image
        plain = self.decoder.decode(packet, camera=frame.camera, generate=False).image
        task = self.decoder.decode(substream, camera=frame.camera).image
        jpeg, jpeg_size = jpeg_of_size(image, size)
        inside = np.zeros(image.shape[:2], dtype=bool)
        for region in regions[TASK]:
            box = region.box
            inside[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1] = True
        figures = {
            "bpp all": size * 8 / pixels,
            "bpp task": task_size * 8 / pixels,
            "coarse": len(packet.coarse) * 8 / pixels,
            "psnr all": psnr(everything, image),
            "psnr plain": psnr(plain, image),
            "jpeg bpp": jpeg_size * 8 / pixels,
            "jpeg psnr": psnr(jpeg, image),
        }
        if inside.any():
            figures["psnr in vehicles"] = psnr(task, image, inside)
            figures["jpeg in vehicles"] = psnr(jpeg, image, inside)
        if self.judge is not None:
            truth = self.judge(image)
            for name, decode in (("task", task), ("all", everything), ("jpeg", jpeg)):
                hits[name] += found_again(truth, self.judge(decode))
            hits["truth"] += len(truth)
        return figures


def yolox_judge(path: Path) -> Judge:
    """YOLOX as the judge: boxes of vehicles with a score of at least 0.3."""
    teacher = YoloxTeacher(path)

    def boxes(image: Image) -> list[Box]:
        found = teacher.detect(image)
        return [
            Box(*map(float, box))
            for box, kind in zip(found.boxes, found.classes, strict=True)
            if CLASSES[int(kind)] in VEHICLES
        ]

    return boxes


def print_table(rows: Sequence[Row]) -> None:
    """The rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    print("| source | q | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for row in rows:
        cells = [f"{row.figures[name]:.3f}" if name in row.figures else "" for name in names]
        print(f"| {row.source} | {row.quality} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(yolox_judge(arguments.judge) if arguments.judge else None)
    sources = {
        f"{name} ({kind})": clip_frames(arguments.data / "video" / name, arguments.frames)
        for name, kind in CLIPS.items()
        if (arguments.data / "video" / name).exists()
    }
    sources |= {f"simulated, seed {seed}": simulated_frames(seed, arguments.frames) for seed in (3, 8)}
    print(f"{platform.processor() or platform.machine()}, {date.today()}, model {bench.decoder.model.short_hash.hex()}")
    print_table([bench.measure(name, pictures, q) for name, pictures in sources.items() for q in QUALITIES])


if __name__ == "__main__":
    main()
