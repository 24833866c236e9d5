"""What was erased, what fails and goes on, and what is too much: over a small log, with the real routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import film_log
import pytest
from fastapi.testclient import TestClient
from stream_film import capture_ns

from discover_stream.app.gateway.camera_facts import told_problem
from discover_stream.app.gateway.context import Gateway
from discover_stream.app.gateway.shots import Film
from discover_stream.config import CameraConfig
from discover_stream.semantics.labels import builtin_tasks
from topics.catalogue import INDEX
from topics.log import LogError
from topics.messages import GapMessage, encode
from topics.partitioner import partition_for

S = 10**9


@pytest.fixture
def answering(tmp_path: Path, open_gateway: Any) -> Iterator[tuple[TestClient, Gateway]]:
    with open_gateway(film_log.record(tmp_path, "gateway: {burst: 100000}\n")) as found:
        yield found


def mark_erased(gateway: Gateway, from_ns: int, to_ns: int) -> None:
    """As on a log that cannot remove single records: they stay."""
    gap = GapMessage(camera="gate", from_ns=from_ns, to_ns=to_ns, reason="erased: by anna", next_seq=9, frames=2)
    partition = partition_for("gate", gateway.config.log.partitions)
    gateway.log.append(INDEX, "gate", encode(gap), partition=partition)


def test_what_was_erased_is_not_shown_by_what_comes_after_it(answering: tuple[TestClient, Gateway]) -> None:
    client, gateway = answering
    after_ns = capture_ns(3) + 20_000_000
    moment = f"{after_ns / S:.3f}"
    assert client.get(f"/v1/cameras/gate/still?at={moment}").headers["X-Sequence"] == "3"
    mark_erased(gateway, capture_ns(2), after_ns - 10_000_000)
    assert client.get(f"/v1/cameras/gate/still?at={moment}").status_code == 404
    replay = client.post("/v1/replays", json={"camera": "gate", "from": moment}).json()
    frames = client.get(f"/v1/replays/{replay['id']}/0.json").json()["frames"]
    assert 3 not in {frame["seq"] for frame in frames}
    assert 4 in {frame["seq"] for frame in frames}
    assert client.get(f"/v1/replays/{replay['id']}/timeline").json()["buckets"]
    mark_erased(gateway, capture_ns(0), capture_ns(9))
    assert client.get(f"/v1/replays/{replay['id']}/timeline").json()["buckets"] == []


def test_a_failure_that_passed_is_told_no_longer(
    answering: tuple[TestClient, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, gateway = answering
    replay = client.post("/v1/replays", json={"camera": "gate"}).json()
    base = f"/v1/replays/{replay['id']}"

    def away(*args: object) -> None:
        raise LogError("the log is away")

    with monkeypatch.context() as patched:
        patched.setattr(gateway.maker, "segment", away)
        assert client.get(f"{base}/0.m4s").status_code == 503
    assert client.get(f"{base}/progress").json()["failed"] == "the log is away"
    assert client.get(f"{base}/0.m4s").status_code == 200
    assert client.get(f"{base}/progress").json()["failed"] is None


def test_what_nobody_foresaw_is_a_problem_too(
    answering: tuple[TestClient, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, gateway = answering
    replay = client.post("/v1/replays", json={"camera": "gate"}).json()

    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(gateway.maker, "segment", broken)
    calm = TestClient(client.app, base_url="http://127.0.0.1", client=("127.0.0.1", 5), raise_server_exceptions=False)
    found = calm.get(f"/v1/replays/{replay['id']}/0.m4s")
    assert (found.status_code, found.headers["content-type"]) == (500, "application/problem+json")
    assert "ZeroDivisionError" in found.json()["detail"]


def test_stills_leave_threads_for_everything_else(answering: tuple[TestClient, Gateway]) -> None:
    client, gateway = answering
    taken = 0
    while gateway._drawers.acquire(blocking=False):
        taken += 1
    assert taken < 40, "the server has so many threads for all routes"
    for path in ("still", "h264"):
        found = client.get(f"/v1/cameras/gate/{path}")
        assert (found.status_code, "too many" in found.json()["detail"]) == (503, True)
    gateway._drawers.release()
    assert client.get("/v1/cameras/gate/still").status_code == 200
    assert client.get("/v1/cameras/gate/still").status_code == 200, "the turn was given back"


def test_a_task_is_delivered_as_it_was_asked_for(answering: tuple[TestClient, Gateway]) -> None:
    client, _ = answering
    order = {"name": "lorries", "labels": list(builtin_tasks()["vehicles"].label_set.labels), "deliver": "objects"}
    assert client.post("/v1/tasks", json=order).json()["deliver"] == "objects"
    for deliver in ("regions", "objects", "pixels"):
        assert client.patch("/v1/tasks/lorries", json={"deliver": deliver}).json()["deliver"] == deliver


def test_who_may_not_know_an_address_is_not_told_it_with_a_problem() -> None:
    camera = CameraConfig(name="gate", source="rtsp://192.0.2.7:554/s1?key=${KEY}")
    problem = "rtsp://192.0.2.7:554/s1?…: the stream cannot be opened (refused); check the address"
    assert told_problem(problem, camera, sources=True) == problem
    told = "its source: the stream cannot be opened (refused); check the address"
    assert told_problem(problem, camera, sources=False) == told
    film = CameraConfig(name="gate", source="/films/gate.mkv")
    missing = "/films/gate.mkv: there is no such file"
    assert told_problem(missing, film, sources=False) == "its source: there is no such file"


def test_a_browser_does_not_mix_modules_of_two_versions(answering: tuple[TestClient, Gateway]) -> None:
    client, _ = answering
    for path in ("/", "/js/words.js"):
        first = client.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_no_segment_is_shorter_than_the_clock_can_tell(answering: tuple[TestClient, Gateway]) -> None:
    assert Film(0, 2 * S + 5_000, 2 * S).count() == 1
    assert Film(0, 2 * S + 20_000, 2 * S).count() == 2
    assert Film(0, 2 * S, 2 * S).count() == 1
    client, _ = answering
    found = client.post("/v1/replays", json={"camera": "gate", "from": "+0s", "to": "+0.000002s"})
    assert found.status_code == 422
    assert "nothing in that span" in found.json()["detail"]
