"""What flows between the stages: message types, topic catalogue, the log."""

from __future__ import annotations

from topics.log import Log, LogError

__all__ = ["open_log"]


def open_log(url: str) -> Log:
    """Open the log at an address: ``sqlite:PATH`` or ``kafka:HOST:PORT[,HOST:PORT...][?name=value&...]``.

    The first is the embedded log in one file on a local disk, the second an Apache Kafka cluster (its options
    are those of `topics.kafka_settings.KafkaSettings`; nothing is connected before the first use). An address is
    plain text without secrets, so that it can be handed to another process, which opens its own log.
    Raises LogError for an address of another kind, and for a file or client library that cannot be used.
    """
    kind, separator, place = url.partition(":")
    if kind == "sqlite" and place:
        from topics.sqlite import SqliteLog

        return SqliteLog(place)
    if kind == "kafka" and separator:
        return _open_kafka(url)
    raise LogError(f"log address {url!r}: use sqlite:PATH, for instance sqlite:runs/log.db, or kafka:HOST:PORT")


def _open_kafka(url: str) -> Log:
    from topics.kafka_settings import KafkaSettings

    settings = KafkaSettings.parse(url)
    try:
        from topics.kafka import KafkaLog
    except ImportError as error:
        raise LogError(f"log {url}: needs kafka-python 3.0.12 or newer: pip install 'kafka-python[crc32c]'") from error
    return KafkaLog(settings)
