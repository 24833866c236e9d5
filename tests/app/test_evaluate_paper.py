"""`discover eval paper` and `convert` from the command line: a tiny table, run again, pooled early, and its pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.app.cli import run
from discover_stream.app.evaluate_paper_page import BEGIN, END, page_of, with_block
from discover_stream.app.evaluate_results import write_results
from discover_stream.video.simulate import SimulatedCamera

SYSTEMS = ("ours:quality=4", "ours-full:quality=4", "diff-icmh:quality=4,steps=1", "jpeg:quality=8", "jpeg:quality=60")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of a simulated street with YOLO labels, converted by the command."""
    root = tmp_path_factory.mktemp("street")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    camera = SimulatedCamera("papers", seed=7, width=256, height=160, fps=1.0)
    for seq in (8, 12):
        frame, objects = camera.render(seq)
        PillowImage.fromarray(frame.image).save(root / "images" / f"{seq}.png")
        rows = []
        for thing in objects:
            box = thing.box.clipped(256, 160)
            centre = ((box.x0 + box.x1) / 512, (box.y0 + box.y1) / 320)
            rows.append(f"0 {centre[0]} {centre[1]} {(box.x1 - box.x0) / 256} {(box.y1 - box.y0) / 160}")
        (root / "labels" / f"{seq}.txt").write_text("\n".join(rows))
    words = ["--images", str(root / "images"), "--labels", str(root / "labels"), "--classes", "thing"]
    assert run(["eval", "convert", "yolo", *words, "--rename", "thing=car", "--out", str(root / "set")]) == 0
    return root / "set"


def command(street: Path, out: Path, *more: str) -> list[str]:
    systems = [word for text in SYSTEMS for word in ("--system", text)]
    words = ["--table", "detection", "--on", str(street), "--judge", "nano", "--set", "grounder=annotated"]
    return ["eval", "paper", *words, "--set", "part=1", *systems, "--out", str(out), *more]


@pytest.fixture(scope="module")
def report(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("papers")
    assert run(command(street, out)) == 0
    return out


def test_the_table_says_what_was_measured(report: Path) -> None:
    found = json.loads((report / "paper-detection-set.json").read_text())
    assert [line["system"] for line in found["lines"]] == ["original", *SYSTEMS]
    assert found["pictures"] == 2
    rates = {line["system"]: line["bpp"] for line in found["lines"]}
    assert rates["ours:quality=4"] < rates["ours-full:quality=4"]
    assert rates["jpeg:quality=8"] < rates["jpeg:quality=60"]
    assert all(0 <= line["scores"]["AP"] <= 100 and line["scores"]["objects"] > 0 for line in found["lines"])
    page = (report / "paper-detection-set.md").read_text()
    for words in (
        "# Detection on set, 2 pictures",
        "Not the papers' data",
        "boxes are the set's own".capitalize(),
        "These weights read no tags",
        "missing here: not checked against the paper",
        "second hand",
    ):
        assert words in page


def test_a_second_run_measures_nothing(street: Path, report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {path: path.stat().st_mtime_ns for path in (report / "cases").iterdir()}
    assert len(cases) == 2 * (1 + len(SYSTEMS))
    assert run(command(street, report, "--set", "note=other work was running")) == 0
    assert "* Other work was running\n" in (report / "paper-detection-set.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in (report / "cases").iterdir()} == cases
    assert "detection on set:" not in capsys.readouterr().err


def test_finished_parts_are_pooled_early(street: Path, report: Path, tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    early = command(street, tmp_path, "--set", "interim=true")
    assert run(early) == 2
    full = json.loads((report / "paper-detection-set.json").read_text())
    for path in (report / "cases").iterdir():
        if json.loads(path.read_text())["notes"][0]["picture"] == "8.png":
            (tmp_path / "cases" / path.name).write_bytes(path.read_bytes())
    assert run(early) == 0
    found = json.loads((tmp_path / "paper-detection-set.json").read_text())
    assert "1 of 2 parts are finished" in found["remarks"][0]
    assert found["lines"][0]["scores"]["objects"] < full["lines"][0]["scores"]["objects"]


def test_scores_without_their_networks_are_not_spoken_of(street: Path, tmp_path: Path) -> None:
    """Without a network for FID no patches are counted, and the page says nothing of them."""
    words = [word for name in ("lpips", "dists", "inception") for word in ("--judge", f"{name}=none")]
    words += ["--on", str(street / "images"), "--set", "grounder=annotated", "--system", "jpeg:quality=8"]
    assert run(["eval", "paper", "--table", "perception", *words, "--out", str(tmp_path)]) == 0
    page = (tmp_path / "paper-perception-images.md").read_text()
    assert "PSNR" in page
    assert "FID" not in page.partition("published")[0]


def test_two_processes_share_a_table(street: Path, tmp_path: Path) -> None:
    """Each of the two pictures is measured by one process only, and one of them pools both."""
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    words = ["--table", "detection", "--on", str(street), "--judge", "nano", "--set", "part=1", "--set", "device=cpu"]
    words += ["--set", "grounder=annotated", "--system", "jpeg:quality=8", "--out", str(tmp_path)]
    whole = [sys.executable, *launch, "-m", "discover_stream.app.cli", "eval", "paper", *words]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "paper-detection-set.json").read_text())
    assert [line["system"] for line in found["lines"]] == ["original", "jpeg:quality=8"]
    assert found["pictures"] == 2
    assert done.stderr.count("detection on set: ") == 4  # two systems on two parts; each on its own would say eight
    assert done.stdout.count("paper-detection-set.json") == 1


def test_the_block_of_the_results_page_is_its_own(report: Path, tmp_path: Path) -> None:
    page, data = tmp_path / "results.md", tmp_path / "papers.json"
    page.write_text("# Measured results\n\nold\n")
    assert run(["eval", "results", str(report), "--markdown", str(page), "--json", str(data)]) == 0
    first = page.read_text()
    assert first.startswith("# Measured results\n\nold\n")
    assert first.count(BEGIN) == first.count(END) == 1
    assert "### Detection on set, 2 pictures" in first
    assert write_results(data, None, page, None) == (page,)
    assert page.read_text() == first
    assert with_block("# New\n", first, ()).partition(BEGIN)[2] == first.partition(BEGIN)[2]
    assert run(["eval", "results", str(report)]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "detection"], "not at any --data; get COCO 2017"),
        (["--table", "detection", "--set", "county=3"], "settings are count, part"),
        (["--table", "detection", "--set", "count"], "write KEY=VALUE"),
        (["--table", "perception", "--judge", "lpips"], "write MEASURE="),
        (["--table", "detection", "--judge", "a", "--judge", "b"], "it has one judge"),
        (["--table", "detection", "--judge", "nano", "--set", "grounder=oracle"], "use nano, grounding-dino"),
        (["--table", "segmentation", "--judge", "torchvision:maskrcnn_resnet50_fpn:nowhere.pth"], "no weights at"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], said: str, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = [] if "COCO" in said else ["--on", str(street)]
    assert run(["eval", "paper", *words, *here, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_label_maps_are_converted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    PillowImage.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    kinds = np.zeros((40, 40), np.uint8)
    kinds[4:20, 4:20] = 8
    PillowImage.fromarray(kinds).save(tmp_path / "maps" / "a.png")
    words = ["eval", "convert", "maps", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "maps")]
    assert run([*words, "--classes", "8=car", "--out", str(tmp_path / "set")]) == 0
    found = json.loads((tmp_path / "set" / "instances.json").read_text())
    assert [note["area"] for note in found["annotations"]] == [256]
    capsys.readouterr()
    assert run([*words, "--classes", "car", "--out", str(tmp_path / "set")]) == 2
    assert "write it as 8=car,9=person" in capsys.readouterr().err


def test_a_difference_beside_the_papers_has_the_digits_of_its_score() -> None:
    line = {"name": "discover-full", "system": "discover-full:quality=3", "bpp": 0.1}
    lines = [line | {"scores": {"FID": 40.0, "DISTS": 0.2, "patches": 192.0}}]
    both = {"name": "discover-full", "anchor": "x265-intra", "rate": None, "shared": None}
    differences = [both | {"measure": "FID", "quality": -3.25}, both | {"measure": "DISTS", "quality": -0.0134}]
    facts = {"machine": "m", "date": "d", "discover-stream": "1", "command": "c"}
    result = {"table": "perception", "set": "kodak", "pictures": 24, "judge": "j", "grounder": "g", "weights": "w"}
    page = page_of(result | {"remarks": [], "facts": facts, "lines": lines, "differences": differences})
    assert "-0.0134 against x265-intra" in page
    assert "-3.2 against x265-intra" in page
