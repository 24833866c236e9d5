"""The typed client of the SDK on a gateway that listens, over the film of nine frames."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
import pydantic
import pytest
from film_log import FILM, NAMES, record
from stream_film import capture_ns, seen

from discover_stream.app.gateway import models, models_replays, models_tasks
from discover_stream.app.gateway.decoders import LocalDecoder
from discover_stream.app.gateway.serve import Address, serving
from discover_stream.codec.any_packet import parse_any
from discover_stream.config import load_config
from discover_stream.sdk import client_models
from discover_stream.sdk.client import AsyncClient, Client, GatewayError
from topics.sqlite import SqliteLog

OTHER_NAMES = {"Stage": "StageState", "Pool": "PoolState", "System": "SystemState", "Progress": "ReplayProgress"}
OTHER_NAMES |= {"Grid": "ProvenanceGrid", "Task": "TaskDetail"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = load_config(record(tmp_path_factory.mktemp("film")))
    with (
        SqliteLog(config.log.path) as log,
        serving(config, log, LocalDecoder(1, config.decoding), Address("127.0.0.1", 0)) as server,
    ):
        yield server.address.url


def test_every_field_is_one_that_the_gateway_has() -> None:
    """And of its type, as far as both have a name for it; the gateway may have more."""
    theirs = {
        name: model
        for module in (models, models_tasks, models_replays)
        for name, model in vars(module).items()
        if isinstance(model, type) and issubclass(model, pydantic.BaseModel)
    }
    compared = 0
    for name, mine in vars(client_models).items():
        known = theirs.get(OTHER_NAMES.get(name, name))
        if not (isinstance(mine, type) and issubclass(mine, client_models.Model)) or known is None:
            continue
        sent = {field.serialization_alias or key: key for key, field in known.model_fields.items()}
        schema = known.model_json_schema(mode="serialization", by_alias=True)
        for field in msgspec.structs.fields(mine):
            assert field.encode_name in sent, f"{name}.{field.name}"
            kinds = {each.get("type") for each in schema["properties"][field.encode_name].get("anyOf", ())}
            may_be_none = msgspec.inspect.type_info(field.type)
            nullable = isinstance(may_be_none, msgspec.inspect.UnionType) and may_be_none.includes_none
            assert nullable or "null" not in kinds, f"{name}.{field.name} may be null"
            compared += 1
    assert compared > 100


def test_what_there_is(url: str) -> None:
    with Client(url) as client:
        (camera,) = client.cameras()
        assert (camera.name, camera.width, camera.height) == ("gate", 64, 48)
        assert client.camera("gate") == camera
        assert {task.name for task in client.tasks() if task.on} >= set(NAMES)
        assert len(client.task("vehicles").all_labels) >= 100
        assert {(each.task, each.camera) for each in client.substreams()} >= {(name, "gate") for name in NAMES}
        assert client.history("vehicles", seconds=60).series
        assert not client.system().live
        assert client.still("gate", at="+0s", format="png")[1:4] == b"PNG"


def test_refusals_are_in_the_gateways_words(url: str) -> None:
    with Client(url) as client:
        with pytest.raises(GatewayError, match="nowhere") as refused:
            client.camera("nowhere")
        assert refused.value.status == 404
        with pytest.raises(GatewayError, match=r"name|source"):
            client.add_camera("No Name", "sim://road")
    with Client("http://127.0.0.1:9", timeout_s=2) as away, pytest.raises(GatewayError, match="no answer") as silent:
        away.cameras()
    assert silent.value.status == 0


def test_packets_come_as_events(url: str) -> None:
    found = []
    with Client(url) as client:
        for packet in client.events("vehicles", start="earliest", packets=True):
            found.append(packet)
            if len(found) == len(FILM):
                break
    position = sorted(NAMES).index("vehicles")
    assert [packet.seq for packet in found] == list(range(len(FILM)))
    assert [packet.capture_ns for packet in found] == [capture_ns(seq) for seq in range(len(FILM))]
    for packet in found:
        boxes = {tuple(region.box) for region in packet.regions}
        either = [{(r.box.x0, r.box.y0, r.box.x1, r.box.y1) for r in seen(packet.seq, each)} for each in (0, 1)]
        assert boxes in either, position
        assert packet.packet is not None
        data = base64.b64decode(packet.packet)
        assert (parse_any(data).seq, len(data)) == (packet.seq, packet.bytes)


def test_a_replay_its_sidecar_and_a_film(url: str) -> None:
    async def watch() -> tuple[int, bytes, bytes]:
        async with AsyncClient(url) as client:
            replay = await client.new_replay("gate", "+0s", "+0.5s", task="vehicles")
            assert replay.progress.frames_decoded == 0
            assert datetime.fromisoformat(replay.begin).timestamp() == pytest.approx(capture_ns(0) / 1e9, abs=1e-3)
            side = await client.sidecar(replay.id, 0)
            assert side.frames[0].capture_ns == capture_ns(0)
            assert side.frames[0].provenance is not None
            assert len(side.frames[0].provenance.cells) == 12
            playlist = await client.download(replay.playlist)
            export = await client.new_export(replay.id)
            while export.state == "running":
                await asyncio.sleep(0.1)
                export = await client.export(export.id)
            assert (export.state, export.problem) == ("done", None)
            assert export.film is not None
            film = await client.download(export.film)
            with suppress(GatewayError):
                await client.leave(replay.id)
            return export.frames, playlist, film

    frames, playlist, film = asyncio.run(watch())
    assert frames == 5
    assert playlist.startswith(b"#EXTM3U")
    assert film[4:8] == b"ftyp"


def test_the_example(url: str) -> None:
    example = Path(__file__).resolve().parents[3] / "examples" / "from_the_gateway.py"
    command = [sys.executable, str(example), "--url", url, "--from", "earliest", "--packets", "3"]
    ran = subprocess.run(command, cwd=example.parents[1], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("camera gate:")
    assert [line.split(":")[-2][-6:] for line in lines[1:]] == [f"gate {seq}" for seq in range(3)]
