"""A task's packets as server-sent events (the HTML standard's `text/event-stream`)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from discover_stream.app.gateway.access import Principal
from discover_stream.app.gateway.catalog import ErasedSpans
from discover_stream.app.gateway.context import Gateway, admitted
from discover_stream.app.gateway.flights import Busy
from discover_stream.app.gateway.problems import Refused, status_of
from discover_stream.app.moments import iso
from discover_stream.app.watch import packet_json
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.sdk import Gap, Subscription, TaskFrame, subscribe
from discover_stream.types import BitstreamError, DiscoverError, InputError
from topics.catalogue import task_topic
from topics.log import Log
from topics.partitioner import partition_for

KEEP_ALIVE_S = 10.0
ADMITTED_S = 2.0
"""How often it is looked whether a token is still good."""
MOST, MOST_OF_ONE = 256, 32
"""Streams at a time, and those of one token: each has a thread, and a reader of the log."""
_POLL_S = 0.5
_BATCH = 32
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
    if isinstance(item, Gap):
        kind, told = "gap", {"partition": item.partition, "packets": item.to_offset - item.from_offset}
    else:
        kind, told = "packet", told_packet(item, packets=packets)
    return f"id: {_identity(subscription)}\nevent: {kind}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"


def damaged_text(subscription: Subscription, error: BitstreamError) -> str:
    """The event for a packet that cannot be read; its id goes on after it."""
    told = {"problem": " ".join(str(error).split())}
    return f"id: {_identity(subscription)}\nevent: damaged\ndata: {json.dumps(told)}\n\n"


def _identity(subscription: Subscription) -> str:
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(subscription.positions.items()))


def told_packet(item: TaskFrame, *, packets: bool) -> dict[str, Any]:
    """A packet as JSON: as `discover subscribe --json` prints it, with the capture time in words and tags as words."""
    told = packet_json(item)
    labels = item.labels.labels if item.labels is not None else ()
    told["tags"] = [labels[tag] if tag < len(labels) else f"label {tag}" for tag in item.tags]
    told["capture"] = None if item.capture_ns is None else iso(item.capture_ns)
    if packets:
        told["packet"] = base64.b64encode(any_packet_bytes(item.packet)).decode()
    return told


def check_room(streams: Counter[str], token: str) -> None:
    """Raise Busy where there are too many streams already."""
    if streams.total() >= MOST or streams[token] >= MOST_OF_ONE:
        raise Busy("too many streams of events are open; end one of them, or try again later")


async def events(gateway: Gateway, follow: Follow, who: Principal) -> AsyncIterator[str]:
    """The events, until the client leaves, its token ends or the gateway stops. A failure of the log ends them with an
    `error`."""
    loop = asyncio.get_running_loop()
    # A subscription belongs to one thread.
    thread = ThreadPoolExecutor(1, f"events of {follow.task}")
    subscription: Subscription | None = None
    gateway.streams[who.token] += 1
    try:
        subscription = await loop.run_in_executor(thread, _subscribed, gateway.log, follow)
        yield ": connected\n\n"
        silent_s, looked_s = 0.0, time.monotonic()
        while not gateway.stopping.is_set():
            if time.monotonic() - looked_s > ADMITTED_S:
                looked_s = time.monotonic()
                if not await loop.run_in_executor(thread, admitted, gateway, who):
                    raise Refused(401, "this token opens nothing any more; ask for another")
            texts = await loop.run_in_executor(thread, _some, subscription, follow.packets, gateway.erased)
            silent_s = 0.0 if texts else silent_s + _POLL_S
            if silent_s >= KEEP_ALIVE_S:
                silent_s, texts = 0.0, [": nothing new\n\n"]
            for text in texts:
                yield text
    except (DiscoverError, Refused) as error:
        status = error.status if isinstance(error, Refused) else status_of(error)
        yield f"event: error\ndata: {json.dumps({'status': status, 'detail': ' '.join(str(error).split())})}\n\n"
    finally:
        gateway.streams[who.token] -= 1
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


def _some(subscription: Subscription, packets: bool, erased: ErasedSpans) -> list[str]:
    """The next few events; waits a moment for the first."""
    found: list[str] = []
    for number in range(_BATCH):
        try:
            item = subscription.poll(0.0 if number else _POLL_S)
        except BitstreamError as error:  # what comes after it can be read
            found.append(damaged_text(subscription, error))
            continue
        if item is None:
            break
        if isinstance(item, Gap) or not erased.hide(item.camera, item.capture_ns):
            found.append(event_text(subscription, item, packets=packets))
    return found
