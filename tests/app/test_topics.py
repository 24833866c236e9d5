"""`discover topics` as a command; what it decides is in tests/topics/test_plan.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.registry import load_tasks, register
from topics.catalogue import ARCHIVE
from topics.log import TopicSpec
from topics.sqlite import SqliteLog

CONFIG = "log: {{path: log.db, partitions: {partitions}{more}}}\ntasks: [{tasks}]\ncameras: [{{name: a, source: x}}]\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("vehicles")
    return tmp_path / "c.yaml"


def write(tasks: str, partitions: int = 2, more: str = "") -> None:
    Path("c.yaml").write_text(CONFIG.format(tasks=tasks, partitions=partitions, more=more))


def test_plan_apply_plan(config: Path, discover) -> None:
    lines = discover("topics", "plan", "-c", config).splitlines()
    assert len(lines) == 12
    assert all(line.startswith("create ") for line in lines)
    assert "create archive: 2 partitions, 7 d, 20 GiB: every atom of every frame, by camera" in lines
    assert not Path("log.db").exists(), "a plan makes nothing"
    assert discover("topics", "apply", "-c", config).splitlines() == lines
    assert "all topics are as configured" in discover("topics", "plan", "-c", config)
    assert "all topics are as configured" in discover("topics", "apply", "-c", config)


def test_changed_retention_is_altered(config: Path, discover) -> None:
    discover("topics", "apply", "-c", config)
    write("vehicles", more=", archive: {hours: 48, gib: 1}")
    out = discover("topics", "apply", "-c", config)
    assert "alter  archive: age: 7 d -> 2 d; size of a partition: 20 GiB -> 1 GiB" in out
    assert "index: age: 169 h -> 49 h" in out
    with SqliteLog("log.db") as log:
        kept = next(spec.retention for spec in log.topics() if spec.name == ARCHIVE)
    assert (kept.age_ns, kept.max_bytes) == (48 * 3600 * 10**9, 2**30)


def test_other_partitions_are_refused_with_what_to_do(config: Path, discover, refused) -> None:
    discover("topics", "apply", "-c", config)
    write("vehicles, pedestrians", partitions=5)
    assert "refuse archive: has 2 partitions, wanted 5" in discover("topics", "plan", "-c", config)
    line = refused("topics", "apply", "-c", config)
    assert "keep log.partitions at 2, or name another log" in line
    with SqliteLog("log.db") as log:
        assert "task.pedestrians" not in {spec.name for spec in log.topics()}


def test_unknown_topics_go_only_with_yes(config: Path, discover) -> None:
    discover("topics", "apply", "-c", config)
    with SqliteLog("log.db") as log:
        log.create_topics([TopicSpec("mine", 1)])
    assert "delete mine: no topic of this configuration (only with apply --yes)" in discover(
        "topics", "plan", "-c", config
    )
    assert "kept   mine" in discover("topics", "apply", "-c", config)
    assert "delete mine" in discover("topics", "apply", "--yes", "-c", config)
    with SqliteLog("log.db") as log:
        assert "mine" not in {spec.name for spec in log.topics()}


def test_the_topic_of_a_task_that_is_on_stays(config: Path, discover, refused) -> None:
    discover("topics", "apply", "-c", config)
    with SqliteLog("log.db") as log:
        register(log, load_tasks(["vehicles"]), 2, "test")
    write("pedestrians")
    assert "task vehicles is still on" in refused("topics", "apply", "--yes", "-c", config)
    with SqliteLog("log.db") as log:
        register(log, load_tasks(["pedestrians"]), 2, "test")
    assert "delete task.vehicles" in discover("topics", "apply", "--yes", "-c", config)


def test_show_tells_what_topics_hold_and_who_is_behind(config: Path, discover) -> None:
    discover("topics", "apply", "-c", config)
    with SqliteLog("log.db") as log:
        for number in range(5):
            log.append(ARCHIVE, "gate", bytes(1000), partition=number % 2)
        with log.stage("route", 0, "test").transaction() as transaction:
            transaction.commit_offset(ARCHIVE, 0, 1)
    out = discover("topics", "show", "-c", config)
    line = next(line for line in out.splitlines() if line.split()[:1] == ["archive"])
    for text in (" 5 ", "4.902 KiB", "7 d, 20 GiB, guarded", "0..3 0..2", "stage:route-0 2"):
        assert text in line
    shown = {item["topic"]: item for item in json.loads(discover("topics", "show", "--json", "-c", config))}
    assert shown["archive"]["partitions"] == [{"start": 0, "end": 3}, {"start": 0, "end": 2}]
    assert (shown["archive"]["records"], shown["archive"]["bytes"]) == (5, 5020)
    assert shown["archive"]["lag"] == {"stage:route-0": 2}
    assert shown["labels"]["compacted"]


def test_plans_can_be_read_by_programs(config: Path, discover) -> None:
    plan = json.loads(discover("topics", "plan", "--json", "-c", config))
    assert plan["log"].endswith("log.db")
    assert {change["kind"] for change in plan["changes"]} == {"create"}


def test_mistakes_are_one_line(config: Path, refused, tmp_path: Path) -> None:
    assert "there is none yet" in refused("topics", "show", "-c", config)
    assert "cannot be read" in refused("topics", "plan", "-c", "none.yaml")
    write("bicycles")
    assert "unknown task 'bicycles'" in refused("topics", "plan", "-c", config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml"]
