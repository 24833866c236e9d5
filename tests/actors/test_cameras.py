"""Cameras as records of the log: who may change what, and what a start with a configuration file does."""

from __future__ import annotations

import pytest

from actors.cameras import (
    CameraFollower,
    add_camera,
    config_of,
    desired_cameras,
    list_cameras,
    opened_source,
    read_cameras,
    remove_camera,
    seed_cameras,
    settings_of,
)
from discover_stream.config import CameraConfig
from discover_stream.types import InputError
from topics.catalogue import CAMERAS
from topics.fleet_messages import CameraRecord
from topics.log import Log
from topics.sqlite import SqliteLog


def camera(name: str, source: str = "rtsp://host/1", **more) -> CameraConfig:
    return CameraConfig(name=name, source=source, **more)


def running(log: Log, *listed: CameraConfig) -> list[str]:
    return [found.name for found in desired_cameras(read_cameras(log), listed)[0]]


def test_what_is_added_stays_and_what_is_removed_is_gone(log: Log) -> None:
    facts = add_camera(log, camera("gate", fps=5, mode="still"), "test")
    assert (facts.name, facts.config.fps, facts.listed, facts.removed) == ("gate", 5, False, False)
    assert facts.partition in (0, 1)
    assert add_camera(log, camera("gate", fps=5, mode="still"), "test") == facts  # the same again
    assert running(log) == ["gate"]
    with pytest.raises(InputError, match=r"camera gate is there already with other settings; --replace"):
        add_camera(log, camera("gate"), "test")
    assert add_camera(log, camera("gate"), "test", replace=True).config.fps is None
    assert remove_camera(log, "gate", "test").removed
    assert list_cameras(log) == ()
    with pytest.raises(InputError, match=r"camera gate is not in this log; those that are: none"):
        remove_camera(log, "gate", "test")


def test_a_start_seeds_and_a_listed_camera_that_was_removed_stays_off(log: Log) -> None:
    gate, yard = camera("gate"), camera("yard")
    seed_cameras(log, [gate, yard], "test")
    add_camera(log, camera("bridge"), "test")
    assert running(log, gate, yard) == ["gate", "yard", "bridge"]
    assert remove_camera(log, "gate", "test").listed
    seed_cameras(log, [gate, yard], "test")
    assert running(log, gate, yard) == ["yard", "bridge"]
    changed = camera("gate", fps=2)  # its entry says something else now
    seed_cameras(log, [changed, yard], "test")
    assert running(log, changed, yard) == ["gate", "yard", "bridge"]
    remove_camera(log, "gate", "test")
    add_camera(log, changed, "test")  # or somebody adds it again
    assert running(log, changed, yard) == ["gate", "yard", "bridge"]
    seed_cameras(log, [yard], "test")  # the file lists it no more
    assert running(log, yard) == ["yard", "bridge"]


def test_a_file_wins_over_what_was_added(log: Log) -> None:
    add_camera(log, camera("gate", fps=5), "test")
    listed = camera("gate", fps=7)
    seed_cameras(log, [listed], "test")
    assert desired_cameras(read_cameras(log), [listed]) == ((listed,), ())
    with pytest.raises(InputError, match=r"camera gate is listed in the configuration of the system"):
        add_camera(log, camera("gate", fps=9), "test", replace=True)


def test_a_start_that_finds_everything_writes_nothing(log: Log, records) -> None:
    seed_cameras(log, [camera("gate")], "test")
    before = len(records(log, CAMERAS))
    seed_cameras(log, [camera("gate")], "test")
    assert len(records(log, CAMERAS)) == before == 1


def test_no_password_gets_into_the_log(log: Log, records) -> None:
    with pytest.raises(InputError, match=r"write \$\{NAME\} instead"):
        add_camera(log, camera("gate", "rtsp://me:secret@host/1"), "test")
    listed = camera("gate", "rtsp://me:secret@host/1")
    seed_cameras(log, [listed], "test")
    assert all(b"secret" not in (record.value or b"") for record in records(log, CAMERAS))
    assert desired_cameras(read_cameras(log), [listed])[0] == (listed,)  # the file's, with its password
    add_camera(log, camera("yard", "rtsp://me:${YARD}@host/1"), "test")
    (yard,) = [item for item in list_cameras(log) if item.name == "yard"]
    assert opened_source(yard.config.source, {"YARD": "x"}) == "rtsp://me:x@host/1"
    with pytest.raises(InputError, match=r"rtsp://host/1: the environment variable YARD is not set"):
        opened_source(yard.config.source, {})
    assert opened_source("clips/${YARD}.mkv", {}) == "clips/${YARD}.mkv"  # a file may be called that


def test_settings_come_back_as_they_were() -> None:
    there = camera("a", "clip.mkv", fps=2.5, realtime=True, starts_at="2026-01-01T00:00:00Z", bitrate=40, mode="stream")
    assert config_of(CameraRecord(camera="a", settings=settings_of(there))) == there


def test_what_another_release_wrote_stops_nobody_else() -> None:
    records = {
        "a": CameraRecord(camera="a", settings='{"source": "rtsp://x", "hologram": true}'),
        "b": CameraRecord(camera="b", settings='{"source": "rtsp://x"}'),
    }
    found, problems = desired_cameras(records, ())
    assert [item.name for item in found] == ["b"]
    assert "camera a: its settings in the log cannot be read" in problems[0]


def test_a_follower_sees_changes_and_keeps_its_table_without(log: Log) -> None:
    follower = CameraFollower(log)
    add_camera(log, camera("gate"), "test")
    follower.refresh()
    first = follower.records
    assert set(first) == {"gate"}
    follower.refresh()
    assert follower.records is first
    remove_camera(log, "gate", "test")
    follower.refresh()
    assert follower.records == {}
    follower.close()


def test_a_log_of_an_older_release_says_what_to_do(tmp_path) -> None:
    with SqliteLog(tmp_path / "old.db") as old:
        for call in (lambda: list_cameras(old), lambda: add_camera(old, camera("a"), "test")):
            with pytest.raises(InputError, match=r"start `discover run` first"):
                call()
