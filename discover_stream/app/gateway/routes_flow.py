"""Routes about what flows: rates of substreams, and a task's packets and regions as they come."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from discover_stream.app.gateway.access import Principal
from discover_stream.app.gateway.context import Caller, Gateway, Here, allow
from discover_stream.app.gateway.events import Follow, check_room, events, parse_resume
from discover_stream.app.gateway.models import TASK_PATTERN, Moment, Order, TaskName
from discover_stream.app.gateway.models_tasks import History, Series, Substream, Substreams
from discover_stream.app.gateway.problems import documented, not_found
from discover_stream.app.gateway.rates import KEPT_S, STEP_NS, WINDOW_S, Name
from discover_stream.app.moments import iso
from discover_stream.app.watch import parse_start
from discover_stream.config import NAME_PATTERN
from topics.catalogue import ARCHIVE, task_topic
from topics.partitioner import partition_for

router = APIRouter(tags=["substreams"])

OneTask = Annotated[TaskName | None, Query()]
OneCamera = Annotated[str | None, Query(pattern=NAME_PATTERN)]


@router.get("/substreams", responses=documented())
def substreams(gateway: Here, who: Caller, task: OneTask = None, camera: OneCamera = None) -> Substreams:
    """What each task is sent of each camera, over the last minute."""
    allow(who, "follow", task=task)
    rates = gateway.rates.now()
    partitions = next((spec.partitions for spec in gateway.log.topics() if spec.name == ARCHIVE), 1)
    now_ns = gateway.rates.clock_ns()
    found = [
        Substream(
            task=name[0],
            camera=name[1],
            kbps=round(rate.kbps, 3),
            fps=round(rate.fps, 3),
            packets=rate.packets,
            bytes=rate.bytes,
            last=iso(rate.last_ns) if rate.last_ns else None,
            age_s=round((now_ns - rate.last_ns) / 1e9, 3) if rate.last_ns else None,
            waiting=gateway.rates.waiting(partition_for(name[1], partitions)),
        )
        for name, rate in sorted(rates.items())
        if _seen(who, name, task, camera)
    ]
    return Substreams(window_s=WINDOW_S, substreams=found)


@router.get("/substreams/history", responses=documented())
def history(
    gateway: Here,
    who: Caller,
    task: OneTask = None,
    camera: OneCamera = None,
    seconds: Annotated[int, Query(ge=5, le=KEPT_S)] = KEPT_S,
) -> History:
    """Bitrates over the last minutes, step by step."""
    allow(who, "follow", task=task)
    begin_ns, found = gateway.rates.history(seconds)
    return History(
        step_s=STEP_NS / 1e9,
        begin=iso(begin_ns),
        series=[
            Series(task=name[0], camera=name[1], kbps=[round(value, 3) for value in values])
            for name, values in sorted(found.items())
            if _seen(who, name, task, camera)
        ],
    )


class FollowIn(Order):
    """What to follow, and from where on."""

    camera: str | None = Field(default=None, pattern=NAME_PATTERN)
    begin: Moment = Field(default="latest", alias="from", description="latest, earliest, or a time of writing")
    packets: bool = Field(default=False, description="Whether packets come too, as base64")


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get("/tasks/{task}/events", response_class=_EventStream, responses=documented(404))
def follow(
    gateway: Here,
    who: Caller,
    task: Annotated[str, Path(pattern=TASK_PATTERN)],
    order: Annotated[FollowIn, Query()],
    resume: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20_000)] = None,
) -> StreamingResponse:
    """A task's packets as server-sent events, one `packet` event each; `Last-Event-ID` goes on where it ended."""
    allow(who, "follow", task=task)
    _check_task(gateway, task)
    check_room(gateway.streams, who.token)
    start = parse_start(order.begin) if resume is None else parse_resume(resume)
    what = Follow(task, order.camera, start, order.packets)
    return _EventStream(events(gateway, what, who), headers={"Cache-Control": "no-store"})


def _check_task(gateway: Gateway, task: str) -> None:
    if task_topic(task) not in {spec.name for spec in gateway.log.topics()}:
        raise not_found(f"task {task} has never been on in this log; GET /v1/tasks tells which are")


def _seen(who: Principal, name: Name, task: str | None, camera: str | None) -> bool:
    return who.may("follow", task=name[0]) and task in (None, name[0]) and camera in (None, name[1])
