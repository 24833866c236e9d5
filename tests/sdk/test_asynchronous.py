from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_film import FRAMES, painted_film, seen

from discover_stream.codec.any_packet import any_packet_bytes, route_any
from discover_stream.codec.packet import task_key
from discover_stream.sdk import Gap, TaskFrame, subscribe_async
from discover_stream.types import InputError
from topics.catalogue import CatalogueSettings, catalogue, task_topic
from topics.sqlite import SqliteLog

KEY = task_key("trams", 1)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue(["trams"], CatalogueSettings(partitions=2)))
        yield opened


def send(log: SqliteLog, *seqs: int) -> None:
    for seq in seqs:
        packet = route_any(painted_film((KEY, KEY + 1))[seq], {KEY})
        log.append(task_topic("trams"), "gate", any_packet_bytes(packet))


def address(log: SqliteLog) -> str:
    return f"sqlite:{log.path}"


def test_packets_and_pictures(log: SqliteLog) -> None:
    send(log, *range(FRAMES))

    async def read() -> list[tuple[TaskFrame, float]]:
        found = []
        async with subscribe_async("trams", log=address(log), timeout_s=0) as subscription:
            async for item in subscription:
                assert isinstance(item, TaskFrame)
                found.append((item, float((await subscription.image(item))[16, 18].mean())))
        return found

    found = asyncio.run(read())
    assert [item.seq for item, _ in found] == list(range(FRAMES))
    assert all(set(item.regions) == seen(item.seq, 0) for item, _ in found)
    assert found[0][1] == pytest.approx(150, abs=4)


def test_a_cancelled_wait_loses_nothing_and_others_go_on_meanwhile(log: SqliteLog) -> None:
    async def read() -> list[int]:
        async with subscribe_async("trams", log=address(log), group="g") as subscription:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(subscription), 0.03)
            await asyncio.to_thread(send, log, 0, 1, 2)
            found = [await anext(subscription), await anext(subscription)]
            left = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            left.cancel()  # the thread takes the third packet all the same
            with pytest.raises(asyncio.CancelledError):
                await left
            await subscription.commit()
            assert sum(subscription.positions.values()) == 2
            return [item.seq for item in found if not isinstance(item, Gap)]

    assert asyncio.run(read()) == [0, 1]

    async def again() -> list[int]:
        async with subscribe_async("trams", log=address(log), group="g", timeout_s=0) as subscription:
            return [item.seq async for item in subscription if isinstance(item, TaskFrame)]

    assert asyncio.run(again()) == [2]


def test_what_cannot_be_subscribed_to(log: SqliteLog) -> None:
    async def read(task: str) -> None:
        async with subscribe_async(task, log=address(log)):
            pass

    with pytest.raises(InputError, match="'buses' is not in this log"):
        asyncio.run(read("buses"))

    async def unopened() -> None:
        await anext(subscribe_async("trams", log=address(log)))

    with pytest.raises(InputError, match="async with"):
        asyncio.run(unopened())
