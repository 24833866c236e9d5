"""The HTTP application: routes, errors, its description, and the console's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discover_stream import __version__
from discover_stream.app.gateway import routes_cameras, routes_flow, routes_replays, routes_system, routes_tasks
from discover_stream.app.gateway.context import Gateway
from discover_stream.app.gateway.models import Problem
from discover_stream.app.gateway.problems import add_handlers, answer

DESCRIPTION = """
Cameras, tasks, what flows, and replays of discover-stream.

Send `Authorization: Bearer TOKEN` with a token that `discover token make` printed. While no token was ever made, the
gateway only serves its own machine. Players of replays are let in by the `key` that a replay's addresses carry.

Capture times are ISO 8601, seconds since 1970, or spans such as `+12.5s` after the begin of a camera's archive.
Errors are `application/problem+json` (RFC 9457); their `detail` is one line for people.
"""

MAX_BODY_BYTES = 2 * 2**20

_CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # addresses of replays carry keys
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", _CONTENT_POLICY.encode()),
)


def create_app(gateway: Gateway) -> FastAPI:
    """The application of a gateway, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gateway.replays.begin()
        yield
        await gateway.close()

    # Where the interactive description would fetch scripts from elsewhere there is none: the gateway works offline.
    app = FastAPI(
        title="discover-stream",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.gateway = gateway
    add_handlers(app)
    for routes in (routes_system, routes_cameras, routes_tasks, routes_flow, routes_replays):
        app.include_router(routes.router, prefix="/v1")

    @app.get("/v1/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    console = console_folder()
    if console.is_dir():
        app.mount("/", ConsoleFiles(directory=console, html=True), name="console")
    app.add_middleware(Guard)
    return app


class ConsoleFiles(StaticFiles):
    """The console's files, which browsers ask for again each time: modules of two versions do not go together."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """See `StaticFiles`."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def console_folder() -> Path:
    """Where the console's page and what it needs lie."""
    return Path(str(resources.files("discover_stream") / "app" / "console"))


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, with the model of problems that all errors are."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        models = schema.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        models.update(problem.pop("$defs", {}))
        models["Problem"] = problem
        for unused in ("HTTPValidationError", "ValidationError"):
            models.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


class Guard:
    """Refuses bodies beyond a bound, and adds headers that keep browsers from doing what nobody asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got = 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > MAX_BODY_BYTES:
                raise BodyTooLarge
            return message

        async def headed(message: Message) -> None:
            if got > MAX_BODY_BYTES:
                return  # whatever the application makes of a body that it could not read
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        with suppress(BodyTooLarge):
            await self._app(scope, bounded, headed)
        if got > MAX_BODY_BYTES:
            got = 0
            detail = f"the body is larger than {MAX_BODY_BYTES} bytes; send less"
            await answer(Request(scope), 413, detail)(scope, receive, headed)


class BodyTooLarge(Exception):
    """More was sent than any request needs."""
