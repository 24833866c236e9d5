"""What a running system tells, line by line: for people, or as JSON for whoever collects logs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import typer

LOGGER = "discover.events"
Format = Literal["text", "json"]

_ALARMS = ("its process died", "gave up", "starting again", "log unavailable", "trying again", "cannot be read")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, and what else a record was given."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        subject = getattr(record, "subject", None)
        if subject:
            told["subject"] = subject
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def teller(form: Format, *, as_json: bool) -> Callable[[str], None]:
    """What events are told to: lines on the output (on the error output, where the output has figures as JSON), or
    log records as JSON on the error output."""
    if form == "text":
        return lambda line: typer.echo(line, err=as_json)
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)

    def tell(line: str) -> None:
        level = logging.WARNING if any(alarm in line for alarm in _ALARMS) else logging.INFO
        subject = line.split(":", 1)[0] if ":" in line else line.split(" ", 1)[0]
        logger.log(level, "%s", line, extra={"subject": subject})

    return tell
