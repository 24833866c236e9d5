"""Replays of a street that went through all real stages: HLS that plays, searches, is made once, and ends when left."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import film_log
import numpy as np
import PIL.Image
import pytest
import recording
from fastapi.testclient import TestClient

from discover_stream.app.gateway.context import Gateway
from discover_stream.app.gateway.decoders import LocalDecoder
from discover_stream.app.gateway.flights import Busy, ClientGone, Flights, SegmentCache
from discover_stream.app.gateway.fmp4 import CLOCK
from discover_stream.app.gateway.making import Cancelled, Made
from discover_stream.app.gateway.serve import Address, serving
from discover_stream.config import load_config
from discover_stream.types import LabelSet, Task
from topics.catalogue import INDEX, LABELS
from topics.messages import GapMessage, LabelSetMessage, encode
from topics.sqlite import SqliteLog

LIMITS = "gateway: {burst: 1000000, requests_per_s: 1000000}\n"
FRAMES = recording.SECONDS * recording.FPS


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory, open_gateway: Any) -> Iterator[tuple[TestClient, Gateway]]:
    with open_gateway(recording.record(tmp_path_factory.mktemp("street"), LIMITS)) as found:
        yield found


@pytest.fixture(scope="module")
def client(answering: tuple[TestClient, Gateway]) -> TestClient:
    return answering[0]


def made(client: TestClient, **order: object) -> dict[str, Any]:
    found = client.post("/v1/replays", json={"camera": "street"} | order)
    assert found.status_code == 201, found.text
    return dict(found.json())


def progress(client: TestClient, replay: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(f"/v1/replays/{replay['id']}/progress").json())


def fetch(client: TestClient, replay: dict[str, Any], name: str) -> bytes:
    found = client.get(f"/v1/replays/{replay['id']}/{name}")
    assert found.status_code == 200, found.text
    return found.content


def played(film: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(film)) as container:
        return list(container.decode(video=0))


def test_a_replay_plays_from_begin_to_end_by_one_clock(client: TestClient) -> None:
    replay = made(client)
    assert (replay["width"], replay["height"], replay["not_grounded_before"]) == (160, 96, None)
    assert progress(client, replay)["frames_decoded"] == 0
    lines = client.get(replay["playlist"]).text.splitlines()
    names = [line.split("?")[0] for line in lines if ".m4s" in line]
    assert len(names) == replay["segments"] == 4
    assert progress(client, replay)["frames_decoded"] == 0, "a playlist decodes nothing"
    film = fetch(client, replay, "init.mp4") + b"".join(fetch(client, replay, name) for name in names)
    frames = played(film)
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert times[0] == 0
    # Every frame when it was captured, and the one that is on at the begin of a segment once more.
    captured = {number * CLOCK // recording.FPS for number in range(FRAMES)}
    assert all(any(abs(time - other) <= 2 for other in times) for time in captured)
    assert FRAMES <= len(times) <= FRAMES + len(names) - 1
    with av.open(io.BytesIO(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    ends = [packet.pts + packet.duration for packet in packets]
    assert ends[:-1] == [packet.pts for packet in packets][1:], "no hole and no overlap, across segments too"
    assert ends[-1] == pytest.approx(replay["duration_s"] * CLOCK, abs=2)
    told = progress(client, replay)
    assert (told["segments_ready"], told["segments"], told["decoding"], told["failed"]) == (4, 4, [], None)


def test_searching_decodes_that_segment_and_no_other(client: TestClient) -> None:
    replay = made(client, task="vehicles", **{"from": "+0s", "to": "+6s"})
    assert replay["segments"] == 3
    film = fetch(client, replay, "init.mp4") + fetch(client, replay, "2.m4s")
    assert played(film)[0].pts == 4 * CLOCK
    told = progress(client, replay)
    assert told["segments_ready"] == 1
    assert told["frames_decoded"] == len(played(film))
    fetch(client, replay, "2.m4s")
    fetch(client, replay, "2.json")
    assert progress(client, replay)["frames_decoded"] == told["frames_decoded"]
    assert client.get(f"/v1/replays/{replay['id']}/3.m4s").status_code == 404


def test_wherever_playing_begins_the_picture_of_an_instant_is_the_same(client: TestClient) -> None:
    late = made(client, burn_in=False, **{"from": "+4s", "to": "+6s"})
    whole = made(client, burn_in=False)
    one = played(fetch(client, late, "init.mp4") + fetch(client, late, "0.m4s"))
    same = played(fetch(client, whole, "init.mp4") + fetch(client, whole, "2.m4s"))
    for left, right in zip(one, same, strict=True):
        difference = left.to_ndarray(format="rgb24").astype(int) - right.to_ndarray(format="rgb24")
        assert np.abs(difference).mean() < 1


def test_fifty_viewers_cause_one_decode(client: TestClient, answering: tuple[TestClient, Gateway]) -> None:
    _, gateway = answering
    replay = made(client, task="pedestrians")
    before, decoded = gateway.flights.made, gateway.flights.decoded
    with ThreadPoolExecutor(50) as viewers:
        bodies = list(viewers.map(lambda _: fetch(client, replay, "1.m4s"), range(50)))
    assert len(set(bodies)) == 1
    assert gateway.flights.made - before == 1
    assert gateway.flights.decoded - decoded == progress(client, replay)["frames_decoded"] > 0
    assert made(client, task="pedestrians")["id"] == replay["id"], "who asks for the same shares it"


def test_the_sidecar_tells_regions_and_where_cells_come_from(client: TestClient) -> None:
    replay = made(client, task="vehicles")
    fetch(client, replay, "init.mp4")
    sidecar = client.get(f"/v1/replays/{replay['id']}/1.json").json()
    frames = sidecar["frames"]
    assert [frame["t"] for frame in frames] == sorted(frame["t"] for frame in frames)
    assert {region["task"] for frame in frames for region in frame["regions"]} == {"vehicles"}
    grid = frames[0]["provenance"]
    assert (grid["columns"], grid["rows"], len(grid["cells"])) == (10, 6, 60)
    assert set(grid["cells"]) <= set("01234")
    timeline = client.get(f"/v1/replays/{replay['id']}/timeline").json()
    counted = sum(region["label"] == "car" for region in frames[0]["regions"])
    second = next(bucket for bucket in timeline["buckets"] if bucket["t"] == 2.0)
    assert second["counts"]["car"] >= counted > 0


def picture(client: TestClient, query: str) -> np.ndarray[Any, Any]:
    found = client.get(f"/v1/cameras/still-street/still?format=png&{query}")
    assert found.status_code == 200, found.text
    return np.array(PIL.Image.open(io.BytesIO(found.content)))


def test_privacy_zones_are_in_no_frame_and_no_packet(client: TestClient) -> None:
    inside = (slice(20, 48), slice(0, 48))
    original = picture(client, "view=original&burn_in=false")
    assert original[inside].max() < 24
    assert original[:, 80:].mean() > 60
    assert picture(client, "burn_in=false")[inside].mean() < 60


def test_marks_are_burned_in_unless_an_admin_leaves_them_off(client: TestClient) -> None:
    marked, bare = picture(client, "at=%2B1s"), picture(client, "at=%2B1s&burn_in=false")
    changed = np.abs(marked.astype(int) - bare).max(axis=(1, 2))
    assert changed[:10].any()
    assert changed[-10:].any()
    assert not changed[20:-20].any()


def test_gaps_and_what_was_not_grounded_are_told_and_shown(
    client: TestClient, answering: tuple[TestClient, Gateway]
) -> None:
    _, gateway = answering
    begin = 1_767_225_600 * 10**9
    away = {"from_ns": begin + 10**8, "to_ns": begin + 19 * 10**8}
    gap = GapMessage(camera="still-street", reason="cable cut", next_seq=9, **away)
    gateway.log.append(INDEX, "still-street", encode(gap), partition=0)
    replay = made(client, camera="still-street", task="vehicles")
    assert [found["reason"] for found in replay["gaps"]] == ["cable cut"]
    assert 'X-REASON="cable cut"' in client.get(replay["playlist"]).text
    frames = client.get(f"/v1/replays/{replay['id']}/0.json").json()["frames"]
    assert [(frame["t"], frame["card"]) for frame in frames if frame["card"]] == [(0.6, "no pictures: cable cut")]


def test_a_task_that_came_later_says_so(client: TestClient, answering: tuple[TestClient, Gateway]) -> None:
    _, gateway = answering
    labels = LabelSet("trams", 1, tuple(f"tram {number}" for number in range(100)))
    for key in ("trams/1", "trams"):
        gateway.log.append(LABELS, key, encode(LabelSetMessage.of(Task("trams", "", labels))))
    replay = made(client, task="trams", **{"to": "+2s"})
    assert replay["not_grounded_before"] == replay["to"]
    assert "not grounded" in replay["note"]
    frames = client.get(f"/v1/replays/{replay['id']}/0.json").json()["frames"]
    assert {frame["card"] for frame in frames} == {"task trams was not grounded at this time"}
    assert progress(client, replay)["frames_decoded"] == 0
    assert len(played(fetch(client, replay, "init.mp4") + fetch(client, replay, "0.m4s"))) == len(frames)


def test_originals_beside_what_was_decoded(client: TestClient) -> None:
    replay = made(client, view="original", burn_in=False, **{"to": "+2s"})
    frames = played(fetch(client, replay, "init.mp4") + fetch(client, replay, "0.m4s"))
    assert len(frames) >= 6
    assert progress(client, replay)["frames_decoded"] == 0, "nothing goes through the decoder"
    assert frames[0].to_ndarray(format="rgb24").std() > 20


def test_a_film_is_exported_with_its_progress(client: TestClient) -> None:
    replay = made(client, **{"to": "+3s"})
    job = client.post(f"/v1/replays/{replay['id']}/export").json()
    while (told := client.get(f"/v1/exports/{job['id']}").json())["state"] == "running":
        assert 0 <= told["done"] < 1
        time.sleep(0.05)
    assert (told["state"], told["done"]) == ("done", 1.0)
    film = client.get(told["film"])
    assert film.headers["content-disposition"].startswith('attachment; filename="street-all-2026-01-01')
    frames = played(film.content)
    # Ten were captured before, and the one that is on when the second segment begins is there once more.
    assert len(frames) == 11
    assert frames[-1].time == pytest.approx(3, abs=0.001)
    assert client.delete(f"/v1/exports/{job['id']}").status_code == 204
    assert client.get(told["film"].split("?")[0]).status_code == 404


def test_a_live_view_follows_the_archive(client: TestClient) -> None:
    replay = made(client, live=True)
    assert (replay["to"], replay["duration_s"]) == (None, None)
    lines = client.get(replay["playlist"]).text.splitlines()
    assert "#EXT-X-ENDLIST" not in lines
    names = [line.split("?")[0] for line in lines if ".m4s" in line]
    assert names
    assert len(played(fetch(client, replay, "init.mp4") + fetch(client, replay, names[0]))) > 0
    assert client.get(f"/v1/replays/{replay['id']}/999.m4s").status_code == 404
    assert client.post(f"/v1/replays/{replay['id']}/export").status_code == 409


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"from": "+7h"}, "nothing in that span"),
        ({"from": "+2s", "to": "+1s"}, "nothing in that span"),
        ({"live": True, "from": "+1s"}, "live"),
        ({"task": "nobody"}, "not in this log"),
        ({"from": "yesterday"}, "ISO 8601"),
    ],
)
def test_replays_that_cannot_be_made_say_why(client: TestClient, order: dict[str, object], says: str) -> None:
    found = client.post("/v1/replays", json={"camera": "street", **order})
    assert found.status_code == 422
    assert says in found.json()["detail"]


async def stay() -> bool:
    return False


def segment_of(size: int) -> Made:
    return Made(bytes(size), b"", 1)


def test_segments_are_kept_within_a_bound_of_bytes() -> None:
    cache = SegmentCache(100)
    for number in range(4):
        cache.put(("a", number), segment_of(30))
        cache.get(("a", 0))  # in use
    assert [number for number in range(4) if cache.get(("a", number))] == [0, 2, 3]
    assert (cache.bytes, cache.ready("a"), cache.size("a")) == (90, 3, 90)
    cache.put(("b", 0), segment_of(101))
    assert cache.get(("b", 0)) is None
    cache.drop(lambda replay: replay == "a")
    assert cache.bytes == 0


def test_what_everybody_has_left_is_not_made_any_further() -> None:
    began, ended = threading.Event(), threading.Event()

    def make(leave: threading.Event) -> Made:
        began.set()
        assert leave.wait(30), "nobody said that they left"
        ended.set()
        raise Cancelled("left")

    async def story() -> None:
        with ThreadPoolExecutor(1) as threads:
            flights = Flights(SegmentCache(1000), threads)
            left = asyncio.Event()

            async def gone() -> bool:
                return left.is_set()

            first = asyncio.create_task(flights.get(("a", 0), make, gone))
            second = asyncio.create_task(flights.get(("a", 0), make, stay))
            await asyncio.to_thread(began.wait, 30)
            left.set()
            with pytest.raises(ClientGone):
                await first
            assert not ended.is_set(), "the second still waits"
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert await asyncio.to_thread(ended.wait, 30)
            assert (flights.flying, flights.left, flights.made) == (0, 1, 0)
            done = await flights.get(("a", 0), lambda leave: segment_of(10), stay)
            assert len(done.body) == 10

    asyncio.run(story())


def test_one_asker_leaves_room_for_others() -> None:
    go_on = threading.Event()

    def make(leave: threading.Event) -> Made:
        assert go_on.wait(30)
        return segment_of(10)

    async def story() -> None:
        with ThreadPoolExecutor(1) as threads:
            flights = Flights(SegmentCache(1000), threads, most=8, most_each=2)
            greedy = [asyncio.create_task(flights.get(("a", n), make, stay, "greedy")) for n in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="this token"):
                await flights.get(("b", 0), make, stay, "greedy")
            other = asyncio.create_task(flights.get(("b", 0), make, stay, "modest"))
            await asyncio.sleep(0)
            third = asyncio.create_task(flights.get(("b", 0), make, stay, "greedy"))  # which is made anyway
            go_on.set()
            for task in (*greedy, other, third):
                assert len((await task).body) == 10

    asyncio.run(story())


def test_what_was_forgotten_while_it_was_made_is_not_kept() -> None:
    began, go_on = threading.Event(), threading.Event()

    def make(leave: threading.Event) -> Made:
        began.set()
        assert go_on.wait(30)
        return segment_of(10)

    async def story() -> None:
        with ThreadPoolExecutor(1) as threads:
            flights = Flights(SegmentCache(1000), threads)
            waiting = asyncio.create_task(flights.get(("a", 0), make, stay))
            await asyncio.to_thread(began.wait, 30)
            flights.forget("a")
            go_on.set()
            await waiting
            assert flights.cache.get(("a", 0)) is None

    asyncio.run(story())


class Held:
    """The real decoder, which does not begin before it is let go."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.asked, self.let_go, self.closed = threading.Event(), threading.Event(), threading.Event()

    def decode(self, jobs: Any, options: Any) -> Iterator[Any]:
        self.asked.set()
        try:
            assert self.let_go.wait(60)
            yield from self._decoder.decode(jobs, options)
        finally:
            self.closed.set()

    def state(self) -> Any:
        return self._decoder.state()

    def close(self) -> None:
        self._decoder.close()


def test_decoding_ends_when_the_viewer_hangs_up(tmp_path: Path) -> None:
    config = load_config(film_log.record(tmp_path))
    held = Held(LocalDecoder(1, config.decoding))
    with (
        SqliteLog(config.log.path) as log,
        serving(config, log, held, Address("127.0.0.1", 0)) as server,
    ):
        place = (server.address.host, server.address.port)
        asking = http.client.HTTPConnection(*place, timeout=60)
        body = json.dumps({"camera": "gate"})
        asking.request("POST", "/v1/replays", body, {"Content-Type": "application/json"})
        made = json.loads(asking.getresponse().read())
        viewer = http.client.HTTPConnection(*place, timeout=60)
        viewer.request("GET", f"/v1/replays/{made['id']}/0.m4s")
        assert held.asked.wait(60)
        viewer.close()

        def decoding() -> list[int]:
            asking.request("GET", f"/v1/replays/{made['id']}/progress")
            return list(json.loads(asking.getresponse().read())["decoding"])

        while decoding():
            time.sleep(0.05)
        held.let_go.set()
        assert held.closed.wait(60)
        asking.request("GET", f"/v1/replays/{made['id']}/progress")
        told = json.loads(asking.getresponse().read())
        assert (told["segments_ready"], told["failed"]) == (0, None)
        assert told["frames_decoded"] <= 1


def test_what_fails_is_told_to_all_who_wait_and_made_anew() -> None:
    calls: list[int] = []

    def broken(leave: threading.Event) -> Made:
        calls.append(1)
        raise OSError("the disk")

    async def story() -> None:
        with ThreadPoolExecutor(1) as threads:
            flights = Flights(SegmentCache(1000), threads)
            both = await asyncio.gather(
                *(flights.get(("a", 0), broken, stay) for _ in range(2)), return_exceptions=True
            )
            assert [type(error) for error in both] == [OSError, OSError]
            with pytest.raises(OSError, match="the disk"):
                await flights.get(("a", 0), broken, stay)

    asyncio.run(story())
    assert len(calls) == 2
