"""Where the demo keeps what flows: a file in its folder, or topics of its own on the brokers of a fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from discover_stream.app.demo_plan import Files
from discover_stream.config import LogConfig
from topics.log import LogError


def demo_log(base: LogConfig, files: Files, partitions: int, now: datetime) -> dict[str, Any]:
    """The `log` section of the demo: of brokers, topics that no other run has, named by the time `now`."""
    content = base.model_dump(mode="json", exclude_none=True) | {"partitions": partitions}
    if base.kafka is None:
        return content | {"path": str(files.log.resolve())}
    prefix = f"{base.kafka.prefix}demo-{now:%y%m%d-%H%M%S}-{now.microsecond // 1000:03}."
    return content | {"kafka": content["kafka"] | {"prefix": prefix}}


@contextmanager
def borrowed(log: LogConfig, keep: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Use brokers for a while: the demo's topics are removed at the end, however it ends, unless they are kept.

    A file stays, since it lies in the demo's own folder.
    """
    if log.kafka is None:
        yield
        return
    tell(f"log {log.url}")
    try:
        yield
    finally:
        if keep:
            tell(f"topics {log.kafka.prefix}* stay on the brokers; {how_to_remove(log)}")
        else:
            remove_topics(log, tell)


def remove_topics(log: LogConfig, tell: Callable[[str], None]) -> None:
    """Delete every topic of a log on brokers; says how to do it by hand where that fails."""
    from topics.kafka import KafkaLog
    from topics.kafka_settings import KafkaSettings

    try:
        with KafkaLog(KafkaSettings.parse(log.url)) as opened:
            count = opened.erase()
    except LogError as error:
        tell(f"the demo's topics could not be deleted ({error}); {how_to_remove(log)}")
    else:
        tell(f"deleted the demo's {count} topics from the brokers")


def how_to_remove(log: LogConfig) -> str:
    """What to do about topics that were left."""
    assert log.kafka is not None
    pattern = log.kafka.prefix.replace(".", r"\.") + ".*"
    return (
        f"to delete them: kafka-topics.sh --bootstrap-server {','.join(log.kafka.brokers)} --delete --topic '{pattern}'"
    )
