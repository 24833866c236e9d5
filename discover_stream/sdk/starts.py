"""Where a subscription starts, and which log it reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from discover_stream.codec.packet import task_key
from discover_stream.config import datetime_ns, load_config
from discover_stream.types import InputError, LabelSet
from topics import open_log
from topics.archive import task_offset
from topics.catalogue import LABELS, task_topic
from topics.log import AtOffset, AtTime, Log, Reader, Start, latest_by_key
from topics.messages import LabelSetMessage, decode_as


@dataclass(frozen=True, slots=True)
class AtCapture:
    """Start a subscription of one camera with the frame that shows an instant by the camera's clock, ns since
    the epoch: the last one captured at or before it."""

    at_ns: int


From = Start | AtCapture | datetime | Mapping[int, int]
"""Where to begin: the earliest or latest packet, an offset, a time of writing (`AtTime`, a datetime), an instant by a
camera's clock, or positions as `Subscription.positions` tells them (partition -> offset of the next packet)."""


def default_log() -> str:
    """The address in DISCOVER_LOG, else that of the packaged configuration."""
    return os.environ.get("DISCOVER_LOG") or load_config().log.url


def start_of(log: Log, task: str, start: From, camera: str | None) -> Start:
    """Where in a task's topic a subscription starts, but for positions. Raises InputError for `AtCapture` without a
    camera."""
    if isinstance(start, Mapping):
        return "earliest"  # in partitions of which nothing was done yet
    if isinstance(start, datetime):
        return AtTime(datetime_ns(start))
    if not isinstance(start, AtCapture):
        return start
    if camera is None:
        raise InputError("a subscription from a capture time needs its camera: every camera has a clock of its own")
    return AtOffset(task_offset(log, task_topic(task), camera, start.at_ns))


def seek(reader: Reader, positions: Mapping[int, int]) -> None:
    """Continue at positions that were kept. Raises InputError for a partition that is not read."""
    strange = next((p for p in positions if p not in reader.positions), None)
    if strange is not None:
        known = ", ".join(map(str, sorted(reader.positions)))
        raise InputError(
            f"positions to start at: partition {strange} is not read here (read are: {known}); they belong to another"
            " log, task or camera"
        )
    for partition, offset in positions.items():
        reader.seek(partition, offset)


def keep_start(log: Log, reader: Reader, group: str, topic: str) -> None:
    """Commit where a group begins in partitions that it has not committed yet.

    Otherwise one that was killed before its first packet there would begin anew, at a later "latest".
    """
    fresh = {p: offset for p, offset in reader.positions.items() if log.committed(group, topic, p) is None}
    if fresh:
        reader.commit(fresh)


def open_existing(url: str) -> Log:
    """Open a log to read from it. Raises InputError where there is none: reading must not create one."""
    kind, _, place = url.partition(":")
    if kind == "sqlite" and place and not Path(place).exists():
        raise InputError(f"log {place}: there is none yet; start `discover run` with the same configuration first")
    return open_log(url)


def label_sets(log: Log) -> dict[int, LabelSet]:
    """Every label set in the log by the key that stands for it in packets."""
    found: dict[int, LabelSet] = {}
    for name, record in latest_by_key(log, LABELS).items():
        if "/" in name and record.value is not None:
            labels = decode_as(LabelSetMessage, record.value).to_task().label_set
            found[task_key(labels.task, labels.version)] = labels
    return found
