"""SQL of jobs."""

from collections.abc import Collection, Iterator, Sequence, Set
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Subquery, and_, delete, func, or_, select, update

from app.jobs.states import JobState, is_terminal
from app.storage.database import Session, clock
from app.storage.tables import CheckpointRow, HistoryBlockRow, JobRow, JobTransitionRow

LIVE = [state for state in JobState if not is_terminal(state)]
# So many blocks of history are in memory at once.
BLOCKS_FETCHED = 8


class Span(NamedTuple):
    """The epochs of a block of history, both ends included."""

    first_epoch: int
    last_epoch: int

    @property
    def length(self) -> int:
        return self.last_epoch - self.first_epoch + 1


class Run(NamedTuple):
    worker: str | None
    started_at: datetime
    ended_at: datetime


def find(session: Session, owner: str, job_id: str) -> JobRow | None:
    return session.scalar(select(JobRow).where(JobRow.owner == owner, JobRow.id == job_id))


def find_any(session: Session, job_id: str) -> JobRow | None:
    """The job, whoever owns it."""
    return session.scalar(select(JobRow).where(JobRow.id == job_id))


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


def fair_queue(sent: Collection[str] = (), *, per_owner: int | None = None) -> Subquery:
    """Queued jobs by id with their `turn`: the least goes first, and of equals the oldest.

    That is the order in which each time the owner with the fewest running jobs is given another
    one, the oldest of theirs. Those in `sent` count as running already. `per_owner` leaves out all
    but so many of each owner, the first.
    """
    queued = JobRow.state == JobState.QUEUED
    running = (
        select(JobRow.owner, func.count().label("count"))
        .where(or_(JobRow.state == JobState.RUNNING, and_(queued, JobRow.id.in_(sent))))
        .group_by(JobRow.owner)
        .subquery()
    )
    rank = func.row_number().over(partition_by=JobRow.owner, order_by=JobRow.id)
    waiting = (
        select(JobRow.id, JobRow.owner, rank.label("rank"))
        .where(queued, JobRow.id.not_in(sent))
        .subquery()
    )
    turn = waiting.c.rank + func.coalesce(running.c.count, 0)
    fair = select(waiting.c.id, turn.label("turn")).outerjoin(
        running, running.c.owner == waiting.c.owner
    )
    if per_owner is not None:
        fair = fair.where(waiting.c.rank <= per_owner)
    return fair.subquery()


def next_deliveries(
    session: Session, *, sent: Collection[str], owner_running_max: int, limit: int
) -> Sequence[tuple[str, int]]:
    """The id and delivery of up to `limit` queued jobs, in the order in which they may start."""
    fair = fair_queue(sent, per_owner=limit)
    chosen = (
        select(fair)
        .where(fair.c.turn <= owner_running_max)
        .order_by(fair.c.turn, fair.c.id)
        .limit(limit)
        .subquery()
    )
    rows = session.execute(
        select(JobRow.id, JobRow.delivery)
        .join(chosen, chosen.c.id == JobRow.id)
        .order_by(chosen.c.turn, chosen.c.id)
    )
    return [(row.id, row.delivery) for row in rows]


def queued_deliveries(session: Session, job_ids: Collection[str]) -> Set[tuple[str, int]]:
    """The id and delivery of those of the jobs that are queued."""
    rows = session.execute(
        select(JobRow.id, JobRow.delivery).where(
            JobRow.id.in_(job_ids), JobRow.state == JobState.QUEUED
        )
    )
    return {(row.id, row.delivery) for row in rows}


def queue_places(session: Session, job_ids: Collection[str]) -> Sequence[tuple[str, int, int]]:
    """The id, position in the queue, counted from 1, and turn of those of the jobs in it."""
    fair = fair_queue()
    position = func.row_number().over(order_by=(fair.c.turn, fair.c.id))
    placed = select(fair, position.label("position")).subquery()
    rows = session.execute(
        select(placed.c.id, placed.c.position, placed.c.turn).where(placed.c.id.in_(job_ids))
    )
    return [(row.id, row.position, row.turn) for row in rows]


def recent_runs(session: Session, *, limit: int) -> Sequence[Run]:
    """Those of the last jobs to end that ran, and that in one go."""
    last = (
        select(JobRow.worker, JobRow.attempt, JobRow.started_at, JobRow.ended_at)
        .where(JobRow.ended_at.is_not(None))
        .order_by(JobRow.ended_at.desc())
        .limit(limit)
        .subquery()
    )
    ran_once = select(last.c.worker, last.c.started_at, last.c.ended_at).where(
        last.c.attempt == 1, last.c.started_at.is_not(None)
    )
    return [Run(*row) for row in session.execute(ran_once)]


def count_in_state(session: Session, state: str) -> int:
    return session.scalar(select(func.count()).where(JobRow.state == state)) or 0


def count_running(session: Session, owner: str) -> int:
    query = select(func.count()).where(JobRow.owner == owner, JobRow.state == JobState.RUNNING)
    return session.scalar(query) or 0


def live_load(session: Session, owner: str) -> tuple[int, int]:
    """How many jobs of an owner have not ended, and how many multiply-adds they may take."""
    count, multiply_adds = session.execute(
        select(func.count(), func.sum(JobRow.multiply_adds)).where(
            JobRow.owner == owner, JobRow.state.in_(LIVE)
        )
    ).one()
    return count, int(multiply_adds or 0)


def is_live(session: Session, owner: str, job_id: str) -> bool:
    """Whether there is this job, and it has not ended."""
    query = select(JobRow.ended_at).where(JobRow.owner == owner, JobRow.id == job_id)
    found = session.execute(query).one_or_none()
    return found is not None and found.ended_at is None


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


def history_spans(session: Session, job_id: str) -> Sequence[Span]:
    """Those of all blocks of a job."""
    query = select(HistoryBlockRow.first_epoch, HistoryBlockRow.last_epoch)
    rows = session.execute(query.where(HistoryBlockRow.job_id == job_id))
    return [Span(*row) for row in rows]


def last_history_spans(session: Session, job_id: str, *, limit: int) -> Sequence[Span]:
    """Those of the last blocks of a job, the last one first."""
    rows = session.execute(
        select(HistoryBlockRow.first_epoch, HistoryBlockRow.last_epoch)
        .where(HistoryBlockRow.job_id == job_id)
        .order_by(HistoryBlockRow.first_epoch.desc())
        .limit(limit)
    )
    return [Span(*row) for row in rows]


def history_blocks(session: Session, job_id: str, *, first_epoch: int = 0) -> Sequence[bytes]:
    """The packed records of the blocks from one on, in epoch order."""
    return session.scalars(
        select(HistoryBlockRow.records)
        .where(HistoryBlockRow.job_id == job_id, HistoryBlockRow.first_epoch >= first_epoch)
        .order_by(HistoryBlockRow.first_epoch)
    ).all()


def shown_history(session: Session, job_id: str, *, thinned: bool) -> Iterator[bytes]:
    """The packed records of a job, or what they are thinned to, in epoch order, as they come."""
    records = HistoryBlockRow.records
    query = select(func.coalesce(HistoryBlockRow.thinned, records) if thinned else records)
    return iter(
        session.scalars(
            query.where(HistoryBlockRow.job_id == job_id)
            .order_by(HistoryBlockRow.first_epoch)
            .execution_options(yield_per=BLOCKS_FETCHED)
        )
    )


def history_behind(session: Session, job_id: str, epoch: int, *, limit: int) -> Sequence[bytes]:
    """The first blocks that hold epochs after `epoch`, in order."""
    # A place may lie inside a block: short blocks are joined as time goes by.
    start = (
        select(func.max(HistoryBlockRow.first_epoch))
        .where(HistoryBlockRow.job_id == job_id, HistoryBlockRow.first_epoch <= epoch)
        .scalar_subquery()
    )
    return session.scalars(
        select(HistoryBlockRow.records)
        .where(
            HistoryBlockRow.job_id == job_id,
            HistoryBlockRow.first_epoch >= func.coalesce(start, 0),
        )
        .order_by(HistoryBlockRow.first_epoch)
        .limit(limit)
    ).all()


def checkpoint(session: Session, job_id: str) -> CheckpointRow | None:
    return session.get(CheckpointRow, job_id)


def with_checkpoint(session: Session, job_ids: Sequence[str]) -> set[str]:
    """Those of the jobs that have a checkpoint."""
    query = select(CheckpointRow.job_id).where(CheckpointRow.job_id.in_(job_ids))
    return set(session.scalars(query))


def replace_checkpoint(session: Session, job_id: str, **values: Any) -> None:
    """Without reading the one before, which may be large."""
    kept = session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.job_id == job_id)
        .values(**values)
        .returning(CheckpointRow.job_id)
    ).one_or_none()
    if kept is None:
        session.add(CheckpointRow(job_id=job_id, **values))


def delete_checkpoint(session: Session, job_id: str) -> None:
    session.execute(delete(CheckpointRow).where(CheckpointRow.job_id == job_id))


def delete_history(session: Session, job_id: str, *, first_epoch: int = 0) -> None:
    """The blocks from one on."""
    session.execute(
        delete(HistoryBlockRow).where(
            HistoryBlockRow.job_id == job_id, HistoryBlockRow.first_epoch >= first_epoch
        )
    )
