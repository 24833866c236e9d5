"""Routes about cameras: settings, privacy, stills, and what is not there."""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal

import PIL.Image
from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from actors.cameras import add_camera, remove_camera
from discover_stream.app.gateway.access import Principal
from discover_stream.app.gateway.camera_facts import SPANS_OF, Known, Shown, config_of, polygons, told_zones
from discover_stream.app.gateway.catalog import ERASED, gaps_between
from discover_stream.app.gateway.context import Caller, Gateway, Here, allow, audited
from discover_stream.app.gateway.h264 import h264_rate
from discover_stream.app.gateway.making import Wanted
from discover_stream.app.gateway.models import (
    H264,
    Camera,
    CameraIn,
    Cameras,
    Erased,
    Gap,
    Gaps,
    Moment,
    Order,
    TaskName,
    Zones,
)
from discover_stream.app.gateway.models_replays import Mark, View
from discover_stream.app.gateway.problems import Refused, documented, not_found
from discover_stream.app.moments import iso, parse_moment
from discover_stream.app.replay import task_keys
from discover_stream.app.task_work import owner
from discover_stream.config import NAME_PATTERN
from discover_stream.sdk import Span
from discover_stream.types import InputError, Profile
from discover_stream.video.jpeg import encode_jpeg
from topics.erase import erase_camera
from topics.messages import GapMessage

router = APIRouter(prefix="/cameras", tags=["cameras"])

Name = Annotated[str, Path(pattern=NAME_PATTERN, examples=["crossing"])]
From = Annotated[Moment | None, Query(alias="from", description="Capture time; see the introduction")]
To = Annotated[Moment | None, Query(alias="to", description="Capture time; frames before it")]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture", "content": {"image/jpeg": _BINARY, "image/png": _BINARY}}
}


class StillIn(Order):
    """Which picture."""

    at: Moment | None = Field(default=None, description="Capture time; the newest picture without it")
    task: TaskName = "all"
    profile: Profile = "human"
    view: View = "decoded"
    overlay: Mark | None = None
    burn_in: bool = Field(default=True, description="False needs an admin")
    form: Literal["jpeg", "png"] = Field(default="jpeg", alias="format")


@router.get("", responses=documented())
def cameras(gateway: Here, who: Caller) -> Cameras:
    """All cameras that the caller may see."""
    allow(who, "see cameras")
    known = [found for name, found in gateway.cameras.known.get().items() if who.may("see cameras", camera=name)]
    rates, spans = gateway.rates.now(), len(known) <= SPANS_OF
    return Cameras(cameras=[gateway.cameras.camera(found, rates, shown_to(who), spans=spans) for found in known])


@router.post("", status_code=201, responses=documented(409))
def add(gateway: Here, who: Caller, order: CameraIn) -> Camera:
    """Have a camera, now and in every later start of the system."""
    allow(who, "change cameras")
    before = gateway.cameras.known.get().get(order.name)
    if polygons(order.privacy) != (() if before is None else before.privacy):
        allow(who, "change privacy")
    config = config_of(order, gateway.config.gateway.sources)
    try:
        add_camera(gateway.log, config, owner())
    except InputError as error:
        raise Refused(409, str(error)) from error
    gateway.cameras.known.forget()
    audited(gateway, who)("camera added", order.name)
    return gateway.cameras.camera(Known(order.name, config, True), {}, shown_to(who))


@router.get("/{camera}", responses=documented(404))
def camera(gateway: Here, who: Caller, camera: Name) -> Camera:
    """One camera."""
    allow(who, "see cameras", camera=camera)
    found = known_camera(gateway, camera)
    return gateway.cameras.camera(found, gateway.rates.now(), shown_to(who))


@router.delete("/{camera}", status_code=204, responses=documented(404, 409))
def remove(gateway: Here, who: Caller, camera: Name) -> None:
    """Have a camera no more; what was recorded of it stays."""
    allow(who, "change cameras", camera=camera)
    if known_camera(gateway, camera).privacy:  # else who may not change zones could remove it, and add it without
        allow(who, "change privacy")
    try:
        remove_camera(gateway.log, camera, owner())
    except InputError as error:
        raise Refused(409, str(error)) from error
    gateway.cameras.known.forget()
    audited(gateway, who)("camera removed", camera)


@router.get("/{camera}/privacy", responses=documented(404))
def privacy(gateway: Here, who: Caller, camera: Name) -> Zones:
    """The parts of the picture that are never encoded."""
    allow(who, "see cameras", camera=camera)
    return Zones(zones=told_zones(known_camera(gateway, camera).privacy))


@router.put("/{camera}/privacy", responses=documented(404, 409))
def set_privacy(gateway: Here, who: Caller, camera: Name, zones: Zones) -> Zones:
    """Replace the privacy zones of a camera that was added; those of listed ones are in the configuration file.

    They hold from the moment at which its ingest starts again, about a second later; what was encoded before stays
    until it is erased.
    """
    allow(who, "change privacy", camera=camera)
    found = known_camera(gateway, camera)
    if found.config is None or not found.wanted:
        raise Refused(409, f"camera {camera} is not one that runs; add it with its privacy zones")
    wanted = found.config.model_copy(update={"privacy": polygons(zones.zones)})
    try:
        add_camera(gateway.log, wanted, owner(), replace=True)
    except InputError as error:
        raise Refused(409, str(error)) from error
    gateway.cameras.known.forget()
    audited(gateway, who)("privacy zones changed", f"{camera}: {len(zones.zones)} zones")
    return zones


@router.delete("/{camera}/recording", responses=documented(404, 409))
def erase(gateway: Here, who: Caller, camera: Name, begin: From = None, end: To = None) -> Erased:
    """Erase what was recorded of a camera between two capture times, or everything."""
    allow(who, "erase", camera=camera)
    known_camera(gateway, camera)
    span = recorded(gateway, camera)
    from_ns, to_ns = moments(span, begin, end)
    done = erase_camera(gateway.log, camera, from_ns, to_ns, f"{ERASED}by {who.name}")
    gateway.forget_recorded(camera)
    audited(gateway, who)("erased", f"{camera} from {iso(from_ns)} to {iso(to_ns)}: {done.records} records")
    return Erased(
        records=done.records, plates=done.plates, bytes=done.bytes, hidden_only=done.hidden_only, note=done.note
    )


@router.get("/{camera}/still", response_class=Response, responses={**documented(404), **_PICTURES})
def still(gateway: Here, who: Caller, camera: Name, order: Annotated[StillIn, Query()]) -> Response:
    """The picture that shows an instant: the frame captured last at or before it."""
    allow(who, "replay", camera=camera, task=order.task)
    if order.view == "original":
        allow(who, "see originals", camera=camera)
    if not order.burn_in:
        allow(who, "leave marks off")
    known_camera(gateway, camera)
    span = recorded(gateway, camera)
    at_ns = span.last_ns if order.at is None else parse_moment(order.at, span.first_ns)
    keys = task_keys(gateway.log, order.task)
    marks = () if order.overlay is None else (order.overlay,)
    wanted = Wanted(camera, order.task, keys, order.profile, view=order.view, overlay=marks, burn_in=order.burn_in)
    with gateway.drawing():
        found = gateway.maker.still(wanted, at_ns, gateway.count_still)
    if found is None:
        raise not_found(f"camera {camera}: nothing was captured at or before {iso(at_ns)}")
    image, picture = found
    if picture.image is None:
        raise not_found(f"camera {camera}, {iso(picture.capture_ns)}: {picture.card}")
    if order.at is not None:
        audited(gateway, who)("still", f"{camera} task {order.task} at {iso(picture.capture_ns)} {order.view}")
    headers = {
        "X-Capture-Time": iso(picture.capture_ns),
        "X-Sequence": str(picture.seq),
        "Cache-Control": "private, no-store",
    }
    if order.form == "jpeg":
        return Response(encode_jpeg(image, 90), media_type="image/jpeg", headers=headers)
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    return Response(buffer.getvalue(), media_type="image/png", headers=headers)


@router.get("/{camera}/gaps", responses=documented(404))
def gaps(gateway: Here, who: Caller, camera: Name, begin: From = None, end: To = None) -> Gaps:
    """What is known to be missing between two capture times."""
    allow(who, "see cameras", camera=camera)
    known_camera(gateway, camera)
    from_ns, to_ns = moments(recorded(gateway, camera), begin, end)
    return Gaps(gaps=[told_gap(gap) for gap in gaps_between(gateway.log, camera, from_ns, to_ns)])


@router.get("/{camera}/h264", responses=documented(404))
def h264(gateway: Here, who: Caller, camera: Name) -> H264:
    """What H.264 takes for the newest originals of a camera: the figure to compare a task's bitrate with."""
    allow(who, "see originals", camera=camera)
    known_camera(gateway, camera)
    with gateway.drawing():
        return h264_rate(gateway.log, camera)


def shown_to(who: Principal) -> Shown:
    """What somebody is told of the cameras that they may see."""
    return Shown(sources=who.may("see sources"), tasks=who.may("see tasks"))


def known_camera(gateway: Gateway, name: str) -> Known:
    """A camera that is there, or once was. Refuses others."""
    found = gateway.cameras.known.get().get(name)
    if found is None:
        raise not_found(f"camera {name}: there is none; GET /v1/cameras tells which there are")
    return found


def recorded(gateway: Gateway, name: str) -> Span:
    """What the archive has of a camera. Refuses those of which it has nothing."""
    span = gateway.cameras.span(name)
    if span is None:
        raise not_found(f"camera {name}: nothing of it is recorded (any more)")
    return span


def moments(span: Span, begin: str | None, end: str | None) -> tuple[int, int]:
    """Two capture times; everything there is without them. Raises InputError."""
    from_ns = span.first_ns if begin is None else parse_moment(begin, span.first_ns)
    to_ns = span.last_ns + 1 if end is None else parse_moment(end, span.first_ns)
    if to_ns <= from_ns:
        raise InputError(f"from {iso(from_ns)} to {iso(to_ns)}: this is no span; the end has to be after the begin")
    return from_ns, to_ns


def told_gap(gap: GapMessage) -> Gap:
    """A gap in words."""
    return Gap(begin=iso(gap.from_ns), end=iso(gap.to_ns), reason=gap.reason, frames=gap.frames)
