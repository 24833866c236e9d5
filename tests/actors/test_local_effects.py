"""What is slow or stuck stays where it is: a subscriber, a decoder, an encoder, with everything else going on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from stream_film import FRAMES, film

from actors.encode import EncodeSettings, EncodeStage
from actors.ingest import IngestStage
from actors.route import RouteStage
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import task_key
from discover_stream.config import CameraConfig
from discover_stream.sdk import Gap, TaskFrame, subscribe
from topics.catalogue import ARCHIVE, task_topic
from topics.catalogue import FRAMES as FRAMES_TOPIC
from topics.log import lag
from topics.reading import read_all

KEYS = (task_key("vehicles", 1), task_key("pedestrians", 1))
TOPIC = task_topic("vehicles")


@pytest.fixture
def routed(log, run_until):
    """Films of two cameras in partition 1, which the router is done with."""
    for camera in ("gate", "yard"):
        for packet in film(KEYS):
            log.append(ARCHIVE, camera, any_packet_bytes(packet), partition=1)
    run_until(RouteStage(log, 1, "test"), lambda: lag(log, "stage:route-1", ARCHIVE, [1])[1] == 0)
    return log


def frames_of(log, group: str, most: int | None = None) -> tuple[list[tuple[str, int]], int]:
    """What a subscriber gets, at most so much of it, and how many gaps."""
    found, gaps = [], 0
    with subscribe("vehicles", log=f"sqlite:{log.path}", group=group, start="earliest", timeout_s=0) as subscription:
        for item in subscription:
            if isinstance(item, Gap):
                gaps += 1
            elif isinstance(item, TaskFrame):
                found.append((item.camera, item.seq))
                subscription.commit()
                if len(found) == most:
                    break
    return found, gaps


def test_a_subscriber_that_stands_still_keeps_nobody_waiting(routed) -> None:
    """Also one whose decoder is stuck: it takes no further packet, and neither routing nor others notice."""
    assert len(list(read_all(routed, TOPIC))) == 2 * FRAMES
    slow, _ = frames_of(routed, "slow", most=3)
    quick, gaps = frames_of(routed, "quick")
    assert quick == [(camera, seq) for camera in ("gate", "yard") for seq in range(FRAMES)]
    assert gaps == 0
    routed.trim(TOPIC, 1, FRAMES)  # retention does not wait for it either
    late, gaps = frames_of(routed, "slow")
    assert slow == quick[:3]
    assert late == [("yard", seq) for seq in range(FRAMES)]
    assert gaps == 1, "what it missed is told, once"


def test_an_encoder_that_is_stuck_stops_its_own_cameras_only(log, clip: Path) -> None:
    torch.set_num_threads(1)
    codec, released = load_codec(), threading.Event()

    def ask(partition: int):
        def start(images, label_sets):
            def answer():
                if partition == 0:
                    assert released.wait(120)
                return [{labels.task: () for labels in label_sets} for _ in images]

            return answer

        return start

    settings = EncodeSettings(quality=3, batch=2, mode="still")
    stages = [EncodeStage(log, partition, codec, ask(partition), settings, "test") for partition in (0, 1)]
    threads = [threading.Thread(target=stage.run) for stage in stages]
    for thread in threads:
        thread.start()
    stuck = IngestStage(
        log, CameraConfig(name="stuck", source=str(clip), when_behind="drop-latest"), 0, max_lag=6, owner="test"
    )
    free = IngestStage(log, CameraConfig(name="free", source=str(clip)), 1, max_lag=6, owner="test")
    try:
        assert stuck.run() == "ended", "its source was read to its end all the same"
        assert free.run() == "ended"
        deadline = time.monotonic() + 120
        while lag(log, "stage:encode-1", FRAMES_TOPIC, [1])[1] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stages[1].report.frames == 20
        assert stages[0].report.frames == 0
        assert dict(stuck.report.dropped)["encoding fell behind"] >= 10
        assert free.report.dropped == ()
        released.set()
        while lag(log, "stage:encode-0", FRAMES_TOPIC, [0])[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stages[0].report.frames == 20 - dict(stuck.report.dropped)["encoding fell behind"]
    finally:
        released.set()
        for stage in stages:
            stage.stop()
        for thread in threads:
            thread.join(60)
