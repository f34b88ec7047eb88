"""Jobs under any order of claims, deaths, wishes and clocks that hypothesis can think of.

Every rule is one transaction of the real code on a real database; only the clock is a fake. What
is checked is what was promised, not how it is done: one holder at a time, no epoch lost or told
twice, an end that stays, and an end for every job once the trouble is over.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.errors import ActionNotAllowed, JobEnded
from app.jobs import history, lifecycle, queries, service
from app.jobs.lifecycle import Replaced, SavedState
from app.jobs.states import Action, JobState, is_terminal
from app.storage import ids
from app.storage.database import Database, Session
from app.storage.tables import Base, JobRow

LEASE_SECONDS = 60.0
ATTEMPTS_MAX = 3
START = datetime(2030, 1, 1, tzinfo=UTC)


class VirtualClock:
    """What the database's clock says. Time passes when a rule lets it."""

    now = START

    def __call__(self, session: Session) -> datetime:
        del session
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    for module in (lifecycle, queries, service):
        monkeypatch.setattr(module, "clock", clock)
    return clock


@dataclass
class Holder:
    """A worker that has claimed a job. It may be a ghost: it does not know."""

    job_id: str
    attempt: int
    epoch: int


class JobMachine(RuleBasedStateMachine):
    jobs: Bundle[str] = Bundle("jobs")
    holders: Bundle[Holder] = Bundle("holders")
    database: Database
    clock: VirtualClock

    @initialize()
    def empty(self) -> None:
        self.clock.now = START
        # By job: the attempt that has it, the last epoch stored, the end, and what was promised.
        self.holding: dict[str, int | None] = {}
        self.stored: dict[str, int] = {}
        self.ended: dict[str, tuple[str, datetime | None]] = {}
        self.promised: dict[str, set[Action]] = {}
        with self.database.writing() as session:
            session.execute(sa.delete(Base.metadata.tables["jobs"]))

    @rule(target=jobs)
    def create(self) -> str:
        job_id = ids.new_id("job")
        with self.database.writing() as session:
            session.add(
                JobRow(
                    id=job_id,
                    owner="default",
                    name="a job",
                    spec={},
                    resolved_spec={},
                    state=JobState.QUEUED,
                    delivery=1,
                    attempt=0,
                    deaths=0,
                    created_at=self.clock.now,
                )
            )
        self.holding[job_id], self.stored[job_id], self.promised[job_id] = None, -1, set()
        return job_id

    @rule(target=holders, job_id=jobs, lag=st.integers(0, 1))
    def deliver(self, job_id: str, lag: int) -> Any:
        """The delivery that is due, or one that is late."""
        before = self.row(job_id)
        with self.database.writing() as session:
            claim = lifecycle.claim(
                session,
                job_id,
                before.delivery - lag,
                worker="host:1",
                lease_seconds=LEASE_SECONDS,
                attempts_max=ATTEMPTS_MAX,
            )
        self.settle(job_id)
        if claim is None:
            assert lag or before.state != JobState.QUEUED
            return multiple()
        assert not lag
        assert claim.attempt == before.attempt + 1
        begins = -1 if claim.checkpoint is None else claim.checkpoint.epoch
        assert begins == self.stored[job_id]
        self.holding[job_id] = claim.attempt
        return Holder(job_id, claim.attempt, begins)

    @rule(holder=holders, epochs=st.integers(1, 3))
    def save(self, holder: Holder, epochs: int) -> None:
        told = np.arange(holder.epoch + 1, holder.epoch + 1 + epochs, dtype=np.float64)
        records = np.stack([told] * 4, axis=1)
        saved = SavedState(int(told[-1]), b"state", {})

        def step(session: Session) -> None:
            lifecycle.save(
                session,
                holder.job_id,
                holder.attempt,
                lease_seconds=LEASE_SECONDS,
                progress=None,
                records=records,
                checkpoint=saved,
            )

        if self.writes(holder, step):
            holder.epoch = self.stored[holder.job_id] = saved.epoch

    @rule(holder=holders)
    def beat(self, holder: Holder) -> None:
        self.writes(
            holder,
            lambda session: lifecycle.beat(
                session, holder.job_id, holder.attempt, lease_seconds=LEASE_SECONDS
            ),
        )

    @rule(holder=consumes(holders), end=st.sampled_from([JobState.SUCCEEDED, JobState.FAILED]))
    def finish(self, holder: Holder, end: JobState) -> None:
        self.writes(
            holder,
            lambda session: lifecycle.finish(
                session, holder.job_id, holder.attempt, end, reason="finished"
            ),
        )

    @rule(holder=consumes(holders))
    def release(self, holder: Holder) -> None:
        """Its worker was told to stop, or it heard of a pause or a cancel."""
        self.writes(
            holder,
            lambda session: lifecycle.release(
                session,
                holder.job_id,
                holder.attempt,
                reason="worker_stopped",
                progress=None,
                records=np.empty((0, 4)),
                checkpoint=None,
            ),
        )

    @rule(holder=consumes(holders))
    def die(self, holder: Holder) -> None:
        """Nobody is told: the row says that it runs until its lease ends."""

    @rule(job_id=jobs, action=st.sampled_from(Action))
    def ask(self, job_id: str, action: Action) -> None:
        try:
            with self.database.writing() as session:
                service.act(session, "default", job_id, action)
        except (JobEnded, ActionNotAllowed):
            return
        self.promised[job_id].add(action)
        self.settle(job_id)

    @rule(seconds=st.sampled_from([1.0, LEASE_SECONDS / 2, LEASE_SECONDS + 1.0]))
    def tick(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)

    @rule()
    def look(self) -> None:
        """The dispatcher takes back what has been silent, and nothing else."""
        due = {
            row.id
            for row in self.rows()
            if row.lease_ends_at and row.lease_ends_at < self.clock.now
        }
        with self.database.writing() as session:
            taken = lifecycle.take_back_lost(session, attempts_max=ATTEMPTS_MAX)
        assert taken == len(due)
        for row in self.rows():
            assert not (row.id in due and row.state == JobState.RUNNING)
            self.settle(row.id)

    @rule(job_id=jobs)
    def send_anew(self, job_id: str) -> None:
        with self.database.writing() as session:
            lifecycle.send_anew(session, job_id, self.row(job_id).delivery)

    @invariant()
    def history_is_whole(self) -> None:
        with self.database.reading() as session:
            for job_id, last in self.stored.items():
                records = history.join(queries.history_blocks(session, job_id))
                assert records[:, 0].tolist() == list(range(last + 1))

    @invariant()
    def ends_stay(self) -> None:
        for row in self.rows():
            end = (row.state, row.ended_at)
            if is_terminal(JobState(row.state)):
                assert self.ended.setdefault(row.id, end) == end
            else:
                assert row.id not in self.ended
            if row.state == JobState.SUCCEEDED:
                assert Action.CANCEL not in self.promised[row.id]
            assert row.deaths <= ATTEMPTS_MAX
            assert (row.lease_ends_at is not None) == (row.state == JobState.RUNNING)

    @invariant()
    def one_end_and_no_attempt_twice(self) -> None:
        with self.database.reading() as session:
            moves = queries.transitions(session, list(self.holding))
            saved = queries.with_checkpoint(session, list(self.holding))
        for job_id in self.holding:
            mine = [move for move in moves if move.job_id == job_id]
            claims = [move.attempt for move in mine if move.reason == "claimed"]
            ends = [move for move in mine if is_terminal(JobState(move.state))]
            assert claims == list(range(1, len(claims) + 1))
            assert len(ends) == (job_id in self.ended)
            assert not (ends and job_id in saved)

    def teardown(self) -> None:
        """The trouble is over: every job can be brought to its end."""
        for job_id in getattr(self, "holding", {}):
            if is_terminal(JobState(self.row(job_id).state)):
                continue
            self.ask(job_id, Action.RESUME)
            holder = self.deliver(job_id, 0)
            if isinstance(holder, Holder):
                self.finish(holder, JobState.SUCCEEDED)
            assert is_terminal(JobState(self.row(job_id).state))

    def writes(self, holder: Holder, step: Any) -> bool:
        """Whether the write changed anything: it does if the holder still has the job, only."""
        has_it = self.holding[holder.job_id] == holder.attempt
        try:
            with self.database.writing() as session:
                step(session)
        except Replaced:
            assert not has_it
            return False
        assert has_it
        self.settle(holder.job_id)
        return True

    def settle(self, job_id: str) -> None:
        """Whoever had a job has it no more once it does not run."""
        if self.row(job_id).state != JobState.RUNNING:
            self.holding[job_id] = None

    def row(self, job_id: str) -> JobRow:
        with self.database.reading() as session:
            return session.scalars(sa.select(JobRow).where(JobRow.id == job_id)).one()

    def rows(self) -> list[JobRow]:
        with self.database.reading() as session:
            return list(session.scalars(sa.select(JobRow)))


def run_machine(
    database: Database, clock: VirtualClock, *, examples: int, steps: int, **options: Any
) -> None:
    machine = type("OnThisDatabase", (JobMachine,), {"database": database, "clock": clock})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


# The rules are the same on both; a step takes three times as long on PostgreSQL.
sqlite_by_default = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


@sqlite_by_default
def test_jobs_keep_their_promises_in_any_order(database: Database, clock: VirtualClock) -> None:
    run_machine(database, clock, examples=25, steps=30)


@pytest.mark.slow
def test_jobs_keep_their_promises_in_very_many_orders(
    database: Database, clock: VirtualClock
) -> None:
    run_machine(database, clock, examples=500 if database.is_sqlite else 150, steps=50)


@sqlite_by_default
def test_the_machine_finds_a_missing_fence(
    database: Database, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "still_had", had_by_whoever_asks)

    with pytest.raises((AssertionError, RuntimeError, BaseExceptionGroup)):
        run_machine(database, clock, examples=200, steps=30, phases=(Phase.generate,))


def had_by_whoever_asks(row: JobRow | None, attempt: int) -> JobRow:
    del attempt
    assert row is not None
    return row
