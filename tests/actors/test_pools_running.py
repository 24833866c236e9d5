"""Decoders on a real Ray: replays on Ray Serve and the pool of a subscription, from none to several to none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import psutil
import pytest
from stream_film import capture_ns, painted_film

from actors.decode_pool import DecodePool
from actors.local_ray import ray, start_ray, stop_ray
from actors.metrics import metrics_text
from actors.pool_policy import Decision, PoolLoad, PoolRules
from actors.replay_status import ReplayStatus, pool_name
from actors.serve_decode import DecodeScale, ReplayPool
from actors.serve_start import HttpAddress, ensure_serve
from actors.stream_jobs import DecodeJob, Item, Job, JobPlanner, StreamJob
from actors.subscriber_pool import SubscriberPool, WorkerOptions
from actors.tracing import root_id, trace_id
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.config import TracingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import TaskFrame, subscribe
from discover_stream.types import BitstreamError, DiscoverError
from topics import open_log
from topics.catalogue import catalogue, task_topic
from topics.log import Log
from topics.sqlite import SqliteLog
from topics.status import read_status

FILM = painted_film()
OPTIONS = DecodeOptions()
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    start_ray(100)
    yield
    stop_ray()


@pytest.fixture(scope="module")
def tracing(tmp_path_factory: pytest.TempPathFactory) -> TracingConfig:
    return TracingConfig(exporter="file", path=tmp_path_factory.mktemp("traces") / "spans.jsonl")


@pytest.fixture(scope="module")
def pool(ray_here: None, tracing: TracingConfig) -> ReplayPool:
    return ReplayPool(DecodeScale(most=2, busy=2.0, up_s=0.2, idle_s=1.0), tracing=tracing)


def traced(tracing: TracingConfig, service: str) -> set[int]:
    """The numbers of the frames whose pictures a kind of process wrote into their traces."""
    assert tracing.path is not None
    spans = [json.loads(line) for line in tracing.path.read_text().splitlines()]
    mine = [span for span in spans if span["resource"]["attributes"]["service.name"] == f"discover {service}"]
    for span in mine:
        seq = span["attributes"]["discover.seq"]
        assert span["name"] == "picture"
        assert int(span["context"]["trace_id"], 16) == trace_id("gate", seq)
        assert int(span["parent_id"], 16) == root_id("gate", seq)
    return {span["attributes"]["discover.seq"] for span in mine}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    reader, found = CameraReader("gate", lambda number: ()), []
    for packet in FILM:
        reader.read(packet)
        found.append(reader.pictures.picture(packet.incarnation, packet.seq).image)
    return found


def jobs(session: str, stretch: int = 3) -> Iterator[Job]:
    planner = JobPlanner(lambda camera, number: (), lambda first: (), session=session, stretch=stretch)
    return planner.jobs(Item("gate", packet, capture_ns(packet.seq)) for packet in FILM)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def replicas() -> list[psutil.Process]:
    """The processes of replicas, as the system knows them."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("ServeReplica" in word for word in command(child))]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def right(frames: list, images: list[np.ndarray]) -> bool:
    return [frame.seq for frame in frames] == [packet.seq for packet in FILM] and all(
        np.array_equal(frame.image, image) for frame, image in zip(frames, images, strict=True)
    )


def test_replays_from_none_to_two_to_none_and_nobody_loses_a_picture(
    pool: ReplayPool, images: list[np.ndarray], tracing: TracingConfig, tmp_path: Path
) -> None:
    url = f"sqlite:{tmp_path}/log.db"
    with open_log(url) as log, ReplayStatus(url, pool, look_s=0.1) as status:
        log.create_topics(catalogue(["vehicles"]))
        none_to_two_to_none(pool, images, status, log)
        until(lambda: not any(thread.name == "replay status" for thread in threading.enumerate()))
        (told,) = read_status(log).pools  # nobody looks any more, and what was seen stays
        assert (told.wanted, told.running, told.cold_starts) == (0, 0, 1)
        assert told.starts >= 2
        status.close()
        assert read_status(log).pools == ()
    assert traced(tracing, "replay decoder") == {packet.seq for packet in FILM}


def none_to_two_to_none(pool: ReplayPool, images: list[np.ndarray], status: ReplayStatus, log: Log) -> None:
    assert pool.state().none
    assert replicas() == []
    assert read_status(log).pools == ()
    assert right(list(status.decode(jobs("first"), OPTIONS)), images)
    assert pool.state().running == 1
    until(lambda: read_status(log).pools[0].running == 1 and read_status(log).pools[0].decode_ms > 0)
    (told,) = read_status(log).pools
    assert (told.pool, told.wanted, told.starts, told.cold_starts) == (pool_name(), 1, 1, 1)
    assert told.decode_ms > 0
    assert f'discover_pool_running{{pool="{pool_name()}"}} 1.0' in metrics_text(read_status(log)).decode()
    wrong, stop = [], threading.Event()

    def watch(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            if not right(list(pool.decode(jobs(f"{number}/{turn}", stretch=1), OPTIONS)), images):
                wrong.append((number, turn))

    viewers = [threading.Thread(target=watch, args=(number,)) for number in range(5)]
    for viewer in viewers:
        viewer.start()
    try:
        until(lambda: pool.state().running == 2)
    finally:
        stop.set()
        for viewer in viewers:
            viewer.join()
    # One goes on watching while the other replica is drained, and ends.
    while pool.state().running == 2:
        assert right(list(pool.decode(jobs("last", stretch=1), OPTIONS)), images)
    assert wrong == []
    until(lambda: pool.state().none and replicas() == [])


def test_what_cannot_be_decoded_is_told_to_whom_it_belongs(pool: ReplayPool, images: list[np.ndarray]) -> None:
    bad = any_packet_bytes(FILM[0])[:-1] + b"?"

    async def both() -> list[object]:
        async def seen(those: Iterator[Job]) -> list:
            return [frame async for frame in pool.pictures(those, OPTIONS)]

        wrong = [DecodeJob("yard", b"nothing"), StreamJob("gate", (), (bad,), (0,))]
        return await asyncio.gather(
            *(seen(iter([job])) for job in wrong), *(seen(jobs(name)) for name in "ab"), return_exceptions=True
        )

    first, second, *whole = asyncio.run(both())
    assert isinstance(first, BitstreamError)
    assert "yard" in str(first)
    assert isinstance(second, BitstreamError)
    assert all(right(frames, images) for frames in whole)


def test_a_viewer_who_leaves_takes_his_requests_back(pool: ReplayPool, images: list[np.ndarray]) -> None:
    taken = []

    def endless() -> Iterator[Job]:
        for turn in range(1000):
            for job in jobs(f"leaves {turn}", stretch=1):
                taken.append(job)
                yield job

    async def leave() -> None:
        async with aclosing(pool.pictures(endless(), OPTIONS)) as pictures:
            async for _ in pictures:
                return

    asyncio.run(leave())
    assert len(taken) <= 4
    assert right(list(pool.decode(jobs("stays"), OPTIONS)), images)


def test_a_replica_that_is_killed_is_not_noticed_by_who_watches(pool: ReplayPool, images: list[np.ndarray]) -> None:
    frames = []
    for frame in pool.decode(jobs("killed", stretch=1), OPTIONS):
        frames.append(frame)
        if len(frames) == 3:
            for process in replicas():
                os.kill(process.pid, signal.SIGKILL)
    assert right(frames, images)


def test_the_same_scale_shares_decoders_and_http_comes_first_or_not_at_all(
    pool: ReplayPool, tracing: TracingConfig
) -> None:
    assert ReplayPool(DecodeScale(most=2, busy=2.0, up_s=0.2, idle_s=1.0), tracing=tracing).name == pool.name
    ensure_serve()
    with pytest.raises(DiscoverError, match=r"runs without HTTP .* start the gateway before"):
        ensure_serve(HttpAddress(port=0))


def test_the_pool_of_a_system_traces_pictures_too(ray_here: None, images: list[np.ndarray], tmp_path: Path) -> None:
    tracing = TracingConfig(exporter="file", path=tmp_path / "spans.jsonl", every=2)
    pool = DecodePool(1, 1, tracing=tracing)
    assert right(list(pool.decode(jobs("system"), OPTIONS)), images)
    pool.close()
    assert traced(tracing, "decoder") == {packet.seq for packet in FILM if packet.seq % 2 == 0}


def test_a_subscription_has_decoders_while_packets_come(ray_here: None, images: list[np.ndarray], tmp_path) -> None:
    tracing = TracingConfig(exporter="file", path=tmp_path / "spans.jsonl")
    worker = WorkerOptions(tracing=tracing)
    decisions: list[tuple[PoolLoad, Decision]] = []
    rules = PoolRules(most=3, deadline_s=0.5, cold_start_s=0.1, idle_s=0.5, down_s=0.5)
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue(["vehicles"]))
        for packet in FILM:
            log.append(task_topic("vehicles"), "gate", any_packet_bytes(packet))
        with (
            SubscriberPool(
                rules, worker, on_decision=lambda load, decision: decisions.append((load, decision))
            ) as pool,
            subscribe("vehicles", log=log, timeout_s=0, pictures=pool) as subscription,
        ):
            until(lambda: len(decisions) >= 2)
            assert pool.figures.wanted == 0
            coming = []
            for item, image in zip(subscription, images, strict=True):
                assert isinstance(item, TaskFrame)
                if item.seq < 2:  # one process does
                    assert np.array_equal(item.image(), image)  # waits for a process
                    assert np.array_equal(item.image(), image)  # and may be asked for again
                    first = pool._workers[0]
                else:
                    coming += [(pool.start(item, OPTIONS), image) for _ in range(40)]
                if item.seq == 3:
                    ray.kill(first.handle)
            for future, image in coming:
                assert np.array_equal(future.result(timeout=PATIENCE_S).image, image)
            until(lambda: pool.figures.wanted == 0 and not pool._workers)
            assert pool.figures.decoded == len(coming) + 4
            assert pool.figures.deaths >= 1
            late = pool.start(item, OPTIONS)
        with pytest.raises(DiscoverError, match="it was closed"):
            late.result(timeout=PATIENCE_S)
    assert traced(tracing, "decoder") == {packet.seq for packet in FILM}
    wanted = [decision.workers for _, decision in decisions]
    assert wanted[0] == 0
    assert max(wanted) == 3
