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
_LONGEST_TEXT = 40
_LATEST_NS = 2**63 - 1  # in the year 2262; every time that is shown lies before it


def parse_moment(text: str, begin_ns: int) -> int:
    """A time in ns since the epoch: ISO 8601 (UTC where it names no zone), epoch seconds, or ``+12.5s``,
    ``+2m``, ``+1h`` after `begin_ns`. Raises InputError for other texts and for times outside 1970 to 2262."""
    at_ns = _moment_ns(text, begin_ns) if len(text) <= _LONGEST_TEXT else None
    if at_ns is None:
        raise InputError(f"time {text!r}: use ISO 8601, seconds since 1970, or a span such as +12.5s")
    if not 0 <= at_ns <= _LATEST_NS:
        raise InputError(f"time {text!r}: lies outside the years 1970 to 2262; give a time at which a camera ran")
    return at_ns


def _moment_ns(text: str, begin_ns: int) -> int | None:
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return begin_ns + round(Fraction(relative[1]) * _UNITS[relative[2]] * 10**9)
    if _EPOCH.fullmatch(text):
        return round(Fraction(text) * 10**9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return datetime_ns(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def iso(at_ns: int) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
