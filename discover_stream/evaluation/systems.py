"""What is measured: a *system* turns frames into bytes and bytes back into frames, be it ours or a peer's.

The harness knows nothing else of a codec, so all of them are counted and measured alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from discover_stream.types import Image, InputError, Region

if TYPE_CHECKING:  # peers need none of the networks, which take seconds to import
    from discover_stream.generation.canvas import ProvenanceMap

Setting = str | int | float
"""A value that a system's specification may hold."""


@dataclass(frozen=True)
class Clip:
    """Frames of one camera, or pictures that have nothing to do with each other.

    Attributes:
        name: of the clip, used in tables and as the camera's name.
        frames: (H, W, 3) uint8 RGB each, all of one size.
        fps: frames a second; 0 for unrelated pictures.
        regions: per frame, what the task wants of it, tracked where `fps` is not 0.
    """

    name: str
    frames: tuple[Image, ...]
    fps: float
    regions: tuple[tuple[Region, ...], ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError(f"{self.name}: there are no frames in it; choose another part of the clip")
        if len(self.regions) != len(self.frames):
            raise InputError(f"{self.name}: {len(self.frames)} frames have {len(self.regions)} lists of regions")
        if len({frame.shape for frame in self.frames}) > 1:
            raise InputError(f"{self.name}: its frames differ in size; resize them or measure them one by one")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that are needed from frame `frame` on; chunks are listed in coding order."""

    frame: int
    data: bytes


@dataclass(frozen=True)
class Coded:
    """What would be transmitted.

    Attributes:
        chunks: in coding order. Every byte of them counts.
        setup: sent once before all frames (parameter sets, a plate); counts as well.
        count: number of frames.
        width: of the pictures, which a receiver knows from elsewhere (as it knows the camera's name).
        height: see `width`.
        notes: what sender and receiver agreed on beforehand.
    """

    chunks: tuple[Chunk, ...]
    setup: bytes
    count: int
    width: int
    height: int
    notes: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each frame in display order, without `setup`."""
        sizes = [0] * self.count
        for chunk in self.chunks:
            sizes[chunk.frame] += len(chunk.data)
        return tuple(sizes)

    @property
    def total(self) -> int:
        """All bytes."""
        return len(self.setup) + sum(len(chunk.data) for chunk in self.chunks)


@dataclass(frozen=True)
class Decoded:
    """What a receiver sees: per frame a picture and, where the system tells, each cell's provenance."""

    frames: tuple[Image, ...]
    provenance: tuple[ProvenanceMap | None, ...]


class System(Protocol):
    """Something that codes clips."""

    @property
    def name(self) -> str:
        """Its name in tables, such as `x265`."""
        ...

    def encode(self, clip: Clip) -> Coded:
        """Code a clip; the same clip gives the same bytes."""
        ...

    def decode(self, coded: Coded) -> Decoded:
        """The pictures, from nothing but what was transmitted."""
        ...

    def command(self) -> str:
        """How anyone can do the same without this project, in one line."""
        ...


@dataclass(frozen=True)
class SystemSpec:
    """Which system, with which settings: what a case is made of and is stored under.

    `settings` are sorted by name, so that equal specifications are equal.
    """

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    @classmethod
    def of(cls, name: str, **settings: Setting) -> SystemSpec:
        """A specification from keyword arguments.

        >>> SystemSpec.of("x265", preset="slow", crf=30).text()
        'x265:crf=30,preset=slow'
        """
        return cls(name, tuple(sorted(settings.items())))

    @classmethod
    def parse(cls, text: str) -> SystemSpec:
        """Read what `text` writes.

        >>> SystemSpec.parse("x265:crf=30,scale=0.5") == SystemSpec.of("x265", crf=30, scale=0.5)
        True

        Raises:
            InputError: a setting is not of the form name=value.
        """
        name, _, rest = text.partition(":")
        settings: dict[str, Setting] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not (key and equals and value):
                raise InputError(f"system {text!r}: {part!r} is not a setting; write NAME:setting=value,setting=value")
            settings[key] = _number(value)
        return cls.of(name, **settings)

    def text(self) -> str:
        """In one word, such as `x265:crf=30,preset=slow`."""
        rest = ",".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.name}:{rest}" if rest else self.name

    def values(self) -> dict[str, Setting]:
        """The settings by name."""
        return dict(self.settings)


def _number(text: str) -> Setting:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
