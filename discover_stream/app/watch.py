"""`discover subscribe`: what a task receives, line by line."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from discover_stream.app.decode import write_frame
from discover_stream.app.decode_report import frame_facts
from discover_stream.app.moments import iso
from discover_stream.app.reading_ahead import read_ahead, starting
from discover_stream.config import load_config
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import Gap, Lack, LocalPictures, TaskFrame, subscribe
from discover_stream.types import InputError, Profile

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame


@dataclass(frozen=True, slots=True)
class WatchOrder:
    """What the command line asks for; `most` packets at most, pictures under `save`."""

    task: str
    group: str | None
    start: str
    camera: str | None
    most: int | None
    as_json: bool
    save: Path | None
    profile: Profile = "machine"
    steps: int | None = None
    generate: bool = True
    provenance: bool = False


def parse_start(text: str) -> Literal["earliest", "latest"] | datetime:
    """Where a subscription begins. Raises InputError."""
    if text in ("earliest", "latest"):
        return "earliest" if text == "earliest" else "latest"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--from {text!r}: use earliest, latest or an ISO 8601 time") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def watch(path: Path | None, order: WatchOrder) -> None:
    """Print packets until there were enough. A packet is committed once its line is out (and its picture
    saved), so a killed subscriber may print its last line again, and never leaves one out.

    Raises InputError for an unknown task or a log that does not exist, BitstreamError for damaged bytes.
    """
    start = parse_start(order.start)
    config = load_config(path)
    options = DecodeOptions.of(config.decoding, order.profile, order.steps, generate=order.generate)
    with (
        starting(config, options, order.save is not None) as (start_decoding, ahead),
        subscribe(
            order.task,
            log=config.log.url,
            group=order.group,
            start=start,
            camera=order.camera,
            pictures=LocalPictures(decoding=config.decoding),
        ) as subscription,
    ):
        for coming in read_ahead(subscription, start_decoding, order.most or sys.maxsize, ahead):
            item = coming.item
            if isinstance(item, Gap):
                typer.echo(_gap_line(item, order.as_json))
                continue
            decoded = None
            if order.save is not None:
                decoded = coming.decoded(options)
                _save(decoded, order.save, order.provenance)
            typer.echo(_line(item, decoded, order.as_json))
            if decoded is not None:
                _warn(decoded, config.decoding.warn_at)
            if order.group is not None:
                subscription.commit(coming.positions)


def _warn(frame: DecodedFrame, warn_at: float) -> None:
    if frame.invention is not None and frame.invention >= warn_at:
        typer.echo(
            f"warning: {frame.camera} seq {frame.seq} may show things that were made up (score {frame.invention:.2f})",
            err=True,
        )


def packet_json(item: TaskFrame) -> dict[str, Any]:
    """A packet for programs: what it says, without pixels."""
    return {
        "camera": item.camera,
        "seq": item.seq,
        "incarnation": item.incarnation,
        "capture_ns": item.capture_ns,
        "bytes": item.size,
        "regions_only": item.regions_only,
        "tags": list(item.tags),
        "condition": item.condition,
        "absent": [{"what": lack.what.name.lower(), "name": lack.name} for lack in item.absent],
        "regions": [
            {
                "label": item.label(region),
                "score": round(region.score, 3),
                "box": [region.box.x0, region.box.y0, region.box.x1, region.box.y1],
                "track": region.track,
            }
            for region in item.regions
        ],
    }


def _line(item: TaskFrame, decoded: DecodedFrame | None, as_json: bool) -> str:
    if as_json:
        return json.dumps((frame_facts(decoded) if decoded is not None else {}) | packet_json(item))
    found: dict[str, int] = {}
    for region in item.regions:
        found[item.label(region)] = found.get(item.label(region), 0) + 1
    what = ", ".join(f"{count} {label}" for label, count in found.items()) or "nothing"
    if item.absent:
        what += f" (not whole: {_absent(item)} lost, or gone before reading began)"
    what += f"; tags: {item.condition}" if item.tags else ""
    what += "; regions only" if item.regions_only else ""
    time = "at an unknown time" if item.capture_ns is None else iso(item.capture_ns)
    return f"{time} {item.camera} seq {item.seq} incarnation {item.incarnation} {item.size} bytes: {what}"


def _absent(item: TaskFrame) -> str:
    """What a packet refers to and is not there, in words."""
    kinds = {
        Lack.STATE: "earlier packets",
        Lack.PLATE: "the plate",
        Lack.PARENT: "a part of the plate",
        Lack.KEY: "keys of tracks",
        Lack.REFRESH: "refreshes of tracks",
        Lack.ATOM: "what atoms are coded on",
    }
    return ", ".join(kinds[what] for what in sorted({lack.what for lack in item.absent}))


def _gap_line(gap: Gap, as_json: bool) -> str:
    count = gap.to_offset - gap.from_offset
    if as_json:
        return json.dumps({"gap": {"partition": gap.partition, "packets": count}})
    return f"gap: up to {count} packets of partition {gap.partition} were gone before they were read"


def _save(frame: DecodedFrame, folder: Path, provenance: bool) -> None:
    from discover_stream.video.sink import open_sink

    with open_sink(folder / frame.camera / f"{frame.seq:06}.png", fps=1) as sink:
        write_frame(sink, frame, provenance)
