"""What flows between the stages: message types, topic catalogue, the log."""

from __future__ import annotations

from topics.log import Log, LogError

__all__ = ["open_log"]


def open_log(url: str) -> Log:
    """Open the log at ``sqlite:PATH``, the embedded log in one file on a local disk.

    An address is plain text, so that it can be handed to another process, which opens its own log.
    Raises LogError for an address of another kind, and for a file that cannot be used.
    """
    kind, separator, place = url.partition(":")
    if kind != "sqlite" or not separator or not place:
        raise LogError(f"log address {url!r}: use sqlite:PATH, for instance sqlite:runs/log.db")
    from topics.sqlite import SqliteLog

    return SqliteLog(place)
