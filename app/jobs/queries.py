"""SQL of jobs."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select

from app.storage.database import Session, clock
from app.storage.tables import HistoryBlockRow, JobRow, JobTransitionRow


def find(session: Session, owner: str, job_id: str) -> JobRow | None:
    return session.scalar(select(JobRow).where(JobRow.owner == owner, JobRow.id == job_id))


def find_and_lock(session: Session, job_id: str, *, owner: str | None = None) -> JobRow | None:
    """The job, which nobody else can move before this transaction ends."""
    query = select(JobRow).where(JobRow.id == job_id).with_for_update()
    if owner is not None:
        query = query.where(JobRow.owner == owner)
    return session.scalar(query)


def newest(
    session: Session, owner: str, *, before: str | None, limit: int, state: str | None
) -> Sequence[JobRow]:
    """Up to `limit` jobs, newest first, older than the id `before` if it is given."""
    query = select(JobRow).where(JobRow.owner == owner)
    if before is not None:
        query = query.where(JobRow.id < before)
    if state is not None:
        query = query.where(JobRow.state == state)
    return session.scalars(query.order_by(JobRow.id.desc()).limit(limit)).all()


def deliveries_in_state(session: Session, state: str, *, limit: int) -> Sequence[tuple[str, int]]:
    """The id and delivery of up to `limit` jobs in a state, oldest first."""
    rows = session.execute(
        select(JobRow.id, JobRow.delivery)
        .where(JobRow.state == state)
        .order_by(JobRow.id)
        .limit(limit)
    )
    return [(row.id, row.delivery) for row in rows]


def count_in_state(session: Session, state: str) -> int:
    return session.scalar(select(func.count()).where(JobRow.state == state)) or 0


def any_lease_ended(session: Session, state: str) -> bool:
    query = (
        select(JobRow.id)
        .where(JobRow.state == state, JobRow.lease_ends_at < clock(session))
        .limit(1)
    )
    return session.scalar(query) is not None


def lock_in_state(
    session: Session, state: str, *, lease_ended_before: datetime | None
) -> Sequence[JobRow]:
    """Jobs in a state whose lease ended before a moment, or all of them if it is None."""
    query = select(JobRow).where(JobRow.state == state)
    if lease_ended_before is not None:
        query = query.where(JobRow.lease_ends_at < lease_ended_before)
    return session.scalars(query.order_by(JobRow.id).with_for_update(skip_locked=True)).all()


def transitions(session: Session, job_ids: Sequence[str]) -> Sequence[JobTransitionRow]:
    return session.scalars(
        select(JobTransitionRow)
        .where(JobTransitionRow.job_id.in_(job_ids))
        .order_by(JobTransitionRow.id)
    ).all()


def history_blocks(session: Session, job_id: str) -> Sequence[bytes]:
    """The packed records of a job, in epoch order."""
    return session.scalars(
        select(HistoryBlockRow.records)
        .where(HistoryBlockRow.job_id == job_id)
        .order_by(HistoryBlockRow.first_epoch)
    ).all()


def delete_history(session: Session, job_id: str) -> None:
    session.execute(delete(HistoryBlockRow).where(HistoryBlockRow.job_id == job_id))
