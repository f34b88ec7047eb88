"""Whose turn it is: no owner waits for all of another one's jobs."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import cast

import pytest
from distributed import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.dispatcher import Dispatcher
from app.jobs import queries
from app.jobs.delivery import Cluster, SchedulerState
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, Session, clock
from tests.jobs.rows import job_row

Jobs = Sequence[tuple[str, JobState]]

# The owner and state of each job, from the oldest to the newest.
jobs = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from([JobState.QUEUED, JobState.QUEUED, JobState.RUNNING, JobState.PAUSED]),
    ),
    max_size=30,
)


class Slots(Cluster):
    """A cluster with so many workers, none of which ever claims a job."""

    sent: list[str]

    def __new__(cls, slots: int) -> "Slots":
        cluster = super().__new__(cls, cast("Client", slots))
        cluster.sent = []
        return cluster

    def state(self) -> SchedulerState:
        return SchedulerState("one", cast("int", self.client))

    def deliver(self, job_id: str, delivery: int) -> None:
        self.sent.append(f"{job_id}-{delivery}")


def add(session: Session, found: Jobs, *, sent: Collection[str] = ()) -> None:
    now = clock(session)
    for number, (owner, state) in enumerate(found):
        job_id = f"job_{number:03}"
        session.add(job_row(now, job_id, owner=owner, state=state))
        assert job_id not in sent or state is JobState.QUEUED
    session.flush()


def one_by_one(found: Jobs, *, sent: Collection[str], owner_running_max: int) -> list[str]:
    """The order in which each time the owner with the fewest running jobs gets another one."""
    running, waiting = Counter[str](), list[tuple[str, str]]()
    for number, (owner, state) in enumerate(found):
        if state is JobState.RUNNING or f"job_{number:03}" in sent:
            running[owner] += 1
        elif state is JobState.QUEUED:
            waiting.append((f"job_{number:03}", owner))
    order = []
    while waiting:
        job_id, owner = min(waiting, key=lambda job: (running[job[1]], job[0]))
        if running[owner] >= owner_running_max:
            break
        running[owner] += 1
        waiting.remove((job_id, owner))
        order.append(job_id)
    return order


@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=jobs, data=st.data(), limit=st.integers(1, 30), most=st.integers(1, 6))
def test_each_time_the_owner_with_the_fewest_running_jobs_is_next(
    database: Database, found: Jobs, data: st.DataObject, limit: int, most: int
) -> None:
    queued = [f"job_{n:03}" for n, (_, state) in enumerate(found) if state is JobState.QUEUED]
    sent = data.draw(st.sets(st.sampled_from(queued)) if queued else st.just(set[str]()))
    with database.reading() as session:  # nothing is committed: the next example begins anew
        add(session, found, sent=sent)

        chosen = queries.next_deliveries(session, sent=sent, owner_running_max=most, limit=limit)

    order = one_by_one(found, sent=sent, owner_running_max=most)
    assert [job_id for job_id, _ in chosen] == order[:limit]


def test_one_job_beside_another_owners_thousand_is_among_the_next(
    database: Database, settings: Settings
) -> None:
    cluster = Slots(4)
    dispatcher = Dispatcher(database, cluster, settings)
    with database.writing() as session:
        add(session, [("a", JobState.QUEUED)] * 1000)
    dispatcher.look()
    with database.writing() as session:
        session.add(job_row(clock(session), "job_b", owner="b"))
        running = queries.find_and_lock(session, "job_000")
        assert running is not None
        running.state = JobState.SUCCEEDED

    dispatcher.look()
    dispatcher.look()

    assert cluster.sent == ["job_000-1", "job_001-1", "job_002-1", "job_003-1", "job_b-1"]


def test_what_was_sent_and_not_claimed_counts_as_running(
    database: Database, settings: Settings
) -> None:
    cluster = Slots(3)
    dispatcher = Dispatcher(database, cluster, settings)
    with database.writing() as session:
        add(session, [("a", JobState.QUEUED)] * 9)
    dispatcher.look()
    cluster = dispatcher.cluster = Slots(5)
    with database.writing() as session:
        session.add(job_row(clock(session), "job_b1", owner="b"))
        session.add(job_row(clock(session), "job_b2", owner="b"))

    dispatcher.look()

    assert cluster.sent == ["job_b1-1", "job_b2-1"]


@pytest.mark.parametrize("most", [1, 3])
def test_an_owner_has_no_more_jobs_running_than_the_cap(
    database: Database, settings: Settings, most: int
) -> None:
    cluster = Slots(8)
    dispatcher = Dispatcher(
        database, cluster, settings.model_copy(update={"owner_running_max": most})
    )
    with database.writing() as session:
        add(session, [("a", JobState.RUNNING), *[("a", JobState.QUEUED)] * 9])
        session.add(job_row(clock(session), "job_b", owner="b"))

    dispatcher.look()

    assert len(cluster.sent) == most
    assert "job_b-1" in cluster.sent
