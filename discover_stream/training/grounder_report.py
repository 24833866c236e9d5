"""Measure a grounder: `python -m discover_stream.training.grounder_report --data DIR --teacher YOLOX.onnx`.

On pictures that did not shape the weights, against the teacher's findings in one look at each frame and
against the simulator's exact boxes; with `--linked` also against the teacher's findings linked in time, which is
slow, for the teacher then looks at every frame and at its tiles. Prints one Markdown table; `--pictures DIR` also
draws.

Settings must be chosen on other pictures than those that are reported: `--tuning` measures on the first halves of the
clips that shape weights and on simulated cameras of its own, for as many `--threshold`s as are given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from discover_stream.semantics.detector import CLASSES, Detections, DetectOptions, detect
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.training.pseudo_labels import (
    ClipPlan,
    FloatArray,
    Sample,
    intersection,
    iou_matrix,
    label_clip,
    read_clip,
    simulate_samples,
)
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import Image, InputError

CLIPS = (
    "carpark.mp4",
    "suburb.mp4",
    "topdown.mp4",
    "motorway_fog.mp4",
    "motorway_trucks.mp4",
    "crossing.mp4",
    "motorway_low.avi",
)
TUNING_CLIPS = CLIPS[:4]
SIMULATED_SEEDS = range(100, 110)
"""Simulated cameras to measure on; training uses others."""
TUNING_SEEDS = range(6000, 6008)
"""Simulated cameras to choose settings on; neither training nor the measurement uses them."""
MIN_SIDE = 8.0
"""Objects whose longer side is below this many pixels are neither asked for nor counted as wrong."""

Group = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Counts:
    """Found and true (`hits`), found but not true (`extra`), true but not found (`missed`)."""

    hits: int = 0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.hits + other.hits, self.extra + other.extra, self.missed + other.missed)

    @property
    def recall(self) -> float:
        """Share of the truth that was found; nan without truth."""
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else float("nan")

    @property
    def precision(self) -> float:
        """Share of the findings that are true; nan without findings."""
        return self.hits / (self.hits + self.extra) if self.hits + self.extra else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; nan without truth and findings."""
        total = 2 * self.hits + self.extra + self.missed
        return 2 * self.hits / total if total else float("nan")


def count(found: FloatArray, truth: FloatArray, ignored: FloatArray, iou: float = 0.5) -> Counts:
    """Compare boxes (n, 4), best first, with true ones (m, 4): each true box is found at most once.

    Findings without a true box of their own that lie to half or more in an ignored box (k, 4) do not count.
    """
    free = np.ones(len(truth), bool)
    hits = extra = 0
    overlap = iou_matrix(found, truth)
    inside = intersection(found, ignored).max(1, initial=0) >= 0.5 * np.prod(found[:, 2:] - found[:, :2], -1)
    for row, excused in zip(overlap, inside, strict=True):
        best = int((row * free).argmax()) if len(truth) else 0
        if len(truth) and free[best] and row[best] >= iou:
            free[best] = False
            hits += 1
        elif not excused:
            extra += 1
    return Counts(hits, extra, int(free.sum()))


def compare(found: Detections, truth: Sample, wanted: Callable[[npt.NDArray[np.int64]], Group]) -> Counts:
    """Count one picture's findings of the wanted classes; small and ignored truth is excused."""
    mine = found.boxes[wanted(found.classes)]
    sides = (truth.boxes[:, 2:] - truth.boxes[:, :2]).max(1, initial=0)
    excused = truth.ignored | (sides < MIN_SIDE)
    asked = wanted(truth.classes) & ~excused
    return count(mine, truth.boxes[asked], truth.boxes[excused])


def is_vehicle(classes: npt.NDArray[np.int64]) -> Group:
    """Everything but people."""
    return np.asarray(classes != CLASSES.index("person"))


def is_person(classes: npt.NDArray[np.int64]) -> Group:
    """People."""
    return np.asarray(classes == CLASSES.index("person"))


def as_truth(image: Image, sure: Detections, doubtful: Detections) -> Sample:
    """A teacher's findings as truth; its doubtful ones are ignored."""
    return Sample(
        image,
        np.concatenate([sure.boxes, doubtful.boxes]),
        np.concatenate([sure.classes, doubtful.classes]),
        np.concatenate([np.zeros(len(sure), bool), np.ones(len(doubtful), bool)]),
    )


def truths(
    data: Path, teacher: YoloxTeacher, clips: Sequence[str], every: int, *, sure: float, linked: bool, tuning: bool
) -> Iterator[tuple[str, list[Sample]]]:
    """The labelled pictures to measure on, by name; with `tuning` those that settings may be chosen on.

    What the teacher finds from `sure` on is the truth, what it finds from 0.15 on is excused.
    """
    for clip in clips:
        frames = read_clip(data / "video" / clip, *((0.0, 0.5) if tuning else (0.5, 1.0)))
        looks = []
        for frame in frames[::every]:
            found = teacher.detect(frame, 0.15)
            unsure = found.scores < sure
            doubt = Detections(found.boxes[unsure], found.scores[unsure], found.classes[unsure])
            looks.append(as_truth(frame, found.above(sure), doubt))
        name = Path(clip).stem
        yield f"{name}, teacher", looks
        if linked and name not in ("motorway_trucks", "crossing"):  # linking needs a camera that stands still
            movers = "car" if name == "carpark" else None
            yield f"{name}, linked", label_clip(teacher, frames, ClipPlan(every, movers))
    yield "simulator", simulate_samples(TUNING_SEEDS if tuning else SIMULATED_SEEDS, per_seed=6)


def draw(image: Image, found: Detections, truth: Sample) -> Image:
    """A copy with the truth in green, ignored parts in grey and findings in red with class and score."""
    out = image.copy()
    for box, ignored in zip(truth.boxes.astype(int).tolist(), truth.ignored, strict=True):
        cv2.rectangle(out, box[:2], box[2:], (128, 128, 128) if ignored else (0, 255, 0), 1)
    for box, score, kind in zip(found.boxes.astype(int).tolist(), found.scores, found.classes, strict=True):
        cv2.rectangle(out, box[:2], box[2:], (255, 0, 0), 1)
        place = (box[0], max(8, box[1] - 2))
        cv2.putText(out, f"{CLASSES[kind]} {score:.2f}", place, cv2.FONT_HERSHEY_PLAIN, 0.7, (255, 0, 0))
    return out


def measure(found: Sequence[Detections], truth: Sequence[Sample]) -> tuple[Counts, Counts]:
    """Count the vehicles and the people of all pictures."""
    pairs = list(zip(found, truth, strict=True))
    vehicles = sum((compare(f, s, is_vehicle) for f, s in pairs), Counts())
    return vehicles, sum((compare(f, s, is_person) for f, s in pairs), Counts())


def row(name: str, threshold: float, vehicles: Counts, people: Counts) -> str:
    """One line of the table."""
    cells = [name, f"{threshold:.2f}"]
    for c in (vehicles, people):
        cells += [f"{c.hits + c.missed}", f"{c.recall:.2f}", f"{c.precision:.2f}", f"{c.f1:.2f}"]
    return "| " + " | ".join(cells) + " |\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the measurement; returns the exit code."""
    parser = argparse.ArgumentParser(prog="discover_stream.training.grounder_report", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with video/")
    parser.add_argument("--teacher", type=Path, required=True, help="YOLOX .onnx export")
    parser.add_argument("--weights", type=Path, help="instead of those shipped")
    parser.add_argument("--threshold", type=float, action="append", help="instead of the default (repeatable)")
    parser.add_argument("--long-side", type=int, default=DetectOptions().long_side, help="pixels of the input")
    parser.add_argument("--every", type=int, default=8, help="measure every n-th frame")
    parser.add_argument("--clip", action="append", choices=CLIPS, help="only this clip (repeatable)")
    parser.add_argument("--sure", type=float, default=0.3, help="score from which the teacher's findings are the truth")
    parser.add_argument("--linked", action="store_true", help="also against the linked teacher")
    parser.add_argument("--tuning", action="store_true", help="on the pictures that settings may be chosen on")
    parser.add_argument("--pictures", type=Path, help="folder for drawings")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    thresholds = args.threshold or [DetectOptions().threshold]
    options = DetectOptions(args.long_side, threshold=min(thresholds))
    clips = args.clip or (TUNING_CLIPS if args.tuning else CLIPS)
    try:
        grounder = NanoGrounder.load(args.weights, options)
        teacher = YoloxTeacher(args.teacher)
        sys.stdout.write("| pictures, truth | threshold | vehicles | R | P | F1 | people | R | P | F1 |\n")
        sys.stdout.write("|---|---|---|---|---|---|---|---|---|---|\n")
        kinds = {"sure": args.sure, "linked": args.linked, "tuning": args.tuning}
        for name, samples in truths(args.data, teacher, clips, args.every, **kinds):
            found = detect(grounder.network, [sample.image for sample in samples], options)
            for threshold in thresholds:
                sys.stdout.write(row(name, threshold, *measure([f.above(threshold) for f in found], samples)))
            sys.stdout.flush()
            if args.pictures is not None:
                args.pictures.mkdir(parents=True, exist_ok=True)
                for n in (0, len(samples) // 2):
                    picture = draw(samples[n].image, found[n], samples[n])[..., ::-1]
                    cv2.imwrite(str(args.pictures / f"{name.replace(', ', '_')}_{n}.png"), picture)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
