"""Pages made from a report's figures, never typed: docs/results.md, and a marked section of the README."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discover_stream.app.evaluate_paper import read_tables
from discover_stream.app.evaluate_paper_page import replaced_block, with_block
from discover_stream.app.evaluate_report import UNITS, needed_table, speed_ratios
from discover_stream.app.evaluate_run import PARTS, read_parts
from discover_stream.app.markdown import table
from discover_stream.evaluation import papers
from discover_stream.evaluation.measures import lower_is_better
from discover_stream.evaluation.store import Record
from discover_stream.evaluation.summary import (
    CEILING,
    as_json,
    comparisons,
    headline_measures,
    hull,
    items_of,
    names_of,
    needed_rates,
    of_item,
    points,
    rate_of,
)
from discover_stream.types import InputError

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEADER = "<!-- Made by `discover eval results` from figures that were measured. Do not edit: run `make bench`. -->"
VERDICTS = (("lose", "Lost"), ("tie", "Tied"), ("win", "Won"), ("not comparable", "Not comparable"))
README_MEASURES = ("AP50", "distance inside", "PSNR inside")
FURTHER = ("flicker", "inventions", "misses")
"""Beginnings of the names of measures that are shown though no verdict rests on them."""

Results = dict[str, Any]
"""Figures without pictures: what the pages are made from."""


def compact(parts: dict[str, Any], anchor: str = "") -> Results:
    """Figures of a report's parts without pictures and commands.

    Args:
        parts: see `read_parts`.
        anchor: compare with this system instead of the best of all peers.

    Raises:
        InputError: no system has the anchor's name.
    """
    found: Results = {}
    for kind in UNITS:
        if kind not in parts:
            continue
        records = parts[kind]["records"]
        found[kind] = {
            "facts": parts[kind]["facts"],
            "comparisons": [as_json(one) for one in comparisons(records, anchor)],
            "needed": [vars(one) for one in needed_rates(records)],
            "best": _best(records),
            "settings": sum(record["name"] != CEILING for record in records),
        }
    if "speed" in parts:
        found["speed"] = parts["speed"]
    return found


def _best(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The settings that are on a hull by any headline measure."""
    kept = []
    for item in items_of(records):
        own = of_item(records, item)
        measures = headline_measures(own)
        further = sorted({m for record in own for m in record["measures"] if m.startswith(FURTHER)})
        for name in names_of(own):
            best = {pair for m in measures for pair in _on_hull(own, m, name)}
            for record in sorted((r for r in own if r["name"] == name), key=rate_of):
                if record["key"] in best:
                    figures = {m: record["measures"][m] for m in (*measures, *further) if m in record["measures"]}
                    rates = {"rate": rate_of(record), "steady": record.get("steady_kbps")}
                    kept.append({"item": item, "system": record["system"], **rates, "measures": figures})
    return kept


def _on_hull(records: Sequence[Record], measure: str, name: str) -> set[str]:
    best = set(hull(points(records, measure, [name]), lower_is_better(measure)))
    return {
        str(record["key"])
        for record in records
        if record["name"] == name
        and measure in record["measures"]
        and (rate_of(record), float(record["measures"][measure])) in best
    }


def results_page(results: Results) -> str:
    """docs/results.md: a Markdown page with everything, losses first."""
    lines = [HEADER, "", "# Measured results", ""]
    lines += [
        "Every byte counts. *Peers* are the best of a stated grid of settings at every operating point. BD-rate: how",
        "many percent more bits ours needs at equal quality (negative: fewer), over the part of the range of qualities",
        "that both reach (*shared*; little makes it weak). Then the difference in quality at equal rate. ≤: the",
        "cheapest setting tried is good enough already. How all this is measured: [evaluation.md](evaluation.md).",
        "",
    ]
    for kind, unit in UNITS.items():
        if kind in results:
            lines += _kind_section(kind, unit, results[kind])
    if "speed" in results:
        lines += _speed_section(results["speed"])
    lines += [
        "## The two papers",
        "",
        "The papers' own curves (AP against bits per pixel, perceptual figures) are missing: nobody could look them",
        "up, and none is typed from memory. What is there describes the set-up; all of it: [papers.md](papers.md).",
        "",
    ]
    lines += table(
        ["source", "what", "paper", "ours", "conditions differ in", "checked"],
        [[row.source, row.what, row.paper, row.ours, row.differs, row.checked] for row in papers.ROWS],
    )
    return "\n".join(lines).rstrip() + "\n"


def _kind_section(kind: str, unit: str, part: dict[str, Any]) -> list[str]:
    lines = [
        f"## {kind.capitalize()}",
        "",
        *_facts(part["facts"]),
        f"{part['settings']} cases were measured.",
        "",
    ]
    every = part["facts"].get("judges", {}).get("every", 1)
    if kind == "video" and every > 1:
        lines[-1:] = [f"Judges and picture measures look at every {every}th frame.", ""]
    for verdict, title in VERDICTS:
        rows = [one for one in part["comparisons"] if one["verdict"] == verdict]
        if rows:
            lines += [f"### {title}", ""]
            lines += table(
                ["on", "data", "measure", "ours", "against", "BD-rate", "shared", "at equal rate"],
                [
                    [one["item"], one["group"], one["measure"], one["ours"], one["against"], *_deltas(one)]
                    for one in rows
                ],
            )
    if part["needed"]:
        lines += [f"### {unit} to keep 90 % of a detector's AP50", ""]
        lines += table(*needed_table(part["needed"]))
    if part["best"]:
        measures = list(dict.fromkeys(name for one in part["best"] for name in one["measures"]))
        lines += ["### The best settings of every system", ""]
        lines += table(
            ["on", "system", unit, "without what is sent once", *measures],
            [
                [
                    one["item"], one["system"], f"{one['rate']:.4g}",
                    "" if one["steady"] is None else f"{one['steady']:.4g}",
                    *(f"{one['measures'][m]:.3f}" if m in one["measures"] else "" for m in measures),
                ]
                for one in part["best"]
            ],
        )  # fmt: skip
    return lines


def _deltas(one: dict[str, Any]) -> list[str]:
    percent, delta = one["percent"], one["delta"]
    first = one["reason"] if one["verdict"] == "not comparable" else "" if percent is None else f"{percent:+.0f} %"
    if percent is None and delta is None:
        first = one["reason"]
    shared = "" if one["shared"] is None else f"{100 * one['shared']:.0f} %"
    return [first, shared, "" if delta is None else f"{delta:+.3g}"]


def _facts(facts: dict[str, Any]) -> list[str]:
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    lines = [
        f"* Machine: {facts['machine']}; date: {facts['date']}",
        f"* Command: `{facts['command']}`",
        f"* discover-stream {facts['discover-stream']}, weights {facts['weights']}; {libraries}",
    ]
    judges = facts.get("judges")
    if judges:
        names = ", ".join(f"{name} = {what}" for name, what in judges["detectors"].items())
        lines.append(f"* Judges: {names}; distance: {judges['features'] or 'none'}")
    return [*lines, ""]


def _speed_section(part: dict[str, Any]) -> list[str]:
    width, height = part["size"]
    memory = part["memory_mb"]
    lines = ["## Speed", "", *_facts(part["facts"])]
    lines += [
        f"{part['clip']}, {width}x{height}, quality {part['quality']}, one thread, median of {part['rounds']} rounds"
        f" (ours, the middle frame) or {part['peer_rounds']} (peers, the whole clip)."
        f" Memory of the process: {memory['before']} MB before, at most {memory['peak']} MB with our networks.",
        "",
    ]
    rows = [[system, stage, f"{ms:.2f}", f"{ratio:.1f}"] for system, stage, ms, ratio in speed_ratios(part)]
    lines += table(["system", "stage", "ms a frame", "times JPEG"], rows)
    models = [[m["name"], f"{m['bytes']:,}", f"{m['parameters']:,}"] for m in part["models"]]
    return lines + table(["weights", "bytes", "parameters"], models)


def readme_section(results: Results) -> str:
    """A short table for the README, one row for each verdict on one of our systems, losses first."""
    lines, rows = [HEADER, ""], []
    for verdict, title in VERDICTS:
        for kind in (kind for kind in UNITS if kind in results):
            found = [
                one
                for one in results[kind]["comparisons"]
                if one["verdict"] == verdict and one["measure"].startswith(README_MEASURES)
            ]
            rows += [
                [title.lower(), kind, ours, _summed([one for one in found if one["ours"] == ours])]
                for ours in dict.fromkeys(one["ours"] for one in found)
            ]
    dates = ", ".join(f"{kind} {results[kind]['facts']['date']}" for kind in UNITS if kind in results)
    lines += [
        f"Against the best of all peers ({dates}); percent of bits at equal quality, or quality at equal bits:",
        "",
    ]
    return "\n".join([*lines, *table(["verdict", "", "ours", "by which measure, on what"], rows)]).rstrip()


def _summed(found: Sequence[dict[str, Any]]) -> str:
    """Verdicts in a few words, measure by measure."""
    parts = []
    for measure in dict.fromkeys(one["measure"] for one in found):
        items = [f"{one['item']}{_trained(one)}{_figure(one)}" for one in found if one["measure"] == measure]
        parts.append(f"{measure}: {', '.join(items)}")
    return "; ".join(parts)


def _trained(one: dict[str, Any]) -> str:
    return " (trained on)" if one["group"] == "training pictures" else ""


def _figure(one: dict[str, Any]) -> str:
    if one["verdict"] == "not comparable":
        return ""
    if one["percent"] is not None:
        return f" {one['percent']:+.0f} %"
    return "" if one["delta"] is None else f" {one['delta']:+.2g}"


def with_section(text: str, section: str, where: str) -> str:
    """A text with what stands between the markers replaced.

    Raises:
        InputError: the markers are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{where}: the lines {BEGIN} and {END} are not in it; add them where the section belongs")
    return f"{before}{BEGIN}\n{section}\n{END}{after}"


def _paper_tables(report: Path) -> list[Any]:
    """The papers' tables in a report's folder, or in a JSON file that `_write_tables` wrote; none in other files."""
    if report.is_dir():
        return list(read_tables(report))
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(content["papers"]) if isinstance(content, dict) and set(content) == {"papers"} else []


def _write_tables(tables: list[Any], json_file: Path | None, markdown: Path | None) -> tuple[Path, ...]:
    """Where there is nothing but the papers' tables: their JSON, and their block of a page."""
    if json_file is not None:
        json_file.write_text(json.dumps({"papers": tables}, indent=1) + "\n", encoding="utf-8")
    if markdown is not None:
        replaced_block(markdown, tables)
    written = tuple(path for path in (json_file, markdown) if path is not None)
    if not written:
        raise InputError("the papers' tables: nothing was asked for; give --json or --markdown")
    return written


def write_results(
    report: Path, json_file: Path | None, markdown: Path | None, readme: Path | None, anchor: str = ""
) -> tuple[Path, ...]:
    """Write the pages that are asked for. `report` is a report's folder, or a JSON file that this wrote before.

    Raises:
        InputError: there are no results, or the README has no markers.
    """
    tables = _paper_tables(report)
    if tables and not (report.is_dir() and any((report / f"{kind}.json").exists() for kind in PARTS)):
        return _write_tables(tables, json_file, markdown)
    if report.is_file():
        try:
            results: Results = json.loads(report.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{report}: this is no file of results ({error}); give the --json of this command"
            ) from error
        if not isinstance(results, dict):
            raise InputError(f"{report}: this is no file of results; give the --json of this command")
    else:
        results = compact(read_parts(report), anchor)
    written = []
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        written.append(json_file)
    if markdown is not None:
        before = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
        markdown.write_text(with_block(results_page(results), before, tables), encoding="utf-8")
        written.append(markdown)
    if readme is not None:
        if not readme.is_file():
            raise InputError(f"{readme}: there is no such file; give --readme a file with the lines {BEGIN} and {END}")
        text = with_section(readme.read_text(encoding="utf-8"), readme_section(results), str(readme))
        readme.write_text(text, encoding="utf-8")
        written.append(readme)
    if not written:
        raise InputError(f"{report}: nothing was asked for; give --json, --markdown or --readme")
    return tuple(written)
