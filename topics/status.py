"""How a running system is, read from its log: by any process, on any machine that reaches it.

The topic ``status`` holds the latest word of the system (``system``), of each camera (``camera/NAME``), stage
(``stage/IDENTITY``) and pool (``pool/NAME``). The system writes every few seconds, in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from topics.catalogue import STATUS
from topics.fleet_messages import CameraStatus, PoolStatus, StageStatus, SystemStatus
from topics.log import Log, UnknownTopic, latest_by_key
from topics.messages import decode

SYSTEM_KEY = "system"
STAGE = "status"
"""The stage that writes."""

_SHORTEST_S = 2.0
_CAMERAS_PER_S = 50
_MISSED = 4.0


@dataclass(frozen=True, slots=True)
class StatusTable:
    """Everything that a log says of its system; by name. `heard_ns` is when the log took the system's last word,
    by the clock of the log."""

    system: SystemStatus | None = None
    cameras: tuple[CameraStatus, ...] = ()
    stages: tuple[StageStatus, ...] = ()
    pools: tuple[PoolStatus, ...] = ()
    heard_ns: int | None = None


def interval_s(cameras: int) -> float:
    """Seconds between two words of a system with so many cameras: at most 50 records a second are written."""
    return max(_SHORTEST_S, cameras / _CAMERAS_PER_S)


def silent_s(table: StatusTable, now_ns: int) -> float | None:
    """Seconds since a running system should have been heard again; None where it was, has stopped, or never was."""
    if table.system is None or table.heard_ns is None or table.system.state != "running":
        return None
    away_s = (now_ns - table.heard_ns) / 1e9
    return away_s if away_s > _MISSED * table.system.interval_s else None


def read_status(log: Log) -> StatusTable:
    """What the topic holds now; an empty table for a log without it, or without a system so far."""
    try:
        records = latest_by_key(log, STATUS)
    except UnknownTopic:
        return StatusTable()
    messages = {key: decode(record.value or b"") for key, record in sorted(records.items())}
    system = messages.get(SYSTEM_KEY)
    heard = records.get(SYSTEM_KEY)
    return StatusTable(
        system if isinstance(system, SystemStatus) else None,
        tuple(message for message in messages.values() if isinstance(message, CameraStatus)),
        tuple(message for message in messages.values() if isinstance(message, StageStatus)),
        tuple(message for message in messages.values() if isinstance(message, PoolStatus)),
        None if heard is None else heard.timestamp_ns,
    )
