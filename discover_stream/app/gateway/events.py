"""A task's packets as server-sent events (the HTML standard's `text/event-stream`)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from discover_stream.app.moments import iso
from discover_stream.app.watch import packet_json
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.sdk import Gap, Subscription, TaskFrame, subscribe
from discover_stream.types import DiscoverError, InputError
from topics.catalogue import task_topic
from topics.log import Log
from topics.partitioner import partition_for

if TYPE_CHECKING:
    from discover_stream.app.gateway.context import Gateway

KEEP_ALIVE_S = 10.0
_POLL_S = 0.5
_RESUME = re.compile(r"[0-9]{1,6}:[0-9]{1,18}(,[0-9]{1,6}:[0-9]{1,18})*")

Start = Literal["earliest", "latest"] | datetime | Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Follow:
    """What a client follows, and from where on; `packets`: whether it wants the bytes too."""

    task: str
    camera: str | None
    start: Start
    packets: bool


def parse_resume(text: str) -> dict[int, int]:
    """The positions that an event's id stands for: ``PARTITION:OFFSET,...``. Raises InputError."""
    if not _RESUME.fullmatch(text):
        raise InputError("Last-Event-ID: this is not the id of an event of this gateway; leave it out, or use `from`")
    pairs = (pair.split(":") for pair in text.split(","))
    return {int(partition): int(offset) for partition, offset in pairs}


def event_text(subscription: Subscription, item: TaskFrame | Gap, *, packets: bool) -> str:
    """An event; its id says where to go on after it."""
    positions = ",".join(f"{partition}:{offset}" for partition, offset in sorted(subscription.positions.items()))
    if isinstance(item, Gap):
        kind, told = "gap", {"partition": item.partition, "packets": item.to_offset - item.from_offset}
    else:
        kind, told = "packet", told_packet(item, packets=packets)
    return f"id: {positions}\nevent: {kind}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"


def told_packet(item: TaskFrame, *, packets: bool) -> dict[str, Any]:
    """A packet as JSON: as `discover subscribe --json` prints it, with the capture time in words and tags as words."""
    told = packet_json(item)
    labels = item.labels.labels if item.labels is not None else ()
    told["tags"] = [labels[tag] if tag < len(labels) else f"label {tag}" for tag in item.tags]
    told["capture"] = None if item.capture_ns is None else iso(item.capture_ns)
    if packets:
        told["packet"] = base64.b64encode(any_packet_bytes(item.packet)).decode()
    return told


async def events(gateway: Gateway, follow: Follow) -> AsyncIterator[str]:
    """The events, until the client leaves or the gateway stops. A failure of the log ends them with an `error`."""
    loop = asyncio.get_running_loop()
    # A subscription belongs to one thread.
    thread = ThreadPoolExecutor(1, f"events of {follow.task}")
    subscription: Subscription | None = None
    try:
        subscription = await loop.run_in_executor(thread, _subscribed, gateway.log, follow)
        yield ": connected\n\n"
        silent_s = 0.0
        while not gateway.stopping.is_set():
            texts = await loop.run_in_executor(thread, _some, subscription, follow.packets)
            silent_s = 0.0 if texts else silent_s + _POLL_S
            if silent_s >= KEEP_ALIVE_S:
                silent_s, texts = 0.0, [": nothing new\n\n"]
            for text in texts:
                yield text
    except DiscoverError as error:
        yield f"event: error\ndata: {json.dumps({'detail': ' '.join(str(error).split())})}\n\n"
    finally:
        if subscription is not None:
            thread.submit(subscription.close)
        thread.shutdown(wait=False)


def _subscribed(log: Log, follow: Follow) -> Subscription:
    start = follow.start
    if isinstance(start, Mapping) and follow.camera is not None:
        # The id may come from a stream of all cameras.
        partitions = next((spec.partitions for spec in log.topics() if spec.name == task_topic(follow.task)), 1)
        home = partition_for(follow.camera, partitions)
        start = {partition: offset for partition, offset in start.items() if partition == home}
    return subscribe(follow.task, log=log, camera=follow.camera, start=start)


def _some(subscription: Subscription, packets: bool) -> list[str]:
    """The next few events; waits a moment for the first."""
    found: list[str] = []
    item = subscription.poll(_POLL_S)
    while item is not None:
        found.append(event_text(subscription, item, packets=packets))
        if len(found) == 32:
            break
        item = subscription.poll(0.0)
    return found
