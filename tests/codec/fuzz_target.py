"""What a target of the fuzzer is, and what every one of them needs; see `fuzz_targets.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from fuzz_mutators import Raw

from discover_stream.codec.framing import MAX_PACKET
from discover_stream.types import Image

Pictures = Callable[[int, int, int], Image]


class Outcome(Enum):
    """How far an input got."""

    REFUSED = 0
    PARSED = 1
    DECODED = 2
    """Its coder strings too, or it was applied to a decoder's state."""


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        name: of it.
        seeds: inputs to start from, all of them accepted.
        run: reads an input and says how far it got; anything but the errors meant for it is a fault.
        bend: damages an input behind its framing and repairs framing and checksums.
        intact: whether the checksums of an input fit; None for inputs without any.
        memory: bytes that reading so many bytes may allocate.
    """

    name: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], Outcome]
    bend: Callable[[Random, Raw, bytes], bytes]
    intact: Callable[[bytes], bool] | None
    memory: Callable[[int], int]


def same(what: str, got: object, expected: object) -> None:
    """That something holds. Raises AssertionError, also where Python runs without assertions."""
    if got != expected:
        raise AssertionError(f"{what}: {got!r:.200} instead of {expected!r:.200}")


def parse_memory(size: int) -> int:
    """What a parser of packets may allocate: 1 MiB, and 1 KiB of Python objects for each byte up to the bound."""
    return 2**20 + 1024 * min(size, MAX_PACKET)
