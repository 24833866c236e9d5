"""The `gateway` section of a configuration, and the privacy zones of cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from discover_stream.config_log import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Fraction, Fraction]


def _corners(given: Any) -> Any:
    """A rectangle, written as [left, top, right, bottom], as its four corners; polygons as they are."""
    if isinstance(given, (list, tuple)) and len(given) == 4 and all(isinstance(item, (int, float)) for item in given):
        left, top, right, bottom = given
        if not (left < right and top < bottom):
            raise ValueError("a rectangle is [left, top, right, bottom], left < right and top < bottom")
        return ((left, top), (right, top), (right, bottom), (left, bottom))
    return given


Zone = Annotated[tuple[Point, ...], BeforeValidator(_corners), Field(min_length=3, max_length=64)]
"""A polygon in fractions of a picture's width and height, from its top left corner."""


class SourcesConfig(Section):
    """What cameras that are added over HTTP may be read from. Those of the configuration are not limited."""

    schemes: tuple[str, ...] = Field(
        default=("rtsp", "rtsps", "sim"), max_length=20, title="Schemes of addresses: rtsp, rtsps, http, https, sim"
    )
    roots: tuple[Path, ...] = Field(
        default=(), max_length=100, title="Folders whose files may be cameras, with all below them; none by default"
    )
    variables: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        title="Names of environment variables that an address may refer to as ${NAME}; none by default, since whoever "
        "names the host would be sent their values",
    )


class GatewayConfig(Section):
    """The HTTP gateway. Where it listens is said on the command line."""

    state: Path | None = Field(
        default=None,
        title="File of tokens (hashed) and the record of who did what; null: gateway.db beside the log, or in out/",
    )
    cache_mib: int = Field(default=256, ge=8, le=1_000_000, title="Segments of replays that are kept, MiB")
    segment_s: float = Field(default=2.0, ge=0.5, le=10, title="Seconds of a segment of a replay")
    longest_h: float = Field(default=6.0, gt=0, le=48, title="Longest replay, hours")
    live_delay_s: float = Field(default=2.0, ge=0, le=60, title="Seconds that a live view is behind the archive")
    replays: int = Field(default=200, ge=1, le=100_000, title="Replays that are remembered; the oldest are forgotten")
    requests_per_s: float = Field(default=50.0, gt=0, le=1e6, title="Requests a second that a token may make")
    burst: int = Field(default=200, ge=1, le=1_000_000, title="Requests that it may make at once")
    sources: SourcesConfig = Field(default=SourcesConfig(), title="Where cameras added over HTTP may come from")
