"""Routes about the gateway and the system as a whole."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from actors.metrics import metrics_text
from actors.replay_status import pool_name
from discover_stream import __version__
from discover_stream.app.gateway.alerts import alerts_of
from discover_stream.app.gateway.context import Caller, Here, allow
from discover_stream.app.gateway.metrics import metrics_of
from discover_stream.app.gateway.models import (
    Audit,
    AuditEntry,
    Health,
    Me,
    PoolState,
    Ready,
    StageState,
    SystemState,
)
from discover_stream.app.gateway.problems import documented
from discover_stream.app.moments import iso
from topics.catalogue import DEAD
from topics.log import Log, LogError
from topics.status import silent_s
from topics.usage import Measured

router = APIRouter(tags=["system"])


@router.get("/me", responses=documented())
def me(gateway: Here, who: Caller) -> Me:
    """Who the token is, and what it may see."""
    return Me(
        role=who.role,
        name=who.name,
        cameras=None if who.cameras is None else sorted(who.cameras),
        tasks=None if who.tasks is None else sorted(who.tasks),
        open=gateway.state.open,
    )


@router.get("/health")
async def health() -> Health:
    """Whether the process answers; asks for no token."""
    return Health(version=__version__)


@router.get("/ready", responses={503: {"model": Ready, "description": "The log does not answer"}})
def ready(gateway: Here, response: Response) -> Ready:
    """Whether requests can be served; asks for no token."""
    try:
        gateway.log.topics()
    except LogError:
        response.status_code = 503
        return Ready(ready=False, problem="the log does not answer; ask who runs it")
    return Ready(ready=True)


@router.get("/metrics", responses={**documented(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
def metrics(gateway: Here, who: Caller) -> Response:
    """Figures of the system and of this gateway, for Prometheus."""
    allow(who, "see system")
    figures = metrics_text(gateway.cameras.status.get()) + metrics_of(gateway)
    return Response(figures, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/system", responses=documented())
def system(gateway: Here, who: Caller) -> SystemState:
    """The running system as it last told, and what somebody should look at."""
    allow(who, "see system")
    table = gateway.cameras.status.get()
    now_ns = time.time_ns()
    running = table.system is not None and table.system.state == "running"
    silent = silent_s(table, now_ns)
    return SystemState(
        log=gateway.config.log.url,
        live=running and silent is None,
        state="never started" if table.system is None else "silent" if silent is not None else table.system.state,
        started=None if table.system is None else iso(table.system.started_ns),
        outage=(table.system.outage or None) if table.system is not None else None,
        stages=[
            StageState(
                name=stage.stage,
                kind=stage.kind,
                health=stage.health,
                restarts=stage.restarts,
                done=stage.done,
                lag=stage.lag,
                error=stage.error,
            )
            for stage in table.stages
        ],
        pools=[
            PoolState(name=pool.pool, wanted=pool.wanted, running=pool.running, detail=pool.detail)
            for pool in table.pools
            if pool.pool != pool_name()  # the decoder itself knows better, and sooner
        ]
        + [gateway.decoder.state()],
        alerts=alerts_of(table, now_ns),
        dead=_records(gateway.log, DEAD),
        archived=sum(camera.frames for camera in table.cameras),
    )


@router.get("/audit", responses=documented())
def audit(gateway: Here, who: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Audit:
    """Who did what, newest first."""
    allow(who, "see audit")
    return Audit(
        entries=[
            AuditEntry(at=iso(entry.at_ns), who=entry.who, what=entry.what, detail=entry.detail)
            for entry in gateway.state.entries(limit)
        ]
    )


def _records(log: Log, topic: str) -> int:
    if isinstance(log, Measured):
        usage = log.usage().get(topic)
        return (usage.records or 0) if usage is not None else 0
    spec = next((spec for spec in log.topics() if spec.name == topic), None)
    bounds = [log.bounds(topic, partition) for partition in range(0 if spec is None else spec.partitions)]
    return sum(held.end - held.start for held in bounds)
