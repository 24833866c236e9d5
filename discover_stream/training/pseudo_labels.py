"""Labelled pictures for the nano grounder, made from a teacher, human labels and a simulator.

Three kinds of sources, all turned into `Sample`s:

* clips of fixed cameras: the teacher looks at every frame, its findings are linked in time, objects seen
  often count as truth even in the frames where the teacher was unsure or missed them, and
  what moves without a label is marked as *ignored*, so that the student is not taught to overlook it;
* photographs with labels of their own, completed by the teacher;
* any other truth (the simulator), as given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from discover_stream.semantics.detector import CLASSES, Detections
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import Image, InputError
from discover_stream.video.simulate import SimulatedCamera, TrueObject

FloatArray = npt.NDArray[np.float32]

SURE = 0.55
"""Teacher score from which a finding counts as truth without support from other frames."""
SURE_SUPPORTED = 0.3
"""The same for the best sight of an object that is seen often, and in photographs, which were taken of something."""
UNSURE = 0.12
"""Teacher score below which a finding is dropped; between the two it is ignored unless linked."""
MAX_GAP = 8
"""Frames that a linked object may go unseen and still be filled in between."""
MOVER_PART = 0.02
"""Part of the picture that a moving thing unknown to the teacher must fill to be named by its plan."""
MIN_HITS = 4
"""Frames in which a linked object must be seen for its weak findings to count as truth."""

PHOTO_CLASSES: tuple[str, ...] = ("truck", "bus", "car", "motorcycle", "truck")
"""The photographs' classes (ambulance, bus, car, motorcycle, truck) in ours: ambulances are box vans."""


SIMULATED_CLASSES: Mapping[str, str] = {
    "car": "car",
    "van": "car",
    "truck": "truck",
    "bus": "bus",
    "motorcycle": "motorcycle",
    "bicycle": "bicycle",
    "person": "person",
}
"""The simulator's kinds in our classes; what COCO calls a car includes vans."""

MIN_VISIBLE = 0.25
"""Part of a simulated object that must show for it to be worth finding."""


NO_LABELS: FloatArray = np.zeros((0, 5), np.float32)
"""The labels of a photograph that has none of its own; see `label_photo`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture.

    `image` is (H, W, 3) uint8 RGB; `boxes` (n, 4) float32 xyxy pixels; `classes` (n,) int64 indices
    into `CLASSES`; `ignored` (n,) bool marks boxes where nothing is taught, whatever their class.
    """

    image: Image
    boxes: FloatArray
    classes: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]


@dataclass(slots=True)
class _Chain:
    """One object linked through time: frame -> (box, score)."""

    seen: dict[int, tuple[FloatArray, float]] = field(default_factory=dict)
    votes: FloatArray = field(default_factory=lambda: np.zeros(len(CLASSES), np.float32))

    @property
    def last(self) -> int:
        return max(self.seen)

    def trusted(self) -> bool:
        return len(self.seen) >= MIN_HITS and max(score for _, score in self.seen.values()) >= SURE_SUPPORTED


def read_clip(path: Path, first: float = 0.0, last: float = 1.0) -> list[Image]:
    """Frames of a clip between two fractions of its length, (H, W, 3) uint8 RGB each.

    Raises:
        InputError: the file is missing or is not a video.
    """
    try:
        with av.open(str(path)) as container:
            frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise InputError(f"clip {path}: cannot be read as video ({error}); give a playable file") from error
    return frames[round(len(frames) * first) : round(len(frames) * last)]


def intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    """Area shared by every box of `a` (n, 4) with every box of `b` (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    out: FloatArray = np.prod(np.maximum(high - low, 0), -1)
    return out


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of every box of `a` (n, 4) with every box of `b` (m, 4): (n, m)."""
    inter = intersection(a, b)
    area_a = np.prod(a[:, 2:] - a[:, :2], -1)
    area_b = np.prod(b[:, 2:] - b[:, :2], -1)
    out: FloatArray = inter / np.maximum(area_a[:, None] + area_b[None] - inter, 1e-6)
    return out


def link(frames: Sequence[Detections], min_iou: float = 0.3) -> list[_Chain]:
    """Chains of detections that overlap from frame to frame, greedy, best overlap first."""
    chains: list[_Chain] = []
    live: list[_Chain] = []
    for t, found in enumerate(frames):
        live = [c for c in live if t - c.last <= MAX_GAP]
        free = set(range(len(found)))
        if live and len(found):
            overlap = iou_matrix(np.stack([c.seen[c.last][0] for c in live]), found.boxes)
            taken: set[int] = set()
            for flat in np.argsort(-overlap, axis=None, kind="stable"):
                row, column = divmod(int(flat), len(found))
                if overlap[row, column] < min_iou:
                    break
                if row in taken or column not in free:
                    continue
                taken.add(row)
                free.discard(column)
                _extend(live[row], t, found, column)
        for column in sorted(free):
            chain = _Chain()
            _extend(chain, t, found, column)
            chains.append(chain)
            live.append(chain)
    return chains


def _extend(chain: _Chain, t: int, found: Detections, column: int) -> None:
    score = float(found.scores[column])
    chain.seen[t] = (found.boxes[column], score)
    chain.votes[found.classes[column]] += score


def _fill_gaps(chain: _Chain) -> dict[int, FloatArray]:
    """The chain's box in every frame from first to last sight, straight lines through the gaps."""
    times = sorted(chain.seen)
    boxes = {t: chain.seen[t][0] for t in times}
    for a, b in pairwise(times):
        for t in range(a + 1, b):
            part = (t - a) / (b - a)
            boxes[t] = boxes[a] * (1 - part) + boxes[b] * part
    return boxes


@dataclass(frozen=True, slots=True)
class StillRange:
    """What a fixed camera shows while nothing passes: per pixel and channel, from `low` to `high`."""

    low: FloatArray
    high: FloatArray

    @staticmethod
    def of(frames: Sequence[Image]) -> StillRange:
        """Between the 10th and 90th percentile: swaying leaves are still, a passing car is not."""
        stack = np.stack(frames[:: max(1, len(frames) // 40)])
        low, high = np.percentile(stack, (10, 90), axis=0)
        return StillRange(low.astype(np.float32), high.astype(np.float32))


def moving_boxes(frame: Image, still: StillRange) -> FloatArray:
    """Boxes (n, 4) around what leaves the still range, after taking out the camera's change of exposure."""
    middle = (still.low + still.high) / 2
    x = frame.astype(np.float32)
    x -= np.median(x - middle, axis=(0, 1))
    diff = np.maximum(still.low - x, x - still.high).max(-1).clip(0)
    mask = (cv2.GaussianBlur(diff, (0, 0), 2.0) > 16).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    largest = 0.3 * frame.shape[0] * frame.shape[1]  # larger than that, it is the light
    rows = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:] if area >= 60 and w * h <= largest]
    return np.array(rows, np.float32).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How to label a clip: keep every `every`-th frame; where `movers` names a class, what moves and fills
    at least `MOVER_PART` of the picture is of that class (for views that the teacher does not understand)."""

    every: int
    movers: str | None = None


def label_clip(teacher: YoloxTeacher, frames: Sequence[Image], plan: ClipPlan) -> list[Sample]:
    """Label a fixed camera's clip; the teacher looks at all frames, the planned ones are returned."""
    found = [teacher.detect_tiled(frame, UNSURE) for frame in frames]
    truth: list[list[tuple[FloatArray, int, float]]] = [[] for _ in frames]
    doubt: list[list[FloatArray]] = [[] for _ in frames]
    for chain in link(found):
        kind, support = int(chain.votes.argmax()), float(chain.votes.sum())
        if chain.trusted():
            for t, box in _fill_gaps(chain).items():
                truth[t].append((box, kind, support))
            continue
        for t, (box, score) in chain.seen.items():
            if score >= SURE:
                truth[t].append((box, kind, support))
            else:
                doubt[t].append(box)
    still = StillRange.of(frames)
    samples = []
    for t in range(0, len(frames), plan.every):
        boxes, kinds = _one_each(truth[t])
        unlabelled = _not_covered(moving_boxes(frames[t], still), boxes)
        if plan.movers is not None:
            share = np.prod(unlabelled[:, 2:] - unlabelled[:, :2], -1) / frames[t][..., 0].size
            boxes = np.concatenate([boxes, unlabelled[share >= MOVER_PART]])
            kinds = np.append(kinds, np.full((share >= MOVER_PART).sum(), CLASSES.index(plan.movers)))
            unlabelled = unlabelled[share < MOVER_PART]
        ignored = np.concatenate([np.array(doubt[t], np.float32).reshape(-1, 4), unlabelled])
        samples.append(_sample(frames[t], boxes, kinds, ignored))
    return samples


def _one_each(found: list[tuple[FloatArray, int, float]]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """One box per object: where chains of the same object overlap, the one with most support stays."""
    kept: list[tuple[FloatArray, int, float]] = []
    for box, kind, support in sorted(found, key=lambda f: -f[2]):
        for other, other_kind, other_support in kept:
            if (kind >= CLASSES.index("car")) != (other_kind >= CLASSES.index("car")):
                continue
            shared = intersection(box[None], other[None])[0, 0]
            smaller, both = min(_area(box), _area(other)), _area(box) + _area(other) - shared
            part_of_it = shared > 0.75 * smaller and support < 0.5 * other_support
            if shared > 0.45 * both or part_of_it:
                break
        else:
            kept.append((box, kind, support))
    return (
        np.array([b for b, _, _ in kept], np.float32).reshape(-1, 4),
        np.array([k for _, k, _ in kept], np.int64),
    )


def _area(box: FloatArray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _not_covered(boxes: FloatArray, by: FloatArray) -> FloatArray:
    """The boxes that no box of `by` covers to at least half."""
    if not len(boxes) or not len(by):
        return boxes
    inter = intersection(boxes, by).sum(1)
    free: FloatArray = boxes[inter < 0.5 * np.prod(boxes[:, 2:] - boxes[:, :2], -1)]
    return free


def _sample(image: Image, boxes: FloatArray, classes: npt.NDArray[np.int64], ignored: FloatArray) -> Sample:
    return Sample(
        image,
        np.concatenate([boxes.reshape(-1, 4), ignored.reshape(-1, 4)]).astype(np.float32),
        np.concatenate([classes, np.zeros(len(ignored), np.int64)]),
        np.concatenate([np.zeros(len(boxes), bool), np.ones(len(ignored), bool)]),
    )


def label_photo(teacher: YoloxTeacher, image: Image, rows: FloatArray, sure: float = SURE_SUPPORTED) -> Sample:
    """Label a photograph: its own labels first, then what the teacher sees besides.

    Args:
        teacher: completes the labels.
        image: (H, W, 3) uint8 RGB.
        rows: (n, 5) class of the photographs, then centre x, y, width, height as fractions.
        sure: the teacher's score from which its finding counts as truth.
    """
    height, width = image.shape[:2]
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    own = np.concatenate([centre - half, centre + half], 1) * np.array([width, height] * 2)
    own = own.astype(np.float32)
    kinds = np.array([CLASSES.index(PHOTO_CLASSES[int(c)]) for c in rows[:, 0]], np.int64)
    found = teacher.detect(image, UNSURE)  # no tiles: what a photograph shows is large
    fresh = np.ones(len(found), bool)
    if len(own) and len(found):
        clash = iou_matrix(found.boxes, own).max(1) >= 0.5
        fresh = ~(clash & (found.classes >= CLASSES.index("car")))
    trusted = fresh & (found.scores >= sure)
    doubt = fresh & ~trusted
    return _sample(
        image,
        np.concatenate([own, found.boxes[trusted]]),
        np.concatenate([kinds, found.classes[trusted]]),
        found.boxes[doubt],
    )


def simulated_truth(image: Image, objects: Sequence[TrueObject]) -> Sample:
    """A simulated frame with its exact boxes; what is mostly hidden is ignored."""
    visible = np.array([o.visible for o in objects], np.float32)
    return Sample(
        image,
        np.array([(o.box.x0, o.box.y0, o.box.x1, o.box.y1) for o in objects], np.float32).reshape(-1, 4),
        np.array([CLASSES.index(SIMULATED_CLASSES[o.kind]) for o in objects], np.int64),
        visible < MIN_VISIBLE,
    )


def simulate_samples(seeds: Iterable[int], per_seed: int, size: tuple[int, int] = (640, 352)) -> list[Sample]:
    """Frames of simulated cameras of (width, height) pixels, far apart in time, with their truth."""
    samples = []
    for seed in seeds:
        camera = SimulatedCamera(f"training-{seed}", width=size[0], height=size[1], seed=seed)
        for n in range(per_seed):
            frame, objects = camera.render(37 + 113 * n)  # 11 s apart: other cars in other places
            samples.append(simulated_truth(frame.image, objects))
    return samples


def read_pictures(folder: Path) -> list[Image]:
    """Photographs (JPEG, PNG) of a folder without labels, in the order of names, (H, W, 3) uint8 RGB each.

    Raises:
        InputError: there are no pictures, or one is damaged.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise InputError(f"photographs {folder}: no *.jpg or *.png there; give the folder of the training data")
    return [_picture(path) for path in paths]


def _picture(path: Path) -> Image:
    try:
        return np.asarray(PIL.Image.open(path).convert("RGB"), np.uint8)
    except OSError as error:
        raise InputError(f"photograph {path}: not a picture; replace or remove it") from error


def read_photos(folder: Path) -> list[tuple[Image, FloatArray]]:
    """Photographs of a folder with `images/*.jpg` and YOLO `labels/*.txt`, in the order of names.

    Raises:
        InputError: there are no pictures.
    """
    photos = []
    for path in sorted((folder / "images").glob("*.jpg")):
        text = (folder / "labels" / f"{path.stem}.txt").read_text()
        rows = [[float(v) for v in line.split()[:5]] for line in text.splitlines() if line.strip()]
        photos.append((_picture(path), np.array(rows, np.float32).reshape(-1, 5)))
    if not photos:
        raise InputError(f"photographs {folder}: no images/*.jpg there; give the folder of the training data")
    return photos
