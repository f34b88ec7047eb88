"""/v1/jobs"""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from app.api.auth import Owner
from app.api.json_route import JsonRoute
from app.api.names import Id
from app.api.openapi import created
from app.api.paging import Cursor, Limit, page
from app.api.problems import documented
from app.api.transactions import CurrentSettings, ReadSession, WriteDatabase
from app.errors import (
    BodyTooLarge,
    DatasetNotFound,
    InvalidSpec,
    JobEnded,
    JobNotFound,
    MalformedJson,
    UnsupportedMediaType,
)
from app.jobs import service
from app.jobs.schemas import HistoryOut, JobOut, JobPage, history_out, job_out
from app.jobs.states import JobState, is_terminal
from app.jobs.training_spec import ResolvedSpec, TrainingSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)


@router.post(
    "",
    status_code=202,
    operation_id="createJob",
    summary="Train a layer",
    response_model=JobOut,
    responses=documented(
        DatasetNotFound, InvalidSpec, MalformedJson, BodyTooLarge, UnsupportedMediaType
    )
    | {
        200: {"model": ResolvedSpec, "description": "The spec is valid (`validate_only`)."},
        202: created("The job is queued."),
    },
)
def create(
    spec: TrainingSpec,
    owner: Owner,
    database: WriteDatabase,
    settings: CurrentSettings,
    response: Response,
    validate_only: Annotated[bool, Query(description="Resolve the spec, create nothing.")] = False,
) -> JobOut | JSONResponse:
    """Checks all that can be checked now, queues the job and answers at once."""
    if validate_only:
        with database.reading() as session:
            return JSONResponse(service.check(session, settings, owner, spec).as_json())
    with database.writing() as session:
        job = service.create(session, settings, owner, spec)
    response.headers["Location"] = f"/v1/jobs/{job.row.id}"
    return job_out(job)


@router.get("", operation_id="listJobs", summary="List the jobs", responses=documented())
def newest(
    owner: Owner,
    session: ReadSession,
    limit: Limit = 20,
    cursor: Cursor = None,
    state: JobState | None = None,
) -> JobPage:
    """Newest first."""
    jobs = service.newest(session, owner, before=cursor, limit=limit + 1, state=state)
    items, next_cursor = page(jobs, limit, job_out, lambda job: job.row.id)
    return JobPage(items=items, next_cursor=next_cursor)


@router.get(
    "/{job_id}",
    operation_id="getJob",
    summary="Watch a job",
    responses=documented(JobNotFound),
)
def get(job_id: Id, owner: Owner, session: ReadSession) -> JobOut:
    """State and progress; `terminal` says when to stop asking."""
    return job_out(service.get(session, owner, job_id))


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
    """The loss history, also while the job runs; thinned to `max_points`, extremes kept."""
    records, epoch_count = service.loss_history(session, owner, job_id, points_max=max_points)
    return history_out(job_id, records, epoch_count)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    operation_id="cancelJob",
    summary="Cancel a job",
    responses=documented(JobNotFound, JobEnded)
    | {200: {"model": JobOut, "description": "It is cancelled."}},
)
def cancel(job_id: Id, owner: Owner, database: WriteDatabase, response: Response) -> JobOut:
    """Drops the work; a running job ends within about a second. May be repeated."""
    with database.writing() as session:
        job = service.cancel(session, owner, job_id)
    if is_terminal(JobState(job.row.state)):
        response.status_code = 200
    return job_out(job)
