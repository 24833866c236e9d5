"""Named places where a process can be made to die, to show that dying there loses and repeats nothing.

Off unless the environment names them, when this module is first imported:

    DISCOVER_FAILPOINT=encode:after_send:3,route-0:before_commit:@17
    DISCOVER_FAILPOINT_MARKS=/tmp/marks

Each entry is ``STAGE:POINT:WHEN``. STAGE is a transactional id or how one begins (``ingest`` means all of
``ingest-gate-0``, ``ingest-yard-1``). WHEN is a count, the n-th time that a process gets there, or ``@`` and
an offset, each time a process gets there with this input record: a record that kills whoever works on it.
The process ends itself with SIGKILL: nothing is cleaned up, as with a crash or the out-of-memory killer.

With a folder for marks, an entry with a count fires once over all processes and restarts, and leaves a file
named after it that says who died; so several entries of one stage fire one after the other. Without the
folder it fires in every process that gets so far.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from discover_stream.types import InputError

VARIABLE = "DISCOVER_FAILPOINT"
MARKS_VARIABLE = "DISCOVER_FAILPOINT_MARKS"

Point = Literal["after_read", "after_ask", "after_process", "after_send", "before_commit", "after_commit"]
"""A record was read; its regions were asked for, which another process answers; its result is there; it was
handed to the transaction; it has reached the log but is not committed; it is committed."""

POINTS: tuple[Point, ...] = get_args(Point)


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One entry: fires at the `count`-th hit of `point` in a stage, or whenever the record is at `offset`."""

    stage: str
    point: Point
    count: int = 0
    offset: int | None = None

    @property
    def name(self) -> str:
        """The entry as it is written, and the name of its mark."""
        return f"{self.stage}:{self.point}:{self.count if self.offset is None else f'@{self.offset}'}"

    def concerns(self, stage: str, point: Point) -> bool:
        """Whether a stage with this transactional id is meant, at this point."""
        return point == self.point and (stage == self.stage or stage.startswith(f"{self.stage}-"))


def parse_failpoints(text: str) -> tuple[Failpoint, ...]:
    """The entries of a list separated by commas. Raises InputError for one that cannot be read."""
    return tuple(_parse_one(entry.strip()) for entry in text.split(",") if entry.strip())


def _parse_one(entry: str) -> Failpoint:
    stage, _, rest = entry.partition(":")
    name, _, when = rest.partition(":")
    point = next((known for known in POINTS if known == name), None)
    digits = when.removeprefix("@")
    if not stage or point is None or not digits.isdecimal() or when == "0":
        raise InputError(
            f"{VARIABLE}: {entry!r} is not STAGE:POINT:WHEN, with a point of {', '.join(POINTS)} "
            "and a count from 1 or @OFFSET, such as encode:after_send:3"
        )
    if when.startswith("@"):
        return Failpoint(stage, point, offset=int(digits))
    return Failpoint(stage, point, count=int(digits))


class Failpoints:
    """The failpoints of one process, and how often it has been at each."""

    def __init__(self, armed: tuple[Failpoint, ...], marks: Path | None = None) -> None:
        self.armed = armed
        self._marks = marks
        self._hits: Counter[Failpoint] = Counter()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Failpoints:
        """What the environment asks for. Raises InputError."""
        marks = environment.get(MARKS_VARIABLE)
        return cls(parse_failpoints(environment.get(VARIABLE, "")), Path(marks) if marks else None)

    def due(self, stage: str, point: Point, offset: int | None) -> Failpoint | None:
        """Count that the process is at a point; the entry that is to fire now, if any."""
        found = None
        for entry in self.armed:
            if not entry.concerns(stage, point):
                continue
            self._hits[entry] += 1
            fires = self._hits[entry] == entry.count if entry.offset is None else offset == entry.offset
            if fires and self._first(entry, stage, offset):
                found = entry
        return found

    def _first(self, entry: Failpoint, stage: str, offset: int | None) -> bool:
        """Leave the mark; False where it was there before."""
        if self._marks is None or entry.offset is not None:
            return True
        try:
            with (self._marks / entry.name).open("x") as mark:
                mark.write(f"{stage} process {os.getpid()} offset {offset}\n")
        except FileExistsError:
            return False
        return True


_ours = Failpoints.from_environment(os.environ)


def hit(stage: str, point: Point, offset: int | None = None) -> None:
    """The process is at a point of a stage, named by its transactional id, with the input record at `offset`
    (for ingest: the frame's number). The processes of the grounding pool are all ``ground``.

    Does nothing, at the price of one comparison, unless the environment asks for more.
    """
    if _ours.armed and _ours.due(stage, point, offset) is not None:
        os.kill(os.getpid(), signal.SIGKILL)
