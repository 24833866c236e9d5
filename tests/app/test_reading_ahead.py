"""Who decodes for a command: what is said while it is waited for, and packets that are decoded ahead, in order."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from stream_film import painted_film

from discover_stream.app import decoders
from discover_stream.app.decoders import Waiting, in_this_process, session_of
from discover_stream.app.reading_ahead import read_ahead
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.config import parse_config
from discover_stream.sdk import TaskFrame, subscribe
from topics.catalogue import catalogue, task_topic
from topics.sqlite import SqliteLog

FILM = painted_film()
CONFIG = "cameras: [{name: a, source: b}]\n"


def test_every_second_it_is_said_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_TELL_S", 0.01)
    lines: list[str] = []
    with Waiting("starting Ray", lines.append) as waiting:
        while not lines:
            time.sleep(0.01)
        waiting.what = "a decoder is being started"
        while not lines[-1].startswith("first picture: a decoder is being started, "):
            time.sleep(0.01)
        waiting.over()
    said = len(lines)
    assert lines[0].startswith("first picture: starting Ray, ")
    time.sleep(0.1)
    assert len(lines) == said


@pytest.mark.parametrize(
    ("extra", "here"), [("", True), ("pools: {decode: 2}", False), ("ray: {address: auto}", False)]
)
def test_one_decoder_on_one_machine_is_the_command_itself(extra: str, here: bool) -> None:
    assert in_this_process(parse_config(CONFIG + extra, "x")) is here


def test_viewers_have_sessions_of_their_own() -> None:
    config = parse_config(CONFIG, "x")
    assert session_of(config) != session_of(config)
    assert session_of(parse_config(CONFIG + "pools: {decode: 2}", "x")) == ""


def test_pictures_come_in_the_order_of_the_packets_and_only_so_many_are_begun(tmp_path: Path) -> None:
    begun: list[tuple[int, Future]] = []
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue(["vehicles"]))
        for packet in FILM:
            log.append(task_topic("vehicles"), "gate", any_packet_bytes(packet))

        def start(frame: TaskFrame) -> Future:
            begun.append((frame.seq, Future()))
            return begun[-1][1]

        def finish_backwards() -> None:
            done = 0
            while done < 6:
                if len(begun) - done >= 3:
                    for seq, future in reversed(begun[done : done + 3]):
                        future.set_result(seq)
                    done += 3
                time.sleep(0.005)

        worker = threading.Thread(target=finish_backwards)
        worker.start()
        with subscribe("vehicles", log=log, group="g") as subscription:
            seen = []
            for coming in read_ahead(subscription, start, most=6, ahead=3):
                assert isinstance(coming.item, TaskFrame)
                assert coming.picture is not None
                assert coming.picture.result() == coming.item.seq
                seen.append(coming.item.seq)
                assert len(begun) <= len(seen) + 3
                subscription.commit(coming.positions)
        worker.join()
        assert seen == [0, 1, 2, 3, 4, 5]
        with subscribe("vehicles", log=log, group="g", timeout_s=0) as again:
            assert next(again).seq == 6
