"""/v1/jobs"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

import orjson
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.auth import Owner
from app.api.idempotency import IdempotencyKey, Made, fingerprint, once
from app.api.json_route import JsonRoute
from app.api.names import Id
from app.api.openapi import PREFERENCE_APPLIED, created
from app.api.paging import Cursor, Limit, page
from app.api.preferences import Prefer, applied, wait_seconds
from app.api.problems import documented
from app.api.shutdown import IsStopping, ServerIsStopping
from app.api.transactions import CurrentDatabase, CurrentSettings, ReadSession
from app.errors import (
    ActionNotAllowed,
    BodyTooLarge,
    BudgetSpent,
    DatasetNotFound,
    Fault,
    InvalidBody,
    InvalidSpec,
    JobEnded,
    JobNotFound,
    KeyReused,
    MalformedJson,
    QueueFull,
    StorageFull,
    TooManyJobs,
    UnsupportedMediaType,
)
from app.jobs import following, queueing, service
from app.jobs.events import START, place_of
from app.jobs.schemas import (
    STREAMED_EVENT,
    FeedOut,
    HistoryOut,
    JobOut,
    JobPage,
    history_out,
    job_out,
)
from app.jobs.states import Action, JobState, is_terminal
from app.jobs.training_spec import ResolvedSpec, TrainingSpec
from app.settings import Settings
from app.storage.database import UNAVAILABLE, Database, Session
from app.storage.kept_answers import RequestKey

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)


class Asked(NamedTuple):
    """Who asks, and what it is carried out with."""

    owner: str
    database: Database
    settings: Settings
    is_stopping: IsStopping


async def asked(
    owner: Owner,
    database: CurrentDatabase,
    settings: CurrentSettings,
    is_stopping: ServerIsStopping,
) -> Asked:
    return Asked(owner, database, settings, is_stopping)


Asking = Annotated[Asked, Depends(asked)]
Handler = TypeVar("Handler", bound=Callable[..., Any])
# Of the answer that is given again, beside the job as it is.
KEPT_HEADERS = ("Location", "Idempotency-Replayed")
# The states, beside the ends, in which nothing is left to do of an action.
DONE = {Action.PAUSE: JobState.PAUSED, Action.RESUME: JobState.RUNNING}


def waited(description: str) -> dict[str, Any]:
    """The answer that created a job and may have waited."""
    answer = created(description)
    return answer | {"headers": answer["headers"] | PREFERENCE_APPLIED}


@router.post(
    "",
    status_code=202,
    operation_id="createJob",
    summary="Train a layer",
    response_model=JobOut,
    responses=documented(
        DatasetNotFound,
        InvalidSpec,
        KeyReused,
        MalformedJson,
        BodyTooLarge,
        UnsupportedMediaType,
        TooManyJobs,
        BudgetSpent,
        QueueFull,
        StorageFull,
    )
    | {
        200: {"model": ResolvedSpec, "description": "The spec is valid (`validate_only`)."},
        201: {"model": JobOut} | waited("The job has ended within the wait (`Prefer`)."),
        202: waited("The job is queued, or has not ended within the wait."),
    },
)
async def create(
    spec: TrainingSpec,
    asking: Asking,
    validate_only: Annotated[bool, Query(description="Resolve the spec, create nothing.")] = False,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Checks what can be checked now, queues the job and answers, at once unless told to wait."""
    if validate_only:
        return await run_in_threadpool(validate, spec, asking)
    answer = await run_in_threadpool(queue, spec, asking, key)
    seconds = wait_seconds(prefer, seconds_max=asking.settings.wait_seconds_max)
    return answer if seconds is None else await when_ended(answer, asking, seconds)


def validate(spec: TrainingSpec, asking: Asked) -> Response:
    with asking.database.reading() as session:
        resolved = service.check(session, asking.settings, asking.owner, spec)
        return JSONResponse(resolved.as_json())


def queue(spec: TrainingSpec, asking: Asked, key: str | None) -> Response:
    def make(session: Session) -> Made:
        job = service.create(session, asking.settings, asking.owner, spec)
        place = queueing.place(session, asking.settings, job.row)
        return Made(job_out(job, place), 202, f"/v1/jobs/{job.row.id}")

    name = None if key is None else RequestKey(asking.owner, "createJob", key)
    return once(asking.database, name, fingerprint(spec.model_dump_json()), make)


async def when_ended(answer: Response, asking: Asked, seconds: int) -> Response:
    """The job of this answer, be it a replayed one, as it is when it has ended or after the wait.

    The job was queued already: a database that goes away in the meantime takes nothing back.
    """
    job_id = answer.headers["Location"].rpartition("/")[2]
    try:
        await until_ended(job_id, asking, seconds)
        job = await run_in_threadpool(read, job_id, asking)
    except UNAVAILABLE:
        return answer
    kept = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    status = 201 if job.terminal else answer.status_code
    headers = kept | applied(seconds)
    return Response(job.model_dump_json(), status, headers, media_type="application/json")


async def until_ended(job_id: str, asking: Asked, seconds: int) -> None:
    await following.until_ended(
        asking.database,
        asking.owner,
        job_id,
        wait_seconds=seconds,
        is_stopping=asking.is_stopping,
    )


def read(job_id: str, asking: Asked) -> JobOut:
    with asking.database.reading() as session:
        job = service.get(session, asking.owner, job_id)
        return job_out(job, queueing.place(session, asking.settings, job.row))


@router.get("", operation_id="listJobs", summary="List the jobs", responses=documented())
def newest(
    owner: Owner,
    session: ReadSession,
    settings: CurrentSettings,
    limit: Limit = 20,
    cursor: Cursor = None,
    state: JobState | None = None,
) -> JobPage:
    """Newest first."""
    jobs = service.newest(session, owner, before=cursor, limit=limit + 1, state=state)
    places = queueing.places(session, settings, [job.row for job in jobs])
    items, next_cursor = page(
        jobs, limit, lambda job: job_out(job, places.get(job.row.id)), lambda job: job.row.id
    )
    return JobPage(items=items, next_cursor=next_cursor)


@router.get(
    "/{job_id}",
    operation_id="getJob",
    summary="Watch a job",
    responses=documented(JobNotFound) | {200: {"headers": PREFERENCE_APPLIED}},
)
async def get(job_id: Id, asking: Asking, response: Response, prefer: Prefer = None) -> JobOut:
    """State and progress; `terminal` says when to stop asking."""
    response.headers["Vary"] = "Prefer"
    seconds = wait_seconds(prefer, seconds_max=asking.settings.wait_seconds_max)
    if seconds is not None:
        await until_ended(job_id, asking, seconds)
        response.headers.update(applied(seconds))
    return await run_in_threadpool(read, job_id, asking)


@router.get(
    "/{job_id}/history",
    operation_id="getHistory",
    summary="Get the loss history",
    responses=documented(JobNotFound),
)
def history(
    job_id: Id,
    owner: Owner,
    session: ReadSession,
    max_points: Annotated[int, Query(ge=10, le=100_000)] = 1000,
) -> HistoryOut:
    """The loss history, also while the job runs; thinned to `max_points`.

    The first and the last epoch stay, and of each of equal stretches those with the lowest and the
    highest cost and validation cost.
    """
    records, epoch_count = service.loss_history(session, owner, job_id, points_max=max_points)
    return history_out(job_id, records, epoch_count)


@router.get(
    "/{job_id}/events",
    operation_id="followJob",
    summary="Follow a job",
    response_class=Response,
    responses=documented(JobNotFound)
    | {
        200: {
            "model": FeedOut,
            "content": {"text/event-stream": {"schema": STREAMED_EVENT}},
            "description": "Server-Sent Events, or with Accept: application/json what there is.",
        },
        204: {"description": "The job has ended and all of it was told."},
    },
)
async def follow(
    job_id: Id,
    asking: Asking,
    accept: Annotated[str, Header()] = "*/*",
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
    after: Annotated[
        str | None, Query(max_length=40, description="The same as Last-Event-ID.")
    ] = None,
    wait: Annotated[
        float, Query(ge=0, le=60, description="Of the feed: seconds to wait for something new.")
    ] = 0.0,
) -> Response:
    """Each `state` once, the loss `history` without gap or repetition, and `progress`.

    The stream ends with the job, or with `bye` when the server stops. Broken off, it goes on behind
    the last event's id.
    """
    given = after or last_event_id
    place = START if given is None else place_of(given)
    if place is None:
        detail = "There is no such event: give the id of one, or leave it out."
        raise InvalidBody(detail, [Fault(detail)])
    watched = (asking.database, asking.owner, job_id)
    if "application/json" in accept and "text/event-stream" not in accept:
        found = await following.feed(
            *watched, place, wait_seconds=wait, is_stopping=asking.is_stopping
        )
        return Response(orjson.dumps(found), media_type="application/json")
    first = await run_in_threadpool(following.read, *watched, place)
    if first.ended and not first.events:
        return Response(status_code=204)
    return StreamingResponse(
        following.stream(*watched, first, is_stopping=asking.is_stopping),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def action_route(action: Action, summary: str, done: str) -> Callable[[Handler], Handler]:
    return router.post(
        f"/{{job_id}}/{action}",
        status_code=202,
        operation_id=f"{action}Job",
        summary=summary,
        responses=documented(JobNotFound, JobEnded, ActionNotAllowed, StorageFull)
        | {200: {"model": JobOut, "description": done}},
    )


@action_route(Action.CANCEL, "Cancel a job", "It is cancelled.")
def cancel(job_id: Id, asking: Asking, response: Response) -> JobOut:
    """Drops the work; a running job ends within about a second. May be repeated."""
    return act(Action.CANCEL, job_id, asking, response)


@action_route(Action.STOP, "Stop a job and keep its model", "It has ended so.")
def stop(job_id: Id, asking: Asking, response: Response) -> JobOut:
    """Ends training where it is, with `stop_reason` `user`. May be repeated."""
    return act(Action.STOP, job_id, asking, response)


@action_route(Action.PAUSE, "Pause a job", "It is paused.")
def pause(job_id: Id, asking: Asking, response: Response) -> JobOut:
    """The worker is free again within about a second; nothing is lost. May be repeated."""
    return act(Action.PAUSE, job_id, asking, response)


@action_route(Action.RESUME, "Resume a paused job", "It is not paused.")
def resume(job_id: Id, asking: Asking, response: Response) -> JobOut:
    """Goes on where it was, to the same bits as if it had never been paused. May be repeated."""
    return act(Action.RESUME, job_id, asking, response)


def act(action: Action, job_id: str, asking: Asking, response: Response) -> JobOut:
    """200 if the job is as was asked for, 202 while it has yet to get there."""
    with asking.database.writing() as session:
        job = service.act(session, asking.owner, job_id, action)
        place = queueing.place(session, asking.settings, job.row)
    if is_terminal(JobState(job.row.state)) or DONE.get(action) == job.row.state:
        response.status_code = 200
    return job_out(job, place)
