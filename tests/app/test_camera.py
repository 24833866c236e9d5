"""`discover camera` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discover_stream.app.cli import run

CONFIG = "log: {path: log.db, partitions: 2}\ncameras:\n- {name: gate, source: 'rtsp://me:secret@host/1'}\n"


@pytest.fixture
def discover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["camera", *words, "-c", "c.yaml"])
        told = capsys.readouterr()
        return code, told.out + told.err

    return call


def test_add_list_remove(discover, tmp_path: Path) -> None:
    code, said = discover("add", "yard", "clip.mkv", "--fps", "5", "--mode", "still")
    assert code == 0
    assert said.startswith(f"yard: {tmp_path}/clip.mkv, fps 5.0, mode still; partition ")
    code, said = discover("list", "--json")
    assert json.loads(said)["settings"] == {"source": f"{tmp_path}/clip.mkv", "fps": 5.0, "mode": "still"}
    assert discover("remove", "yard") == (0, "yard: removed; its archive stays\n")
    assert discover("list") == (0, "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("add", "Yard", "clip.mkv"), "camera Yard: name: String should match pattern"),
        (("add", "yard", "clip.mkv", "--fps", "0"), "camera yard: fps: Input should be greater than 0 (it is 0.0)"),
        (("add", "yard", "clip.mkv", "--mode", "fast"), "camera yard: mode: "),
        (("add", "yard", "rtsp://me:secret@host/1"), "its address holds a password"),
        (("remove", "yard"), "there is no log"),
        (("list", "--log", "sqlite:other.db"), "both --config and --log"),
    ],
)
def test_what_cannot_be_done_is_one_line(discover, words, complaint: str) -> None:
    code, said = discover(*words)
    assert code == 2
    assert said.count("\n") == 1
    assert complaint in said or (complaint == "there is no log" and "log.db" in said)
    assert "secret" not in said
