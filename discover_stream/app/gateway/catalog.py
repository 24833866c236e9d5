"""What the gateway looks up in the log again and again, kept for a moment: label sets, spans, sizes of pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Generic, TypeVar, cast

from discover_stream.codec.any_packet import picture_sizes
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.sdk import Archived, GapMessage, archive_gaps, label_sets
from discover_stream.types import LabelSet
from topics.archive import archive_lead_in
from topics.erase import Erasable
from topics.log import Log
from topics.plates import PlateShelf

ERASED = "erased: "
"""How the reason of a gap begins that stands for something erased."""

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is looked up anew when it is older than some seconds; by one at a time."""

    def __init__(self, look: Callable[[], T], seconds: float) -> None:
        self._look, self._seconds = look, seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._at_s = float("-inf")

    def get(self) -> T:
        """The value."""
        with self._lock:
            if time.monotonic() - self._at_s > self._seconds:
                self._value, self._at_s = self._look(), time.monotonic()
            return cast("T", self._value)

    def forget(self) -> None:
        """Look it up anew when it is asked for next: it was changed."""
        with self._lock:
            self._at_s = float("-inf")


def labels_of(log: Log) -> Kept[dict[int, LabelSet]]:
    """Every label set by the key that stands for it in packets."""
    return Kept(lambda: label_sets(log), 5.0)


def picture_size(log: Log, first: Archived) -> tuple[int, int] | None:
    """Width and height of the pictures of a camera from a packet on; None where nothing that is left tells."""
    packet = first.packet
    found = list(picture_sizes(packet))
    if not found and isinstance(packet, StreamPacket):
        with closing(PlateShelf(log)) as shelf:
            found = [size for plate in shelf.fetch(first.camera, packet.plate_id) for size in picture_sizes(plate)]
    if not found:
        found = [size for earlier in archive_lead_in(log, first) for size in picture_sizes(earlier)]
    return found[-1] if found else None


def erased_spans(gaps: Sequence[GapMessage]) -> list[tuple[int, int]]:
    """What was erased, as spans of capture time: nobody is shown it, even where the log still has it."""
    return [(gap.from_ns, gap.to_ns) for gap in gaps if gap.reason.startswith(ERASED)]


def erased_at(spans: Sequence[tuple[int, int]], capture_ns: int) -> bool:
    """Whether what was captured at a time was erased."""
    return any(begin <= capture_ns < end for begin, end in spans)


class ErasedSpans:
    """What of each camera was erased, on a log that keeps the records all the same. Shared by threads."""

    def __init__(self, log: Log) -> None:
        self._log, self._keeps = log, not isinstance(log, Erasable)
        self._spans: dict[str, Kept[list[tuple[int, int]]]] = {}

    def hide(self, camera: str, capture_ns: int | None) -> bool:
        """Whether a packet of the camera must not be shown; one of which nobody knows the time (its plate was erased)
        is not, once something was erased. Raises LogError."""
        if not self._keeps:
            return False
        kept = self._spans.setdefault(camera, Kept(lambda: self._of(camera), 10.0))
        spans = kept.get()
        if capture_ns is None:
            return bool(spans)
        return erased_at(spans, capture_ns)

    def forget(self, camera: str) -> None:
        """Look again: something was erased."""
        self._spans.pop(camera, None)

    def _of(self, camera: str) -> list[tuple[int, int]]:
        return erased_spans(gaps_between(self._log, camera, 0, 2**63))


def gaps_between(log: Log, camera: str, from_ns: int, to_ns: int) -> tuple[GapMessage, ...]:
    """What is known to be missing, in the order of time."""
    return tuple(sorted(archive_gaps(log, camera, from_ns, to_ns), key=lambda gap: gap.from_ns))
