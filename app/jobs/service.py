"""What happens to jobs when callers ask: created, listed, watched, cancelled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets import columns
from app.datasets import queries as dataset_queries
from app.errors import DatasetNotFound, JobEnded, JobNotFound
from app.jobs import history, lifecycle, queries
from app.jobs.resolution import resolve
from app.jobs.states import JobState, is_terminal
from app.jobs.training_spec import ResolvedSpec, TrainingSpec
from app.settings import Settings
from app.storage.database import Session, clock
from app.storage.ids import new_id
from app.storage.tables import JobRow, JobTransitionRow
from app.storage.wakeups import announce


class WatchedJob(NamedTuple):
    """A job's row with the moves that it made."""

    row: JobRow
    transitions: Sequence[JobTransitionRow]


def check(session: Session, settings: Settings, owner: str, spec: TrainingSpec) -> ResolvedSpec:
    """What a job with this spec would do. Raises DatasetNotFound or InvalidSpec."""
    dataset = dataset_queries.find_and_keep(session, owner, spec.dataset_id)
    if dataset is None:
        raise DatasetNotFound(spec.dataset_id)
    return resolve(spec, columns.from_json(dataset.columns), dataset.row_count, settings)


def create(session: Session, settings: Settings, owner: str, spec: TrainingSpec) -> WatchedJob:
    """A queued job; the dispatcher wakes when the transaction commits."""
    resolved = check(session, settings, owner, spec)
    now = clock(session)
    row = JobRow(
        id=new_id("job"),
        owner=owner,
        name=resolved.name,
        dataset_id=spec.dataset_id,
        spec=spec.model_dump(mode="json"),
        resolved_spec=resolved.as_json(),
        state=JobState.QUEUED,
        cancel_wanted=False,
        delivery=1,
        attempt=0,
        deaths=0,
        created_at=now,
    )
    session.add(row)
    session.flush()
    lifecycle.record(session, row, reason="created", at=now)
    announce(session)
    return watch(session, row)


def get(session: Session, owner: str, job_id: str) -> WatchedJob:
    return watch(session, find(session, owner, job_id))


def find(session: Session, owner: str, job_id: str) -> JobRow:
    row = queries.find(session, owner, job_id)
    if row is None:
        raise JobNotFound(job_id)
    return row


def watch(session: Session, row: JobRow) -> WatchedJob:
    session.flush()
    return WatchedJob(row, queries.transitions(session, [row.id]))


def newest(
    session: Session, owner: str, *, before: str | None, limit: int, state: JobState | None
) -> list[WatchedJob]:
    rows = queries.newest(session, owner, before=before, limit=limit, state=state)
    moves = queries.transitions(session, [row.id for row in rows])
    return [WatchedJob(row, [move for move in moves if move.job_id == row.id]) for row in rows]


def loss_history(
    session: Session, owner: str, job_id: str, *, points_max: int
) -> tuple[NDArray[np.float64], int]:
    """Records (k, 4) of at most `points_max` epochs, and how many epochs there are."""
    find(session, owner, job_id)
    records = history.join(queries.history_blocks(session, job_id))
    return history.thin(records, points_max), len(records)


def cancel(session: Session, owner: str, job_id: str) -> WatchedJob:
    """Repeatable. Raises JobEnded if the job has succeeded or failed."""
    row = queries.find_and_lock(session, job_id, owner=owner)
    if row is None:
        raise JobNotFound(job_id)
    state = JobState(row.state)
    if is_terminal(state) and state is not JobState.CANCELLED:
        raise JobEnded(f"The job has {state}; nothing is left to cancel.")
    lifecycle.cancel(session, row)
    return watch(session, row)
