"""What `discover eval paper` does: one table, in parts that several processes share, then its page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from discover_stream.app.evaluate_paper_page import page_of
from discover_stream.app.evaluate_run import facts
from discover_stream.config import GrounderConfig
from discover_stream.config_decoding import Hardware
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.detectors import load_detector
from discover_stream.evaluation.experiments.data import Picture, PictureSet, load_set
from discover_stream.evaluation.experiments.grounding import Annotated, Grounded
from discover_stream.evaluation.experiments.measuring import (
    ClassificationMeasurer,
    DetectionMeasurer,
    Measurer,
    PerceptionMeasurer,
    SegmentationMeasurer,
)
from discover_stream.evaluation.experiments.modes import Models, build_mode, is_mode
from discover_stream.evaluation.experiments.networks import load_classifier, load_segmenter
from discover_stream.evaluation.experiments.parts import Finder, Plan, gather, parts_of, run_part
from discover_stream.evaluation.experiments.perception import Perception
from discover_stream.evaluation.experiments.tables import (
    as_json,
    default_systems,
    differences,
    lines_of,
    table_of,
)
from discover_stream.evaluation.onnx_detectors import short_hash
from discover_stream.evaluation.registry import ORIGINAL
from discover_stream.evaluation.store import WEIGHTS, CaseStore, code_digest, folder_digest, key_of
from discover_stream.evaluation.systems import SystemSpec
from discover_stream.generation.hardware import on_hardware
from discover_stream.semantics.grounder_choice import load_grounder
from discover_stream.semantics.labels import load_task
from discover_stream.types import InputError, LabelSet

PREFIX = "paper-"
"""Beginning of the names of the files that hold tables."""
PATIENCE = timedelta(days=30)
"""The first process waits for the others for so long: parts take as long as they take."""

Bar = Callable[[str, int], AbstractContextManager[Callable[[str, bool], None]]]


class PaperSettings(BaseModel):
    """What `--set` may change."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(default=0, ge=0, title="Pictures, evenly spread over the set; 0 for all")
    part: int = Field(default=16, ge=1, le=1000, title="Pictures that are finished together")
    qualities: tuple[int, ...] = Field(default=(1, 3, 5, 8), min_length=1, title="Of our codec, 1 to 8 each")
    grounder: str = Field(default="nano", title="nano, grounding-dino[:FOLDER], or annotated for the set's own boxes")
    interim: bool = Field(default=False, title="Run nothing: pool the parts that are finished, while others run")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", title="Of the diffusion model and the judges")
    threads: int = Field(default=1, ge=1, le=256, title="Of a process; the number changes the last digits")
    note: str = Field(default="", title="Said with the table, such as what else the machine was doing")


@dataclass(frozen=True)
class PaperOrder:
    """What is to be done.

    Attributes:
        table: its name.
        on: the set's name or folder; empty for the table's own.
        data: the data folder.
        out: where work and the table go.
        weights: a folder; None for the shipped ones.
        judges: networks, see `docs/papers.md`.
        systems: instead of the table's own.
        settings: further ones.
    """

    table: str
    on: str
    data: Path | None
    out: Path
    weights: Path | None
    judges: tuple[str, ...]
    systems: tuple[str, ...]
    settings: PaperSettings


def read_settings(values: Sequence[str]) -> PaperSettings:
    """Settings from `KEY=VALUE` words. Raises InputError where one is unknown or out of range."""
    found: dict[str, Any] = {}
    for word in values:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise InputError(f"--set {word!r}: write KEY=VALUE, such as count=100 or device=cuda")
        found[key] = yaml.safe_load(value)
    try:
        return PaperSettings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(PaperSettings.model_fields)
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"--set {place}: {first['msg']}; settings are {known}") from None


@dataclass(frozen=True)
class Processes:
    """This process among those that `accelerate launch` started, or the only one."""

    rank: int
    count: int
    device: torch.device
    wait: Callable[[], None]

    @classmethod
    def here(cls, device: str) -> Processes:
        """Find out. Raises InputError where a device is asked for that is not there."""
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda: torch sees no GPU here; use device=cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            chosen = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
            return cls(0, 1, torch.device(chosen), lambda: None)
        from accelerate import PartialState  # type: ignore[import-untyped]

        state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, state.device, state.wait_for_everyone)


def evaluate_paper(order: PaperOrder, bar: Bar) -> tuple[Path, ...]:
    """Run what is not finished of a table; the first process then writes it.

    Returns:
        the files that were written; none by the other processes.

    Raises:
        InputError: data, networks, weights or settings cannot be used.
    """
    table, settings = table_of(order.table), order.settings
    torch.set_num_threads(settings.threads)
    pictures = load_set(order.on or table.on, order.data, table.layout).first(settings.count)
    store = CaseStore(order.out)
    here = Processes.here(settings.device)
    task = load_task(table.task)
    models = Models.load(order.weights, task.label_set, table.profile)
    models = replace(models, renderer=on_hardware(models.renderer, Hardware(device=str(here.device))))
    specs = default_systems(order.table, settings.qualities)
    if order.systems:
        specs = (ORIGINAL, *(SystemSpec.parse(text) for text in order.systems))
    plan = Plan(
        order.table,
        load_measurer(order, pictures, str(here.device)),
        tuple((spec, build_mode(spec, models)) for spec in specs),
        load_finder(settings.grounder, task.label_set, str(here.device)),
        {
            "weights": models.digest,
            "grounder": settings.grounder,
            "grounder weights": grounder_weights(settings.grounder),
            "labels": key_of({"labels": task.label_set.labels}),
            "annotations": key_of(dict(pictures.annotations)) if table.layout == "coco" else "",
        },
    )
    parts = parts_of(pictures.pictures, settings.part)
    if settings.interim:
        parts, whole = finished_parts(plan, parts, store), len(parts)
        if not parts:
            raise InputError(f"{order.out}: no part of this table is finished yet; wait, or run it without interim")
        pictures = replace(
            pictures,
            pictures=tuple(picture for part in parts for picture in part),
            remark="; ".join(filter(None, [pictures.remark, f"{len(parts)} of {whole} parts are finished"])),
        )
        if isinstance(plan.measurer, DetectionMeasurer | SegmentationMeasurer):
            # AP is over the pictures that were looked at, and over no others.
            plan = replace(plan, measurer=replace(plan.measurer, pictures=pictures))
        return write_table(order, plan, pictures, models)
    own = parts[here.rank :: here.count]
    with bar(f"{order.table} on {pictures.name}", len(own) * len(specs)) as advance:
        for part in own:
            run_part(plan, part, store, advance)
    here.wait()
    return write_table(order, plan, pictures, models) if here.rank == 0 else ()


def load_finder(grounder: str, labels: LabelSet, device: str) -> Finder:
    """Whose boxes the modes get. Raises InputError where there is no such grounder or it lacks its weights."""
    kind, _, path = grounder.partition(":")
    if kind == "annotated":
        return Annotated(labels)
    try:
        config = GrounderConfig.model_validate({"kind": kind, "path": path or None, "device": device})
    except ValidationError:
        raise InputError(f"grounder {grounder!r}: use nano, grounding-dino[:FOLDER] or annotated") from None
    return Grounded(load_grounder(config), labels)


def grounder_weights(grounder: str) -> str:
    """Names the weights of a grounder; empty where there are none, or they go by their name on the hub."""
    kind, _, named = grounder.partition(":")
    if kind == "nano" and not named:
        return code_digest("weights/nano/grounder.safetensors")
    place = Path(named)
    if named and place.is_dir():
        return folder_digest(place, (*WEIGHTS, ".pth"))
    return short_hash(place) if named and place.is_file() else ""


def load_measurer(order: PaperOrder, pictures: PictureSet, device: str) -> Measurer:
    """The networks of a table. Raises InputError where one is absent or unknown."""
    if order.table == "perception":
        return _perception(order, device)
    if len(order.judges) > 1:
        raise InputError(f"table {order.table}: it has one judge; name it as --judge {table_of(order.table).judge}")
    judge = order.judges[0] if order.judges else table_of(order.table).judge
    if order.table == "segmentation":
        return SegmentationMeasurer(load_segmenter(judge, device=device), pictures)
    if order.table == "classification":
        first = {picture.kind: picture for picture in reversed(pictures.pictures)}
        originals = {kind: picture.image() for kind, picture in first.items()} if judge.startswith("nearest:") else {}
        return ClassificationMeasurer(load_classifier(judge, pictures.classes, originals, device=device))
    return DetectionMeasurer(load_detector(judge, device=device), pictures)


def _perception(order: PaperOrder, device: str) -> PerceptionMeasurer:
    sources: dict[str, str] = {}
    for word in order.judges:
        name, equals, source = word.partition("=")
        if not (name and equals and source):
            raise InputError(f"--judge {word!r}: write MEASURE=hub|FILE|random|none, such as lpips=alexnet.pth")
        sources[name] = source
    local = sources.pop("distance", "")
    distance = None
    if local not in ("", "none"):
        weights, _, heads = local.partition("+")
        distance = DeepFeatures.load(Path(weights), Path(heads) if heads else None, device=device)
    elif order.data is not None and local != "none":
        folder = order.data.resolve().parent / "weights"
        squeeze, heads_file = folder / "squeezenet_imagenet.h5", folder / "lpips_squeeze_heads.pth"
        if squeeze.exists():
            distance = DeepFeatures.load(squeeze, heads_file if heads_file.exists() else None, device=device)
    return PerceptionMeasurer(Perception.load(sources, device=device), distance)


def finished_parts(plan: Plan, parts: Sequence[tuple[Picture, ...]], store: CaseStore) -> list[tuple[Picture, ...]]:
    """The parts that every system has finished."""
    return [part for part in parts if all(store.read(plan.key(spec, part)) is not None for spec, _ in plan.systems)]


def write_table(order: PaperOrder, plan: Plan, pictures: PictureSet, models: Models) -> tuple[Path, ...]:
    """Pool the parts, and write the table as JSON and as a page."""
    parts = parts_of(pictures.pictures, order.settings.part)
    everything = list(gather(plan, parts, CaseStore(order.out)))
    original = everything[0].features
    lines = lines_of((one, plan.measurer.scores(one.notes, one.features, original)) for one in everything)
    grounded = [int(note["regions"]) for note in everything[0].notes]
    remarks = [pictures.remark] if pictures.remark else []
    if order.settings.grounder == "annotated":
        remarks.append("boxes are the set's own: what a grounder without a fault would find")
    empty = sum(count == 0 for count in grounded)
    if empty:
        remarks.append(f"in {empty} of {len(grounded)} pictures the grounder found nothing to send")
    if not models.reads_tags and any(is_mode(line.name.partition(" ")[0]) for line in lines):
        remarks.append("these weights read no tags: they cost bits and change nothing")
    if order.settings.note:
        remarks.append(order.settings.note)
    result = {
        "table": order.table,
        "set": pictures.name,
        "pictures": len(pictures.pictures),
        "judge": plan.measurer.name,
        "grounder": order.settings.grounder,
        "weights": "shipped" if order.weights is None else models.digest,
        "remarks": remarks,
        "measures": table_of(order.table).measures,
        "facts": facts(None),
    } | as_json(lines, differences(lines, table_of(order.table).measures))
    data, page = (order.out / f"{PREFIX}{order.table}-{pictures.name}{end}" for end in (".json", ".md"))
    data.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    page.write_text(page_of(result), encoding="utf-8")
    return page, data


def read_tables(out: Path) -> list[Mapping[str, Any]]:
    """The tables that a folder holds, by name. Raises InputError where one is damaged."""
    found = []
    for path in sorted(out.glob(f"{PREFIX}*.json")):
        try:
            found.append(cast(Mapping[str, Any], json.loads(path.read_text(encoding="utf-8"))))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: damaged ({error}); run discover eval paper again") from error
    return found
