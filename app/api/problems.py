"""Errors as RFC 9457 problem details: the one place that knows HTTP statuses."""

import http
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors
from app.errors import Fault, ServiceError
from app.storage.database import UNAVAILABLE
from app.storage.room import is_full

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
FAULTS_MAX = 100
# What a caller sent comes back in part only, so that a problem stays under 8 KB.
FAULTS_BYTES_MAX = 4800
DETAIL_LENGTH_MAX = 500
POINTER_LENGTH_MAX = 300
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
STATUSES: tuple[tuple[type[ServiceError], int], ...] = (
    (errors.Malformed, 400),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.UnsupportedMediaType, 415),
    (errors.TooMany, 429),
    (errors.Busy, 503),
    (errors.Full, 507),
    (errors.Unacceptable, 422),
)


class FaultOut(BaseModel):
    detail: str
    pointer: str | None = Field(None, description="JSON pointer into the request body.")
    row: int | None = Field(None, description="Data row, counted from 1.")
    column: str | None = Field(None, description="Column name.")


class Problem(BaseModel):
    """RFC 9457 problem details. Branch on `code`; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FaultOut] = []
    allowed_actions: list[str] | None = Field(
        None, description="With `action_not_allowed`: what may be asked of the job now."
    )


def documented(
    *kinds: type[ServiceError], takes_input: bool = True, asks_database: bool = True
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these errors, and those that any such route may answer with."""
    by_status: dict[int, list[str]] = {500: ["internal_error"]}
    if asks_database:
        by_status[503] = ["database_unavailable"]
    if takes_input:
        by_status[422] = [errors.InvalidBody.code]
    for kind in kinds:
        codes = by_status.setdefault(status_of(kind), [])
        if kind.code not in codes:
            codes.append(kind.code)
    return {status: described(*codes) for status, codes in sorted(by_status.items())}


def described(*codes: str) -> dict[str, Any]:
    """One of the `responses` of a route: a problem with one of these codes."""
    return {"model": Problem, "description": " or ".join(f"`{code}`" for code in codes)}


def status_of(kind: type[ServiceError]) -> int:
    return next(status for branch, status in STATUSES if issubclass(kind, branch))


def problem_response(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
    members: Mapping[str, object] = MappingProxyType({}),
) -> JSONResponse:
    problem = Problem(
        type=f"urn:backsolve:problem:{code}",
        title=title,
        status=status,
        detail=shortened(detail),
        code=code,
        request_id=request.scope.get("state", {}).get("request_id", ""),
        errors=list(shown(faults)),
    )
    body = problem.model_dump(exclude_none=True) | dict(members)
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def shown(faults: Sequence[Fault]) -> Iterator[FaultOut]:
    """The first faults, as many as there is room for."""
    room = FAULTS_BYTES_MAX
    for fault in faults[:FAULTS_MAX]:
        out = FaultOut(
            detail=shortened(fault.detail),
            pointer=None if fault.pointer is None else enclosing(fault.pointer),
            row=fault.row,
            column=fault.column,
        )
        room -= len(orjson.dumps(out.model_dump(exclude_none=True)))
        if room < 0:
            return
        yield out


def shortened(text: str) -> str:
    return text if len(text) <= DETAIL_LENGTH_MAX else f"{text[: DETAIL_LENGTH_MAX - 3]}..."


def enclosing(pointer: str) -> str:
    """The pointer, or one to the value around it if it is too long to be repeated."""
    while len(pointer) > POINTER_LENGTH_MAX:
        pointer = pointer.rpartition("/")[0]
    return pointer


async def answer_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this type only
    status, seconds = status_of(type(error)), error.retry_after_seconds
    return problem_response(
        request,
        status,
        error.code,
        error.title,
        error.detail,
        error.faults,
        headers=None if seconds is None else {"Retry-After": str(seconds)},
        members=error.members,
    )


async def answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    found = error.errors()
    faults = [fault_of(item) for item in found[:FAULTS_MAX]]
    kind = errors.InvalidBody
    detail = faults[0].detail if len(found) == 1 else f"{len(found):,} fields need mending."
    return problem_response(request, 422, kind.code, kind.title, detail, faults)


def fault_of(item: dict[str, Any]) -> Fault:
    """One pydantic error without the caller's input: that may be large, or secret."""
    place, *path = item["loc"] or ("body",)
    message = str(item["msg"]).removeprefix("Value error, ")
    if place == "body":
        return Fault(detail=message, pointer=json_pointer(path))
    return Fault(detail=f"{place} parameter {'.'.join(map(str, path))}: {message}")


def json_pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


async def answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Errors that the framework raises itself: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    status = http.HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    details = {
        404: "There is nothing at this path. GET /openapi.json lists what there is.",
        405: "This path does not take this method; the Allow header lists those it takes.",
    }
    detail = details.get(status, str(error.detail))
    headers = dict(error.headers or {})
    if status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(methods_of(request))
    return problem_response(request, status, code, status.phrase, detail, headers=headers)


async def answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    """The database is away, locked or full.

    Away, it may have carried out the request all the same: the answer to a commit can be lost.
    """
    if is_full(error):
        logger.error("the database is full")
        return await answer_service_error(request, errors.StorageFull())
    logger.warning("database unavailable: %s", type(error).__name__)
    return problem_response(
        request,
        503,
        "database_unavailable",
        "The database does not answer",
        "Try again in a moment. Whether this request was carried out is not known: with an "
        "Idempotency-Key it is carried out once, however often it is sent.",
        headers={"Retry-After": "1"},
    )


def methods_of(request: Request) -> list[str]:
    """The methods that this path takes; the framework names those of its first route only."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


class Boundary:
    """Gives each request an id, and answers a bug with a 500 that carries it, logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            return  # nobody is left to answer, and nothing is wrong on this side
        except Exception:
            logger.exception(
                "request failed", extra={"request_id": request_id, "path": scope["path"]}
            )
            if started:
                raise
            response = problem_response(
                Request(scope),
                500,
                "internal_error",
                "Something went wrong on our side",
                f"It was logged under request id {request_id}.",
            )
            await response(scope, receive, send_with_id)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, answer_service_error)
    app.add_exception_handler(RequestValidationError, answer_invalid_request)
    app.add_exception_handler(HTTPException, answer_http_exception)
    for kind in UNAVAILABLE:
        app.add_exception_handler(kind, answer_unavailable)
    app.add_middleware(Boundary)
