"""What the gateway tells about cameras: from their settings, the system's last word about them, and the archive."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from actors.cameras import CameraFacts, list_cameras
from discover_stream.app.gateway.catalog import Kept, picture_size
from discover_stream.app.gateway.models import Camera, CameraIn, Zone
from discover_stream.app.gateway.rates import Name, Rate
from discover_stream.app.moments import iso
from discover_stream.config import CameraConfig, Config
from discover_stream.config_gateway import SourcesConfig
from discover_stream.sdk import Span, archive_span, read_archive
from discover_stream.types import InputError
from discover_stream.video.live import without_password
from topics.archive import archive_cameras
from topics.catalogue import CAMERAS
from topics.fleet_messages import CameraStatus
from topics.log import Log
from topics.status import read_status, silent_s

SPANS_OF = 64
"""Cameras up to which a list says what the archive has of each: looking that up takes a moment."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+?(?=[:;,)]?(?:\s|$))")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


Polygons = tuple[tuple[tuple[float, float], ...], ...]
"""Privacy zones: corners in fractions of a picture's width and height."""


@dataclass(frozen=True, slots=True)
class Known:
    """A camera: its settings where they are known, and whether it is one that should run."""

    name: str
    config: CameraConfig | None
    wanted: bool

    @property
    def privacy(self) -> Polygons:
        """Its privacy zones."""
        return () if self.config is None else self.config.privacy


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a camera may be told beside its own state: its address, and the tasks that it is watched for."""

    sources: bool
    tasks: bool


class CameraBook:
    """Looks cameras up. Shared by threads."""

    def __init__(self, log: Log, config: Config) -> None:
        self._log, self._config = log, config
        self.known = Kept(self._known, 0.5)
        self.status = Kept(lambda: read_status(log), 1.0)
        self._lock = threading.Lock()
        self._spans: dict[str, Kept[Span | None]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def span(self, name: str) -> Span | None:
        """What the archive has of a camera, as of some moments ago; None for nothing."""
        with self._lock:
            kept = self._spans.get(name)
            if kept is None:
                kept = self._spans[name] = Kept(lambda: self._span(name), 1.0)
        return kept.get()

    def size(self, name: str, span: Span | None) -> tuple[int, int] | None:
        """Width and height of a camera's newest picture when it was first asked for; None while there is none."""
        if name not in self._sizes and span is not None:
            newest = next(read_archive(self._log, name, span.last_ns, span.last_ns + 1), None)
            size = None if newest is None else picture_size(self._log, newest)
            if size is not None:
                self._sizes[name] = size
        return self._sizes.get(name)

    def camera(self, found: Known, rates: Mapping[Name, Rate], shown: Shown, *, spans: bool = True) -> Camera:
        """Everything about a camera that may be told. `spans`: whether the archive is looked at."""
        table = self.status.get()
        heard = table.system is not None and table.system.state == "running" and silent_s(table, time.time_ns()) is None
        status = next((status for status in table.cameras if status.camera == found.name), None) if heard else None
        span = self.span(found.name) if spans else None
        size = self.size(found.name, span)
        rate = rates.get(("all", found.name))
        sent = {task: round(rate.kbps, 2) for (task, camera), rate in rates.items() if camera == found.name}
        config = found.config
        return Camera(
            name=found.name,
            source=without_secret(config.source) if config is not None and shown.sources else None,
            health=_health(found, status),
            problem=None if status is None else told_problem(status.problem, config, sources=shown.sources),
            picture=None if status is None else status.picture,
            mode=None if status is None else status.mode,
            mode_reason="" if status is None else status.mode_reason,
            fps=round(rate.fps, 2) if rate is not None else 0.0,
            frames=0 if status is None else status.frames,
            gaps=0 if status is None else status.gaps,
            dropped={} if status is None else dict(status.dropped),
            lag_s=None if status is None else status.lag_s,
            width=None if size is None else size[0],
            height=None if size is None else size[1],
            first=None if span is None else iso(span.first_ns),
            last=None if span is None else iso(span.last_ns),
            kbps=sent.pop("all", 0.0),
            tasks=sent if shown.tasks else {},
            privacy=told_zones(found.privacy),
        )

    def _span(self, name: str) -> Span | None:
        if name not in archive_cameras(self._log):
            return None
        try:
            return archive_span(self._log, name)
        except InputError:  # nothing of it is kept any more
            return None

    def _known(self) -> dict[str, Known]:
        topics = {spec.name for spec in self._log.topics()}
        facts: Mapping[str, CameraFacts] = {}
        if CAMERAS in topics:
            facts = {fact.name: fact for fact in list_cameras(self._log)}
        found = {fact.name: Known(fact.name, fact.config, not fact.removed) for fact in facts.values()}
        if not facts:
            found = {camera.name: Known(camera.name, camera, True) for camera in self._config.cameras}
        for name in archive_cameras(self._log) if "archive" in topics else ():
            found.setdefault(name, Known(name, None, False))
        return dict(sorted(found.items()))


def polygons(zones: Iterable[Zone]) -> Polygons:
    """Privacy zones as configurations have them."""
    return tuple(tuple(zone.points) for zone in zones)


def told_zones(privacy: Polygons) -> list[Zone]:
    """Privacy zones as they are told; see `polygons`."""
    return [Zone(points=list(zone)) for zone in privacy]


def _health(found: Known, status: CameraStatus | None) -> str:
    if not found.wanted:
        return "removed"
    return "unknown" if status is None else status.health


def without_secret(source: str) -> str:
    """An address as it may be shown."""
    return without_password(source) if "://" in source else source


def told_problem(problem: str | None, config: CameraConfig | None, *, sources: bool) -> str | None:
    """What is wrong with a camera, for those who may know its address or path (`sources`), or may not."""
    if problem is None or sources:
        return problem
    if config is not None and "://" not in config.source:
        problem = problem.replace(config.source, "its source")
    return _ADDRESS.sub("its source", problem)


def config_of(order: CameraIn, sources: SourcesConfig) -> CameraConfig:
    """The settings that are asked for. Raises InputError for an address that may not be used."""
    check_source(order.source, sources)
    return CameraConfig(
        name=order.name,
        source=order.source,
        fps=order.fps,
        realtime=order.realtime,
        mode=order.mode,
        quality=order.quality,
        bitrate=order.bitrate,
        privacy=polygons(order.privacy),
    )


def check_source(source: str, sources: SourcesConfig) -> None:
    """Raise InputError for an address that cameras added over HTTP may not have.

    Whoever may add cameras could otherwise read any file of this machine, ask any service that it reaches, and be
    sent its environment.
    """
    if any(ord(character) < 32 for character in source):
        raise InputError("source: it holds characters that no address has; correct it")
    if "://" in source:
        scheme = source.partition("://")[0].lower()
        if scheme not in sources.schemes:
            raise InputError(
                f"source: addresses of kind {scheme} are not allowed here, those that are: "
                f"{', '.join(sources.schemes) or 'none'}; the configuration decides, as gateway.sources.schemes"
            )
        _check_address(source)
    else:
        place = Path(source).resolve()
        if not any(place.is_relative_to(root.resolve()) for root in sources.roots):
            raise InputError(
                "source: files of that folder are not allowed here; the configuration decides, as gateway.sources.roots"
            )
    strange = sorted(set(_VARIABLE.findall(source)) - set(sources.variables))
    if strange or "$" in _VARIABLE.sub("", source):
        raise InputError(
            f"source: it may not refer to {', '.join(strange) or 'variables in this way'}; the configuration decides "
            "which variables may be named, as gateway.sources.variables"
        )


def _check_address(source: str) -> None:
    try:
        parts = urlsplit(source)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"source: this is no address ({error}); correct it") from error
    if not parts.hostname and not parts.netloc:
        raise InputError("source: the address names no host; correct it")
