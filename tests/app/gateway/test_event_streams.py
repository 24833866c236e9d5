"""Streams of events: who may go on reading, what cannot be read, and how the client goes on."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import film_log
import httpx2
import pytest
from stream_film import FRAMES, capture_ns

from discover_stream.app.gateway import events as gateway_events
from discover_stream.app.gateway.access import LOCAL, Principal
from discover_stream.app.gateway.context import Gateway
from discover_stream.app.gateway.events import MOST_OF_ONE, Follow, check_room, events, parse_resume
from discover_stream.app.gateway.flights import Busy
from discover_stream.app.moments import iso
from discover_stream.codec.any_packet import parse_any
from discover_stream.sdk.client import Client, GatewayError
from topics.catalogue import INDEX, task_topic
from topics.messages import GapMessage, encode
from topics.partitioner import partition_for

FIRST = film_log.FIRST


@pytest.fixture
def gateway(tmp_path: Path, open_gateway: Any) -> Iterator[Gateway]:
    with open_gateway(film_log.record(tmp_path)) as (_, found):
        yield found


async def collected(gateway: Gateway, who: Principal, until: str) -> list[tuple[str, Any]]:
    """(kind, data) of events up to one of a kind, or up to the last packet of the film."""
    found: list[tuple[str, Any]] = []
    stream = events(gateway, Follow(FIRST, None, "earliest", False), who)
    async for text in stream:
        lines = dict(line.split(": ", 1) for line in text.strip().splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
            last = until == "" and found[-1][1].get("seq") == FRAMES - 1
            if last or lines["event"] == until:
                break
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def told(text: str) -> tuple[str, str, Any]:
    lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
    return lines["id"], lines["event"], json.loads(lines["data"])


async def some(gateway: Gateway, follow: Follow, count: int) -> list[str]:
    """The texts of so many events."""
    found: list[str] = []
    stream = events(gateway, follow, LOCAL)
    async for text in stream:
        found += [text] if text.startswith("id") else []
        if len(found) == count:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def test_events_tell_packets_and_go_on_after_any_of_them(gateway: Gateway) -> None:
    first = asyncio.run(some(gateway, Follow(FIRST, None, "earliest", True), 4))
    assert [told(text)[2]["seq"] for text in first] == [0, 1, 2, 3]
    identity, kind, packet = told(first[1])
    assert kind == "packet"
    assert (packet["camera"], packet["capture_ns"], packet["capture"]) == ("gate", capture_ns(1), iso(capture_ns(1)))
    assert parse_any(base64.b64decode(packet["packet"])).seq == 1
    again = asyncio.run(some(gateway, Follow(FIRST, "gate", parse_resume(identity), False), FRAMES - 2))
    assert [told(text)[2]["seq"] for text in again] == list(range(2, FRAMES))
    assert "packet" not in told(again[0])[2]


def test_a_stream_ends_with_its_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_events, "ADMITTED_S", 0.0)
    token = gateway.state.make("guest", "subscriber", tasks=[FIRST])
    who = gateway.state.holder(token)
    assert who is not None
    gateway.state.revoke(who.token)
    for principal in (who, LOCAL):  # nor is this machine let in without a token any more
        found = asyncio.run(asyncio.wait_for(collected(gateway, principal, "error"), 60))
        kind, told = found[-1]
        assert (kind, told["status"]) == ("error", 401)
    assert gateway.streams.total() == 0


def test_a_damaged_packet_is_told_and_passed_over(gateway: Gateway) -> None:
    partition = partition_for("gate", gateway.config.log.partitions)
    first = gateway.log.reader(task_topic(FIRST), [partition]).poll()[0]
    gateway.log.append(task_topic(FIRST), "gate", first.value[:-1] + b"?", partition=partition)  # type: ignore[union-attr]
    gateway.log.append(task_topic(FIRST), "gate", first.value, partition=partition)  # type: ignore[union-attr]
    reading = some(gateway, Follow(FIRST, None, "earliest", False), FRAMES + 2)
    found = asyncio.run(asyncio.wait_for(reading, 60))
    assert ["event: damaged" in text for text in found] == [False] * FRAMES + [True, False]
    assert len({text.splitlines()[0] for text in found}) == len(found), "each says where to go on"


def test_what_was_erased_is_not_sent_where_the_log_keeps_it(gateway: Gateway) -> None:
    gap = GapMessage(
        camera="gate", from_ns=capture_ns(2), to_ns=capture_ns(4), reason="erased: by anna", next_seq=9, frames=2
    )
    partition = partition_for("gate", gateway.config.log.partitions)
    gateway.log.append(INDEX, "gate", encode(gap), partition=partition)
    gateway.erased._keeps = True  # as on a broker
    found = asyncio.run(asyncio.wait_for(collected(gateway, LOCAL, ""), 60))
    assert [told["seq"] for _, told in found] == [0, 1, *range(4, FRAMES)]


def test_a_token_has_so_many_streams_and_no_more() -> None:
    check_room(Counter({"a": MOST_OF_ONE - 1, "b": MOST_OF_ONE}), "a")
    with pytest.raises(Busy, match="too many"):
        check_room(Counter({"a": MOST_OF_ONE}), "a")


def answering(monkeypatch: pytest.MonkeyPatch, body: str) -> tuple[Client, list[str], list[float]]:
    """A client of a gateway that always says the same, the requests made, and the pauses between them."""
    asked: list[str] = []
    pauses: list[float] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, text=body)

    monkeypatch.setattr("discover_stream.sdk.client.time.sleep", pauses.append)
    client = Client("http://gateway")
    client._http = httpx2.Client(base_url="http://gateway", transport=httpx2.MockTransport(answer))
    return client, asked, pauses


def ending(status: int) -> str:
    return f': connected\n\nevent: error\ndata: {{"status": {status}, "detail": "it is away"}}\n\n'


@pytest.mark.parametrize(("body", "says"), [(ending(503), "it is away"), (": connected\n\n", "without a packet")])
def test_the_client_tries_again_after_a_while_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    client, asked, pauses = answering(monkeypatch, body)
    with client, pytest.raises(GatewayError, match=says):
        next(client.events(FIRST))
    assert len(asked) == 6
    assert pauses == [0.5, 1, 2, 4, 8]


def test_the_client_does_not_try_again_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client, asked, _ = answering(monkeypatch, ending(401))
    with client, pytest.raises(GatewayError, match="it is away") as refused:
        next(client.events(FIRST))
    assert (refused.value.status, len(asked)) == (401, 1)
