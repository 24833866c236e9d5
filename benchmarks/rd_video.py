"""Fixed cameras: what a detector keeps, for how many bits; stream mode against video codecs, and where our bits go.

    python -m benchmarks.rd_video --data ../shared/data --out runs/rd_video [--items suburb topdown ...]
        [--regions grounder|judge|exact] [--qualities 2 3 4 5 6] [--bitrates 16] [--peers quick|full|none]
        [--half first] [--sheets] [--learned]

Clips are the second halves of those whose first halves tuned the encoder (`--half first` measures on these first
halves), and simulated streets; 10 frames a second, regions from the shipped grounder and tracker. `--regions judge`
gives the systems the judge's own boxes instead: what a perfect grounder would gain. The judge looks at every third
frame. Cases are stored in --out and never run twice. Tables:

* kbit/s as sent and in steady state (without the first plate), AP50, F1, PSNR, PSNR and deep-feature distance inside
  objects, flicker, of every case on the upper hull;
* kbit/s at which each system reaches AP50 0.9 (interpolated on its hull), else the best it reaches;
* bytes of our packets by part.

`--learned` measures ours also with atoms of the learned codec, where these are smaller than AV1's: its weights are
those of the folder in DISCOVER_STREAM_CODEC, or of the package. Cases do not know which: give each its own --out.

`--sheets` writes contact sheets (original | decoded) of our highest and lowest quality as PNG.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from discover_stream.app.evaluate_run import Loader, load_judges
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.evaluation.datasets import (
    Item,
    ItemSpec,
    chosen,
    video_items,
)
from discover_stream.evaluation.harness import Case, plan_cases, run_cases
from discover_stream.evaluation.ours_stream import OursStream
from discover_stream.evaluation.registry import ORIGINAL, build_system, grid
from discover_stream.evaluation.store import CaseStore, Record
from discover_stream.evaluation.summary import names_of, rate_at
from discover_stream.evaluation.systems import SystemSpec
from discover_stream.types import Image
from discover_stream.video.source import open_source

FPS, SECONDS, EVERY = 10.0, 8.0, 3
STREETS = ("street seed 3", "turn seed 4", "tunnel seed 4", "clouds seed 4")
CLIPS = ("suburb", "topdown", "carpark", "motorway_fog", *STREETS)
TARGET = 0.9
SHOWN = 6
"""Frames of a contact sheet."""


def systems(
    qualities: Sequence[int], bitrates: Sequence[int], peers: str, learned: bool = False
) -> tuple[SystemSpec, ...]:
    """What is measured."""
    ours = grid("ours-stream", {"quality": tuple(qualities)})
    ours += grid("ours-stream", {"quality": tuple(qualities), "learned": (1,)}) if learned else ()
    ours += grid("ours-stream", {"bitrate": tuple(bitrates)}) if bitrates else ()
    if peers == "none":
        return (ORIGINAL, *ours)
    full = peers == "full"
    h26x = (26, 30, 34, 37, 40, 43, 46) if full else (32, 36, 40, 44)
    av1 = (35, 42, 48, 53, 58, 63) if full else (40, 48, 54, 60)
    return (
        ORIGINAL,
        *ours,
        *grid("x264", {"crf": h26x, "preset": ("veryslow",)}),
        *grid("x265", {"crf": h26x, "preset": ("slower" if full else "slow",)}),
        *grid("svt-av1", {"crf": av1, "preset": ("4" if full else "5",), "bits": (10,)}),
        *grid("frozen", {"crf": av1 if full else (50, 60), "preset": ("5",), "bits": (10,), "fill": ("plate",)}),
        *grid("crops", {"crf": (30, 38, 46, 54) if full else (36, 46), "plate": (46,), "threshold": (8.0, 13.0)}),
    )


def first_half(spec: ItemSpec) -> ItemSpec:
    """The item's first half, so that its cases are others than the second half's."""
    if spec.uri.startswith("sim:"):
        return spec
    with open_source(spec.uri, camera=spec.name, fps=spec.fps) as source:
        count = sum(1 for _ in source)
    return dataclasses.replace(spec, group="never seen", seconds=min(spec.seconds, count // 2 / spec.fps))


def parts_of(packets: Sequence[StreamPacket]) -> Counter[str]:
    """Bytes by part: first plate, later plates, keys, refreshes, and the rest (headers, moves, regions)."""
    parts: Counter[str] = Counter()
    for index, packet in enumerate(packets):
        plates = sum(len(plate.payload or b"") for plate in packet.plates)
        keys = sum(len(key.atom.payload) for key in packet.keys if key.atom)
        refreshes = sum(len(move.atom.payload) for move in packet.moves if move.atom)
        parts["plate" if index == 0 else "later plates"] += plates
        parts["keys"] += keys
        parts["refreshes"] += refreshes
        parts["moves, regions, headers"] += len(stream_packet_bytes(packet)) - plates - keys - refreshes
    return parts


def show_curve(item: str, records: Sequence[Record], judge: str) -> None:
    """Print an item's table."""
    print(f"\n## {item}, regions: {records[0]['regions']}\n")
    print("| system | kbit/s | steady | AP50 | F1 | agreement | PSNR | PSNR in | feature distance in | flicker |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    names = ("AP50 [{}]", "F1 [{}]", "agreement [{}]", "PSNR", "PSNR inside", "distance inside", "flicker")
    for record in records:
        values = [record["measures"].get(name.format(judge)) for name in names]
        cells = ["" if value is None else f"{value:.3g}" for value in values]
        print(f"| {record['system']} | {record['kbps']:.1f} | {record['steady_kbps']:.1f} | {' | '.join(cells)} |")
    print(f"\nkbit/s at AP50 {TARGET} (or the best AP50):")
    for name in names_of(records):
        for rate in ("kbps", "steady_kbps"):
            own = [r for r in records if r["name"] == name and f"AP50 [{judge}]" in r["measures"]]
            pairs = [(float(r[rate]), float(r["measures"][f"AP50 [{judge}]"])) for r in own]
            if pairs and (rate == "kbps" or name.startswith("ours")):
                reached = rate_at(pairs, TARGET)
                best = max(pairs, key=lambda pair: pair[1])
                word = f"{reached:.1f}" if reached is not None else f"never; best {best[1]:.3f} at {best[0]:.1f}"
                print(f"  {name}{', steady' if rate != 'kbps' else ''}: {word}")


def show_parts(item: Item, qualities: Sequence[int], sheets: Path | None) -> None:
    """Print where our bits go; write contact sheets."""
    (clip,) = item.clips
    duration = len(clip.frames) / clip.fps
    print("\nour kbit/s by part:")
    for quality in qualities:
        system = build_system(SystemSpec.of("ours-stream", quality=quality))
        assert isinstance(system, OursStream)
        parts = parts_of(system.packets(clip))
        shares = ", ".join(f"{name} {8 * count / duration / 1000:.1f}" for name, count in parts.items())
        print(f"  quality {quality}: {shares}")
        if sheets is not None and quality in (min(qualities), max(qualities)):
            decoded = system.decode(system.encode(clip)).frames
            path = sheets / f"{item.spec.name.replace(' ', '_')}-{quality}.png"
            cv2.imwrite(str(path), cv2.cvtColor(contact_sheet(clip.frames, decoded), cv2.COLOR_RGB2BGR))
            print(f"  {path}")


def contact_sheet(originals: Sequence[Image], decoded: Sequence[Image]) -> Image:
    """Rows of original and decoded, of frames spread over the clip."""
    rows = [
        np.hstack([originals[index], decoded[index]]) for index in np.linspace(0, len(originals) - 1, SHOWN).astype(int)
    ]
    sheet: Image = np.vstack(rows)
    return sheet


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", nargs="*", default=list(CLIPS))
    parser.add_argument("--regions", choices=("grounder", "judge", "exact"), default="grounder")
    parser.add_argument("--qualities", type=int, nargs="*", default=[2, 3, 4, 5, 6])
    parser.add_argument("--bitrates", type=int, nargs="*", default=[])
    parser.add_argument("--peers", choices=("none", "quick", "full"), default="quick")
    parser.add_argument("--half", choices=("first", "second"), default="second")
    parser.add_argument("--judge", action="append", default=[])
    parser.add_argument("--sheets", action="store_true")
    parser.add_argument("--learned", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    judges = load_judges(given.data, tuple(given.judge), EVERY)
    load = Loader(judges)
    specs = chosen(video_items(given.data, SECONDS, FPS, given.regions), given.items)
    if given.half == "first":
        specs = tuple(first_half(spec) for spec in specs)
    store = CaseStore(given.out)

    def advance(case: Case, fresh: bool) -> None:
        print(f"  {'done' if fresh else 'kept'}: {case.item.name} {case.system.text()}", flush=True)

    for spec in specs:
        cases = plan_cases(systems(given.qualities, given.bitrates, given.peers, given.learned), [spec])
        records = run_cases(cases, store, judges, load, advance)
        show_curve(spec.name, records, next(iter(judges.detectors)))
        show_parts(load(spec), given.qualities, given.out if given.sheets else None)


if __name__ == "__main__":
    main()
