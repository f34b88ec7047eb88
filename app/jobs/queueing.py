"""The queue as its callers see it: whether there is room in it, and when a job's turn comes."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from app.errors import BudgetSpent, QueueFull, TooManyJobs
from app.jobs import queries
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Session, clock, take_turn
from app.storage.tables import JobRow

# The pace is that of the last jobs, and a worker that ended one lately is still there.
RUNS_MAX = 50
RECENT_SECONDS = 60.0
# What to wait where no pace is known, and at most.
RETRY_SECONDS = 10
RETRY_SECONDS_MAX = 300


class QueuePlace(NamedTuple):
    """`position` counts from 1. `expected_start_at` is None where nothing has run yet."""

    position: int
    expected_start_at: datetime | None


class Pace(NamedTuple):
    """How long jobs ran lately, and how many workers there seem to be, so many of them free."""

    run_seconds: float
    workers: int
    free: int


def require_room(
    session: Session, settings: Settings, owner: str, *, multiply_adds: int = 0
) -> None:
    """For a job that may take so many. Raises TooManyJobs, BudgetSpent or QueueFull.

    Of one owner's requests at once each sees what those before it have made; of all owners', the
    queue may be exceeded by as many as there are at once.
    """
    take_turn(session, f"jobs of {owner}")
    live, spent = queries.live_load(session, owner)
    if live >= settings.owner_jobs_max:
        detail = f"{live:,} of your jobs have not ended. Wait for some, or cancel them."
        raise TooManyJobs(detail, retry_seconds(session, owner))
    if spent + multiply_adds > settings.owner_budget:
        detail = (
            f"Your {live:,} jobs that have not ended may take {spent:,} multiply-adds and this one "
            f"{multiply_adds:,}, together more than {settings.owner_budget:,}. Wait for some, "
            "cancel them, or ask for fewer epochs."
        )
        raise BudgetSpent(detail, retry_seconds(session, owner))
    queued = queries.count_in_state(session, JobState.QUEUED)
    if queued >= settings.queued_jobs_max:
        detail = f"{queued:,} jobs are waiting for a worker. Try again in a moment."
        raise QueueFull(detail, retry_seconds(session))


def retry_seconds(session: Session, owner: str | None = None) -> int:
    """When the next job, of the owner if one is given, will have ended at the pace of late."""
    found = pace(session)
    if found is None:
        return RETRY_SECONDS
    workers = found.workers if owner is None else queries.count_running(session, owner)
    seconds = math.ceil(found.run_seconds / max(workers, 1))
    return min(max(seconds, 1), RETRY_SECONDS_MAX)


def pace(session: Session) -> Pace | None:
    """None while no job has ended, or there is no sign of a worker."""
    runs = queries.recent_runs(session, limit=RUNS_MAX)
    if not runs:
        return None
    running = queries.count_in_state(session, JobState.RUNNING)
    since = clock(session) - timedelta(seconds=RECENT_SECONDS)
    workers = max(running, len({run.worker for run in runs if run.ended_at >= since}))
    if not workers:
        return None
    seconds = [(run.ended_at - run.started_at).total_seconds() for run in runs]
    return Pace(sum(seconds) / len(seconds), workers, workers - running)


def place(session: Session, settings: Settings, row: JobRow) -> QueuePlace | None:
    """None for a job that is not queued."""
    session.flush()
    return places(session, settings, [row]).get(row.id)


def places(session: Session, settings: Settings, rows: Sequence[JobRow]) -> dict[str, QueuePlace]:
    """The places of those jobs that are queued, by their ids: the queue is sorted once for all."""
    queued = [row.id for row in rows if row.state == JobState.QUEUED]
    if not queued:
        return {}
    found, now = pace(session), clock(session)
    answer = {}
    for job_id, position, turn in queries.queue_places(session, queued):
        start = expected_start(found, position, turn, settings.owner_running_max)
        answer[job_id] = QueuePlace(position, None if start is None else now + start)
    return answer


def expected_start(
    found: Pace | None, position: int, turn: int, owner_running_max: int
) -> timedelta | None:
    """From now: the next start is one run away, and each worker takes its share of the others.

    A job beyond the cap of its owner waits for those before it at their own pace.
    """
    if found is None:
        return None
    rounds = max(position - found.free, 0) / found.workers
    own_rounds = max(turn - owner_running_max, 0) / owner_running_max
    return timedelta(seconds=found.run_seconds * max(rounds, own_rounds))
