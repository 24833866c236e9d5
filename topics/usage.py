"""What topics hold, from logs that can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Usage:
    """Records of a topic, and bytes that they take; None where the log does not know."""

    records: int | None
    bytes: int | None


@runtime_checkable
class Measured(Protocol):
    """A log that knows how much its topics hold."""

    def usage(self) -> Mapping[str, Usage]:
        """Topic -> what it holds, all partitions together."""
