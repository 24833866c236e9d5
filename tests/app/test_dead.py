"""`discover dead` as a command; what it does to a log is in tests/topics/test_dead_letters.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from discover_stream.types import InputError
from topics import dead_letters
from topics.catalogue import DEAD, FRAMES, CatalogueSettings, catalogue
from topics.log import Record
from topics.messages import FrameMessage, dead_message, encode
from topics.sqlite import SqliteLog


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteLog]:
    """Two dead frames of two cameras."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("log: {path: log.db}\ncameras: [{name: a, source: x}]\n")
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue((), CatalogueSettings(partitions=4)))
        for seq, camera in enumerate(("gate", "yard")):
            value = encode(FrameMessage(camera=camera, seq=seq, capture_ns=5, jpeg=b"jpeg"))
            offset = opened.append(FRAMES, camera, value, partition=3)
            record = Record(FRAMES, 3, offset, 0, camera, value)
            dead = dead_message(record, f"reason {seq}", 3 * seq, 1_767_225_600 * 10**9)
            opened.append(DEAD, camera, encode(dead), partition=3)
        yield opened


def frames(log: SqliteLog) -> list[str | None]:
    return [item.key for item in log.reader(FRAMES).poll() if isinstance(item, Record)]


@pytest.mark.parametrize("where", [("-c", "c.yaml"), ("--log", "sqlite:log.db")])
def test_list(log: SqliteLog, discover, where: tuple[str, str]) -> None:
    first, second = discover("dead", "list", *where).splitlines()
    assert first.split() == ["3:0", "2026-01-01T00:00:00.000Z", "gate", "from", "frames", "3:0:", "reason", "0"]
    assert second.endswith("yard from frames 3:1, died 3 times: reason 1")
    (line,) = discover("dead", "list", *where, "--camera", "yard", "--json").splitlines()
    assert json.loads(line) == {
        "record": "3:1",
        "camera": "yard",
        "topic": "frames",
        "partition": 3,
        "offset": 1,
        "deaths": 3,
        "at": "2026-01-01T00:00:00.000Z",
        "reason": "reason 1",
        "retried": False,
    }


def test_show(log: SqliteLog, discover) -> None:
    out = discover("dead", "show", "3:1", "-c", "c.yaml")
    assert "holds      FrameMessage seq 1" in out
    assert "reason     reason 1" in out
    shown = json.loads(discover("dead", "show", "3:0", "-c", "c.yaml", "--json"))
    assert (shown["record"], shown["holds"], shown["retried"]) == ("3:0", "FrameMessage seq 0", False)
    assert shown["bytes"] > 0


def test_retry_by_name(log: SqliteLog, discover, refused) -> None:
    assert "3:1 is back in frames, partition 3" in discover("dead", "retry", "3:1", "-c", "c.yaml")
    assert frames(log) == ["gate", "yard", "yard"]
    assert ", retried: reason 1" in discover("dead", "list", "-c", "c.yaml")
    assert "--again sends it once more" in refused("dead", "retry", "3:1", "-c", "c.yaml")
    assert frames(log) == ["gate", "yard", "yard"]
    discover("dead", "retry", "3:1", "--again", "-c", "c.yaml")
    assert frames(log) == ["gate", "yard", "yard", "yard"]


def test_retry_all_takes_each_once(log: SqliteLog, discover) -> None:
    discover("dead", "retry", "3:1", "-c", "c.yaml")
    assert discover("dead", "retry", "--all", "-c", "c.yaml").count("is back") == 1
    assert discover("dead", "retry", "--all", "-c", "c.yaml") == "nothing to retry\n"
    assert frames(log) == ["gate", "yard", "yard", "gate"]


def test_one_that_cannot_be_retried_does_not_hold_up_the_others(log: SqliteLog, refused) -> None:
    gone = dead_message(Record("task.old", 0, 0, 0, "gate", b"x"), "old", 0, 0)
    log.append(DEAD, "gate", encode(gone), partition=0)
    line = refused("dead", "retry", "--all", "-c", "c.yaml")
    assert "dead record 0:0: came from partition 0 of topic task.old" in line
    assert frames(log) == ["gate", "yard", "gate", "yard"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "name the records"),
        (("retry", "3:0", "--all"), "name the records"),
        (("retry", "9:0"), "dead record 9:0: there is none"),
        (("show", "nonsense"), "use PARTITION:OFFSET"),
        (("list", "--log", "sqlite:log.db"), "one of them"),
    ],
)
def test_mistakes_are_one_line(log: SqliteLog, refused, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused("dead", *arguments, "-c", "c.yaml")
    assert frames(log) == ["gate", "yard"]


def test_no_log_is_made(tmp_path: Path, refused, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is none yet" in refused("dead", "list", "--log", "sqlite:none.db")
    assert "log address 'nonsense'" in refused("dead", "list", "--log", "nonsense")
    assert list(tmp_path.iterdir()) == []


def test_nothing_dead(tmp_path: Path, discover, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteLog("log.db") as empty:
        empty.create_topics(catalogue())
    assert discover("dead", "list", "--log", "sqlite:log.db") == "no dead records\n"


@pytest.mark.parametrize("command", [("list",), ("retry", "--all")])
def test_dead_records_are_taken_one_by_one(log: SqliteLog, refused, command, monkeypatch) -> None:
    """Each may hold a frame: there is no room for all of them."""
    real, done = dead_letters.dead_letters, []
    echo = typer.echo
    monkeypatch.setattr(typer, "echo", lambda line, **more: done.append(line) or echo(line, **more))

    def one_by_one(opened):
        for count, letter in enumerate(real(opened)):
            assert len(done) == count
            yield letter
        raise InputError("that was all")

    monkeypatch.setattr(dead_letters, "dead_letters", one_by_one)
    assert "that was all" in refused("dead", *command, "-c", "c.yaml")
    assert len(done) >= 2
