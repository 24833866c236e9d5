from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.decisions import StagePlan
from actors.ingest import IngestReport
from actors.log_view import LogFigures
from actors.progress import Outage
from actors.remote import Report
from actors.route import Tally
from actors.supervisor import Watched
from actors.system import System, anchored_paths, backlog, camera_progress, catalogue_settings, task_progress
from discover_stream.codec.mode_policy import ModeStatus
from discover_stream.config import TaskConfig, parse_config
from discover_stream.types import DiscoverError, InputError
from topics.catalogue import ARCHIVE, FRAMES
from topics.log import Retention

CONFIG = parse_config(
    """
log: {path: out/log.db, partitions: 3, frames: {hours: 2, gib: 1}, archive: {hours: 0.5, gib: 0.25}}
cameras:
- {name: a, source: clips/a.mp4}
- {name: b, source: "sim://road?seed=1"}
- {name: c, source: /data/c.mp4}
""",
    "test",
)


def test_paths_start_at_the_working_directory_and_addresses_do_not(tmp_path: Path) -> None:
    moved = anchored_paths(CONFIG, tmp_path)
    assert moved.log.path == tmp_path / "out/log.db"
    assert [camera.source for camera in moved.cameras] == [
        str(tmp_path / "clips/a.mp4"),
        "sim://road?seed=1",
        "/data/c.mp4",
    ]


def test_retention_as_configured() -> None:
    settings = catalogue_settings(CONFIG.log)
    assert settings.partitions == 3
    assert settings.frames == Retention(7200 * 10**9, 2**30)
    assert settings.archive == Retention(1800 * 10**9, 2**28)
    assert settings.task == Retention(24 * 3600 * 10**9, 5 * 2**30)


def test_figures_of_a_task_outlive_the_processes_they_come_from() -> None:
    tallies = [
        Tally("t", "a", 6, 600, 0, 10**9),
        Tally("t", "a", 5, 500, 12 * 10**8, 2 * 10**9),  # the same camera after a restart
        Tally("t", "b", 2, 100, 0, 10**9),
        Tally("other", "a", 9, 9, 0, 1),
    ]
    found = task_progress("t", 7, tallies)
    assert (found.name, found.key, found.packets, found.bytes) == ("t", 7, 13, 1200)
    # 1100 bytes in 11 packets 0.2 s apart, and 100 bytes in 2 packets 1 s apart.
    assert found.kbps == pytest.approx(1100 * 8 / 2.2e3 + 100 * 8 / 2e3)


def test_what_is_known_of_a_camera() -> None:
    item = Watched("ingest-a-0", "ingest", None, plan=StagePlan("ingest", 0, "a"), health="running")
    assert camera_progress(item, {}).frames == 0
    item.reports[1, 1] = Report(1, 1, 5, IngestReport(5, 5, 1, (("slow", 2),)))
    item.reports[2, 1] = Report(2, 1, 3, IngestReport(3, 8, 0, (("slow", 1), ("large", 1)), "cut"))
    found = camera_progress(item, {})
    assert (found.name, found.frames, found.gaps, found.problem) == ("a", 8, 1, "cut")
    assert found.dropped == {"slow": 3, "large": 1}
    assert item.done == 8
    away = Outage(0, "log x: locked")
    item.reports[3, 1] = Report(
        3, 1, 9, IngestReport(9, 17, 0, (("log unavailable", 4),), None, buffered=6, outage=away)
    )
    found = camera_progress(item, {})
    assert (found.buffered, found.outage) == (6, away)
    assert found.problem == "log unavailable since 1970-01-01T00:00:00Z, 6 frames buffered, 4 dropped: log x: locked"
    item.reports.popitem()
    item.error = "died"
    item.reports.popitem()
    assert camera_progress(item, {}).problem is None  # it runs again
    item.health = "failed"
    assert camera_progress(item, {}).problem == "died"
    still = ModeStatus("still", "the camera is hand-held")
    found = camera_progress(item, {"a": still, "b": ModeStatus("stream")})
    assert (found.mode, found.mode_reason) == ("still", "the camera is hand-held")


def test_partitions_with_work_left_are_known(log) -> None:
    assert backlog(log, 2) == ()
    log.append(FRAMES, "gate", b"x", partition=1)
    assert backlog(log, 2) == (1,)
    with log.stage("encode", 1, "test").transaction() as transaction:
        transaction.commit_offset(FRAMES, 1, 1)
    assert backlog(log, 2) == ()
    log.append(ARCHIVE, "gate", b"x", partition=0)
    assert backlog(log, 2) == (0,)


def test_a_system_that_is_not_running_says_so() -> None:
    system = System(CONFIG)
    for call in (system.progress, system.check, system.wait_idle, lambda: system.decode([])):
        with pytest.raises(DiscoverError, match="not running"):
            call()
    with pytest.raises(InputError, match="bicycles"):
        System(CONFIG.model_copy(update={"tasks": (TaskConfig(task="bicycles"),)}))


def test_a_system_is_idle_once_two_looks_found_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(CONFIG)
    view, ended = SimpleNamespace(), Watched("ingest-a-0", "ingest", None, plan=StagePlan("ingest", 0, "a"))
    monkeypatch.setattr(system, "_running", lambda: (view, SimpleNamespace(watched=[ended])))
    later = time.monotonic() + 60

    def idle(began_s: float, waiting: int = 0) -> bool:
        view.figures = LogFigures(began_s, {0: 0}, {0: waiting})
        return system._is_idle()

    assert not idle(later), "a source goes on"
    ended.health = "ended"
    assert not idle(0.0), "what ingest wrote last may not be in it"
    # A broker may show that a frame is done before it shows the packet.
    assert [idle(later), idle(later), idle(later + 1, 1), idle(later + 2), idle(later + 3)] == [False] * 4 + [True]
