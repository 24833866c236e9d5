"""Runs cases: one system with one setting on one item each, stored when finished and never run twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from discover_stream.evaluation.datasets import Item, ItemSpec
from discover_stream.evaluation.measures import Judges, Originals, measure
from discover_stream.evaluation.peers.versions import peer_versions
from discover_stream.evaluation.registry import build_system, is_ours
from discover_stream.evaluation.store import WEIGHTS, CaseStore, Record, code_digest, folder_digest, key_of
from discover_stream.evaluation.systems import Coded, Decoded, System, SystemSpec
from discover_stream.types import Image

T = TypeVar("T")

SHARED_CODE = ("evaluation/harness.py", "evaluation/registry.py", "evaluation/systems.py", "types.py")
PEER_CODE = ("evaluation/peers", "evaluation/raw.py", "codec/bits.py")
OUR_CODE = ("codec", "generation", "decoding.py", "evaluation/ours.py", "evaluation/ours_stream.py", "weights/nano")
GIVEN_CODE = ("semantics", "video", "evaluation/datasets.py", "weights/nano/grounder.safetensors")
MEASURE_CODE = tuple(
    f"evaluation/{name}.py"
    for name in (
        "agreement", "average_precision", "boxes", "deep_features", "detectors", "faithfulness", "flicker",
        "measures", "onnx_detectors", "pictures", "truth",
    )
)  # fmt: skip

LIBRARIES = (
    "av", "compressai", "constriction", "diffusers", "norfair", "numpy", "onnxruntime", "opencv-python", "pillow",
    "pycocotools", "pytorch-msssim", "torch", "torchvision",
)  # fmt: skip
"""Packages whose arithmetic the figures rest on."""


@cache
def library_versions() -> dict[str, str]:
    """Name -> version of the packages whose arithmetic the figures rest on; those that are not there are left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Case:
    """One system with one setting on one item."""

    system: SystemSpec
    item: ItemSpec

    def key(self, judges: Judges) -> str:
        """Names the case's file; changes with everything that its figures depend on."""
        own = OUR_CODE if is_ours(self.system.name) else PEER_CODE
        weights = self.system.values().get("weights")
        return key_of(
            {
                "system": self.system.text(),
                "item": self.item.identity(),
                "judges": judges.identity(),
                "classes": {name: detector.classes for name, detector in judges.detectors.items()},
                "code": [
                    code_digest(*SHARED_CODE),
                    code_digest(*own),
                    code_digest(*GIVEN_CODE),
                    code_digest(*MEASURE_CODE),
                ],
                "libraries": library_versions() | ({} if is_ours(self.system.name) else peer_versions()),
            }
            | ({"weights": folder_digest(Path(str(weights)), WEIGHTS)} if weights else {})
        )


def plan_cases(systems: Sequence[SystemSpec], items: Sequence[ItemSpec]) -> tuple[Case, ...]:
    """Every system on every item, item by item, so that each item is loaded once."""
    return tuple(Case(system, item) for item in items for system in systems)


def run_cases(
    cases: Sequence[Case],
    store: CaseStore,
    judges: Judges,
    load: Callable[[ItemSpec], Item],
    advance: Callable[[Case, bool], None] = lambda case, fresh: None,
) -> list[Record]:
    """Run the cases that are not in the store; the records of all of them, in order.

    Args:
        cases: what to run; see `plan_cases`.
        store: where finished cases are.
        judges: who measures.
        load: gives an item's pictures; called only for items with unfinished cases.
        advance: called after each case, with whether it was run now.

    Raises:
        InputError: data, a setting or a result cannot be used.
    """
    records: list[Record] = []
    originals: Originals | None = None
    for case in cases:
        key = case.key(judges)
        record = store.read(key)
        if record is None:
            if originals is None or originals.item.spec != case.item:
                originals = Originals(load(case.item), judges)
            record = {"key": key} | _run(case, originals, store, key)
            store.write(key, record)
            advance(case, True)
        else:
            advance(case, False)
        records.append(record)
    return records


def _run(case: Case, originals: Originals, store: CaseStore, key: str) -> Record:
    system, item = build_system(case.system), originals.item
    coded, coding = _timed(lambda: [system.encode(clip) for clip in item.clips])
    decoded, decoding = _timed(lambda: _decode(system, coded))
    frames = len(item.frames)
    total, setup = sum(one.total for one in coded), sum(len(one.setup) for one in coded)
    shown = min(range(frames), key=lambda index: (abs(index - frames // 2), index))
    record: Record = {
        "system": case.system.text(),
        "name": system.name,
        "item": case.item.name,
        "group": case.item.group,
        "kind": case.item.kind,
        "regions": case.item.regions,
        "frames": frames,
        "size": [item.frames[0].shape[1], item.frames[0].shape[0]],
        "bytes": total,
        "setup_bytes": setup,
        "bpp": round(8 * total / item.pixels, 6),
        "measures": measure(originals, decoded),
        "seconds": {"encode": round(coding, 4), "decode": round(decoding, 4)},
        "command": system.command(),
        "shown": shown,
        "picture": store.write_picture(key, decoded.frames[shown]),
    }
    if case.item.kind == "video":
        duration = frames / case.item.fps
        record["kbps"] = round(8 * total / duration / 1000, 4)
        record["steady_kbps"] = round(8 * (total - setup) / duration / 1000, 4)
    return record


def _decode(system: System, coded: Sequence[Coded]) -> Decoded:
    parts = [system.decode(one) for one in coded]
    frames: tuple[Image, ...] = tuple(frame for part in parts for frame in part.frames)
    return Decoded(frames, tuple(one for part in parts for one in part.provenance))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin
