"""Every route and every role; cameras, tasks, privacy, erasing and what flows, over a small log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import film_log
import pytest
from fastapi.testclient import TestClient
from stream_film import FRAMES, capture_ns

from discover_stream.app.gateway.context import Gateway
from discover_stream.app.moments import iso
from discover_stream.codec.any_packet import parse_any
from discover_stream.semantics.labels import builtin_tasks
from topics.catalogue import ARCHIVE, PLATES, task_topic
from topics.reading import read_all

FIRST, SECOND = film_log.FIRST, film_log.SECOND
ROLES = ("admin", "operator", "viewer", "subscriber")
MORE = """
gateway: {burst: 100000, requests_per_s: 100000, sources: {schemes: [rtsp, sim], variables: [GATE_PASSWORD]}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film_log.record(tmp_path_factory.mktemp("film"), MORE)


@pytest.fixture(scope="module")
def answering(place: Path, open_gateway: Any) -> Iterator[tuple[TestClient, Gateway]]:
    with open_gateway(place) as found:
        yield found


@pytest.fixture(scope="module")
def tokens(answering: tuple[TestClient, Gateway]) -> dict[str, dict[str, str]]:
    """Headers for each role; the viewer may see another camera too, the subscriber one task."""
    _, gateway = answering
    make = gateway.state.make
    made = {
        "admin": make("a", "admin"),
        "operator": make("o", "operator"),
        "viewer": make("v", "viewer", cameras=["gate"]),
        "stranger": make("w", "viewer", cameras=["yard"]),
        "subscriber": make("s", "subscriber", tasks=[FIRST]),
    }
    return {name: {"Authorization": f"Bearer {token}"} for name, token in made.items()}


@pytest.fixture(scope="module")
def client(answering: tuple[TestClient, Gateway], tokens: dict[str, dict[str, str]]) -> TestClient:
    return answering[0]


@pytest.fixture
def admin(client: TestClient, tokens: dict[str, dict[str, str]]) -> Iterator[TestClient]:
    client.headers.update(tokens["admin"])
    yield client
    del client.headers["Authorization"]


def replay(client: TestClient, headers: dict[str, str], **more: object) -> Any:
    return client.post("/v1/replays", json={"camera": "gate", **more}, headers=headers)


ZONE = {"points": [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]}
ADMIN = ("admin",)
STAFF = ("admin", "operator")
VIEWERS = ("admin", "operator", "viewer")
TASKS = ("admin", "operator", "subscriber")
EVERYBODY = (*ROLES, "stranger")
WATCHERS = ("admin", "operator", "viewer", "subscriber")
TABLE: list[tuple[str, str, object, tuple[str, ...]]] = [
    ("GET", "/v1/me", None, EVERYBODY),
    ("GET", "/v1/system", None, STAFF),
    ("GET", "/v1/metrics", None, STAFF),
    ("GET", "/v1/audit", None, ADMIN),
    ("GET", "/v1/cameras", None, (*VIEWERS, "stranger")),
    ("POST", "/v1/cameras", {"name": "x", "source": "ftp://no"}, STAFF),
    ("POST", "/v1/cameras", {"name": "x", "source": "ftp://no", "privacy": [ZONE]}, ADMIN),
    ("GET", "/v1/cameras/gate", None, VIEWERS),
    ("DELETE", "/v1/cameras/none", None, STAFF),
    ("GET", "/v1/cameras/gate/privacy", None, VIEWERS),
    ("PUT", "/v1/cameras/gate/privacy", {"zones": []}, ADMIN),
    ("DELETE", "/v1/cameras/none/recording", None, ADMIN),
    ("GET", "/v1/cameras/gate/still", None, VIEWERS),
    ("GET", f"/v1/cameras/gate/still?task={FIRST}", None, WATCHERS),
    ("GET", f"/v1/cameras/gate/still?task={SECOND}", None, VIEWERS),
    ("GET", "/v1/cameras/gate/still?view=original", None, VIEWERS),
    ("GET", f"/v1/cameras/gate/still?view=original&task={FIRST}", None, VIEWERS),
    ("GET", "/v1/cameras/gate/still?burn_in=false", None, ADMIN),
    ("GET", "/v1/cameras/gate/gaps", None, VIEWERS),
    ("GET", "/v1/cameras/gate/h264", None, VIEWERS),
    ("GET", "/v1/tasks", None, TASKS),
    ("GET", f"/v1/tasks/{FIRST}", None, TASKS),
    ("GET", f"/v1/tasks/{SECOND}", None, STAFF),
    ("POST", "/v1/tasks", {"name": "all", "labels": ["x"]}, STAFF),
    ("PUT", f"/v1/tasks/{FIRST}/labels", {"labels": ["x"]}, STAFF),
    ("PATCH", f"/v1/tasks/{FIRST}", {}, STAFF),
    ("DELETE", "/v1/tasks/none", None, STAFF),
    ("GET", "/v1/substreams", None, TASKS),
    ("GET", f"/v1/substreams?task={SECOND}", None, STAFF),
    ("GET", "/v1/substreams?task=all", None, STAFF),
    ("GET", "/v1/substreams/history", None, TASKS),
    ("GET", f"/v1/tasks/{SECOND}/events?from=x", None, STAFF),
    ("POST", "/v1/replays", {"camera": "gate"}, VIEWERS),
    ("POST", "/v1/replays", {"camera": "gate", "task": FIRST}, WATCHERS),
    ("POST", "/v1/replays", {"camera": "gate", "task": SECOND}, VIEWERS),
    ("POST", "/v1/replays", {"camera": "gate", "task": FIRST, "view": "original"}, VIEWERS),
    ("POST", "/v1/replays", {"camera": "gate", "burn_in": False}, ADMIN),
    ("GET", "/v1/replays", None, EVERYBODY),
    ("GET", "/v1/replays/{all}", None, VIEWERS),
    ("GET", "/v1/replays/{all}/progress", None, VIEWERS),
    ("GET", "/v1/replays/{all}/index.m3u8", None, VIEWERS),
    ("GET", "/v1/replays/{all}/init.mp4", None, VIEWERS),
    ("GET", "/v1/replays/{all}/0.m4s", None, VIEWERS),
    ("GET", "/v1/replays/{all}/0.json", None, VIEWERS),
    ("GET", "/v1/replays/{all}/timeline", None, VIEWERS),
    ("GET", "/v1/replays/{first}", None, WATCHERS),
    ("GET", "/v1/replays/{first}/0.m4s", None, WATCHERS),
    ("GET", "/v1/replays/{original}/0.m4s", None, VIEWERS),
    ("GET", "/v1/replays/{bare}/0.m4s", None, ADMIN),
    ("POST", "/v1/replays/{all}/export", None, VIEWERS),
    ("GET", "/v1/exports/{export}", None, VIEWERS),
    ("GET", "/v1/exports/{export}/film.mp4", None, VIEWERS),
    ("DELETE", "/v1/exports/{export}", None, VIEWERS),
    ("DELETE", "/v1/replays/{first}", None, WATCHERS),
]  # fmt: skip


def test_the_table_has_every_route(client: TestClient) -> None:
    paths = client.get("/v1/openapi.json").json()["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    shapes = {
        (method, path.split("?")[0].replace("/gate", "/{camera}").replace("cameras/none", "cameras/{camera}"))
        for method, path, _, _ in TABLE
    }
    for name in ("all", "first", "original", "bare"):
        shapes = {(method, path.replace(f"replays/{{{name}}}", "replays/{replay}")) for method, path in shapes}
    shapes = {(method, path.replace("/0.", "/{number}.")) for method, path in shapes}
    for name in (FIRST, SECOND, "none"):
        shapes = {(method, path.replace(f"tasks/{name}", "tasks/{task}")) for method, path in shapes}
    assert known - shapes == {("GET", "/v1/health"), ("GET", "/v1/ready")}
    assert shapes - known == set()


@pytest.mark.parametrize(("method", "path", "body", "allowed"), TABLE, ids=lambda item: str(item)[:60])
def test_every_route_for_every_role(
    client: TestClient,
    tokens: dict[str, dict[str, str]],
    method: str,
    path: str,
    body: object,
    allowed: tuple[str, ...],
) -> None:
    for role in ("nobody", *EVERYBODY):
        names = {}
        if "{" in path:
            names = {
                "all": replay(client, tokens["admin"]).json()["id"],
                "first": replay(client, tokens["admin"], task=FIRST).json()["id"],
                "original": replay(client, tokens["admin"], view="original").json()["id"],
                "bare": replay(client, tokens["admin"], burn_in=False).json()["id"],
            }
            if "{export}" in path:
                job = client.post(f"/v1/replays/{names['all']}/export", headers=tokens["admin"])
                names["export"] = job.json()["id"] if job.status_code == 202 else "0" * 16
        found = client.request(method, path.format(**names), json=body, headers=tokens.get(role, {}))
        if role == "nobody":
            assert found.status_code == 401, found.text
        elif role in allowed:
            assert found.status_code not in (401, 403) and found.status_code < 500, found.text  # noqa: PT018
        else:
            assert found.status_code == 403, (role, found.text)
        if found.status_code >= 400:
            problem = found.json()
            assert found.headers["content-type"] == "application/problem+json"
            assert problem["status"] == found.status_code
            assert problem["detail"]
            assert "\n" not in problem["detail"]


def test_lists_hold_only_what_one_may_see(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    replay(client, tokens["admin"])
    replay(client, tokens["admin"], task=FIRST)

    def listed(path: str, kind: str, role: str) -> list[Any]:
        found = client.get(f"/v1/{path}", headers=tokens[role]).json()[kind]
        return list(found)

    assert [camera["name"] for camera in listed("cameras", "cameras", "viewer")] == ["gate"]
    assert listed("cameras", "cameras", "stranger") == []
    assert listed("cameras", "cameras", "viewer")[0]["source"] is None
    assert listed("cameras", "cameras", "operator")[0]["source"].endswith("clip.mkv")
    assert [task["name"] for task in listed("tasks", "tasks", "subscriber")] == [FIRST]
    assert {item["task"] for item in listed("substreams", "substreams", "subscriber")} == {FIRST}
    assert {item["task"] for item in listed("substreams", "substreams", "operator")} == {FIRST, SECOND, "all"}
    assert {item["task"] for item in listed("substreams/history", "series", "subscriber")} == {FIRST}
    assert {item["task"] for item in listed("replays", "replays", "subscriber")} == {FIRST}
    assert listed("replays", "replays", "stranger") == []


def test_a_key_opens_its_replay_and_ends_with_its_token(
    client: TestClient, tokens: dict[str, dict[str, str]], answering: tuple[TestClient, Gateway]
) -> None:
    _, gateway = answering
    token = gateway.state.make("guest", "viewer", cameras=["gate"])
    mine = replay(client, {"Authorization": f"Bearer {token}"}).json()
    other = replay(client, tokens["admin"], task=FIRST).json()
    base = f"/v1/replays/{mine['id']}"
    assert client.get(mine["playlist"]).status_code == 200
    for name in ("init.mp4", "0.m4s", "0.json", "progress", "timeline"):
        assert client.get(f"{base}/{name}?key={mine['key']}").status_code == 200
    assert client.get(f"/v1/replays/{other['id']}/0.m4s?key={mine['key']}").status_code == 401
    assert client.get(f"{base}?key={mine['key']}").status_code == 401, "the replay itself asks for the token"
    gateway.state.revoke(token.split("_")[1])
    assert client.get(f"{base}/0.m4s?key={mine['key']}").status_code == 401


def test_who_leaves_a_replay_takes_it_from_nobody_else(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    order = {"from": "+0.1s"}
    made = [replay(client, tokens[role], **order).json()["id"] for role in ("admin", "viewer", "viewer")]
    assert len(set(made)) == 1
    path = f"/v1/replays/{made[0]}"
    for role, left in (("operator", 200), ("viewer", 200), ("admin", 200), ("viewer", 404)):
        assert client.delete(path, headers=tokens[role]).status_code == 204
        assert client.get(path, headers=tokens["admin"]).status_code == left


def test_a_playlist_gives_no_key_that_is_younger_than_the_one_that_opened_it(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    made = replay(client, tokens["viewer"]).json()
    lines = client.get(made["playlist"]).text.splitlines()
    assert {line.split("key=")[1].strip('"') for line in lines if "key=" in line} == {made["key"]}


def test_replays_stills_and_changes_are_recorded(admin: TestClient) -> None:
    made = admin.post("/v1/replays", json={"camera": "gate"}).json()
    admin.get(f"/v1/cameras/gate/still?at={iso(capture_ns(3))}")
    entries = admin.get("/v1/audit").json()["entries"]
    assert [entry["what"] for entry in entries[:2]] == ["still", "replay"]
    assert made["id"] in entries[1]["detail"]
    assert entries[1]["who"].endswith(" a")


def test_cameras_come_and_go(admin: TestClient) -> None:
    wanted = {"name": "yard", "source": "rtsp://192.0.2.1/x?key=${GATE_PASSWORD}", "fps": 5, "privacy": [ZONE]}
    made = admin.post("/v1/cameras", json=wanted)
    assert made.status_code == 201, made.text
    assert (made.json()["source"], made.json()["privacy"]) == (wanted["source"], [ZONE])
    assert admin.post("/v1/cameras", json={**wanted, "fps": 6}).status_code == 409
    assert admin.put("/v1/cameras/yard/privacy", json={"zones": []}).status_code == 200
    assert admin.get("/v1/cameras/yard/still").status_code == 404
    assert admin.delete("/v1/cameras/yard").status_code == 204
    assert admin.put("/v1/cameras/gate/privacy", json={"zones": [ZONE]}).status_code == 409, "the file lists it"


def test_removing_a_camera_is_no_way_to_lose_its_zones(admin: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    wanted = {"name": "porch", "source": "rtsp://192.0.2.1/x"}
    operator = tokens["operator"]
    assert admin.post("/v1/cameras", json={**wanted, "privacy": [ZONE]}).status_code == 201
    assert admin.delete("/v1/cameras/porch", headers=operator).status_code == 403
    assert admin.put("/v1/cameras/porch/privacy", json={"zones": []}).status_code == 200
    assert admin.delete("/v1/cameras/porch", headers=operator).status_code == 204
    assert admin.post("/v1/cameras", json=wanted, headers=operator).status_code == 201
    assert admin.delete("/v1/cameras/porch").status_code == 204


def test_viewers_are_told_of_no_tasks(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    def gate(role: str) -> dict[str, Any]:
        return cast(dict[str, Any], client.get("/v1/cameras/gate", headers=tokens[role]).json())

    assert set(gate("operator")["tasks"]) == {FIRST, SECOND}
    assert gate("viewer")["tasks"] == {}
    assert gate("viewer")["fps"] == gate("operator")["fps"]


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "rtsp://h/${HOME}", "rtsp://h/$HOME", "rtsp://",
     "rtsp://u:p@h/", "rtsp://[", "sim://road\n", "../x", "RTMP://h/"],
)  # fmt: skip
def test_sources_that_nobody_allowed_are_refused(admin: TestClient, source: str) -> None:
    found = admin.post("/v1/cameras", json={"name": "x", "source": source})
    assert found.status_code in (409, 422)
    assert "x" not in {camera["name"] for camera in admin.get("/v1/cameras").json()["cameras"]}


def test_a_task_of_labels_is_added_changed_and_removed(admin: TestClient) -> None:
    labels = list(builtin_tasks()["vehicles"].label_set.labels)
    made = admin.post("/v1/tasks", json={"name": "lorries", "labels": labels, "description": "big ones"})
    assert made.status_code == 201, made.text
    assert (made.json()["version"], made.json()["on"], made.json()["all_labels"]) == (1, True, labels)
    changed = admin.put("/v1/tasks/lorries/labels", json={"labels": [*labels, "road train"]})
    assert (changed.json()["version"], changed.json()["description"]) == (2, "big ones")
    bare = admin.patch("/v1/tasks/lorries", json={"deliver": "regions", "tags": True}).json()
    assert (bare["deliver"], bare["tags"], bare["on"]) == ("regions", True, True)
    assert admin.delete("/v1/tasks/lorries").status_code == 204
    assert not admin.get("/v1/tasks/lorries").json()["on"]
    assert admin.delete("/v1/tasks/lorries").status_code == 409
    assert admin.put(f"/v1/tasks/{FIRST}/labels", json={"labels": labels}).status_code == 409, "the file lists it"
    assert admin.post("/v1/tasks", json={"name": "few", "labels": ["car"]}).status_code == 422


def test_without_a_language_model_a_description_is_refused_at_once(
    admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    found = admin.post("/v1/tasks", json={"description": "vans that block the bus lane"})
    assert found.status_code == 422
    assert "OPENAI" in found.json()["detail"]


def test_stills_show_the_frame_of_an_instant(admin: TestClient) -> None:
    at = capture_ns(4) + 10_000_000
    found = admin.get(f"/v1/cameras/gate/still?at={at / 1e9:.3f}&format=png")
    assert (found.headers["X-Sequence"], found.headers["X-Capture-Time"]) == ("4", iso(capture_ns(4)))
    assert found.content.startswith(b"\x89PNG")
    assert admin.get("/v1/cameras/gate/still").headers["X-Sequence"] == str(FRAMES - 1)
    early = admin.get("/v1/cameras/gate/still?at=1000")
    assert early.status_code == 404
    assert "nothing was captured" in early.json()["detail"]


def test_errors_are_problems_wherever_they_come_from(admin: TestClient) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/me", 405),
        ("GET", "/v1/replays/zz", 422),
        ("POST", "/v1/replays", 422),
        ("GET", "/v1/cameras/gate/gaps?from=never", 422),
        ("GET", f"/v1/tasks/{FIRST}/events?from=never", 422),
        ("GET", "/v1/replays/" + "0" * 24, 404),
    ):
        found = admin.request(method, path)
        assert (found.status_code, found.headers["content-type"]) == (status, "application/problem+json"), found.text
        assert found.json()["title"]
    assert "GET" in admin.request("PUT", "/v1/me").headers["allow"]
    found = admin.post("/v1/replays", json={"camera": "gate", "tsk": "x"})
    assert found.json()["errors"] == [{"where": "body.tsk", "message": "Extra inputs are not permitted"}]
    large = admin.post("/v1/tasks", content=b"[" + b" " * 3_000_000, headers={"Content-Type": "application/json"})
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")


def test_erasing_takes_a_span_out_of_log_and_file(tmp_path: Path, open_gateway: Any) -> None:
    place = film_log.record(tmp_path)
    with open_gateway(place) as (client, gateway):
        log, partition = gateway.log, 0
        kept = {record.offset: record for record in read_all(log, ARCHIVE) if record.value is not None}
        doomed = [record for record in kept.values() if 2 <= parse_any(record.value or b"").seq < 5]
        partition = doomed[0].partition
        made = client.post("/v1/replays", json={"camera": "gate"}).json()
        span = f"from={capture_ns(2) / 1e9 - 0.01:.3f}&to={capture_ns(5) / 1e9 - 0.01:.3f}"
        found = client.delete(f"/v1/cameras/gate/recording?{span}")
        assert found.status_code == 200, found.text
        assert found.json()["records"] >= 3 * 3
        assert not found.json()["hidden_only"]
        for topic in (ARCHIVE, task_topic(FIRST), task_topic(SECOND)):
            left = [parse_any(r.value).seq for r in read_all(log, topic, [partition]) if r.value is not None]
            assert left == [0, 1, 5, 6, 7, 8]
        assert sum(record.value is not None for record in read_all(log, PLATES)) == 2
        for path in tmp_path.glob("log.db*"):
            content = path.read_bytes()
            assert not any(
                (record.value or b"?")[-40:] in content for record in doomed if len(record.value or b"") > 60
            )
        assert client.get(f"/v1/replays/{made['id']}").status_code == 404, "nothing made of it is kept"
        reasons = [gap["reason"] for gap in client.get("/v1/cameras/gate/gaps").json()["gaps"]]
        assert "erased: by this machine" in reasons
        assert client.get("/v1/audit").json()["entries"][0]["what"] == "erased"


def test_while_no_token_was_made_only_this_machine_is_served(tmp_path: Path, open_gateway: Any) -> None:
    with open_gateway(film_log.record(tmp_path)) as (client, gateway):
        assert client.get("/v1/me").json() == {
            "role": "admin", "name": "this machine", "cameras": None, "tasks": None, "open": True
        }  # fmt: skip
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}):
            assert client.get("/v1/me", headers=headers).status_code == 401
        body = {"name": "x", "source": "sim://road"}
        assert client.post("/v1/cameras", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
        far = TestClient(client.app, base_url="http://127.0.0.1", client=("192.0.2.7", 5))
        assert far.get("/v1/me").status_code == 401
        token = gateway.state.make("a", "admin")
        assert client.get("/v1/me").status_code == 401
        assert client.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).json()["open"] is False
        assert far.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get("/v1/health").status_code == 200
        wrong = [client.get("/v1/me", headers={"Authorization": "Bearer dsk_0_x"}).status_code for _ in range(12)]
        assert wrong == [401] * 10 + [429] * 2


def test_a_token_that_asks_too_often_has_to_wait(tmp_path: Path, open_gateway: Any) -> None:
    place = film_log.record(tmp_path, "gateway: {burst: 3, requests_per_s: 0.01}\n")
    with open_gateway(place) as (client, _):
        found = [client.get("/v1/me") for _ in range(4)]
        assert [answer.status_code for answer in found] == [200, 200, 200, 429]
        assert int(found[-1].headers["retry-after"]) > 10
