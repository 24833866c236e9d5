"""Routes about replays: making them, playing them, and writing them to a film."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse

from discover_stream.app.gateway.access import Principal
from discover_stream.app.gateway.context import Caller, Gateway, Here, Player, allow, audited, key_for
from discover_stream.app.gateway.exports import ExportJob
from discover_stream.app.gateway.flights import Busy
from discover_stream.app.gateway.making import Cancelled, Made
from discover_stream.app.gateway.models import Gap
from discover_stream.app.gateway.models_replays import Export, ReplayIn, ReplayProgress, Replays, Sidecar, Timeline
from discover_stream.app.gateway.models_replays import Replay as Told
from discover_stream.app.gateway.playlist import playlist
from discover_stream.app.gateway.problems import Refused, documented, not_found
from discover_stream.app.gateway.replays import Replay, prepare
from discover_stream.app.gateway.routes_cameras import known_camera, recorded
from discover_stream.app.gateway.timeline import timeline
from discover_stream.app.moments import iso
from discover_stream.types import DiscoverError

router = APIRouter(tags=["replays"])

Identity = Annotated[str, Path(pattern=r"^[0-9a-f]{24}$", alias="replay")]
ExportId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", alias="export")]
Number = Annotated[int, Path(ge=0, lt=2**31)]
_PLAYLIST = "application/vnd.apple.mpegurl"
_SEGMENT = "video/iso.segment"
_FILM = "video/mp4"
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


def _binary(kind: str) -> dict[int | str, dict[str, object]]:
    return {200: {"description": "Bytes", "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("/replays", status_code=201, responses=documented(404))
async def make(gateway: Here, who: Caller, order: ReplayIn) -> Told:
    """Make a replay that can be played, and searched, at once: nothing is decoded before somebody plays it."""
    allow(who, "replay", camera=order.camera, task=order.task)
    if order.view == "original":
        allow(who, "see originals", camera=order.camera)
    if not order.burn_in:
        allow(who, "leave marks off")
    made = await asyncio.to_thread(_prepared, gateway, who, order)
    return told(gateway, who, gateway.replays.keep(made, who.token))


def _prepared(gateway: Gateway, who: Principal, order: ReplayIn) -> Replay:
    known_camera(gateway, order.camera)
    recorded(gateway, order.camera)
    made = prepare(gateway.log, order, gateway.config.gateway)
    film = made.film
    until = "on" if film.end_ns is None else f"to {iso(film.end_ns)}"
    what = f"{order.camera} task {order.task} from {iso(film.begin_ns)} {until} {order.view}"
    audited(gateway, who)("replay", f"{made.id}: {what}{'' if order.burn_in else ', without marks'}")
    return made


@router.get("/replays", responses=documented())
async def replays(gateway: Here, who: Caller) -> Replays:
    """The replays that are kept, those that the caller may see."""
    allow(who, "replay")
    return Replays(replays=[told(gateway, who, replay) for replay in gateway.replays.all() if _may_see(who, replay)])


@router.get("/replays/{replay}", responses=documented(404))
async def replay(gateway: Here, who: Caller, identity: Identity) -> Told:
    """One replay."""
    return told(gateway, who, found(gateway, who, identity))


@router.get("/replays/{replay}/progress", responses=documented(404))
async def progress(gateway: Here, who: Player, identity: Identity) -> ReplayProgress:
    """How far a replay is; ask while it warms."""
    return told_progress(gateway, found(gateway, who, identity))


@router.delete("/replays/{replay}", status_code=204, responses=documented(404))
async def leave(gateway: Here, who: Caller, identity: Identity) -> None:
    """Leave a replay. It is forgotten, with its segments, once everybody who asked for it has left."""
    gateway.replays.leave(found(gateway, who, identity), who.token)


@router.get(
    "/replays/{replay}/index.m3u8", response_class=Response, responses={**documented(404), **_binary(_PLAYLIST)}
)
async def index(gateway: Here, who: Player, identity: Identity, key: Annotated[str | None, Query()] = None) -> Response:
    """The HLS playlist."""
    replay = found(gateway, who, identity)
    until_ns = None
    if replay.film.end_ns is None:
        span = await asyncio.to_thread(recorded, gateway, replay.wanted.camera)
        until_ns = span.last_ns - round(gateway.config.gateway.live_delay_s * 1e9)
    # Who was let in by a key gets no younger one: it would never end.
    text = playlist(replay.film, key or key_for(gateway, who, replay.id), replay.blanks, until_ns)
    return Response(text, media_type=_PLAYLIST, headers={"Cache-Control": "no-cache"})


@router.get("/replays/{replay}/init.mp4", response_class=Response, responses={**documented(404), **_binary(_FILM)})
async def head(gateway: Here, who: Player, identity: Identity) -> Response:
    """The initialisation segment."""
    return Response(found(gateway, who, identity).head, media_type=_FILM)


@router.get(
    "/replays/{replay}/{number}.m4s", response_class=Response, responses={**documented(404), **_binary(_SEGMENT)}
)
async def segment(gateway: Here, who: Player, identity: Identity, number: Number, request: Request) -> Response:
    """A segment: decoded when it is first asked for, and only while somebody waits for it."""
    made = await _made(gateway, who, found(gateway, who, identity), number, request)
    return Response(made.body, media_type=_SEGMENT, headers={"Cache-Control": "private, max-age=60"})


@router.get("/replays/{replay}/{number}.json", responses=documented(404))
async def sidecar(gateway: Here, who: Player, identity: Identity, number: Number, request: Request) -> Sidecar:
    """What is known about the pictures of a segment: times, regions, and where each cell comes from."""
    made = await _made(gateway, who, found(gateway, who, identity), number, request)
    return Sidecar.model_validate_json(made.sidecar)


@router.get("/replays/{replay}/timeline", responses=documented(404))
async def regions(gateway: Here, who: Player, identity: Identity) -> Timeline:
    """Regions over the time of a replay; nothing is decoded for it."""
    replay = found(gateway, who, identity)

    def work() -> Timeline:
        return timeline(gateway.log, replay.wanted, replay.film, gateway.labels.get())

    return await asyncio.to_thread(work)


@router.post("/replays/{replay}/export", status_code=202, responses=documented(404, 409))
async def export(gateway: Here, who: Caller, identity: Identity) -> Export:
    """Write a replay to an MP4, with its marks."""
    replay = found(gateway, who, identity)
    if replay.film.end_ns is None:
        raise Refused(409, "a live view has no end to export; make a replay of a span")
    job = gateway.exports.start(replay)
    audited(gateway, who)("export", f"{job.id}: replay {replay.id}")
    return told_export(gateway, who, job)


@router.get("/exports/{export}", responses=documented(404))
async def export_state(gateway: Here, who: Caller, identity: ExportId) -> Export:
    """How far an export is."""
    return told_export(gateway, who, found_export(gateway, who, identity))


@router.delete("/exports/{export}", status_code=204, responses=documented(404))
async def export_leave(gateway: Here, who: Caller, identity: ExportId) -> None:
    """Cancel an export, or remove its film."""
    gateway.exports.forget(found_export(gateway, who, identity).id)


@router.get("/exports/{export}/film.mp4", response_class=Response, responses={**documented(404, 409), **_binary(_FILM)})
async def film(gateway: Here, who: Player, identity: ExportId) -> Response:
    """The film."""
    job = found_export(gateway, who, identity)
    if job.path is None:
        raise Refused(409, f"export {identity} is {job.state}; {job.problem or 'ask again when it is done'}")
    wanted, begin = job.replay.wanted, iso(job.replay.film.begin_ns)
    name = _UNSAFE.sub("-", f"{wanted.camera}-{wanted.task}-{begin}")
    return FileResponse(job.path, media_type=_FILM, filename=f"{name}.mp4")


def found(gateway: Gateway, who: Principal, identity: str) -> Replay:
    """A replay that the caller may see. Refuses others."""
    replay = gateway.replays.get(identity)
    if replay is None:
        allow(who, "replay")
        raise not_found(f"replay {identity}: there is none (any more); make it again")
    if not _may_see(who, replay):
        raise Refused(403, f"a token of role {who.role} may not see this replay; ask for one that may")
    return replay


def found_export(gateway: Gateway, who: Principal, identity: str) -> ExportJob:
    """An export that the caller may see. Refuses others."""
    job = gateway.exports.get(identity)
    if job is None:
        allow(who, "replay")
        raise not_found(f"export {identity}: there is none (any more); make it again")
    if not _may_see(who, job.replay):
        raise Refused(403, f"a token of role {who.role} may not see this export; ask for one that may")
    return job


def _may_see(who: Principal, replay: Replay) -> bool:
    wanted = replay.wanted
    return (
        who.may("replay", camera=wanted.camera, task=wanted.task)
        and (wanted.view == "decoded" or who.may("see originals", camera=wanted.camera))
        and (wanted.burn_in or who.may("leave marks off"))
    )


async def _made(gateway: Gateway, who: Principal, replay: Replay, number: int, request: Request) -> Made:
    film = replay.film
    if film.end_ns is not None and number >= film.count():
        raise not_found(f"segment {number}: the replay has {film.count()}")
    if film.end_ns is None:
        span = await asyncio.to_thread(recorded, gateway, replay.wanted.camera)
        if film.span(number)[1] > span.last_ns:
            raise not_found(f"segment {number}: it has not been recorded yet")
    try:
        made = await gateway.replays.flights.get(
            (replay.id, number), gateway.replays.making(replay, number), request.is_disconnected, who.token
        )
    except (Busy, Cancelled):  # nothing is wrong with the replay
        raise
    except DiscoverError as error:
        replay.failed = " ".join(str(error).split())
        raise
    replay.failed = None
    return made


def told_progress(gateway: Gateway, replay: Replay) -> ReplayProgress:
    """How far a replay is."""
    cache = gateway.flights.cache
    return ReplayProgress(
        segments_ready=cache.ready(replay.id),
        segments=replay.film.count(),
        frames_decoded=replay.decoded,
        decoding=gateway.flights.making(replay.id),
        bytes=cache.size(replay.id),
        failed=replay.failed,
    )


def told(gateway: Gateway, who: Principal, replay: Replay) -> Told:
    """A replay in words, with a key for who asks."""
    order, film, key = replay.order, replay.film, key_for(gateway, who, replay.id)
    return Told(
        id=replay.id,
        camera=order.camera,
        task=order.task,
        profile=order.profile,
        steps=order.steps,
        view=order.view,
        overlay=list(replay.wanted.overlay),
        burn_in=order.burn_in,
        live=order.live,
        begin=iso(film.begin_ns),
        end=None if film.end_ns is None else iso(film.end_ns),
        duration_s=None if film.end_ns is None else (film.end_ns - film.begin_ns) / 1e9,
        segment_s=film.step_ns / 1e9,
        segments=film.count(),
        width=replay.wanted.width,
        height=replay.wanted.height,
        playlist=f"/v1/replays/{replay.id}/index.m3u8?key={key}",
        key=key,
        gaps=[Gap(begin=iso(b.begin_ns), end=iso(b.end_ns), reason=b.reason, frames=b.frames) for b in replay.blanks],
        not_grounded_before=replay.not_grounded_before,
        note=replay.note,
        progress=told_progress(gateway, replay),
    )


def told_export(gateway: Gateway, who: Principal, job: ExportJob) -> Export:
    """An export in words."""
    done = job.state == "done"
    return Export(
        id=job.id,
        replay=job.replay.id,
        state=job.state,
        done=job.done,
        frames=job.replay.decoded,
        bytes=job.bytes,
        film=f"/v1/exports/{job.id}/film.mp4?key={key_for(gateway, who, job.id)}" if done else None,
        problem=job.problem,
    )
