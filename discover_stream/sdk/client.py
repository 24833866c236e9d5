"""The gateway's HTTP interface, typed: `Client`, and `AsyncClient` with the same names to `await`.

    from discover_stream.sdk.client import Client

    with Client("http://127.0.0.1:8000", token="dsk_…") as client:
        for camera in client.cameras():
            print(camera.name, camera.health, camera.kbps, "kbit/s")
        for packet in client.events("vehicles"):
            print(packet.camera, packet.seq, [region.label for region in packet.regions])

Every method raises GatewayError, with the gateway's one line of cause and remedy, where it refuses or does not answer.
Moments (`begin`, `end`, `at`) are ISO 8601, epoch seconds, or ``+12.5s`` after the begin of the camera's archive.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from discover_stream.sdk import client_calls as calls
from discover_stream.sdk.client_calls import Call, EventLines, GatewayError, check, given
from discover_stream.sdk.client_models import (
    Camera,
    Export,
    History,
    PacketEvent,
    Replay,
    Sidecar,
    Substream,
    System,
    Task,
)

__all__ = ["AsyncClient", "Client", "GatewayError"]

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"


def _settings(url: str | None, token: str | None, timeout_s: float) -> dict[str, Any]:
    """Address and token; without them, those of DISCOVER_GATEWAY and DISCOVER_TOKEN."""
    known = token or os.environ.get("DISCOVER_TOKEN")
    return {
        "base_url": url or os.environ.get("DISCOVER_GATEWAY") or DEFAULT_URL,
        "headers": {"Authorization": f"Bearer {known}"} if known else {},
        "timeout": httpx2.Timeout(timeout_s, connect=10.0),
    }


def _events_request(last_id: str | None, camera: str | None, start: str, packets: bool) -> dict[str, Any]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    query = given(camera=camera, from_=start, packets="true" if packets else None)
    return {"params": query, "headers": headers, "timeout": httpx2.Timeout(60.0, connect=10.0)}


def _away(url: httpx2.URL, error: httpx2.HTTPError) -> GatewayError:
    reason = str(error) or type(error).__name__
    return GatewayError(0, f"gateway {url}: no answer ({reason}); check the address, and that it runs")


class Client:
    """A gateway, for programs that wait. For several threads at once; close it, or use it in a `with` block.

    Args:
        url: its address; None for DISCOVER_GATEWAY, or the gateway of this machine.
        token: as `discover token make` printed it; None for DISCOVER_TOKEN, or a gateway that is open.
        timeout_s: for an answer; decoding a picture may take seconds.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 120.0) -> None:
        self._http = httpx2.Client(**_settings(url, token, timeout_s))

    def do(self, call: Call[T]) -> T:
        """Make any call of `client_calls`."""
        try:
            answer = self._http.request(call.method, call.path, params=call.query, json=call.body)
        except httpx2.HTTPError as error:
            raise _away(self._http.base_url, error) from error
        return call.answer(answer.status_code, answer.content)

    def system(self) -> System:
        """Stages, pools and alerts."""
        return self.do(calls.system())

    def cameras(self) -> list[Camera]:
        """All cameras that the token may see."""
        return self.do(calls.cameras()).cameras

    def camera(self, name: str) -> Camera:
        """One camera."""
        return self.do(calls.camera(name))

    def add_camera(self, name: str, source: str, **settings: Any) -> Camera:
        """Add a camera; settings as in the configuration (fps, realtime, mode, quality, bitrate, privacy)."""
        return self.do(calls.add_camera(name, source, **settings))

    def remove_camera(self, name: str) -> None:
        """Remove a camera; its recording stays."""
        self.do(calls.remove_camera(name))

    def still(self, camera: str, **options: Any) -> bytes:
        """A picture of a moment: at, task, profile, format, view, overlay; JPEG or PNG bytes."""
        return self.do(calls.still(camera, **options))

    def tasks(self) -> list[Task]:
        """All tasks, without their labels."""
        return self.do(calls.tasks()).tasks

    def task(self, name: str) -> Task:
        """A task with its labels."""
        return self.do(calls.task(name))

    def add_task(self, **order: Any) -> Task:
        """Add a task by name, description or labels; also profile, deliver, tags. `asking` tells that a model is."""
        return self.do(calls.add_task(**order))

    def change_task(self, name: str, **change: Any) -> Task:
        """Change deliver, tags or on."""
        return self.do(calls.change_task(name, **change))

    def set_labels(self, name: str, labels: list[str]) -> Task:
        """A new version of a task's labels."""
        return self.do(calls.set_labels(name, labels))

    def remove_task(self, name: str) -> None:
        """Turn a task off."""
        self.do(calls.remove_task(name))

    def substreams(self, task: str | None = None, camera: str | None = None) -> list[Substream]:
        """Rates now, per task and camera."""
        return self.do(calls.substreams(task, camera)).substreams

    def history(self, task: str | None = None, camera: str | None = None, seconds: int = 600) -> History:
        """Rates over time."""
        return self.do(calls.history(task, camera, seconds))

    def new_replay(self, camera: str, begin: str | None = None, end: str | None = None, **order: Any) -> Replay:
        """Make a replay: task, profile, steps, view, overlay, burn_in, live. Decodes nothing until it is played."""
        return self.do(calls.new_replay(camera, from_=begin, to=end, **order))

    def replay(self, number: str) -> Replay:
        """A replay by its id, with its progress."""
        return self.do(calls.replay(number))

    def sidecar(self, number: str, segment: int) -> Sidecar:
        """Regions and provenance of a segment's pictures."""
        return self.do(calls.sidecar(number, segment))

    def leave(self, number: str) -> None:
        """Say that a replay is not watched any more."""
        self.do(calls.leave(number))

    def new_export(self, number: str) -> Export:
        """Begin to write a replay to a film."""
        return self.do(calls.new_export(number))

    def export(self, number: str) -> Export:
        """How far a film is."""
        return self.do(calls.export(number))

    def download(self, address: str) -> bytes:
        """What lies at an address that the gateway gave: a film, a playlist, a segment."""
        return self.do(Call(bytes, "GET", address))

    def events(
        self, task: str, *, camera: str | None = None, start: str = "latest", packets: bool = False
    ) -> Iterator[PacketEvent]:
        """A task's packets as they come, until you leave the loop; goes on by itself where a connection broke."""
        lines = EventLines()
        while True:
            failed: GatewayError | None = None
            try:
                order = _events_request(lines.last_id, camera, start, packets)
                with self._http.stream("GET", calls.events_path(task), **order) as answer:
                    if answer.status_code >= 400:
                        check(answer.status_code, answer.read())
                    for line in answer.iter_lines():
                        yield from lines.take(line)
            except httpx2.HTTPError as error:
                failed = _away(self._http.base_url, error)
            except GatewayError as error:
                failed = error
            time.sleep(lines.again(failed))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """As `Client`, for programs on asyncio; close it, or use it in an `async with` block."""

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 120.0) -> None:
        self._http = httpx2.AsyncClient(**_settings(url, token, timeout_s))

    async def do(self, call: Call[T]) -> T:
        """Make any call of `client_calls`."""
        try:
            answer = await self._http.request(call.method, call.path, params=call.query, json=call.body)
        except httpx2.HTTPError as error:
            raise _away(self._http.base_url, error) from error
        return call.answer(answer.status_code, answer.content)

    async def system(self) -> System:
        """Stages, pools and alerts."""
        return await self.do(calls.system())

    async def cameras(self) -> list[Camera]:
        """All cameras that the token may see."""
        return (await self.do(calls.cameras())).cameras

    async def camera(self, name: str) -> Camera:
        """One camera."""
        return await self.do(calls.camera(name))

    async def add_camera(self, name: str, source: str, **settings: Any) -> Camera:
        """Add a camera; settings as in the configuration (fps, realtime, mode, quality, bitrate, privacy)."""
        return await self.do(calls.add_camera(name, source, **settings))

    async def remove_camera(self, name: str) -> None:
        """Remove a camera; its recording stays."""
        await self.do(calls.remove_camera(name))

    async def still(self, camera: str, **options: Any) -> bytes:
        """A picture of a moment: at, task, profile, format, view, overlay; JPEG or PNG bytes."""
        return await self.do(calls.still(camera, **options))

    async def tasks(self) -> list[Task]:
        """All tasks, without their labels."""
        return (await self.do(calls.tasks())).tasks

    async def task(self, name: str) -> Task:
        """A task with its labels."""
        return await self.do(calls.task(name))

    async def add_task(self, **order: Any) -> Task:
        """Add a task by name, description or labels; also profile, deliver, tags. `asking` tells that a model is."""
        return await self.do(calls.add_task(**order))

    async def change_task(self, name: str, **change: Any) -> Task:
        """Change deliver, tags or on."""
        return await self.do(calls.change_task(name, **change))

    async def set_labels(self, name: str, labels: list[str]) -> Task:
        """A new version of a task's labels."""
        return await self.do(calls.set_labels(name, labels))

    async def remove_task(self, name: str) -> None:
        """Turn a task off."""
        await self.do(calls.remove_task(name))

    async def substreams(self, task: str | None = None, camera: str | None = None) -> list[Substream]:
        """Rates now, per task and camera."""
        return (await self.do(calls.substreams(task, camera))).substreams

    async def history(self, task: str | None = None, camera: str | None = None, seconds: int = 600) -> History:
        """Rates over time."""
        return await self.do(calls.history(task, camera, seconds))

    async def new_replay(self, camera: str, begin: str | None = None, end: str | None = None, **order: Any) -> Replay:
        """Make a replay: task, profile, steps, view, overlay, burn_in, live. Decodes nothing until it is played."""
        return await self.do(calls.new_replay(camera, from_=begin, to=end, **order))

    async def replay(self, number: str) -> Replay:
        """A replay by its id, with its progress."""
        return await self.do(calls.replay(number))

    async def sidecar(self, number: str, segment: int) -> Sidecar:
        """Regions and provenance of a segment's pictures."""
        return await self.do(calls.sidecar(number, segment))

    async def leave(self, number: str) -> None:
        """Say that a replay is not watched any more."""
        await self.do(calls.leave(number))

    async def new_export(self, number: str) -> Export:
        """Begin to write a replay to a film."""
        return await self.do(calls.new_export(number))

    async def export(self, number: str) -> Export:
        """How far a film is."""
        return await self.do(calls.export(number))

    async def download(self, address: str) -> bytes:
        """What lies at an address that the gateway gave: a film, a playlist, a segment."""
        return await self.do(Call(bytes, "GET", address))

    async def events(
        self, task: str, *, camera: str | None = None, start: str = "latest", packets: bool = False
    ) -> AsyncIterator[PacketEvent]:
        """A task's packets as they come, until you leave the loop; goes on by itself where a connection broke."""
        lines = EventLines()
        while True:
            failed: GatewayError | None = None
            try:
                order = _events_request(lines.last_id, camera, start, packets)
                async with self._http.stream("GET", calls.events_path(task), **order) as answer:
                    if answer.status_code >= 400:
                        check(answer.status_code, await answer.aread())
                    async for line in answer.aiter_lines():
                        for event in lines.take(line):
                            yield event
            except httpx2.HTTPError as error:
                failed = _away(self._http.base_url, error)
            except GatewayError as error:
                failed = error
            await asyncio.sleep(lines.again(failed))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
