"""`discover status` and `discover doctor`: what people and programs are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discover_stream.app.cli import run
from discover_stream.app.doctor_findings import (
    GIB,
    clock_finding,
    codec_finding,
    disk_finding,
    origin_finding,
    problem,
    skew_finding,
)
from discover_stream.app.status_view import duration, status_lines
from topics import open_log
from topics.catalogue import STATUS, CatalogueSettings, catalogue
from topics.fleet_messages import CameraStatus, StageStatus, SystemStatus
from topics.messages import encode
from topics.status import StatusTable

S = 10**9
CONFIG = "log: {path: log.db, partitions: 2}\ncameras:\n- {name: gate, source: 'clip.mkv'}\n"


def system(**more) -> SystemStatus:
    content = {
        "at_ns": 100 * S, "role": "all", "host": "h", "pid": 5, "version": "0.1", "state": "running",
        "started_ns": 0, "interval_s": 2.0,
    }  # fmt: skip
    return SystemStatus(**{**content, **more})


GATE = CameraStatus(
    camera="gate", at_ns=0, partition=0, health="running", picture="frozen", fps=2.5, lag_frames=3, lag_s=1.2,
    dropped={"encoding fell behind": 4}, gaps=1, mode="stream", kbps={"cars": 12.34, "all": 20.0},
)  # fmt: skip
ENCODER = StageStatus(
    stage="encode-0", kind="encode", at_ns=0, health="restarting", error="its process died", deaths=9, in_a_row=2
)


def test_a_table_of_cameras_and_below_it_what_is_not_well() -> None:
    lines = status_lines(StatusTable(system(), (GATE,), (ENCODER,), (), 100 * S), 101 * S)
    assert lines[0] == "running for 100 s: all on h, process 5, version 0.1; 9 deaths of its processes, all told"
    assert lines[2].split() == [
        "camera", "health", "picture", "mode", "fps", "lag", "dropped", "gaps", "kbit/s", "by", "task"
    ]  # fmt: skip
    row = lines[3].split()
    assert row[:5] == ["gate", "running", "frozen", "stream", "2.5"]
    assert "3 (1.2 s)" in lines[3]
    assert "4 encoding fell behind" in lines[3]
    assert row[-4:] == ["all", "20.0", "cars", "12.3"]
    assert "camera gate: its picture is frozen; look at the camera" in lines
    assert "encode-0: restarting, death 2 in a row: its process died" in lines


@pytest.mark.parametrize(
    ("table", "now_s", "said"),
    [
        (StatusTable(), 0, "no system has written to this log yet; start `discover run`"),
        (StatusTable(system(), heard_ns=100 * S), 160, "SILENT for 60 s: all on h"),
        (StatusTable(system(state="stopped"), heard_ns=100 * S), 400, "stopped 5 min ago: all on h"),
        (StatusTable(system(outage="no broker"), heard_ns=100 * S), 101, "LOG AWAY LATELY: no broker"),
    ],
)
def test_the_first_line_says_whether_to_believe_the_rest(table: StatusTable, now_s: int, said: str) -> None:
    assert said in status_lines(table, now_s * S)[0]


def test_durations() -> None:
    spans = [duration(seconds) for seconds in (-1, 3, 300, 10_000, 10**6)]
    assert spans == ["0 s", "3 s", "5 min", "2 h", "11 days"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def test_status_from_another_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_log("sqlite:log.db") as log:
        log.create_topics(catalogue())
        for key, message in (("system", system()), ("camera/gate", GATE), ("stage/encode-0", ENCODER)):
            log.append(STATUS, key, encode(message))
    assert run(["status", "-c", "c.yaml", "--once", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cameras"][0]["dropped"] == {"encoding fell behind": 4}
    assert told["stages"][0]["deaths"] == 9
    assert run(["status", "--log", "sqlite:log.db", "--once"]) == 0
    assert "gate" in capsys.readouterr().out


def test_the_doctor_tells_what_is_wrong_and_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "-c", "c.yaml"]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM camera gate: clip.mkv is not there; correct the path, or start elsewhere" in said
    assert "ok      packages: actors, discover_stream, topics come from" in said
    assert "codec.safetensors: sha256" in said
    assert "log.db does not exist yet" in said
    (folder / "clip.mkv").touch()
    with open_log("sqlite:log.db") as log:
        log.create_topics(catalogue((), CatalogueSettings(partitions=2)))
    assert run(["doctor", "-c", "c.yaml", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"area", "verdict", "what", "remedy"} == set(found[0])
    assert any(item["what"].startswith("topics that are not as configured: ") for item in found)


def test_a_foreign_file_where_the_log_is_to_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "clip.mkv").touch()
    (folder / "log.db").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    assert run(["doctor", "-c", "c.yaml"]) == 1
    assert "PROBLEM log: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("finding", "verdict", "words"),
    [
        (clock_finding(None, None), "note", "no system runs"),
        (clock_finding(0.004, 1.0), "ok", "4 ms apart"),
        (clock_finding(-90.0, 1.0), "problem", "the system's clock is 90.0 s ahead of the log's"),
        (clock_finding(0.0, -7.0), "problem", "this machine's clock is 7.0 s behind"),
        (disk_finding("/x", GIB // 2, 0, 0), "problem", "0.5 GiB free"),
        (disk_finding("/x", 10 * GIB, 100 * GIB, GIB), "note", "may grow by 99 GiB"),
        (disk_finding("/x", 10 * GIB, 5 * GIB, 0), "ok", "10.0 GiB free"),
        (origin_finding({"a": "/x", "b": "/x"}), "ok", "come from /x"),
        (origin_finding({"a": "/x", "b": "/y"}), "problem", "different places"),
        (codec_finding(["h264"], []), "problem", "lack h264"),
        (codec_finding(["hevc"], ["hevc"]), "note", "lack hevc"),
        (codec_finding([], ["hevc"]), "ok", "reads and writes"),
        (problem("x", "a; b; do c"), "problem", "a; b"),
    ],
)
def test_judgements(finding, verdict: str, words: str) -> None:
    assert finding.verdict == verdict
    assert words in finding.what
    assert finding.remedy or verdict != "problem"


def test_clocks_of_cameras() -> None:
    assert skew_finding("a", 0, 5 * S) is None
    late, early = skew_finding("a", 0, 90 * S), skew_finding("a", 90 * S, 0)
    assert late is not None
    assert early is not None
    assert "90 s old" in late.what
    assert "90 s in the future" in early.what
