"""`discover eval` from the command line: a tiny report, resumed, and the pages made from it."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from discover_stream.app.cli import run
from discover_stream.app.evaluate_paper_page import with_block
from discover_stream.app.evaluate_results import BEGIN, END, readme_section, results_page, with_section, write_results
from discover_stream.types import InputError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (
    "eval", "video", "--grid", "tiny", "--item", "street seed 3", "--seconds", "1", "--regions", "exact",
    "--system", "ours-still:quality=3", "--system", "svt-av1:crf=45,preset=10", "--system", "svt-av1:crf=60,preset=10",
)  # fmt: skip


class Addresses(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert run([*COMMAND, "--out", str(folder)]) == 0
    return folder


def test_the_report_needs_no_network(report: Path) -> None:
    page = (report / "report.html").read_text()
    addresses = Addresses()
    addresses.feed(page)
    assert len(addresses.found) >= 4
    assert all(address.startswith("data:image/") for address in addresses.found)
    assert "url(" not in page
    assert "@import" not in page
    for words in ("ours still, task", "ffmpeg -i IN", "DISCOVER, Liu et al.", "conditions differ in"):
        assert words in page


def test_figures_are_in_csv_and_json(report: Path) -> None:
    part = json.loads((report / "video.json").read_text())
    with (report / "video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == [record["system"] for record in part["records"]]
    for row, record in zip(rows, part["records"], strict=True):
        assert float(row["kbps"]) == record["kbps"]
        assert float(row["PSNR inside"]) == record["measures"]["PSNR inside"]
    assert part["facts"]["libraries"]["libavcodec"]
    assert {one["ours"] for one in part["comparisons"]} == {"ours still, task"}
    assert (report / "plots" / "video street seed 3.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_measures_nothing_and_says_the_same(report: Path) -> None:
    cases = {path: path.stat().st_mtime_ns for path in (report / "cases").iterdir()}
    before = json.loads((report / "video.json").read_text())
    assert run([*COMMAND, "--out", str(report)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (report / "cases").iterdir()} == cases
    assert json.loads((report / "video.json").read_text())["records"] == before["records"]


def test_pages_are_made_from_figures(report: Path, tmp_path: Path) -> None:
    stored, page, again = tmp_path / "results.json", tmp_path / "results.md", tmp_path / "again.md"
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n")
    assert run(["eval", "results", str(report), "--json", str(stored), "--markdown", str(page)]) == 0
    assert run(["eval", "results", str(stored), "--markdown", str(again), "--readme", str(readme)]) == 0
    assert page.read_text() == again.read_text()
    text = page.read_text()
    record = json.loads((report / "video.json").read_text())["records"][1]
    assert f"{record['kbps']:.4g}" in text
    assert "Command: `" in text
    assert str(tmp_path) not in text
    assert re.fullmatch(
        r"before\n<!-- results: begin -->\n.*<!-- results: end -->\nafter\n", readme.read_text(), re.DOTALL
    )
    assert "old figures" not in readme.read_text()


def verdict(name: str, measure: str = "AP50 [yolox]") -> dict[str, object]:
    return {
        "item": f"item {name}", "group": "simulated", "measure": measure, "ours": "ours still, task", "against": "best",
        "percent": 12.5, "delta": None, "shared": 0.5, "verdict": name, "reason": "",
    }  # fmt: skip


def test_losses_come_first() -> None:
    facts = {
        "machine": "m", "date": "d", "command": "c", "discover-stream": "0", "weights": "w", "libraries": {"av": "1"},
    }  # fmt: skip
    part = {
        "facts": facts, "comparisons": [verdict("lose"), verdict("tie"), verdict("win")],
        "needed": [], "best": [], "settings": 3,
    }  # fmt: skip
    for text in (results_page({"video": part}), readme_section({"video": part})):
        places = [text.index(f"item {name}") for name in ("lose", "tie", "win")]
        assert places == sorted(places)
        assert "+12 %" in text


def test_the_readmes_table_is_short() -> None:
    rows = [
        verdict(name, measure) | {"item": f"clip {number}"}
        for name in ("lose", "win")
        for measure in ("AP50 [yolox]", "PSNR inside", "MS-SSIM")
        for number in range(9)
    ]
    text = readme_section({"images": {"facts": {"date": "d"}, "comparisons": rows}})
    assert len(text.splitlines()) <= 12
    assert "clip 8" in text
    assert "MS-SSIM" not in text


def test_a_readme_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(InputError, match="there is no such file"):
        write_results(tmp_path / "r.json", None, None, tmp_path / "README.md")


def test_a_readme_without_markers_is_left_alone() -> None:
    with pytest.raises(InputError, match="add them where the section belongs"):
        with_section("nothing here", "figures", "README.md")


def test_documented_results_are_what_the_command_makes() -> None:
    """docs/results.md is made from docs/results.json and docs/papers.json, never typed."""
    stored, tables = (json.loads((ROOT / "docs" / f"{name}.json").read_text()) for name in ("results", "papers"))
    page = with_block(results_page(stored), "", tables["papers"])
    assert (ROOT / "docs" / "results.md").read_text() == page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["video", "--item", "nowhere"], "there is no 'nowhere' to measure on"),
        (["video", "--data", "nowhere"], "nowhere: there is no such folder"),
        (["images", "--judge", "yolox"], "write NAME=SPEC"),
        (["images", "--item", "streets", "--system", "x266:crf=3"], "there is no such system"),
        (["results", "nowhere", "--markdown", "x.md"], "there are no results here"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if arguments[0] == "results" else ["--out", str(tmp_path)]
    assert run(["eval", *arguments, *out]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]


def test_nothing_asked_for(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(InputError, match="nothing was asked for"):
        write_results(tmp_path / "r.json", None, None, None)
