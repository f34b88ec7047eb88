"""Jobs on the wire."""

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from app.api.finite import finite_or_none
from app.api.paging import Page
from app.jobs.queueing import QueuePlace
from app.jobs.service import WatchedJob
from app.jobs.states import Action, JobState, allowed_actions, is_terminal
from app.jobs.training_spec import ResolvedSpec
from app.models.schemas import ScoresOut, scores_out


class ProgressOut(BaseModel):
    epoch: int
    epochs: int = Field(description="The most there will be.")
    fraction: float
    cost: float | None = Field(description="Null once it is no longer finite.")
    validation_cost: float | None
    rows_per_second: float | None = None
    eta_seconds: float | None = Field(None, description="At most: training may end before.")


class JobErrorOut(BaseModel):
    code: str
    detail: str


class TransitionOut(BaseModel):
    state: JobState
    at: datetime
    reason: str
    worker: str | None
    attempt: int


class BlasOut(BaseModel):
    name: str
    version: str | None
    architecture: str | None = Field(description="What it found the processor to be.")


class EnvironmentOut(BaseModel):
    """What computed a job: the same of it, on the same request, gives the same bits."""

    blas_threads: int
    numpy: str
    scipy: str
    blas: list[BlasOut] = Field(description="numpy and scipy may each bring one.")
    machine: str


class QueuePlaceOut(BaseModel):
    position: int = Field(description="1 is next. Jobs of other owners may still come before it.")
    expected_start_at: datetime | None = Field(
        description="At the pace of the last jobs; null while none has ended."
    )


class JobOut(BaseModel):
    """One request to train, and how far it has come."""

    id: str
    name: str
    state: JobState
    terminal: bool = Field(description="True once the state can no longer change.")
    allowed_actions: list[Action]
    dataset_id: str = Field(description="The dataset may have been deleted since.")
    spec: ResolvedSpec = Field(description="As asked, with every default decided.")
    queue: QueuePlaceOut | None = Field(description="Where it waits; null unless it is queued.")
    progress: ProgressOut | None
    stop_reason: str | None
    scores: dict[str, ScoresOut] | None
    warnings: list[str] = Field(description="What the owner of a finished job should know.")
    environment: EnvironmentOut | None = Field(
        description="What the bits of the result depend on; null until it has run."
    )
    model_id: str | None
    error: JobErrorOut | None
    attempt: int
    wanted: Action | None = Field(description="What was asked of the job and has not happened yet.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    transitions: list[TransitionOut]


class JobPage(Page):
    items: list[JobOut]


class EventOut(BaseModel):
    id: str
    event: str = Field(description="state, history or progress")
    data: dict[str, Any]


class FeedOut(BaseModel):
    """The events behind a place; `next` is the place to ask for next."""

    items: list[EventOut]
    next: str
    terminal: bool = Field(description="True once nothing more will come.")


# Of each event, as is usual before OpenAPI 3.2, which has `itemSchema` for it.
STREAMED_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "What to send as Last-Event-ID; not of progress."},
        "event": {"enum": ["state", "history", "progress", "bye"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object"},
        },
    },
}


class HistoryOut(BaseModel):
    """The loss history as parallel arrays. `cost` is the training objective after the epoch."""

    job_id: str
    epoch_count: int = Field(description="How many epochs are stored, shown or not.")
    epoch: list[int]
    cost: list[float | None]
    validation_cost: list[float | None]
    step_norm: list[float | None]


def job_out(job: WatchedJob, place: QueuePlace | None) -> JobOut:
    row = job.row
    state = JobState(row.state)
    wanted = None if row.wanted is None else Action(row.wanted)
    spec = ResolvedSpec.model_validate(row.resolved_spec)
    return JobOut(
        id=row.id,
        name=row.name,
        state=state,
        terminal=is_terminal(state),
        allowed_actions=list(allowed_actions(state, wanted, has_checkpoint=job.has_checkpoint)),
        dataset_id=spec.dataset_id,
        spec=spec,
        queue=None if place is None else QueuePlaceOut(**place._asdict()),
        progress=None if row.progress is None else ProgressOut(**row.progress),
        stop_reason=row.stop_reason,
        scores=None if row.scores is None else scores_out(row.scores),
        warnings=row.warnings,
        environment=None if row.environment is None else EnvironmentOut(**row.environment),
        model_id=row.model_id,
        error=None if row.error is None else JobErrorOut(**row.error),
        attempt=row.attempt,
        wanted=wanted,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        transitions=[
            TransitionOut(
                state=JobState(move.state),
                at=move.at,
                reason=move.reason,
                worker=move.worker,
                attempt=move.attempt,
            )
            for move in job.transitions
        ],
    )


def history_out(job_id: str, records: NDArray[np.float64], epoch_count: int) -> HistoryOut:
    epoch, cost, validation_cost, step_norm = records.T
    return HistoryOut(
        job_id=job_id,
        epoch_count=epoch_count,
        epoch=epoch.astype(int).tolist(),
        cost=finite_or_none(cost),
        validation_cost=finite_or_none(validation_cost),
        step_norm=finite_or_none(step_norm),
    )
