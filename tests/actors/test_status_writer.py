"""What is written about a running system: rates between two looks, only what changed, deaths that are remembered."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from actors.decisions import StagePlan
from actors.encode import CameraTally, EncodeReport
from actors.ingest import IngestReport
from actors.progress import CameraProgress, Progress, StageProgress
from actors.remote import Report
from actors.route import RouteReport, Tally
from actors.status_writer import (
    StatusWriter,
    camera_status,
    changes,
    fps_of,
    kbps_of,
    looked,
    stage_status,
    with_last_drop,
)
from actors.watched import Watched
from topics.fleet_messages import CameraStatus, StageStatus, SystemStatus
from topics.log import Log
from topics.status import interval_s, read_status, silent_s

S = 10**9


def test_rates_are_those_between_two_looks() -> None:
    first = looked(
        10.0,
        [
            EncodeReport(frames=40, tallies=(CameraTally("gate", 40, 40, 4 * S),)),
            RouteReport(tallies=(Tally("cars", "gate", 40, 100_000, 0, 4 * S),)),
        ],
    )
    second = looked(
        12.0,
        [
            EncodeReport(frames=40, tallies=(CameraTally("gate", 40, 40, 4 * S),)),  # a process that died since
            EncodeReport(frames=20, tallies=(CameraTally("gate", 20, 60, 6 * S),)),
            RouteReport(tallies=(Tally("cars", "gate", 60, 105_000, 0, 6 * S),)),
        ],
    )
    assert fps_of("gate", first, second) == 10.0
    assert kbps_of("gate", first, second) == {"cars": 5000 * 8 / 1000 / 2}
    assert (fps_of("gate", second, second), kbps_of("gate", second, second)) == (0.0, {"cars": 0.0})
    assert (fps_of("yard", first, second), kbps_of("yard", first, second)) == (0.0, {})


def test_lag_is_told_in_frames_and_in_seconds_of_capture_time() -> None:
    camera = CameraProgress("gate", 0, "running", 50, 1, {"encoding fell behind": 3}, None)
    look = looked(1.0, [EncodeReport(tallies=(CameraTally("gate", 40, 40, 4 * S),))])
    found = camera_status(camera, IngestReport(next_seq=50, last_capture_ns=5 * S), (look, look), 99, 7)
    assert (found.lag_frames, found.lag_s, found.dropped, found.gaps) == (10, 1.0, {"encoding fell behind": 3}, 1)
    nothing = looked(1.0, [])
    assert camera_status(camera, None, (nothing, nothing), 99, 7).lag_frames == 99


def test_the_time_of_the_last_drop_is_when_their_number_last_changed() -> None:
    def word(at_ns: int, dropped: int) -> CameraStatus:
        reasons = {"encoding fell behind": dropped} if dropped else {}
        return CameraStatus(camera="a", at_ns=at_ns, partition=0, health="running", dropped=reasons)

    said: CameraStatus | None = None
    for at_ns, dropped, last_ns in ((1, 0, None), (2, 3, 2), (3, 3, 2), (4, 4, 4), (5, 0, 4), (6, 1, 6)):
        said = with_last_drop(said, word(at_ns, dropped))
        assert said.last_drop_ns == last_ns


def test_only_what_changed_is_written_and_what_is_gone_is_forgotten() -> None:
    def word(at_ns: int, fps: float) -> CameraStatus:
        return CameraStatus(camera="a", at_ns=at_ns, partition=0, health="running", fps=fps)

    system = SystemStatus(
        at_ns=1, role="all", host="h", pid=1, version="0", state="running", started_ns=0, interval_s=2.0
    )
    written = {"system": system, "camera/a": word(1, 2.0), "camera/b": word(1, 2.0)}
    assert changes(written, {"system": system, "camera/a": word(9, 2.0)}) == {"system": system, "camera/b": None}
    assert changes(written, {"camera/a": word(9, 3.0)})["camera/a"] == word(9, 3.0)


def test_ten_thousand_cameras_write_no_more_than_fifty_records_a_second() -> None:
    assert interval_s(1) == 2.0
    assert 10_000 / interval_s(10_000) <= 50


def test_deaths_are_taken_over_and_their_row_goes_on_only_for_a_minute() -> None:
    before = StageStatus(stage="encode-0", kind="encode", at_ns=0, deaths=7, in_a_row=4, last_death_ns=100 * S)
    item = Watched("encode-0", "encode", None)
    item.remember(before, 130 * S)
    assert (item.died, item.deaths, item.last_death_ns) == (7, 4, 100 * S)
    later = Watched("encode-0", "encode", None)
    later.remember(before, 200 * S)
    assert (later.died, later.deaths) == (7, 0)
    status = stage_status(item, 3, 5)
    assert (status.deaths, status.in_a_row, status.last_death_ns, status.lag) == (7, 4, 100 * S, 3)


@pytest.fixture
def progress() -> Progress:
    camera = CameraProgress("gate", 0, "running", 50, 0, {}, None, mode="stream")
    stage = StageProgress("encode-0", "encode", 7, "running", 0, 40, 10, None)
    return Progress(1.0, (camera,), (stage,), (), 40, 0, False)


def test_a_death_is_in_the_log_at_once_and_what_ended_says_so(log: Log, progress: Progress) -> None:
    item = Watched("encode-0", "encode", None, plan=StagePlan("encode", 0), pid=7, health="running")
    item.keep(Report(7, 1, 40, EncodeReport(frames=40, tallies=(CameraTally("gate", 40, 40, S),))))
    writer = StatusWriter(log, "all", lambda: progress, lambda: [item])
    assert writer.read_before().system is None
    writer.start()
    item.died = 1

    def deaths() -> list[int]:
        return [stage.deaths for stage in read_status(log).stages]

    deadline = time.monotonic() + 60
    while deaths() != [1] and time.monotonic() < deadline:
        time.sleep(0.05)
    table = read_status(log)
    assert deaths() == [1]
    assert [(c.camera, c.lag_frames, c.mode) for c in table.cameras] == [("gate", 10, "stream")]
    assert table.system is not None
    assert table.system.state == "running"
    assert table.heard_ns is not None
    assert silent_s(table, table.heard_ns + S) is None
    assert silent_s(table, table.heard_ns + 60 * S) == 60.0
    writer.stop()
    stopped = read_status(log)
    assert stopped.system is not None
    assert stopped.system.state == "stopped"
    assert silent_s(stopped, time.time_ns() + 10**15) is None
    again = StatusWriter(log, "all", lambda: replace(progress, cameras=()), lambda: [])
    assert [stage.deaths for stage in again.read_before().stages] == [1]
    again.start()
    again.stop()
    assert read_status(log).cameras == read_status(log).stages == ()


def test_a_second_system_silences_the_first(log: Log, progress: Progress) -> None:
    first = StatusWriter(log, "all", lambda: progress, lambda: [])
    first.start()
    deadline = time.monotonic() + 60
    while read_status(log).system is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with log.stage("status", 0, "second").transaction():
        pass
    first.stop()
    table = read_status(log)
    assert table.system is not None
    assert table.system.state == "running", "what was fenced writes nothing any more"
