"""What is measured on: parts of clips, simulated streets, sets of pictures, each with its regions and truth.

Discipline: clips that shaped weights give their second halves only, as training took the first; data that
no training saw (`measure`) is reported apart; simulated streets use seeds below 1000, training those above.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from discover_stream.evaluation.boxes import Detection, relabelled
from discover_stream.evaluation.detectors import Detector
from discover_stream.evaluation.systems import Clip
from discover_stream.evaluation.truth import (
    VEHICLES_AS_COCO,
    read_coco,
    read_picture,
    read_yolo,
    simulated_truth,
)
from discover_stream.types import Box, Image, InputError, Region
from discover_stream.video.simulate import TrueObject
from discover_stream.video.source import open_source, simulated_camera

Group = Literal["second half of a training clip", "never seen", "simulated", "training pictures"]
RegionSource = Literal["grounder", "judge", "exact"]
"""Whose boxes the systems are given: the shipped grounder's, the first judge's, the simulator's exact ones."""

TRAINED_CLIPS = ("carpark.mp4", "suburb.mp4", "topdown.mp4", "motorway_fog.mp4")
UNSEEN_CLIPS = ("motorway_trucks.mp4", "crossing.mp4", "motorway_low.avi")
STREETS = ("sim://road?seed=3", "sim://road?seed=8", "sim://turn?seed=4", "sim://tunnel?seed=4", "sim://clouds?seed=4")
VEHICLE_NAMES = ("ambulance", "bus", "car", "motorcycle", "truck")
ROAD_USERS = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
"""COCO classes that tasks on streets ask for; other classes of a judge are not looked at."""
LABELLED_VEHICLES = ("bus", "car", "motorcycle", "truck")
"""Classes that the labels of `vehicles` cover: a person found there is neither right nor wrong."""
VISIBLE = 0.25
"""Simulated objects of which less is visible are not handed to the systems."""


@dataclass(frozen=True)
class ItemSpec:
    """What to measure on, cheap to make: no picture is read.

    Attributes:
        name: in tables.
        uri: a file, a folder, or `sim://road?...`.
        kind: `video` or `pictures`.
        group: how it stands to training.
        digest: of the data, hexadecimal; an address of the simulator is its own.
        seconds: of a clip.
        fps: of a clip.
        count: pictures of a folder.
        regions: whose boxes the systems get.
    """

    name: str
    uri: str
    kind: Literal["video", "pictures"]
    group: Group
    digest: str
    seconds: float = 8.0
    fps: float = 10.0
    count: int = 0
    regions: RegionSource = "grounder"

    def identity(self) -> dict[str, object]:
        """What a stored result depends on: the data by content, not by place."""
        shown = {key: value for key, value in vars(self).items() if key != "uri"}
        return shown | {"uri": self.uri if self.uri.startswith("sim:") else Path(self.uri).name}


@dataclass(frozen=True)
class Item:
    """Pictures, what the task wants of them, and what is really there where that is known.

    `truth` is per frame over all clips, or None where a judge's own boxes on the originals have to serve; `classes`
    are those that truth covers: others are not looked at.
    """

    spec: ItemSpec
    clips: tuple[Clip, ...]
    truth: tuple[tuple[Detection, ...], ...] | None
    classes: tuple[str, ...] = ROAD_USERS

    @property
    def frames(self) -> tuple[Image, ...]:
        """All pictures."""
        return tuple(frame for clip in self.clips for frame in clip.frames)

    @property
    def pixels(self) -> int:
        """Of all pictures."""
        return sum(frame.shape[0] * frame.shape[1] for frame in self.frames)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of the names and sizes and contents of a folder's files. 16 hexadecimal digits.

    Raises:
        InputError: there is nothing there.
    """
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise InputError(f"{path}: there is no data here; give --data a folder as described in docs/evaluation.md")
    for file in files:
        digest.update(file.name.encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def video_items(data: Path | None, seconds: float, fps: float, regions: RegionSource) -> tuple[ItemSpec, ...]:
    """The clips of a data folder (those that exist) and the simulated streets."""
    groups: tuple[tuple[Group, tuple[str, ...]], ...] = (
        ("second half of a training clip", TRAINED_CLIPS),
        ("never seen", UNSEEN_CLIPS),
    )
    specs = [
        ItemSpec(path.stem, str(path), "video", group, digest_of(path), seconds, fps, regions=regions)
        for group, names in groups
        for path in ([data / "video" / name for name in names] if data else [])
        if path.exists()
    ]
    return (*specs, *(street(uri, seconds, fps, regions) for uri in STREETS))


def street(uri: str, seconds: float, fps: float, regions: RegionSource) -> ItemSpec:
    """A simulated street."""
    name = uri.removeprefix("sim://").replace("road?", "street ")
    for sign in "?&=":
        name = name.replace(sign, " ")
    return ItemSpec(name, uri, "video", "simulated", "", seconds, fps, regions=regions)


def picture_items(data: Path | None, count: int, regions: RegionSource) -> tuple[ItemSpec, ...]:
    """The picture sets of a data folder (those that exist) and pictures of simulated streets."""
    sets: tuple[tuple[str, str, Group], ...] = (
        ("kodak", "kodak", "never seen"),
        ("camvid", "camvid/images", "never seen"),
        ("coco", "coco", "never seen"),
        ("vehicles", "vehicles", "training pictures"),
    )
    specs = [
        ItemSpec(name, str(data / folder), "pictures", group, digest_of(data / folder), 0, 0, count, regions)
        for name, folder, group in sets
        if data and (data / folder).is_dir()
    ]
    streets = ItemSpec("streets", "sim://road?seed=20", "pictures", "simulated", "", 0, 0, count, regions)
    return (*specs, streets)


def chosen(specs: Sequence[ItemSpec], names: Sequence[str]) -> tuple[ItemSpec, ...]:
    """Those of some names; all where no name is given.

    Raises:
        InputError: a name that is not there.
    """
    known = {spec.name: spec for spec in specs}
    for name in names:
        if name not in known:
            raise InputError(f"there is no {name!r} to measure on; use {', '.join(known)}, or look at --data")
    return tuple(known[name] for name in names) if names else tuple(specs)


T = TypeVar("T")

Finder = Callable[[Image], Sequence[Region]]
"""Finds the regions of the task in one picture."""


def load_item(spec: ItemSpec, finders: Mapping[RegionSource, Finder]) -> Item:
    """Read the pictures, find the regions, track them.

    Args:
        spec: what to load.
        finders: by the source of regions; `exact` needs none, and falls back to `grounder` where nothing is exact.

    Raises:
        InputError: the data cannot be read.
    """
    if spec.kind == "pictures":
        return _load_pictures(spec, finders)
    if spec.uri.startswith("sim:"):
        frames, objects = _render(spec.uri, spec.fps, range(round(spec.seconds * spec.fps)))
        return _item(spec, frames, objects, finders)
    with open_source(spec.uri, camera=spec.name, fps=spec.fps) as source:
        pictures = [frame.image for frame in source]
        problem = source.problem
    later = later_half(pictures) if spec.group == "second half of a training clip" else pictures
    if not later:
        raise InputError(problem or f"{spec.uri}: there is nothing in its second half; use a longer clip")
    return _item(spec, later[: round(spec.seconds * spec.fps)], None, finders)


def later_half(pictures: Sequence[Image]) -> Sequence[Image]:
    """A clip's second half. Training ends at half the duration; the frame on the border belongs to neither half."""
    return pictures[len(pictures) // 2 + 1 :]


def _render(uri: str, fps: float, seqs: Sequence[int]) -> tuple[list[Image], list[tuple[TrueObject, ...]]]:
    camera = simulated_camera(f"{uri}{'&' if '?' in uri else '?'}fps={fps:g}" if fps else uri, "street")
    rendered = [camera.render(seq) for seq in seqs]
    return [frame.image for frame, _ in rendered], [things for _, things in rendered]


def _item(
    spec: ItemSpec,
    frames: Sequence[Image],
    objects: Sequence[tuple[TrueObject, ...]] | None,
    finders: Mapping[RegionSource, Finder],
) -> Item:
    regions = _regions(spec, frames, objects, finders)
    clip = Clip(spec.name, tuple(frames), spec.fps, _tracked(frames, regions))
    truth = tuple(simulated_truth(things) for things in objects) if objects is not None else None
    return Item(spec, (clip,), truth)


def _regions(
    spec: ItemSpec,
    frames: Sequence[Image],
    objects: Sequence[tuple[TrueObject, ...]] | None,
    finders: Mapping[RegionSource, Finder],
) -> list[tuple[Region, ...]]:
    if spec.regions == "exact" and objects is not None:
        return [tuple(Region(0, 1.0, thing.box) for thing in things if thing.visible >= VISIBLE) for things in objects]
    finder = finders["grounder" if spec.regions == "exact" else spec.regions]
    return [tuple(finder(frame)) for frame in frames]


def _tracked(frames: Sequence[Image], regions: Sequence[tuple[Region, ...]]) -> tuple[tuple[Region, ...], ...]:
    from discover_stream.semantics.tracking import Tracker

    tracker, linked = Tracker(), []
    for image, found in zip(frames, regions, strict=True):
        height, width = image.shape[:2]
        linked.append(tracker.update({"task": found}, width, height)["task"])
    return tuple(linked)


def _load_pictures(spec: ItemSpec, finders: Mapping[RegionSource, Finder]) -> Item:
    truth: list[tuple[Detection, ...]] | None = None
    objects: list[tuple[TrueObject, ...]] | None = None
    classes: tuple[str, ...] = ROAD_USERS
    if spec.uri.startswith("sim:"):
        images, objects, truth = [], [], []
        for index in range(spec.count):
            frames, things = _render(f"sim://road?seed={20 + index}", 0, [40 + 13 * index])
            images += frames
            objects += things
            truth += [simulated_truth(things[0])]
    elif (Path(spec.uri) / "labels").is_dir():
        labelled = read_yolo(Path(spec.uri) / "images", Path(spec.uri) / "labels", VEHICLE_NAMES)
        picked = _spread(labelled, spec.count)
        images = [picture.image() for picture in picked]
        truth = [relabelled(picture.truth, VEHICLES_AS_COCO) for picture in picked]
        classes = LABELLED_VEHICLES
    elif (Path(spec.uri) / "instances.json").is_file():
        picked = _spread(read_coco(Path(spec.uri) / "instances.json", Path(spec.uri) / "images"), spec.count)
        images = [picture.image() for picture in picked]
        truth = [tuple(one for one in picture.truth if one.label in ROAD_USERS) for picture in picked]
    else:
        files = sorted(path for path in Path(spec.uri).iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        images = [read_picture(path) for path in _spread(files, spec.count)]
    regions = _regions(spec, images, objects, finders)
    clips = tuple(
        Clip(f"{spec.name} {number}", (image,), 0.0, (found,))
        for number, (image, found) in enumerate(zip(images, regions, strict=True))
    )
    return Item(spec, clips, None if truth is None else tuple(truth), classes)


def _spread(things: Sequence[T], count: int) -> list[T]:
    """`count` of them, evenly spread; all where there are fewer or `count` is 0."""
    if not count or len(things) <= count:
        return list(things)
    return [things[index * len(things) // count] for index in range(count)]


def without_whole(regions: Sequence[Region], image: Image) -> tuple[Region, ...]:
    """Regions without those that are the whole picture: they are a scene's, not an object's."""
    whole = Box(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    return tuple(region for region in regions if region.box != whole)


def grounder_finder() -> Finder:
    """The shipped grounder, asked for vehicles and pedestrians; each box once."""
    from discover_stream.semantics.grounder import NanoGrounder
    from discover_stream.semantics.labels import builtin_tasks

    grounder, tasks = NanoGrounder.load(), builtin_tasks()
    sets = [tasks[name].label_set for name in ("vehicles", "pedestrians")]

    def find(image: Image) -> tuple[Region, ...]:
        (found,) = grounder.ground([image], sets)
        boxes: dict[Box, Region] = {}
        for region in itertools.chain.from_iterable(found.values()):
            boxes.setdefault(region.box, replace(region, label=0))
        return without_whole(tuple(boxes.values()), image)

    return find


def judge_finder(judge: Detector, score: float = 0.3) -> Finder:
    """A judge's own boxes: what an ideal grounder would give the systems."""

    def find(image: Image) -> tuple[Region, ...]:
        return tuple(
            Region(0, one.score, one.box)
            for one in judge.detect(image)
            if one.score >= score and one.label in ROAD_USERS
        )

    return find
