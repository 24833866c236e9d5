"""What `discover doctor` looks at in a log: whether it answers, its topics, its packets' model, its clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from discover_stream.app.doctor_findings import Finding, clock_finding, problem, skew_finding
from discover_stream.app.topics_work import wanted_topics
from discover_stream.config import Config
from discover_stream.types import BitstreamError, DiscoverError
from topics.catalogue import ARCHIVE, DEAD, FRAMES
from topics.log import AtOffset, Log, Record, UnknownTopic
from topics.messages import FrameMessage, decode
from topics.plan import plan_topics
from topics.status import read_status, silent_s

_NEWEST = 50


def log(config: Config, clock: Callable[[], int]) -> Iterator[Finding]:
    """Everything about the log of a configuration. A log that does not exist yet is not made."""
    from discover_stream.sdk import open_existing

    path = config.log.path
    if config.log.kafka is None and path is not None and not Path(path).exists():
        yield Finding("log", "note", f"{path} does not exist yet; `discover run` makes it")
        return
    try:
        opened = open_existing(config.log.url)
    except DiscoverError as error:
        yield problem("log", str(error))
        return
    with opened as here:
        names = {spec.name for spec in here.topics()}
        yield Finding("log", "ok", f"{config.log.url} answers and can be read, {len(names)} topics")
        yield topics(config, here)
        if ARCHIVE in names:
            yield archive(here)
        if DEAD in names:
            yield dead(here)
        yield from system(here, clock())
        yield from clocks(config, here)


def topics(config: Config, here: Log) -> Finding:
    """Whether the topics are as the configuration wants them."""
    plan = plan_topics(wanted_topics(config, here), here.topics())
    refused = plan.of("refuse")
    if refused:
        return Finding("log", "problem", f"topic {refused[0].topic}: {refused[0].why}", "see `discover topics plan`")
    waiting = [change.topic for change in (*plan.of("create"), *plan.of("alter"))]
    if waiting:
        words = f"topics that are not as configured: {', '.join(waiting)}"
        return Finding("log", "note", words, "the next `discover run` sets them; or `discover topics apply`")
    return Finding("log", "ok", "all topics are as configured")


def archive(here: Log) -> Finding:
    """Whether the newest packet of the archive can be decoded here."""
    from discover_stream.codec.any_packet import parse_any
    from discover_stream.codec.model import load_codec

    newest = next(iter(_newest(here, ARCHIVE, 1)), None)
    if newest is None:
        return Finding("archive", "ok", "it is empty")
    try:
        model = parse_any(newest.value or b"", camera=newest.key or "?").model
    except BitstreamError as error:
        return problem("archive", str(error))
    mine = load_codec().short_hash
    if model != mine:
        return Finding(
            "archive",
            "problem",
            f"its newest packet was made with the model {model.hex()}, and here is {mine.hex()}",
            "decode with the release that made it",
        )
    return Finding("archive", "ok", "its newest packet was made with the model that is here")


def dead(here: Log) -> Finding:
    """Records that could not be processed."""
    partitions = next(spec.partitions for spec in here.topics() if spec.name == DEAD)
    held = [here.bounds(DEAD, partition) for partition in range(partitions)]
    count = sum(bounds.end - bounds.start for bounds in held)
    if count:
        return Finding("log", "note", f"{count} records could not be processed", "`discover dead list` says why")
    return Finding("log", "ok", "no record had to be given up")


def system(here: Log, now_ns: int) -> Iterator[Finding]:
    """What the system that runs on the log says of itself."""
    table = read_status(here)
    if table.system is None or table.heard_ns is None:
        yield clock_finding(None, None)
        return
    silent = silent_s(table, now_ns)
    if silent is not None:
        yield Finding("system", "problem", f"a system ran here and is silent for {silent:.0f} s", "start it again")
    elif table.system.state == "running":
        yield Finding("system", "ok", f"it runs, as process {table.system.pid} on {table.system.host}")
        yield clock_finding((table.heard_ns - table.system.at_ns) / 1e9, (now_ns - table.heard_ns) / 1e9)
    for stage in table.stages:
        if stage.health == "failed":
            yield Finding(
                "system", "problem", f"{stage.stage} was given up: {stage.error}", "correct that, start again"
            )
    for camera in table.cameras:
        if camera.picture not in ("ok", "unknown"):
            yield Finding(
                f"camera {camera.camera}", "problem", f"its picture is {camera.picture}", "look at the camera"
            )


def clocks(config: Config, here: Log) -> Iterator[Finding]:
    """Cameras whose capture times are far from when their frames came; only of addresses with clocks of their own."""
    from actors.decisions import is_live

    live = {camera.name for camera in config.cameras if is_live(camera.source)}
    seen: set[str] = set()
    try:
        records = list(_newest(here, FRAMES, _NEWEST)) if live else []
    except UnknownTopic:
        return
    for record in reversed(records):
        message = decode(record.value or b"")
        if isinstance(message, FrameMessage) and message.camera in live - seen:
            seen.add(message.camera)
            found = skew_finding(message.camera, message.capture_ns, record.timestamp_ns)
            if found is not None:
                yield found


def _newest(here: Log, topic: str, count: int) -> Iterator[Record]:
    """The last records of each partition, oldest first."""
    partitions = next((spec.partitions for spec in here.topics() if spec.name == topic), 0)
    for partition in range(partitions):
        held = here.bounds(topic, partition)
        start = max(held.start, held.end - 2 * count)  # a broker's markers take places too
        if start == held.end:
            continue
        reader = here.reader(topic, [partition], start=AtOffset(start))
        try:
            items = [item for item in reader.poll(2 * count, timeout_s=2.0) if isinstance(item, Record)]
        finally:
            reader.close()
        yield from islice(items, max(0, len(items) - count), None)
