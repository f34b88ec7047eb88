"""What must hold when a storm is over: the invariants I1 to I6, each violation a sentence.

I1 every job that was promised is there once and has ended well; I2 it ended once, and each attempt
was claimed once; I3 its weights have the bits of an undisturbed run; I4 so has its history, without
gap or repetition; I5 the database is whole and nothing is left over; I6 no answer was an error
other than 503 and 507 with their Retry-After.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select, text

from app.jobs import history, queries
from app.jobs.states import JobState, is_terminal
from app.storage.database import Database, Session
from app.storage.tables import (
    CheckpointRow,
    JobRow,
    JobTransitionRow,
    KeptAnswerRow,
    ModelRow,
)
from tests.storm.work import Json


class Result(NamedTuple):
    """What a job left behind."""

    parameters_sha256: list[str]
    history: bytes


def violations(database: Database, folder: Path) -> list[str]:
    journal = [
        json.loads(line)
        for path in folder.glob("journal-*")
        for line in path.read_text().splitlines()
    ]
    undisturbed = json.loads((folder / "undisturbed").read_text())
    with database.reading() as session:
        jobs = {job.id: job for job in session.scalars(select(JobRow))}
        return [
            *promises(session, jobs, journal, others=len(undisturbed)),
            *endings(session, jobs),
            *results(session, jobs, undisturbed),
            *leftovers(session, jobs, folder),
            *answers(journal),
        ]


def promises(
    session: Session, jobs: dict[str, JobRow], journal: list[Json], *, others: int
) -> Iterator[str]:
    """Of all the jobs, `others` were made without a key."""
    promised = defaultdict(set)
    for entry in journal:
        if "job_id" in entry:
            promised[entry["key"]].add(entry["job_id"])
    for key, ids in promised.items():
        if len(ids) != 1:
            yield f"I1 key {key} was answered with {len(ids)} jobs"
        yield from (f"I1 job {job} was promised and is not there" for job in ids - jobs.keys())
    for job in jobs.values():
        if job.state != JobState.SUCCEEDED:
            yield f"I1 job {job.id} is {job.state}: {job.error}"
    keys = len(session.scalars(select(KeptAnswerRow.key).filter_by(route="createJob")).all())
    if len(jobs) != keys + others:
        yield f"I1 there are {len(jobs)} jobs for {keys} keys and {others} without"


def endings(session: Session, jobs: dict[str, JobRow]) -> Iterator[str]:
    moves = defaultdict(list)
    for move in session.scalars(select(JobTransitionRow).order_by(JobTransitionRow.id)):
        moves[move.job_id].append(move)
    for job in jobs.values():
        ends = [move for move in moves[job.id] if is_terminal(JobState(move.state))]
        claims = [move.attempt for move in moves[job.id] if move.reason == "claimed"]
        if len(ends) != 1:
            yield f"I2 job {job.id} ended {len(ends)} times"
        if claims != list(range(1, job.attempt + 1)):
            yield f"I2 job {job.id} was claimed as attempts {claims}, of {job.attempt}"


def results(
    session: Session, jobs: dict[str, JobRow], undisturbed: dict[str, str]
) -> Iterator[str]:
    expected = {name: result_of(session, job_id) for name, job_id in undisturbed.items()}
    for job in jobs.values():
        if job.state != JobState.SUCCEEDED:
            continue
        found, wanted = result_of(session, job.id), expected[job.spec["solver"]["name"]]
        if found.parameters_sha256 != wanted.parameters_sha256:
            yield f"I3 job {job.id} has other weights than an undisturbed run"
        if found.history != wanted.history:
            yield f"I4 job {job.id} has another history than an undisturbed run"


def result_of(session: Session, job_id: str) -> Result:
    shas = session.scalars(select(ModelRow.parameters_sha256).filter_by(job_id=job_id)).all()
    return Result(list(shas), history.join(queries.history_blocks(session, job_id)).tobytes())


def leftovers(session: Session, jobs: dict[str, JobRow], folder: Path) -> Iterator[str]:
    if session.get_bind().dialect.name == "sqlite":
        found = session.execute(text("PRAGMA integrity_check")).scalar_one()
        if found != "ok":
            yield f"I5 the database is damaged: {found}"
    for row in session.scalars(select(CheckpointRow)):
        if row.job_id not in jobs or is_terminal(JobState(jobs[row.job_id].state)):
            yield f"I5 job {row.job_id} has ended and still has a checkpoint"
    for path in folder.rglob(".writing-*"):
        yield f"I5 a half-written file is left: {path.name}"


def answers(journal: list[Json]) -> Iterator[str]:
    for entry in journal:
        if "status" not in entry:
            continue
        headers = entry["headers"]
        told = headers.get("content-type") == "application/problem+json"
        if entry["status"] not in (503, 507) or "retry-after" not in headers or not told:
            yield f"I6 an answer was {entry['status']}, {headers}"
