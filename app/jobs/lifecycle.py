"""How a job lives: claimed, kept alive, finished, or taken back from a worker that is gone.

Every function is one step inside the caller's transaction, with the job's row locked. A worker's
writes carry the attempt that it claimed, the fence: once another attempt has begun, they change
nothing, and say so by raising Replaced.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.jobs import queries
from app.jobs.states import JobState, require_move
from app.storage.arrays import pack
from app.storage.database import Session, clock
from app.storage.tables import HistoryBlockRow, JobRow, JobTransitionRow
from app.storage.wakeups import announce


class Replaced(Exception):
    """This attempt has lost the job: stop computing, write nothing."""


class Claim(NamedTuple):
    """The right of one worker to run one attempt of a job."""

    job_id: str
    owner: str
    name: str
    attempt: int
    resolved_spec: dict[str, Any]


def move(
    session: Session, row: JobRow, to: JobState, *, reason: str, at: datetime | None = None
) -> None:
    """The only place where a job's state changes; the move is kept for ever."""
    require_move(JobState(row.state), to)
    now = at or clock(session)
    row.state = to
    if to is JobState.RUNNING:
        row.started_at = row.started_at or now
    else:
        row.lease_ends_at = None
        if to is not JobState.QUEUED:
            row.ended_at = now
    record(session, row, reason=reason, at=now)
    announce(session)


def record(session: Session, row: JobRow, *, reason: str, at: datetime) -> None:
    session.add(
        JobTransitionRow(
            job_id=row.id,
            state=row.state,
            at=at,
            reason=reason,
            worker=row.worker,
            attempt=row.attempt,
        )
    )


def claim(
    session: Session,
    job_id: str,
    delivery: int,
    *,
    worker: str,
    lease_seconds: float,
    attempts_max: int,
) -> Claim | None:
    """Takes the job if this delivery of it is still wanted, else None.

    A job that is already running under the same delivery was delivered again, because the worker
    that had it is gone.
    """
    row = queries.find_and_lock(session, job_id)
    if row is None or row.delivery != delivery:
        return None
    if row.state == JobState.RUNNING:
        take_back(session, row, attempts_max=attempts_max)
    if row.state != JobState.QUEUED:
        return None
    now = clock(session)
    # Taking back counted up the delivery to fence off late copies; this one is not late.
    row.delivery = delivery
    row.attempt += 1
    row.worker = worker
    row.heartbeat_at = now
    row.lease_ends_at = now + timedelta(seconds=lease_seconds)
    row.progress = None
    queries.delete_history(session, job_id)
    move(session, row, JobState.RUNNING, reason="claimed", at=now)
    return Claim(job_id, row.owner, row.name, row.attempt, row.resolved_spec)


def beat(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    lease_seconds: float,
    progress: Mapping[str, Any] | None = None,
    records: NDArray[np.float64] | None = None,
) -> bool:
    """Renews the lease and stores what is new; True when the job is to be cancelled.

    `records` (k, 4) are epochs not stored yet: epoch, cost, validation cost, step norm.
    """
    row = held(session, job_id, attempt)
    now = clock(session)
    row.heartbeat_at = now
    row.lease_ends_at = now + timedelta(seconds=lease_seconds)
    if progress is not None:
        row.progress = dict(progress)
    add_history(session, job_id, records)
    return row.cancel_wanted


def finish(
    session: Session,
    job_id: str,
    attempt: int,
    state: JobState,
    *,
    reason: str,
    records: NDArray[np.float64] | None = None,
    **values: Any,
) -> bool:
    """Ends the job. `values` are columns of its row, such as `model_id` or `error`.

    False if it is cancelled instead, because that was promised to the caller in the meantime.
    """
    row = held(session, job_id, attempt)
    add_history(session, job_id, records)
    if row.cancel_wanted:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")
        return False
    for column, value in values.items():
        setattr(row, column, value)
    move(session, row, state, reason=reason)
    return True


def release(session: Session, job_id: str, attempt: int) -> None:
    """The worker stops and gives the job back: nobody died, so no death is counted."""
    give_back(session, held(session, job_id, attempt), reason="worker_stopped")


def held(session: Session, job_id: str, attempt: int) -> JobRow:
    """The job's row, locked. Raises Replaced unless this attempt still has the job."""
    row = queries.find_and_lock(session, job_id)
    if row is None or row.state != JobState.RUNNING or row.attempt != attempt:
        raise Replaced(job_id)
    return row


def add_history(session: Session, job_id: str, records: NDArray[np.float64] | None) -> None:
    if records is not None and len(records):
        block = HistoryBlockRow(
            job_id=job_id, first_epoch=int(records[0, 0]), records=pack(records)
        )
        # Not `add`: the block may be there already, if the answer to its commit was lost.
        session.merge(block)


def cancel(session: Session, row: JobRow) -> None:
    """Ends a queued job at once; a running one ends at its next beat."""
    row.cancel_wanted = True
    if row.state == JobState.QUEUED:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")


def take_back(session: Session, row: JobRow, *, attempts_max: int) -> None:
    """The worker is gone: the job is queued for another one, or failed after too many deaths."""
    row.deaths += 1
    if row.deaths < attempts_max or row.cancel_wanted:
        give_back(session, row, reason="worker_lost")
        return
    row.error = {
        "code": "worker_lost",
        "detail": f"The worker died {row.deaths} times while it ran this job. "
        "It may need more memory than there is: try fewer inputs or rows.",
    }
    move(session, row, JobState.FAILED, reason="worker_lost")


def give_back(session: Session, row: JobRow, *, reason: str) -> None:
    """Queues a running job again, under a new delivery that fences off copies of the old one."""
    if row.cancel_wanted:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")
    else:
        row.delivery += 1
        move(session, row, JobState.QUEUED, reason=reason)


def send_anew(session: Session, job_id: str, delivery: int) -> None:
    """A delivery that nobody claimed, because its worker froze or could not reach the database:
    the next one is another, which Dask places afresh."""
    row = queries.find_and_lock(session, job_id)
    if row is not None and row.state == JobState.QUEUED and row.delivery == delivery:
        row.delivery += 1
        announce(session)


def take_back_lost(session: Session, *, attempts_max: int, everything: bool = False) -> int:
    """Takes back running jobs whose lease has ended, or all if no worker can be alive."""
    now = None if everything else clock(session)
    lost = queries.lock_in_state(session, JobState.RUNNING, lease_ended_before=now)
    for row in lost:
        take_back(session, row, attempts_max=attempts_max)
    return len(lost)


def give_back_all(session: Session) -> None:
    """The service stops, and its workers with it: nobody died, so no death is counted."""
    for row in queries.lock_in_state(session, JobState.RUNNING, lease_ended_before=None):
        give_back(session, row, reason="service_stopped")
