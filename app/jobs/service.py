"""What happens to jobs when callers ask: created, listed, watched, and told what to do."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets import columns
from app.datasets import queries as dataset_queries
from app.errors import (
    ActionNotAllowed,
    DatasetNotFound,
    JobEnded,
    JobNotFound,
)
from app.jobs import history, lifecycle, queries, queueing
from app.jobs.resolution import resolve
from app.jobs.states import Action, JobState, allowed_actions, is_so, is_terminal
from app.jobs.training_spec import ResolvedSpec, TrainingSpec
from app.settings import Settings
from app.storage.database import Session, clock
from app.storage.ids import new_id
from app.storage.tables import JobRow, JobTransitionRow
from app.storage.wakeups import announce

STEPS: Mapping[Action, Callable[[Session, JobRow], None]] = MappingProxyType(
    {
        Action.CANCEL: lifecycle.cancel,
        Action.STOP: lifecycle.stop,
        Action.PAUSE: lifecycle.pause,
        Action.RESUME: lifecycle.resume,
    }
)
# The ends, by state and stop reason, that are what an action asked for.
REACHED: Mapping[Action, frozenset[tuple[JobState, str | None]]] = MappingProxyType(
    {
        Action.CANCEL: frozenset({(JobState.CANCELLED, None)}),
        Action.STOP: frozenset({(JobState.SUCCEEDED, "user")}),
        Action.PAUSE: frozenset(),
        Action.RESUME: frozenset(),
    }
)


class WatchedJob(NamedTuple):
    """A job's row with the moves that it made, and whether it has a checkpoint."""

    row: JobRow
    transitions: Sequence[JobTransitionRow]
    has_checkpoint: bool


def check(session: Session, settings: Settings, owner: str, spec: TrainingSpec) -> ResolvedSpec:
    """What a job with this spec would do. Raises DatasetNotFound or InvalidSpec."""
    dataset = dataset_queries.find_and_keep(session, owner, spec.dataset_id)
    if dataset is None:
        raise DatasetNotFound(spec.dataset_id)
    return resolve(spec, columns.from_json(dataset.columns), dataset.row_count, settings)


def create(session: Session, settings: Settings, owner: str, spec: TrainingSpec) -> WatchedJob:
    """A queued job; the dispatcher wakes when the transaction commits."""
    resolved = check(session, settings, owner, spec)
    queueing.require_room(session, settings, owner, multiply_adds=resolved.multiply_adds)
    now = clock(session)
    row = JobRow(
        id=new_id("job"),
        owner=owner,
        name=resolved.name,
        dataset_id=spec.dataset_id,
        spec=spec.model_dump(mode="json"),
        resolved_spec=resolved.as_json(),
        state=JobState.QUEUED,
        delivery=1,
        attempt=0,
        deaths=0,
        multiply_adds=resolved.multiply_adds,
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
    saved = bool(queries.with_checkpoint(session, [row.id]))
    return WatchedJob(row, queries.transitions(session, [row.id]), saved)


def newest(
    session: Session, owner: str, *, before: str | None, limit: int, state: JobState | None
) -> list[WatchedJob]:
    rows = queries.newest(session, owner, before=before, limit=limit, state=state)
    ids = [row.id for row in rows]
    moves, saved = queries.transitions(session, ids), queries.with_checkpoint(session, ids)
    return [
        WatchedJob(row, [move for move in moves if move.job_id == row.id], row.id in saved)
        for row in rows
    ]


def loss_history(
    session: Session, owner: str, job_id: str, *, points_max: int
) -> tuple[NDArray[np.float64], int]:
    """Records (k, 4) of at most `points_max` epochs, and how many epochs there are."""
    find(session, owner, job_id)
    return history.read(session, job_id, points_max=points_max)


def act(session: Session, owner: str, job_id: str, action: Action) -> WatchedJob:
    """Does what was asked for, or sees to it that the worker does. Repeatable.

    Raises JobNotFound, JobEnded, or ActionNotAllowed with what is allowed.
    """
    row = queries.find_and_lock(session, job_id, owner=owner)
    if row is None:
        raise JobNotFound(job_id)
    state = JobState(row.state)
    if is_terminal(state):
        if (state, row.stop_reason) not in REACHED[action]:
            raise JobEnded(f"The job has {state}; nothing is left to {action}.")
        return watch(session, row)
    wanted = lifecycle.wanted_of(row)
    if is_so(state, wanted, action):
        return watch(session, row)
    saved = bool(queries.with_checkpoint(session, [job_id]))
    allowed = allowed_actions(state, wanted, has_checkpoint=saved)
    if action not in allowed:
        reason = f"it is {state}" + (f" and is to {row.wanted}" if row.wanted else "")
        raise ActionNotAllowed(
            f"The job cannot {action} now: {reason}. Allowed: {', '.join(allowed)}.", allowed
        )
    STEPS[action](session, row)
    return watch(session, row)
