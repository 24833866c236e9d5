"""The entropy path: which coder, how fast, and what splitting a picture into atoms costs.

    python -m benchmarks.entropy --data ../shared/data [--docs docs/entropy.md]

Content is pictures of 640x360 from the first halves of clips (simulated streets where there is no data folder), cut
into 8 atoms in two ways: 8 *objects* (boxes as a detector gives them, about a sixth of the picture) and the whole
picture in 8 *tiles*. The entropy path is all that lies between symbols and bytes: z, table numbers from the exact
branch, coding, and the decoder's check that a string is the one code of its symbols. Networks (transforms, means) are
timed beside it. The codec is the shipped one: in still mode, where a frame's atoms share a z, and with keys of stream
mode, which are coded on the plate and have a z each. With `--docs`, the tables replace those in the page.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderTiny

from benchmarks import stream_packets
from benchmarks.entropy_cases import CodedFrame, KeyFrame, StillFrame, decode, encode, mask_bytes
from benchmarks.entropy_coders import coders_table, ideal_bits
from benchmarks.entropy_content import OBJECTS, Content, contents, objects, tiles, write_into
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec, shipped_weights, tables_in
from discover_stream.codec.packet import packet_bytes, packet_size
from discover_stream.codec.record_bits import Shape
from discover_stream.codec.records import Sighting
from discover_stream.codec.sighting_bits import put_sightings
from discover_stream.codec.still import encode_frame
from discover_stream.codec.stream_coding import packet_sizes
from discover_stream.generation.render import VAE_FILE, load_vae
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import load_task
from discover_stream.semantics.tracking import Tracker
from discover_stream.types import Box, Frame, Region
from discover_stream.video.simulate import SimulatedCamera

PARTS = ("coders", "speed", "bytes")
QUALITIES = (1, 3, 5, 8)
CAMERAS = 8
SLICES = {"8 objects": objects, "8 tiles": tiles}


class Bench:
    """Models and contents."""

    def __init__(self, data: Path | None) -> None:
        self.model: CodecModel = load_codec()
        self.vae: AutoencoderTiny = load_vae(shipped_weights() / VAE_FILE)
        self.contents: list[Content] = contents(data)

    def frames(self, slices: str, quality: int) -> list[StillFrame]:
        """Every content in still mode."""
        return [StillFrame(self.model, content, SLICES[slices](), quality) for content in self.contents]

    def keys(self, slices: str, quality: int) -> list[KeyFrame]:
        """Every content as keys."""
        return [KeyFrame(self.model, self.vae, content, SLICES[slices](), quality) for content in self.contents]


def milliseconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median processor time of a call, which other processes on the machine hardly change, and its least wall time."""
    work()
    times, used = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), time.process_time()
        work()
        used.append(1e3 * (time.process_time() - before))
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(used)), min(times)


def coders_part(bench: Bench) -> list[str]:
    """Coders on strings cut from real atoms of still mode at quality 5."""
    atoms = [atom for frame in bench.frames("8 tiles", 5) for atom in frame.in_order()]
    symbols, numbers = (np.concatenate([atom[part] for atom in atoms]) for part in (0, 1))
    return coders_table(y_tables(), symbols, numbers)


def y_tables():  # type: ignore[no-untyped-def]
    """The shipped tables of y."""
    from safetensors.torch import load_file

    return tables_in(load_file(shipped_weights() / MODEL_FILE), "y", SCALE_LEVELS)


def speed_rows(bench: Bench, threads: int, rounds: int) -> list[str]:
    """Rows of the table of times, for so many threads."""
    torch.set_num_threads(threads)
    rows = []
    for slices in SLICES:
        for quality in (3, 8):
            for name, frames in (("still", bench.frames(slices, quality)), ("keys", bench.keys(slices, quality))):
                rows.append(_speed_row(f"{name} | {slices} | {quality} | {threads}", frames, rounds))
    return rows


def _speed_row(label: str, frames: Sequence[CodedFrame], rounds: int) -> str:
    channels = frames[0].model.network.config.y_channels
    cells = [f"{sum(int(mask.sum()) for mask in frames[0].masks) * channels / 1000:.1f}"]
    many = [frames[index % len(frames)] for index in range(CAMERAS)]
    for count, groups in ((1, [[frame] for frame in frames]), (CAMERAS, [many])):
        for work in (encode, decode):
            found = [milliseconds(partial(work, group), max(3, rounds // count)) for group in groups]
            used, least = np.mean(found, axis=0) / count
            cells.append(f"{used:.2f} ({least:.2f})")
    for networks in ("networks_encode", "networks_decode"):
        times = [milliseconds(getattr(frame, networks), 3)[0] for frame in frames]
        cells.append(f"{np.mean(times):.0f}")
    return f"| {label} | " + " | ".join(cells) + " |"


SPEED_HEAD = [
    "| mode | atoms | quality | threads | symbols, thousands | encode, ms | decode, ms | encode, 8 cameras together | "
    "decode, 8 cameras together | networks encode | networks decode |",
    "|---" * 11 + "|",
]


def speed_part(arguments: argparse.Namespace) -> list[str]:
    """Each number of threads in a process of its own: libraries read theirs when they start."""
    lines = list(SPEED_HEAD)
    for threads in (1, 2):
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [sys.executable, "-m", "benchmarks.entropy", "--threads", str(threads)]
        command += ["--rounds", str(arguments.rounds)]
        command += ["--data", str(arguments.data)] if arguments.data else []
        done = subprocess.run(command, env=os.environ | limits, check=True, stdout=subprocess.PIPE, text=True)
        lines += [line for line in done.stdout.splitlines() if line.startswith("|")]
    return lines


def split_table(bench: Bench) -> list[str]:
    """Bytes of a still frame's atoms, against one atom of the same cells."""
    lines = ["| atoms | quality | one atom, bytes | 8 atoms, bytes | split costs |", "|---|---|---|---|---|"]
    for slices, cut in SLICES.items():
        union = [np.logical_or.reduce(cut())]
        for quality in QUALITIES:
            one = np.mean([StillFrame(bench.model, content, union, quality).size() for content in bench.contents])
            many = np.mean([frame.size() for frame in bench.frames(slices, quality)])
            lines.append(f"| {slices} | {quality} | {one:.0f} | {many:.0f} | {many / one - 1:+.1%} |")
    return lines


def overhead_table(bench: Bench) -> list[str]:
    """Bytes that are neither picture nor z: per atom, packet and region; bits per tag."""
    lines = ["| what | bytes |", "|---|---|"]
    tables = y_tables()
    for slices, cut in SLICES.items():
        frames = bench.frames(slices, 5)
        ending = [
            len(string) - ideal_bits(tables, symbols, numbers) / 8
            for frame in frames
            for string, (symbols, numbers) in zip(frame.strings, frame.in_order(), strict=True)
        ]
        masks = [mask_bytes(mask) for mask in cut()]
        lines.append(f"| an atom's string over its information, {slices}: mean (most) | {spread(ending)} |")
        lines.append(f"| an atom's mask, {slices}: mean (most) | {spread(masks)} |")
    lines.append("| an atom's length field | 1 (2 from 128 bytes on) |")
    lines += packet_rows(bench)
    return lines


def spread(values: list[float] | list[int]) -> str:
    """Mean and largest."""
    return f"{np.mean(values):.2f} ({np.max(values):.2f})"


def street_regions() -> list[tuple[Region, ...]]:
    """What the shipped grounder and the tracker say of the vehicles in four seconds of a simulated street."""
    task = load_task("vehicles")
    grounder, tracker = NanoGrounder.load(), Tracker()
    camera = SimulatedCamera("entropy", seed=7, fps=5, width=640, height=360)
    found = []
    for index in range(20):
        regions = grounder.ground([camera.render(index)[0].image], (task.label_set,))[0]
        found.append(tracker.update(regions, 640, 360)[task.name])
    return found


def region_rows(bench: Bench) -> list[str]:
    """Bytes of a region in packets of both modes, on regions as they are found."""
    street = [regions for regions in street_regions() if regions]
    count = sum(len(regions) for regions in street)
    still = stream = 0.0
    for seq, regions in enumerate(street):
        frame = Frame("c", seq, 1_700_000_000_000_000_000, np.zeros((360, 640, 3), np.uint8))
        packet = encode_frame(bench.model, frame, {"vehicles": regions}, {"vehicles": 7}, quality=1)
        still += len(packet_bytes(packet)) - len(packet_bytes(replace(packet, regions=())))
        writer = BitWriter()
        sightings = [Sighting(one.box, one.score, one.track, one.labels) for one in packet.regions]
        put_sightings(writer, sightings, Shape(seq, 1, on_plate=False, lists=False))
        stream += len(writer) / 8
    return [
        f"| still packet: a region with track and label, {count / len(street):.1f} a frame | {still / count:.2f} |",
        f"| stream packet: the same, not followed from frame to frame | {stream / count:.2f} |",
    ]


def packet_rows(bench: Bench) -> list[str]:
    """Header, regions and tags of still packets, and of stream packets (`benchmarks.stream_packets`)."""
    regions = [
        Region(10 + 9 * index, 0.8, Box(x, y, x + width, y + height), 31 * index)
        for index, (x, y, width, height) in enumerate(OBJECTS)
    ]
    frame = Frame("c", 300_000, 1_700_000_000_000_000_000, bench.contents[0].picture)
    full = encode_frame(bench.model, frame, {"vehicles": regions}, {"vehicles": 7}, quality=3, incarnation=3)
    bare = replace(full, regions=())
    lines = [
        f"| still packet: header (before side information) | {packet_size(full).header} |",
        f"| still packet: side information without regions, 8 atoms | {packet_size(bare).side_information} |",
        *region_rows(bench),
    ]
    tagged = [len(packet_bytes(replace(full, tags=((0, labels),)))) - len(packet_bytes(full)) for labels in tag_sets()]
    lines.append(f"| still packet: 8 tags of 100 labels | {np.mean(tagged):.1f} ({np.mean(tagged):.1f} bits a tag) |")
    random = Random(1)
    hold, three = (
        [packet_sizes(stream_packets.CASES[name](random)) for _ in range(100)]
        for name in ("hold (nothing changed)", "3 tags")
    )
    lines += [
        f"| stream packet: header | {np.mean([size.header for size in hold]) / 8:.1f} |",
        f"| stream packet where nothing changed, in all | {np.mean([size.total for size in hold]):.1f} |",
        f"| stream packet: 3 tags | {np.mean([size.tags for size in three]) / 8:.2f}"
        f" ({np.mean([size.tags for size in three]) / 3:.1f} bits a tag) |",
    ]
    return lines


def tag_sets() -> list[tuple[int, ...]]:
    """Eight tags of a hundred labels, a few times."""
    random = Random(2)
    return [tuple(sorted(random.sample(range(100), 8))) for _ in range(50)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--docs", type=Path, help="a page whose tables are to be replaced")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.data)
    with torch.inference_mode():
        if arguments.threads:
            print("\n".join(speed_rows(bench, arguments.threads, arguments.rounds)))
            return
        tables: dict[str, list[str]] = {}
        for part in arguments.part or PARTS:
            if part == "coders":
                tables["coders"] = coders_part(bench)
            elif part == "speed":
                tables["speed"] = speed_part(arguments)
            else:
                tables |= {"splitting": split_table(bench), "overhead": overhead_table(bench)}
    print(f"{platform.machine()}, {os.cpu_count()} cores, {date.today()}, {bench.model.short_hash.hex()}")
    for name, lines in tables.items():
        print(f"\n{name}\n\n" + "\n".join(lines))
    if arguments.docs:
        write_into(arguments.docs, tables)


if __name__ == "__main__":
    main()
