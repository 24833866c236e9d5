"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from discover_stream.config import datetime_ns
from discover_stream.types import InputError

_RELATIVE = re.compile(r"\+(\d+(?:\.\d*)?|\.\d+)(s|m|h)?")
_EPOCH = re.compile(r"\d+(?:\.\d*)?")
_UNITS = {"s": 1, "m": 60, "h": 3600, None: 1}


def parse_moment(text: str, begin_ns: int) -> int:
    """A time in ns since the epoch: ISO 8601 (UTC where it names no zone), epoch seconds, or ``+12.5s``,
    ``+2m``, ``+1h`` after `begin_ns`. Raises InputError."""
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return begin_ns + round(Fraction(relative[1]) * _UNITS[relative[2]] * 10**9)
    if _EPOCH.fullmatch(text):
        return round(Fraction(text) * 10**9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"time {text!r}: use ISO 8601, seconds since 1970, or a span such as +12.5s") from None
    return datetime_ns(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def iso(at_ns: int) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
