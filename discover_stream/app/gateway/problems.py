"""Errors as RFC 9457 has them: every answer that is none is `application/problem+json`, with one line for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from discover_stream.app.gateway.flights import Busy, ClientGone
from discover_stream.app.gateway.models import FieldProblem, Problem
from discover_stream.types import BitstreamError, DiscoverError, InputError
from topics.log import LogError

MEDIA_TYPE = "application/problem+json"
_CLIENT_GONE = 499


class Refused(Exception):
    """A request that is not carried out: the status, and why."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def not_found(detail: str) -> Refused:
    """There is no such thing."""
    return Refused(404, detail)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors that a route may answer with, besides those that all may."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in (400, 401, 403, 413, 422, 429, 503, *statuses)
    }


def answer(request: Request, status: int, detail: str, **more: Any) -> JSONResponse:
    """A problem as an answer."""
    headers = more.pop("headers", None)
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=" ".join(detail.split()),
        instance=request.url.path,
        **more,
    )
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True), status, media_type=MEDIA_TYPE, headers=headers
    )


def add_handlers(app: FastAPI) -> None:
    """Turn every error of an app into a problem."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return answer(request, error.status, error.detail, headers=error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = [
            FieldProblem(where=".".join(str(part) for part in item["loc"]), message=str(item["msg"]))
            for item in error.errors()[:20]
        ]
        first = found[0]
        return answer(request, 422, f"{first.where}: {first.message}; correct it", errors=found)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail)
        if error.status_code == 400:
            detail = "the body cannot be read; send JSON in UTF-8"
        if error.status_code == 404:
            detail = "there is nothing at this address; /v1/openapi.json describes what there is"
        if error.status_code == 405:
            detail = f"{request.method} is not possible here; /v1/openapi.json describes what is"
        return answer(request, error.status_code, detail, headers=dict(error.headers or {}))

    async def ours(request: Request, error: Exception) -> Response:
        return answer(request, status_of(error), str(error))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=_CLIENT_GONE)

    async def unforeseen(request: Request, error: Exception) -> Response:
        # The server writes where it came from to its own log.
        detail = f"the gateway failed ({type(error).__name__}); look at what it printed, and report it"
        return answer(request, 500, detail)

    app.add_exception_handler(Exception, unforeseen)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(DiscoverError, ours)
    app.add_exception_handler(ClientGone, gone)


def status_of(error: Exception) -> int:
    """The status that stands for one of our errors."""
    if isinstance(error, (LogError, Busy)):
        return 503
    if isinstance(error, InputError):
        return 422
    return 500 if isinstance(error, BitstreamError) else 503
