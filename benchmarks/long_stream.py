"""Does a long stream stay as it is? Rate, plates and memory of stream mode's encoder, minute by minute.

    python -m benchmarks.long_stream [--source ../shared/data/video/suburb.mp4] [--minutes 10] [--fps 10] [--scale 1]
        [--quality 4] [--seconds 8] [--json FILE]

The second half of a clip (at most --seconds of it) is shown forwards and backwards again and again; without --source, a
simulated street. Over it goes the light of a day: it falls to 60 % and comes back within the time that is measured,
in steps too small to see; and at 60 % of that time a cloud takes a quarter of it within a second, for 20 s. Regions
are the shipped grounder's on the clip as it is (of the simulated street, the exact ones), so that what is measured is
the encoder alone; objects are tracked all the way. A table with a row a minute:

* kbit/s, and those of plates in it;
* plates that stand alone, that change cells, the light, or the place (a packet may bring two);
* resident memory at the end of the minute;
* milliseconds of the encoder a frame.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from discover_stream.codec.plates import Plate
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.evaluation.datasets import VISIBLE, grounder_finder, later_half
from discover_stream.evaluation.ours_stream import KEY, MODEL, TASK
from discover_stream.semantics.tracking import Tracker
from discover_stream.types import Frame, Image, InputError, Region
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.source import open_source

NIGHT, CLOUD = 0.6, 0.75
"""Shares of the light that the evening and a cloud leave."""
CLOUD_AT, CLOUD_S, SETS_IN_S = 0.6, 20.0, 1.0
SIZE = (640, 352)


@dataclass(frozen=True)
class Shot:
    """One picture of the loop, with what is in it."""

    image: Image
    regions: tuple[Region, ...]


@dataclass
class Minute:
    """What was sent within a minute, in bytes and numbers of plates; memory in MB, milliseconds a frame."""

    minute: int
    frames: int = 0
    bytes: int = 0
    plate_bytes: int = 0
    whole: int = 0
    cells: int = 0
    tone: int = 0
    warp: int = 0
    encode_ms: float = 0.0
    memory_mb: float = 0.0
    light: float = 1.0

    def add(self, plate: Plate) -> None:
        """Count a plate."""
        self.plate_bytes += len(plate.payload or b"")
        self.whole += not plate.parent
        self.cells += plate.cells is not None and plate.parent > 0
        self.tone += plate.tone is not None
        self.warp += plate.warp is not None

    def row(self, fps: float) -> str:
        """A line of the table."""
        seconds = self.frames / fps
        rates = " | ".join(f"{8 * count / seconds / 1000:.1f}" for count in (self.bytes, self.plate_bytes))
        counts = f"{self.whole} | {self.cells} | {self.tone} | {self.warp}"
        return (
            f"| {self.minute} | {self.light:.2f} | {rates} | {counts} | {self.memory_mb:.0f} "
            f"| {self.encode_ms / self.frames:.0f} |"
        )


def light_at(second: float, length: float) -> float:
    """The share of the day's light, `second` seconds into a measurement of `length` seconds."""
    day = 1 - (1 - NIGHT) * (1 - math.cos(2 * math.pi * second / length)) / 2
    since = second - CLOUD_AT * length
    inside = min(max(since / SETS_IN_S, 0.0), 1.0) - min(max((since - CLOUD_S) / SETS_IN_S, 0.0), 1.0)
    return day * (1 - (1 - CLOUD) * inside)


def relit(image: Image, light: float) -> Image:
    """A picture with a share of its light."""
    table = np.rint(np.arange(256) * light).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def scaled(image: Image, scale: float) -> Image:
    """A picture of other size, with even sides."""
    if scale == 1:
        return image
    size = [max(2, round(side * scale / 2) * 2) for side in (image.shape[1], image.shape[0])]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def clip_shots(path: Path, fps: float, seconds: float, scale: float) -> list[Shot]:
    """The second half of a clip, with what the shipped grounder finds.

    Raises:
        InputError: it cannot be read.
    """
    with open_source(str(path), camera=path.stem, fps=fps) as source:
        images = [scaled(frame.image, scale) for frame in source]
    find = grounder_finder()
    later = later_half(images)[: round(seconds * fps)]
    if len(later) < 2:
        raise InputError(f"{path}: there are no two pictures in its second half; use a longer clip")
    return [Shot(image, tuple(find(image))) for image in later]


def street_shots(fps: float, seconds: float, scale: float) -> list[Shot]:
    """A simulated street, with exact regions."""
    width, height = (round(side * scale / 2) * 2 for side in SIZE)
    camera = SimulatedCamera("street", width=width, height=height, fps=fps, seed=3, duration_s=seconds)
    return [
        Shot(frame.image, tuple(Region(0, 1.0, thing.box) for thing in things if thing.visible >= VISIBLE))
        for frame, things in camera
    ]


def to_and_fro(count: int) -> Iterator[int]:
    """0, 1, ... up to `count` - 1, back down to 0, and so on."""
    while True:
        yield from range(count)
        yield from range(count - 2, 0, -1)


def memory_mb() -> float:
    """Resident memory of this process."""
    return float(psutil.Process().memory_info().rss / 2**20)


def measured(shots: Sequence[Shot], fps: float, minutes: float, quality: int) -> Iterator[Minute]:
    """Encode a long stream; a summary after each minute of it."""
    encoder, tracker = StreamEncoder(StreamSettings(MODEL, fps=fps, quality=quality)), Tracker()
    length, minute = minutes * 60, Minute(1)
    for seq, index in enumerate(islice(to_and_fro(len(shots)), round(length * fps))):
        shot, light = shots[index], light_at(seq / fps, length)
        image = relit(shot.image, light)
        regions = tracker.update({TASK: shot.regions}, image.shape[1], image.shape[0])
        frame = Frame("long", seq, round(seq * 1e9 / fps), image)
        start = time.perf_counter()
        packet = encoder.encode(frame, regions, {TASK: KEY})
        minute.encode_ms += 1000 * (time.perf_counter() - start)
        minute.frames += 1
        minute.bytes += len(stream_packet_bytes(packet))
        for plate in packet.plates:
            minute.add(plate)
        if minute.frames >= 60 * fps:
            yield dataclasses.replace(minute, memory_mb=memory_mb(), light=light)
            minute = Minute(minute.minute + 1)
    if minute.frames:
        yield dataclasses.replace(minute, memory_mb=memory_mb(), light=light)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--quality", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not (given.minutes > 0 and given.fps > 0 and 0 < given.scale <= 4 and given.seconds * given.fps >= 2):
        parser.error("give minutes, frames a second and a scale (up to 4) above 0, and a loop of two pictures at least")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options = (given.fps, given.seconds, given.scale)
    shots = clip_shots(given.source, *options) if given.source else street_shots(*options)
    height, width = shots[0].image.shape[:2]
    print(f"{given.source or 'simulated street'}, {len(shots)} pictures of {width}x{height}, {given.fps:g} a second\n")
    print("| minute | light | kbit/s | of plates | whole | cells | tones | warps | memory, MB | ms a frame |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for minute in measured(shots, given.fps, given.minutes, given.quality):
        rows.append(minute)
        print(minute.row(given.fps), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
