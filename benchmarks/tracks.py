"""How well objects are followed when not every frame is grounded: `python -m benchmarks.tracks`.

On simulated streets, whose exact truth is known, with seeds that neither the grounder nor the tracker was tuned on.
Every frame is compared, carried ones too. `nano` tracks what the shipped grounder finds, `exact` the true boxes (so
that what is left is the tracker's own doing); `held` leaves boxes where they were found instead of moving them on.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import packet_bytes, task_key
from discover_stream.codec.still import encode_frame
from discover_stream.evaluation.track_quality import Boxes, TrackQuality, TrueFrame, track_quality
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import load_label_set
from discover_stream.semantics.tags import picture_tags
from discover_stream.semantics.tracking import Tracker, TrackOptions
from discover_stream.types import Frame, Region, TaskOptions
from discover_stream.video.simulate import SimulatedCamera

SIZE = (640, 352)
EVERY = (1, 2, 3, 5)
LEAST_SIDE = 10.0
LEAST_VISIBLE = 0.35
"""What is smaller (longer side, pixels) or less visible is neither asked for nor counted as wrong."""

TASK = "everything"


@dataclass(frozen=True)
class Seen:
    """One frame: its truth, and what the grounder found in it."""

    truth: TrueFrame
    found: tuple[Region, ...]


def watch(seed: int, seconds: float, fps: float, grounder: NanoGrounder) -> Iterator[Seen]:
    """Ground a simulated street frame by frame."""
    labels = load_label_set(TASK)
    for frame, there in SimulatedCamera(
        "street", width=SIZE[0], height=SIZE[1], fps=fps, seed=seed, duration_s=seconds
    ):
        objects, excused = {}, []
        for one in there:
            longer = max(one.box.x1 - one.box.x0, one.box.y1 - one.box.y0)
            if longer < LEAST_SIDE or one.visible < LEAST_VISIBLE:
                excused.append(one.box)
            else:
                objects[one.track] = one.box
        (found,) = grounder.ground([frame.image], [labels])
        yield Seen(TrueFrame(objects, tuple(excused)), found[TASK])


def exact(seen: Seen) -> tuple[Region, ...]:
    """What a grounder without fault would find."""
    return tuple(Region(0, 1.0, box) for box in seen.truth.objects.values())


def followed(
    regions: Sequence[tuple[Region, ...]], every: int, *, held: bool = False, options: TrackOptions | None = None
) -> list[Boxes]:
    """Track id -> box of each frame, when every n-th is grounded."""
    tracker, last = Tracker(options=options), ()  # type: tuple[Tracker, tuple[Region, ...]]
    result: list[Boxes] = []
    for number, found in enumerate(regions):
        if number % every == 0:
            last = tracker.update({TASK: found}, *SIZE)[TASK]
        elif not held:
            last = tracker.carry(*SIZE)[TASK]
        result.append({region.track: region.box for region in last if region.track})
    return result


def line(name: str, quality: TrackQuality) -> str:
    """A row of the table."""
    recall, precision = quality.hits / quality.objects, quality.hits / max(1, quality.hits + quality.extra)
    return (
        f"| {name} | {quality.mota:.3f} | {quality.idf1:.3f} | {quality.switches} | {recall:.3f} | {precision:.3f} "
        f"| {quality.iou:.3f} |"
    )


def table(streets: Mapping[int, Sequence[Seen]]) -> Iterator[str]:
    """Rows over all streets."""
    yield "| boxes, grounded frames | MOTA | IDF1 | switches | recall | precision | mean IoU |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for source, of in (("nano", lambda seen: seen.found), ("exact", exact)):
        for every in EVERY:
            for held in (False, True) if every > 1 else (False,):
                total = TrackQuality()
                for frames in streets.values():
                    boxes = followed([of(seen) for seen in frames], every, held=held)
                    total += track_quality(zip((seen.truth for seen in frames), boxes, strict=True))
                what = "every" if every == 1 else f"every {every}."
                yield line(f"{source}, {what}{', held' if held else ''}", total)


def delivery(streets: Mapping[int, Sequence[Seen]], fps: float) -> Iterator[str]:
    """What regions and tags cost in packets without pixels."""
    codec, key = load_codec(), task_key(TASK, 1)
    blank = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    bare = tagged = regions = tags = frames = 0
    for street in streets.values():
        tracker = Tracker()
        for seq, seen in enumerate(street):
            found = tracker.update({TASK: seen.found}, *SIZE)
            names = picture_tags(found[TASK])
            packet = encode_frame(
                codec,
                Frame("street", seq, seq * 10**8, blank),
                found,
                {TASK: key},
                quality=4,
                options={TASK: TaskOptions("regions")},
                tags={TASK: names},
            )
            frames, regions, tags = frames + 1, regions + len(packet.regions), tags + len(names)
            tagged += len(packet_bytes(packet))
            bare += len(packet_bytes(dataclasses.replace(packet, tags=())))
    kbps = bare * 8e-3 * fps / frames
    yield f"regions only: {bare / frames:.1f} bytes a packet with {regions / frames:.1f} regions, {kbps:.2f} kbit/s;"
    yield f"tags add {8 * (tagged - bare) / frames:.1f} bits a packet with {tags / frames:.1f} tags"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102], help="of simulated streets")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each street")
    parser.add_argument("--fps", type=float, default=10.0, help="frames a second")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grounder = NanoGrounder.load()
    streets = {seed: tuple(watch(seed, arguments.seconds, arguments.fps, grounder)) for seed in arguments.seeds}
    frames = sum(len(street) for street in streets.values())
    boxes = sum(len(seen.truth.objects) for street in streets.values() for seen in street)
    print(f"{len(streets)} streets, {frames} frames at {arguments.fps:g} a second, {boxes} true boxes\n")
    for row in table(streets):
        print(row)
    print()
    for row in delivery(streets, arguments.fps):
        print(row)
    start = time.perf_counter()
    for street in streets.values():
        followed([seen.found for seen in street], 1)
    print(f"\ntracking takes {1e3 * (time.perf_counter() - start) / frames:.2f} ms a frame")


if __name__ == "__main__":
    main()
