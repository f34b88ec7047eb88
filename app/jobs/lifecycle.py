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

from app.jobs import history, queries
from app.jobs.states import Action, JobState, is_terminal, require_move
from app.storage.database import Session, clock
from app.storage.tables import JobRow, JobTransitionRow
from app.storage.wakeups import announce


class Replaced(Exception):
    """This attempt has lost the job: stop computing, write nothing."""


class SavedState(NamedTuple):
    """A checkpoint as it is stored, after `epoch` whole epochs."""

    epoch: int
    state: bytes
    environment: dict[str, Any]


class Claim(NamedTuple):
    """The right of one worker to run one attempt of a job, from a checkpoint if there is one."""

    job_id: str
    owner: str
    name: str
    attempt: int
    resolved_spec: dict[str, Any]
    checkpoint: SavedState | None = None
    wanted: Action | None = None


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
    if is_terminal(to):
        row.ended_at = now
        row.wanted = None
        queries.delete_checkpoint(session, row.id)
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
    move(session, row, JobState.RUNNING, reason="claimed", at=now)
    saved = queries.checkpoint(session, job_id)
    if saved is None:
        row.progress = None
        queries.delete_history(session, job_id)
    return Claim(
        job_id,
        row.owner,
        row.name,
        row.attempt,
        row.resolved_spec,
        None if saved is None else SavedState(saved.epoch, saved.state, saved.environment),
        wanted_of(row),
    )


def beat(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    lease_seconds: float,
    progress: Mapping[str, Any] | None = None,
) -> Action | None:
    """Renews the lease and tells how far the job is; what is wanted of it comes back."""
    row = held(session, job_id, attempt)
    renew(session, row, lease_seconds=lease_seconds)
    if progress is not None:
        row.progress = dict(progress)
    return wanted_of(row)


def hear(session: Session, job_id: str, attempt: int) -> Action | None:
    """What is wanted of a job that this attempt still has; nothing is locked. Raises Replaced."""
    return wanted_of(still_had(queries.find_any(session, job_id), attempt))


def save(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    lease_seconds: float,
    progress: Mapping[str, Any] | None,
    records: NDArray[np.float64],
    checkpoint: SavedState,
) -> Action | None:
    """A beat that also stores a checkpoint and the history up to it, all of it or nothing.

    `records` (k, 4) are epochs not stored yet: epoch, cost, validation cost, step norm.
    """
    row = held(session, job_id, attempt)
    renew(session, row, lease_seconds=lease_seconds)
    store(session, row, progress=progress, records=records, checkpoint=checkpoint)
    return wanted_of(row)


def renew(session: Session, row: JobRow, *, lease_seconds: float) -> None:
    now = clock(session)
    row.heartbeat_at = now
    row.lease_ends_at = now + timedelta(seconds=lease_seconds)


def store(
    session: Session,
    row: JobRow,
    *,
    progress: Mapping[str, Any] | None,
    records: NDArray[np.float64],
    checkpoint: SavedState | None,
) -> None:
    """How far a run has come. Without a checkpoint the history is not stored either: the next
    attempt, which starts where the one before this one did, will write it again."""
    if checkpoint is None:
        return
    row.progress = None if progress is None else dict(progress)
    history.append(session, row.id, records)
    queries.replace_checkpoint(session, row.id, saved_at=clock(session), **checkpoint._asdict())


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
    if records is not None:
        history.append(session, job_id, records, ended=True)
    if row.wanted == Action.CANCEL:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")
        return False
    for column, value in values.items():
        setattr(row, column, value)
    move(session, row, state, reason=reason)
    return True


def release(
    session: Session,
    job_id: str,
    attempt: int,
    *,
    reason: str,
    progress: Mapping[str, Any] | None,
    records: NDArray[np.float64],
    checkpoint: SavedState | None,
) -> None:
    """The run ends here and can go on from its checkpoint: paused, or queued if its worker stops.

    Nobody died, so no death is counted.
    """
    row = held(session, job_id, attempt)
    store(session, row, progress=progress, records=records, checkpoint=checkpoint)
    give_back(session, row, reason=reason)


def held(session: Session, job_id: str, attempt: int) -> JobRow:
    """The job's row, locked. Raises Replaced unless this attempt still has the job."""
    return still_had(queries.find_and_lock(session, job_id), attempt)


def still_had(row: JobRow | None, attempt: int) -> JobRow:
    if row is None or row.state != JobState.RUNNING or row.attempt != attempt:
        raise Replaced
    return row


def wanted_of(row: JobRow) -> Action | None:
    return None if row.wanted is None else Action(row.wanted)


def cancel(session: Session, row: JobRow) -> None:
    """Ends a job at once; a running one ends at its next beat."""
    row.wanted = Action.CANCEL
    if row.state != JobState.RUNNING:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")


def stop(session: Session, row: JobRow) -> None:
    """Training ends and keeps its model; one that is paused needs a worker to do that."""
    row.wanted = Action.STOP
    if row.state == JobState.PAUSED:
        row.delivery += 1
        move(session, row, JobState.QUEUED, reason="stopped_by_user")


def pause(session: Session, row: JobRow) -> None:
    """A queued job is paused at once, a running one at its next beat."""
    if row.state == JobState.QUEUED:
        move(session, row, JobState.PAUSED, reason="paused_by_user")
    elif row.state == JobState.RUNNING:
        row.wanted = Action.PAUSE


def resume(session: Session, row: JobRow) -> None:
    """A paused job is queued, under a new delivery; a pause that has not happened is taken back."""
    if row.state == JobState.PAUSED:
        row.delivery += 1
        move(session, row, JobState.QUEUED, reason="resumed_by_user")
    elif row.wanted == Action.PAUSE:
        row.wanted = None


def take_back(session: Session, row: JobRow, *, attempts_max: int, blameless: bool = False) -> None:
    """The worker is gone: the job is queued for another one, or failed after too many deaths.

    `blameless` counts no death: the worker may have left because it could not renew its lease.
    """
    row.deaths += not blameless
    if row.deaths < attempts_max or row.wanted == Action.CANCEL:
        give_back(session, row, reason="worker_lost")
        return
    row.error = {
        "code": "worker_lost",
        "detail": f"The worker died {row.deaths} times while it ran this job. "
        "It may need more memory than there is: try fewer inputs or rows.",
    }
    move(session, row, JobState.FAILED, reason="worker_lost")


def start_anew(session: Session, job_id: str, attempt: int) -> None:
    """Forgets a checkpoint that this version cannot read, and the history up to it."""
    held(session, job_id, attempt).progress = None
    queries.delete_checkpoint(session, job_id)
    queries.delete_history(session, job_id)


def give_back(session: Session, row: JobRow, *, reason: str) -> None:
    """A running job is queued again, under a new delivery that fences off copies of the old one;
    or it becomes what was wanted of it."""
    if row.wanted == Action.CANCEL:
        move(session, row, JobState.CANCELLED, reason="cancelled_by_user")
    elif row.wanted == Action.PAUSE:
        row.wanted = None
        move(session, row, JobState.PAUSED, reason="paused_by_user")
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


def take_back_lost(
    session: Session,
    *,
    attempts_max: int,
    everything: bool = False,
    renewable_since: datetime | None = None,
) -> int:
    """Takes back running jobs whose lease has ended, or all if no worker can be alive.

    A lease that was last renewed before `renewable_since` counts no death: its worker may have been
    unable to renew it, and have left the job for that.
    """
    now = None if everything else clock(session)
    lost = queries.lock_in_state(session, JobState.RUNNING, lease_ended_before=now)
    for row in lost:
        blameless = (
            renewable_since is not None
            and row.heartbeat_at is not None
            and row.heartbeat_at < renewable_since
        )
        take_back(session, row, attempts_max=attempts_max, blameless=blameless)
    return len(lost)


def give_back_all(session: Session) -> None:
    """The service stops, and its workers with it: nobody died, so no death is counted."""
    for row in queries.lock_in_state(session, JobState.RUNNING, lease_ended_before=None):
        give_back(session, row, reason="service_stopped")
