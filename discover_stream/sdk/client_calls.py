"""The requests of the HTTP interface as values, and what becomes of their answers; nothing here waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from discover_stream.sdk import client_models as m
from discover_stream.types import DiscoverError

T = TypeVar("T")
_TRIES = 5


class GatewayError(DiscoverError):
    """The gateway refused a request, or does not answer. `status` is the HTTP status; 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and the type of its answer (bytes: as it comes)."""

    kind: type[T]
    method: str
    path: str
    query: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None

    def answer(self, status: int, content: bytes) -> T:
        """The answer. Raises GatewayError for a refusal, or for one that is not of the type."""
        check(status, content)
        if self.kind is bytes:
            return content  # type: ignore[return-value]
        if self.kind is type(None):
            return None
        try:
            return msgspec.json.decode(content, type=self.kind)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise GatewayError(
                status, f"{self.method} {self.path}: the answer is not what this version knows ({error}); update it"
            ) from error


def check(status: int, content: bytes) -> None:
    """Raises GatewayError, with the gateway's own words, for a status that tells a refusal."""
    if status < 400:
        return
    try:
        problem = msgspec.json.decode(content)
        words = problem.get("detail") or problem.get("title") or "no reason given"
        more = "; ".join(f"{each['where']}: {each['message']}" for each in problem.get("errors") or ())
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        words, more = content[:200].decode(errors="replace"), ""
    raise GatewayError(status, f"{words} ({more})" if more else words)


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None; a name that ends in an underscore goes without it."""
    return {name.rstrip("_"): value for name, value in values.items() if value is not None}


def _of(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def system() -> Call[m.System]:
    """The system as a whole."""
    return Call(m.System, "GET", _of("system"))


def cameras() -> Call[m.Cameras]:
    """All cameras."""
    return Call(m.Cameras, "GET", _of("cameras"))


def camera(name: str) -> Call[m.Camera]:
    """One of them."""
    return Call(m.Camera, "GET", _of("cameras", name))


def add_camera(name: str, source: str, **settings: Any) -> Call[m.Camera]:
    """A new one."""
    return Call(m.Camera, "POST", _of("cameras"), body=given(name=name, source=source, **settings))


def remove_camera(name: str) -> Call[None]:
    """One less."""
    return Call(type(None), "DELETE", _of("cameras", name))


def still(name: str, **options: Any) -> Call[bytes]:
    """A picture."""
    return Call(bytes, "GET", _of("cameras", name, "still"), query=given(**options))


def tasks() -> Call[m.Tasks]:
    """All tasks."""
    return Call(m.Tasks, "GET", _of("tasks"))


def task(name: str) -> Call[m.Task]:
    """One of them, with its labels."""
    return Call(m.Task, "GET", _of("tasks", name))


def add_task(**order: Any) -> Call[m.Task]:
    """A new one."""
    return Call(m.Task, "POST", _of("tasks"), body=given(**order))


def change_task(name: str, **change: Any) -> Call[m.Task]:
    """How it is delivered."""
    return Call(m.Task, "PATCH", _of("tasks", name), body=given(**change))


def set_labels(name: str, labels: list[str]) -> Call[m.Task]:
    """A new version of its labels."""
    return Call(m.Task, "PUT", _of("tasks", name, "labels"), body={"labels": labels})


def remove_task(name: str) -> Call[None]:
    """Off."""
    return Call(type(None), "DELETE", _of("tasks", name))


def substreams(task: str | None, camera: str | None) -> Call[m.Substreams]:
    """Rates now."""
    return Call(m.Substreams, "GET", _of("substreams"), query=given(task=task, camera=camera))


def history(task: str | None, camera: str | None, seconds: int) -> Call[m.History]:
    """Rates over time."""
    return Call(m.History, "GET", _of("substreams", "history"), query=given(task=task, camera=camera, seconds=seconds))


def new_replay(camera: str, **order: Any) -> Call[m.Replay]:
    """A replay."""
    return Call(m.Replay, "POST", _of("replays"), body=given(camera=camera, **order))


def replay(number: str) -> Call[m.Replay]:
    """How it is now."""
    return Call(m.Replay, "GET", _of("replays", number))


def sidecar(number: str, segment: int) -> Call[m.Sidecar]:
    """What is known about a segment."""
    return Call(m.Sidecar, "GET", _of("replays", number, f"{segment}.json"))


def leave(number: str) -> Call[None]:
    """A replay that is not watched any more."""
    return Call(type(None), "DELETE", _of("replays", number))


def new_export(number: str) -> Call[m.Export]:
    """A film of a replay."""
    return Call(m.Export, "POST", _of("replays", number, "export"), body={})


def export(number: str) -> Call[m.Export]:
    """How far it is."""
    return Call(m.Export, "GET", _of("exports", number))


def events_path(task: str) -> str:
    """Where a task's packets come as server-sent events."""
    return _of("tasks", task, "events")


@dataclass
class EventLines:
    """Server-sent events from their lines; `last_id` is where to resume.

    `broken` counts connections, since the last event, that ended by themselves.
    """

    last_id: str | None = None
    broken: int = 0
    _event: str = ""
    _data: str = ""

    def take(self, line: str) -> Iterator[m.PacketEvent]:
        """The packet that a line completes, if any. Raises GatewayError where the gateway says why it ends the stream,
        and for a packet that is not understood."""
        if not line:
            event, data = self._event, self._data
            self._event = self._data = ""
            if event == "error":
                raise _told(data)
            if event == "packet" and data:
                self.broken = 0
                yield _packet(data)
            return
        if line.startswith(":") and line != ": connected":
            self.broken = 0  # a sign of life, from a stream that has nothing to tell
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data += value

    def again(self, failed: GatewayError | None) -> float:
        """After a connection that ended, or failed: seconds to wait before the next one. Raises the failure where it
        will not pass, or where that was tried often enough."""
        self._event = self._data = ""
        self.broken += 1
        if failed is not None and (failed.status not in (0, 503) or self.broken > _TRIES):
            raise failed
        if self.broken > _TRIES:
            raise GatewayError(0, f"the stream of events ended {self.broken} times without a packet; try again later")
        return 0.5 * 2.0 ** (self.broken - 1)


def _told(data: str) -> GatewayError:
    """Why the gateway ends a stream, in its own words."""
    try:
        told = msgspec.json.decode(data)
        return GatewayError(int(told["status"]), str(told["detail"]))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return GatewayError(0, "the gateway ended the stream, and did not say why")


def _packet(data: str) -> m.PacketEvent:
    try:
        return msgspec.json.decode(data, type=m.PacketEvent)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise GatewayError(200, f"a packet is not what this version knows ({error}); update it") from error
