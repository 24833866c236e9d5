"""The evaluation's page: one HTML file that needs nothing beside it and no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import PIL.Image

from discover_stream.app.demo_report import data_uri
from discover_stream.evaluation import papers
from discover_stream.evaluation.plots import rate_plot
from discover_stream.evaluation.store import CaseStore, Record
from discover_stream.evaluation.summary import CEILING, items_of, names_of, of_item, rate_of, rate_unit

MOST_PICTURES = 9
WIDEST = 640


def write_page(out: Path, parts: dict[str, Any]) -> Path:
    """Write `report.html` from the parts that exist, and the plots beside it; the page's path."""
    store = CaseStore(out)
    sections = []
    for kind in ("images", "video"):
        records = parts.get(kind, {}).get("records", [])
        sections += [_section(store, out, kind, of_item(records, item)) for item in items_of(records)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("discover_stream.app"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = out / "report.html"
    text = environment.get_template("evaluation.html.j2").render(
        parts=parts,
        sections=sections,
        verdicts=[(kind, parts[kind]["comparisons"]) for kind in ("images", "video") if kind in parts],
        needed=[(kind, needed_table(parts[kind]["needed"]), unit) for kind, unit in UNITS.items() if kind in parts],
        ratios=speed_ratios(parts["speed"]) if "speed" in parts else [],
        papers=papers.ROWS,
    )
    page.write_text(text, encoding="utf-8")
    return page


UNITS = {"images": "bit/pixel", "video": "kbit/s"}


def needed_table(needed: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the rates at which a judge keeps most of its AP50."""
    names = list(dict.fromkeys(name for one in needed for name in one["rates"]))
    rows = []
    for one in needed:
        objects = "" if one["objects"] is None else str(one["objects"])
        rates = [_rate(one["rates"].get(name), name in one["at_most"]) for name in names]
        rows.append([one["item"], one["judge"], f"{one['ceiling']:.2f}", objects, *rates])
    return ["on", "judge", "its AP50 on originals", "objects", *names], rows


def _rate(value: float | None, at_most: bool) -> str:
    """`≤` where the cheapest setting is good enough already: nobody tried with fewer bits."""
    return "never" if value is None else f"{'≤ ' if at_most else ''}{value:.3g}"


def speed_ratios(part: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """(system, stage, ms a frame, times JPEG's encode or decode) of every stage."""
    base = {s["stage"]: s["ms"] for s in part["stages"] if s["system"].startswith("jpeg")}
    rows = []
    for stage in part["stages"]:
        kind = "decode" if stage["stage"].startswith("decode") else "encode"
        rows.append((stage["system"], stage["stage"], stage["ms"], stage["ms"] / max(base.get(kind, math.nan), 1e-6)))
    return rows


def alike(records: Sequence[Record]) -> list[Record]:
    """One record of each system at about one rate: the geometric mean of our cheapest and dearest, or of all."""
    ours = [rate_of(record) for record in records if str(record["name"]).startswith("ours")]
    rates = ours or [rate_of(record) for record in records if record["name"] != CEILING]
    if not rates:
        return []
    target = math.sqrt(min(rates) * max(rates))

    def distance(record: Record) -> float:
        return abs(math.log(max(rate_of(record), 1e-9) / target))

    return [min((r for r in records if r["name"] == name), key=distance) for name in names_of(records)]


def _section(store: CaseStore, out: Path, kind: str, records: list[Record]) -> dict[str, Any]:
    first = records[0]
    item = str(first["item"])
    plot = rate_plot(records, f"{item} ({first['group']})")
    (out / "plots").mkdir(exist_ok=True)
    (out / "plots" / f"{kind} {item}.png").write_bytes(plot)
    original = [record for record in records if record["name"] == CEILING]
    shown = [*original, *alike(records)][:MOST_PICTURES]
    unit = rate_unit(records)
    measures = list(dict.fromkeys(name for record in records for name in record["measures"]))
    return {
        "title": f"{item}: {kind}",
        "text": f"{first['group']}; {first['frames']} frames; boxes given to the systems: {first['regions']}",
        "plot": f"data:image/png;base64,{base64.b64encode(plot).decode()}",
        "pictures": [(record["name"], _caption(record, unit), _picture(store, record)) for record in shown],
        "measures": measures,
        "unit": unit,
        "rows": [(r["name"], r["system"], rate_of(r), r["measures"], r["command"]) for r in records],
    }


def _caption(record: Record, unit: str) -> str:
    if record["name"] == CEILING:
        return "uncompressed"
    return f"{record['system']}, {rate_of(record):.3g} {unit}"


def _picture(store: CaseStore, record: Record) -> str:
    image = PIL.Image.fromarray(store.read_picture(record["picture"]))
    image.thumbnail((WIDEST, WIDEST), PIL.Image.Resampling.LANCZOS)
    return data_uri(np.asarray(image))
