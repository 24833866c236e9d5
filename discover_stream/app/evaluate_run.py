"""What `discover eval` does: plan cases, run those that are not finished, gather them into a report."""

from __future__ import annotations

import csv
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from discover_stream import __version__
from discover_stream.app.evaluate_report import write_page
from discover_stream.evaluation.datasets import (
    Finder,
    Item,
    ItemSpec,
    RegionSource,
    chosen,
    grounder_finder,
    judge_finder,
    load_item,
    picture_items,
    street,
    video_items,
)
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.detectors import load_detector
from discover_stream.evaluation.harness import Case, plan_cases, run_cases
from discover_stream.evaluation.measures import Judges
from discover_stream.evaluation.peers.versions import peer_versions
from discover_stream.evaluation.registry import GridSize, build_system, image_grid, video_grid
from discover_stream.evaluation.store import CaseStore, Record, code_digest
from discover_stream.evaluation.summary import as_json, comparisons, needed_rates
from discover_stream.evaluation.systems import SystemSpec
from discover_stream.types import InputError

FPS = 10.0
EVERY: dict[GridSize, int] = {"tiny": 3, "quick": 9, "full": 3}
"""Judges look at every so many frames of a clip: odd, because video codecs give every second, fourth and eighth frame
more bits than those between, and a multiple of these would see the good ones only."""

PARTS = ("images", "video", "speed")
Bar = Callable[[str, int], AbstractContextManager[Callable[[Case, bool], None]]]


@dataclass(frozen=True)
class EvaluateOrder:
    """What `discover eval images` or `video` is to do; `amount` is a number of pictures or of seconds."""

    kind: Literal["images", "video"]
    data: Path | None
    out: Path
    grid: GridSize
    items: tuple[str, ...]
    systems: tuple[str, ...]
    judges: tuple[str, ...]
    regions: RegionSource
    amount: int


def evaluate(order: EvaluateOrder, bar: Bar) -> tuple[Path, ...]:
    """Run what is not finished and write the report.

    Returns:
        the files that were written.

    Raises:
        InputError: data, judges or settings cannot be used.
    """
    torch.set_num_threads(1)  # the number of threads changes sums, and a second run is to give the same figures
    _check_data(order.data)
    if order.kind == "video":
        items = video_items(order.data, order.amount, FPS, order.regions)
        systems = video_grid(order.grid)
    else:
        items = picture_items(order.data, order.amount, order.regions)
        systems = image_grid(order.grid)
    items = chosen(items, order.items)
    if order.systems:
        systems = (systems[0], *(SystemSpec.parse(text) for text in order.systems))
    for system in systems:
        build_system(system)  # refuses what it does not know before anything is measured
    judges = load_judges(order.data, order.judges, EVERY[order.grid])
    cases, store = plan_cases(systems, items), CaseStore(order.out)
    with bar(f"eval {order.kind}", len(cases)) as advance:
        records = run_cases(cases, store, judges, Loader(judges), advance)
    part = {
        "facts": facts(judges),
        "records": records,
        "comparisons": [as_json(one) for one in comparisons(records)],
        "needed": [vars(one) for one in needed_rates(records)],
    }
    _write_csv(order.out / f"{order.kind}.csv", records)
    return _finish(order.out, order.kind, part)


def evaluate_speed(data: Path | None, out: Path, item: str | None, rounds: int) -> tuple[Path, ...]:
    """Measure stages and write the report.

    Raises:
        InputError: the data cannot be used.
    """
    from discover_stream.evaluation.speed import measure_speed

    torch.set_num_threads(1)
    _check_data(data)
    CaseStore(out)
    specs = video_items(data, 2, FPS, "grounder")
    spec = chosen(specs, [item])[0] if item else street("sim://road?seed=3", 2, FPS, "grounder")
    loaded = load_item(spec, {"grounder": grounder_finder()})
    part = {"facts": facts(None)} | measure_speed(loaded.clips[0], rounds=rounds)
    return _finish(out, "speed", part)


def load_judges(data: Path | None, specs: tuple[str, ...], every: int) -> Judges:
    """The judges that are asked for; without any, YOLOX-nano where it lies beside the data, else the grounder.

    Raises:
        InputError: a specification that is not NAME=SPEC, or a judge that cannot be loaded.
    """
    weights = data.resolve().parent / "weights" if data else None
    if not specs:
        yolox = weights / "yolox_nano.onnx" if weights else None
        specs = (f"yolox=onnx:{yolox}",) if yolox and yolox.exists() else ("nano=nano",)
    detectors = {}
    for text in specs:
        name, equals, spec = text.partition("=")
        if not (name and equals and spec):
            raise InputError(f"judge {text!r}: write NAME=SPEC, such as yolox=onnx:yolox_nano.onnx or nano=nano")
        detectors[name] = load_detector(spec)
    squeeze, heads = (weights / name if weights else None for name in (
        "squeezenet_imagenet.h5", "lpips_squeeze_heads.pth",
    ))  # fmt: skip
    features = None
    if squeeze and squeeze.exists():
        features = DeepFeatures.load(squeeze, heads if heads and heads.exists() else None)
    return Judges(detectors, features, every)


class Loader:
    """Loads items; networks that find regions are loaded when the first item needs them."""

    def __init__(self, judges: Judges) -> None:
        self._judges, self._finders = judges, dict[RegionSource, Finder]()

    def __call__(self, spec: ItemSpec) -> Item:
        """The item of a specification. Raises InputError."""
        if not self._finders:
            self._finders["grounder"] = grounder_finder()
            if self._judges.detectors:
                self._finders["judge"] = judge_finder(next(iter(self._judges.detectors.values())))
        return load_item(spec, self._finders)


def _check_data(data: Path | None) -> None:
    if data is not None and not data.is_dir():
        raise InputError(f"{data}: there is no such folder; give --data a folder as described in docs/evaluation.md")


def facts(judges: Judges | None) -> dict[str, Any]:
    """Where and with what the figures were made."""
    libraries = {"torch": torch.__version__} | peer_versions()
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "python": platform.python_version(),
        "discover-stream": __version__,
        "weights": code_digest("weights/nano"),
        "libraries": libraries,
        "command": _command(),
    }
    return found | ({} if judges is None else {"judges": judges.identity()})


def _command() -> str:
    """The command line without folders that mean something on this machine only."""
    words = [Path(sys.argv[0]).name, *(Path(word).name if word.startswith("/") else word for word in sys.argv[1:])]
    return shlex.join(words)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _write_csv(path: Path, records: list[Record]) -> None:
    names = sorted({name for record in records for name in record["measures"]})
    plain = ("item", "group", "name", "system", "frames", "bytes", "setup_bytes", "bpp", "kbps", "steady_kbps")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*plain, "encode_s", "decode_s", *names])
        for record in records:
            seconds = record["seconds"]
            measured = [record["measures"].get(name, "") for name in names]
            writer.writerow([*(record.get(n, "") for n in plain), seconds["encode"], seconds["decode"], *measured])


def _finish(out: Path, kind: str, part: dict[str, Any]) -> tuple[Path, ...]:
    written = out / f"{kind}.json"
    # Clips and pictures may be measured side by side: the other command must never read half a file.
    unfinished = written.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(part, indent=1), encoding="utf-8")
    unfinished.replace(written)
    page = write_page(out, read_parts(out))
    table = (out / f"{kind}.csv",) if kind != "speed" else ()
    return (page, written, *table)


def read_parts(out: Path) -> dict[str, Any]:
    """What earlier commands wrote to a report's folder, by command.

    Raises:
        InputError: there is nothing, or a file is damaged.
    """
    parts = {}
    for kind in PARTS:
        path = out / f"{kind}.json"
        if path.exists():
            try:
                parts[kind] = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}: damaged ({error}); run discover eval {kind} again") from error
    if not parts:
        raise InputError(f"{out}: there are no results here; run discover eval images, video or speed with this --out")
    return parts
