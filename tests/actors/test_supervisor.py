"""What follows the end of a run loop; the processes themselves are in the tests of the running system."""

from __future__ import annotations

import time

import pytest

from actors.decisions import StagePlan
from actors.encode import EncodeReport
from actors.encoding import encode_settings
from actors.forward import ForwardReport
from actors.ingest import IngestReport
from actors.local_ray import ray
from actors.log_view import TopicGone
from actors.progress import Outage
from actors.remote import Report
from actors.supervisor import Supervisor, ending_of
from actors.system import camera_progress
from actors.watched import Watched
from discover_stream.codec.mode_policy import ModeStatus
from discover_stream.config import load_config, parse_config
from discover_stream.types import InputError
from topics.log import Fenced, LogError, MessageTooLarge, OffsetOutOfRange, UnknownTopic

AWAY = "log kafka:b:9092, connecting: no answer from b:9092 within 8 s: check the address and that the broker runs"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervisor(told: list[str]) -> Supervisor:
    return Supervisor(load_config(), told.append)


def encoder() -> Watched:
    return Watched("encode-0", "encode", None, plan=StagePlan("encode", 0), pid=7, run=1)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (LogError(AWAY), "log"),
        (Fenced("x"), "fenced"),
        (TopicGone("x"), "topic"),
        (UnknownTopic("x"), "log"),  # said by a broker that has just started, too
        (MessageTooLarge("x"), "other"),
        (OffsetOutOfRange("x"), "other"),
        (InputError("x"), "input"),
        (ValueError("x"), "other"),
        (ray.exceptions.RayActorError(), "death"),
    ],
)
def test_endings(error: BaseException, ending: str) -> None:
    assert ending_of(error) == ending


def test_a_log_that_is_away_for_long_is_no_death_and_said_once(supervisor: Supervisor, told: list[str]) -> None:
    item = encoder()
    for _ in range(100):
        item.began_s = time.monotonic()
        supervisor._after(item, LogError(AWAY))
        assert item.again_s is not None
        assert item.again_s - time.monotonic() <= 5
    assert (item.deaths, item.restarts, item.health) == (0, 0, "restarting")
    assert item.error == AWAY
    assert supervisor.failure is None
    assert told == [f"encode-0: {AWAY}; trying again until the log is back"]


def test_that_it_goes_on_is_said_when_it_has_done_something(supervisor: Supervisor, told: list[str]) -> None:
    item = encoder()
    supervisor._after(item, LogError(AWAY))
    item.began_s, item.asked_s, item.running = 1.0, 2.0, object()
    supervisor._tell_problems(item, Report(7, 2, 0, EncodeReport()))
    assert len(told) == 1
    supervisor._tell_problems(item, Report(7, 2, 1, EncodeReport(frames=1)))
    supervisor._tell_problems(item, Report(7, 2, 2, EncodeReport(frames=2)))
    assert told[1:] == ["encode-0: goes on, the log is back"]
    supervisor._after(item, LogError(AWAY))
    assert len(told) == 3


def test_a_cameras_outage_is_said_once_and_its_end(supervisor: Supervisor, told: list[str]) -> None:
    item = Watched("ingest-a-0", "ingest", None, plan=StagePlan("ingest", 0, "a"), asked_s=2.0, running=object())
    outage = Outage(0, AWAY)
    for buffered in (1, 5):
        supervisor._tell_problems(item, Report(7, 1, 4, IngestReport(4, buffered=buffered, outage=outage)))
    assert told == [f"ingest-a-0: log unavailable since 1970-01-01T00:00:00Z, 1 frames buffered, 0 dropped: {AWAY}"]
    supervisor._tell_problems(item, Report(7, 1, 9, IngestReport(9)))
    assert told[1:] == ["ingest-a-0: goes on, the log is back"]


@pytest.mark.parametrize("error", [TopicGone("topic frames: is gone; create it"), Fenced("encode-0: was replaced")])
def test_what_does_not_pass_stops_the_system(supervisor: Supervisor, error: LogError) -> None:
    supervisor._after(encoder(), error)
    assert supervisor.failure is error


def test_other_errors_are_deaths(supervisor: Supervisor, told: list[str]) -> None:
    item = encoder()
    item.began_s = time.monotonic()
    supervisor._after(item, OffsetOutOfRange("topic frames: position 9 is beyond the end"))
    assert (item.deaths, item.restarts) == (1, 1)
    assert "starting again in 0.2 s" in told[0]


def test_runs_that_did_nothing_are_forgotten() -> None:
    item = encoder()
    item.keep(Report(7, 1, 5, EncodeReport(frames=5)))
    for run in range(2, 1000):  # a log that is away
        item.keep(Report(7, run, 0))
        item.keep(Report(7, run, 0, EncodeReport()))
    item.keep(Report(8, 1, 0, EncodeReport(lost=3)))
    item.keep(Report(8, 2, 2, EncodeReport(frames=2)))
    assert [(report.pid, report.run) for report in item.reports.values()] == [(7, 1), (8, 1), (8, 2)]
    assert item.done == 7


def test_runs_of_a_camera_or_a_core_that_is_away_are_forgotten() -> None:
    camera = Watched("ingest-a-0", "ingest", None, plan=StagePlan("ingest", 0, "a"))
    camera.keep(Report(7, 1, 5, IngestReport(5, next_seq=5)))
    camera.keep(Report(7, 2, 0, IngestReport(next_seq=5, dropped=(("log unavailable", 3),))))
    for run in range(3, 1000):
        camera.keep(Report(7, run, 0, IngestReport()))  # before it has its position
        camera.keep(Report(7, run, 0, IngestReport(next_seq=5)))
    camera.keep(Report(7, 1000, 0, IngestReport()))
    assert [report.run for report in camera.reports.values()] == [1, 2, 999, 1000]
    assert camera_progress(camera, {}).frames == 5
    assert camera_progress(camera, {}).dropped == {"log unavailable": 3}
    forward = Watched("forward-0", "forward", None, plan=StagePlan("forward", 0))
    for run in range(1, 1000):
        forward.keep(Report(7, run, 0, ForwardReport()))
    assert [report.run for report in forward.reports.values()] == [999]


def test_cameras_are_encoded_as_configured(tmp_path) -> None:
    (tmp_path / "one.png").touch()
    config = parse_config(
        f"""
mode: auto
critic: true
quality: 3
cameras:
- {{name: a, source: "rtsp://x/1", fps: 5}}
- {{name: b, source: clip.mp4, mode: still, quality: 7}}
- {{name: c, source: clip.mp4, mode: stream, bitrate: 40.5}}
- {{name: d, source: {tmp_path}}}
- {{name: e, source: "file://{tmp_path}/one.png", mode: stream}}
- {{name: f, source: {tmp_path}/one.png}}
""",
        "test",
    )
    settings = encode_settings(config)
    found = {name: (s.mode, s.quality, s.bitrate, s.fps) for name, s in settings.cameras.items()}
    assert found == {
        "a": ("auto", 3, None, 5),
        "b": ("still", 7, None, None),
        "c": ("stream", 3, 40_500, None),
        "d": ("still", 3, None, None),  # pictures need not follow each other
        "e": ("stream", 3, None, None),
        "f": ("still", 3, None, None),
    }
    assert settings.of("gone").mode == "auto"
    assert settings.critic
    assert not encode_settings(load_config()).critic


def test_a_change_of_mode_is_told_once_with_its_reason(supervisor: Supervisor, told: list[str]) -> None:
    item = encoder()
    stream, still = ModeStatus("stream"), ModeStatus("still", "the camera is hand-held")
    for status in (stream, stream, still, still, stream):
        supervisor._tell_problems(item, Report(7, 1, 1, EncodeReport(frames=1, modes=(("gate", status),))))
    assert told == [
        "camera gate: still mode: the camera is hand-held; stream mode is tried again after a while",
        "camera gate: stream mode",
    ]
    assert supervisor.modes == {"gate": stream}
    wished = ModeStatus("stream", "the camera is hand-held")
    supervisor._tell_problems(item, Report(7, 1, 1, EncodeReport(frames=1, modes=(("gate", wished),))))
    assert told[-1].startswith("camera gate: the camera is hand-held; it is in stream mode as configured")
