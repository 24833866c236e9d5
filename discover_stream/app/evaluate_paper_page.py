"""The papers' tables as Markdown: a page each, and one block in docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from discover_stream.app.markdown import between, table
from discover_stream.app.outputs import counted
from discover_stream.evaluation import papers
from discover_stream.evaluation.experiments.modes import is_mode
from discover_stream.evaluation.experiments.tables import ABLATIONS
from discover_stream.evaluation.systems import SystemSpec

BEGIN, END = "<!-- papers: begin -->", "<!-- papers: end -->"
DIGITS = {"bpp": 4, "KID": 5, "LPIPS": 4, "DISTS": 4, "distance": 4, "MS-SSIM": 4}
"""Decimals of scores; one for the others (percent, dB, FID)."""

LEAST = 100
"""Objects, patches or pictures below which no difference is taken: one of them would move it by percents."""

COUNTS = {
    "objects": "AP rests on {} objects",
    "mask objects": "Mask AP rests on {} objects",
    "patches": "FID and KID rest on {} patches (FID wants 2048 and more)",
}

Result = Mapping[str, Any]


def page_of(result: Result, level: int = 1) -> str:
    """A table's page.

    Args:
        result: as `evaluate_paper` wrote it.
        level: of its heading.
    """
    mark = "#" * level
    made = result["facts"]
    lines = [
        f"{mark} {result['table'].capitalize()} on {result['set']}, {counted(result['pictures'], 'picture')}",
        "",
        f"* Machine: {made['machine']}; date: {made['date']}; discover-stream {made['discover-stream']}",
        f"* Command: `{made['command']}`",
        f"* Networks: {result['judge']}; boxes: {result['grounder']}; weights: {result['weights']}",
        *(f"* {remark[0].upper()}{remark[1:]}" for remark in [*result["remarks"], *_counted(result)]),
        "",
    ]
    return "\n".join([*lines, *_scores(result), *_differences(result), *_beside_paper(result)]).rstrip() + "\n"


def _counted(result: Result) -> list[str]:
    """How much the scores rest on."""
    scores = result["lines"][0]["scores"]
    return [words.format(int(scores[name])) for name, words in COUNTS.items() if scores.get(name)]


def basis_of(result: Result) -> int:
    """How many objects, patches or pictures the scores rest on."""
    scores = result["lines"][0]["scores"]
    found = [int(scores[name]) for name in COUNTS if scores.get(name)]
    return min(found or [int(result["pictures"])])


def _scores(result: Result) -> list[str]:
    lines = result["lines"]
    names = list(dict.fromkeys(name for line in lines for name in line["scores"] if name not in COUNTS))
    rows = []
    for line in lines:
        original = line["system"] == "original"
        cells = [_shown(name, line["scores"].get(name)) for name in names]
        rows.append([title_of(line), _setting(line), "" if original else _shown("bpp", line["bpp"]), *cells])
    return table(["system", "setting", "bpp", *names], rows)


def _differences(result: Result) -> list[str]:
    """BD-rate and BD-score of every mode against every anchor."""
    found = result["differences"]
    if not found:
        return []
    if basis_of(result) < LEAST:
        words = (
            f"Differences between curves are left out: they would rest on {basis_of(result)} of the {LEAST} objects,"
        )
        return [words, "patches or pictures that are the least here. What the lines show is that everything runs.", ""]
    titles = {line["name"]: title_of(line) for line in result["lines"]}
    rows, apart = [], []
    for one in found:
        if one["rate"] is None and one["quality"] is None:
            apart.append(f"{titles[one['name']]} and {one['anchor']} by {one['measure']}")
            continue
        rate = "" if one["rate"] is None else f"{one['rate']:+.1f} %"
        shared = "" if one["shared"] is None else f"{100 * one['shared']:.0f} %"
        quality = "" if one["quality"] is None else f"{one['quality']:+.{DIGITS.get(one['measure'], 2)}f}"
        rows.append([titles[one["name"]], one["anchor"], one["measure"], rate, shared, quality])
    head = ["mode", "against", "score", "BD-rate", "shared", "BD-score (at equal bits)"]
    lines = ["Negative BD-rates save bits; *shared* is the part of the range of scores that both reach.", ""]
    lines += table(head, rows) if rows else []
    return [*lines, f"Curves that do not meet: {'; '.join(apart)}.", ""] if apart else lines


def _beside_paper(result: Result) -> list[str]:
    rows = [
        [one.source, one.what, one.figure, _ours(result, one), one.checked, one.differs]
        for one in papers.PUBLISHED
        if one.table == result["table"]
    ]
    head = ["paper", "what", "published", "ours", "checked", "conditions differ in"]
    return table(head, rows) if rows else []


def _ours(result: Result, one: papers.Published) -> str:
    """Our differences by the same score, of the mode that stands for the paper's."""
    if basis_of(result) < LEAST:
        return "not to be said of so few"
    found = [d for d in result["differences"] if d["name"] == one.mode and d["measure"] == one.measure]
    shown = [
        f"{d[one.kind]:+.1f} % against {d['anchor']}"
        if one.kind == "rate"
        else f"{d[one.kind]:+.{DIGITS.get(one.measure, 1)}f} against {d['anchor']}"
        for d in found
        if d[one.kind] is not None
    ]
    return "; ".join(shown) if shown else "not to be said: the curves do not meet"


def title_of(line: Mapping[str, Any]) -> str:
    """What a line is called: of an ablation its title, else the name of the mode or the peer."""
    settings = SystemSpec.parse(line["system"]).values()
    if not is_mode(line["system"].partition(":")[0]):
        return str(line["name"])
    mode = line["system"].partition(":")[0]
    own = {key: value for key, value in settings.items() if key != "quality"}
    titles = [title for title, name, changes in ABLATIONS if changes and (name, changes) == (mode, own)]
    return titles[0] if titles else str(line["name"])


def _setting(line: Mapping[str, Any]) -> str:
    settings = SystemSpec.parse(line["system"]).values()
    shown = ("quality", "crf", "qp")
    return ", ".join(f"{key} {settings[key]}" for key in shown if key in settings)


def _shown(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS.get(name, 1)}f}"


def block_of(results: Sequence[Result]) -> str:
    """The block of docs/results.md."""
    lines = [
        "## The papers' tables, on stand-ins",
        "",
        "Made by `discover eval paper` and `discover eval results`. The papers' data and networks are not here: these",
        "tables show that the whole path runs and what the small weights give, not what the papers' models would.",
        "Modes, measures, and how to repeat all of it with the real data: [papers.md](papers.md).",
        "",
    ]
    return "\n".join([*lines, *(page_of(result, 3) for result in results)]).rstrip()


def with_block(page: str, before: str, results: Sequence[Result]) -> str:
    """A page with the block at its end: a new one where there are results, else the one that was there before."""
    block = block_of(results) if results else between(before, BEGIN, END)
    return f"{page.rstrip()}\n\n{BEGIN}\n{block}\n{END}\n" if block else page


def replaced_block(page: Path, results: Sequence[Result]) -> None:
    """Put the block into a page that is there, and leave the rest of it as it is."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    rest = text.partition(BEGIN)[0] if BEGIN in text else text
    page.write_text(with_block(rest, "", results), encoding="utf-8")
