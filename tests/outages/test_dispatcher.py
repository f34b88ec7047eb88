"""An outage of the database is nobody's death: whose lease ended in it is not blamed for that."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest

from app import dispatcher as dispatcher_module
from app.dispatcher import Dispatcher, dispatch_to
from app.jobs.delivery import Cluster, SchedulerState
from app.jobs.states import JobState
from app.settings import Settings
from app.storage.database import Database, clock, database_of
from app.storage.tables import JobRow
from tests.jobs.test_lifecycle import add_job, claim, read
from tests.outages.conftest import CALL_SECONDS
from tests.toxic import Mode, Proxy

LEASE_SECONDS = 60.0


class NoWorkers:
    def state(self) -> SchedulerState:
        return SchedulerState("generation", 0)


@pytest.fixture
def dispatcher(database: Database, settings: Settings) -> Dispatcher:
    """One that has been looking for a while, at a running job."""
    assert settings.lease_seconds == LEASE_SECONDS
    add_job(database)
    claim(database)
    dispatcher = Dispatcher(database, cast("Cluster", NoWorkers()), settings)
    dispatcher.look()
    assert dispatcher.sees_since is not None
    dispatcher.sees_since -= timedelta(hours=1)
    return dispatcher


def pass_seconds(dispatcher: Dispatcher, seconds: float) -> None:
    """As if all that is written had been written so much earlier."""
    past = timedelta(seconds=seconds)
    with dispatcher.database.writing() as session:
        row = session.get_one(JobRow, "job_1")
        assert row.heartbeat_at is not None
        assert row.lease_ends_at is not None
        row.heartbeat_at -= past
        row.lease_ends_at -= past
    assert dispatcher.sees_since is not None
    dispatcher.sees_since -= past
    if dispatcher.looked_at is not None:
        dispatcher.looked_at -= past


def look_until_taken_back(dispatcher: Dispatcher) -> JobRow:
    """The job after a look a second, once one has found that its lease is over."""
    for _ in range(int(2 * LEASE_SECONDS)):
        dispatcher.look()
        job = read(dispatcher.database)
        if job.state != JobState.RUNNING:
            break
        pass_seconds(dispatcher, 1.0)
    assert job.state == JobState.QUEUED
    return job


def test_a_worker_that_falls_silent_while_the_database_is_there_has_died(
    dispatcher: Dispatcher,
) -> None:
    assert look_until_taken_back(dispatcher).deaths == 1


@pytest.mark.parametrize("outage_seconds", [20.0, 50.0, 58.0, 70.0])
def test_a_lease_that_ends_in_an_outage_or_soon_after_it_is_nobodys_death(
    dispatcher: Dispatcher, outage_seconds: float
) -> None:
    """A worker leaves when a fifth of the lease is left: the outage may be over before it ends."""
    dispatcher.lose_sight()
    pass_seconds(dispatcher, outage_seconds)

    assert look_until_taken_back(dispatcher).deaths == 0


def test_a_worker_that_renewed_its_lease_after_an_outage_and_then_dies_has_died(
    dispatcher: Dispatcher, database: Database
) -> None:
    dispatcher.lose_sight()
    pass_seconds(dispatcher, 30.0)
    dispatcher.look()
    pass_seconds(dispatcher, 1.0)
    with database.writing() as session:
        row = session.get_one(JobRow, "job_1")
        row.heartbeat_at = clock(session)
        row.lease_ends_at = row.heartbeat_at + timedelta(seconds=LEASE_SECONDS)

    assert look_until_taken_back(dispatcher).deaths == 1


def test_a_machine_that_slept_has_killed_nobody(dispatcher: Dispatcher) -> None:
    """Its own clocks stood still; the time of the day went on."""
    pass_seconds(dispatcher, 3600.0)

    assert look_until_taken_back(dispatcher).deaths == 0


@pytest.fixture
def behind(through: Settings, between: Proxy) -> Iterator[Database]:
    database = database_of(through)
    yield database
    between.set(Mode.PASS)
    database.dispose()


def test_a_dispatcher_whose_database_is_away_loses_sight_of_the_workers_and_goes_on(
    behind: Database,
    through: Settings,
    between: Proxy,
    direct_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    direct = Database(direct_url, busy_seconds=10)
    add_job(direct)
    claim(direct)
    lost, seen, stopping = threading.Event(), threading.Event(), threading.Event()

    class Watched(Dispatcher):
        def look(self) -> None:
            super().look()
            seen.set()

        def lose_sight(self) -> None:
            super().lose_sight()
            lost.set()

    monkeypatch.setattr(dispatcher_module, "Dispatcher", Watched)
    thread = threading.Thread(
        target=dispatch_to,
        args=(cast("Cluster", NoWorkers()), through, behind, stopping),
    )
    thread.start()
    assert seen.wait(10)
    between.set(Mode.BLACK_HOLE)
    assert lost.wait(10 + CALL_SECONDS)
    with direct.writing() as session:
        row = session.get_one(JobRow, "job_1")
        row.lease_ends_at = clock(session) - timedelta(seconds=1)
    seen.clear()
    between.set(Mode.PASS)
    assert seen.wait(10)
    stopping.set()
    thread.join(10)

    assert (read(direct).state, read(direct).deaths) == (JobState.QUEUED, 0)
    direct.dispose()
