"""The rules of claims, fences and deaths, on both databases."""

import threading
from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from app.jobs import history, lifecycle, queries
from app.jobs.lifecycle import Claim, Replaced, SavedState
from app.jobs.states import JobState
from app.numeric.activations import Array
from app.storage.database import Database, Session, clock
from app.storage.tables import JobRow

LEASE_SECONDS = 60.0
ATTEMPTS_MAX = 3


def test_every_claim_has_an_attempt_of_its_own(database: Database) -> None:
    add_job(database)
    claims: list[Claim | None] = []

    def try_to_claim() -> None:
        claims.append(claim(database))

    threads = [threading.Thread(target=try_to_claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # A copy of a delivery is taken for a redelivery after a death, up to the limit of deaths; the
    # attempts are distinct, so that only the last one can write.
    attempts = [claimed.attempt for claimed in claims if claimed is not None]
    assert len(set(attempts)) == len(attempts)
    with database.writing() as session, pytest.raises(Replaced):
        lifecycle.beat(session, "job_1", 1, lease_seconds=LEASE_SECONDS)


def test_an_outdated_delivery_claims_nothing(database: Database) -> None:
    add_job(database, delivery=2)

    assert claim(database, delivery=1) is None
    assert state(database) == JobState.QUEUED


def test_a_redelivery_takes_the_job_from_a_dead_worker_and_fences_it_off(
    database: Database,
) -> None:
    add_job(database)
    first = claim(database)
    assert first is not None

    second = claim(database)

    assert second is not None
    assert second.attempt == first.attempt + 1
    with pytest.raises(Replaced), database.writing() as session:
        lifecycle.finish(session, "job_1", first.attempt, JobState.SUCCEEDED, reason="finished")
    assert state(database) == JobState.RUNNING


def test_a_job_that_kills_its_worker_each_time_is_failed_with_the_reason(
    database: Database,
) -> None:
    add_job(database)

    claims = [claim(database) for _ in range(ATTEMPTS_MAX + 1)]

    assert [claimed is not None for claimed in claims] == [True, True, True, False]
    job = read(database)
    assert (job.state, job.error and job.error["code"]) == (JobState.FAILED, "worker_lost")
    assert job.ended_at is not None


def test_a_job_whose_lease_has_ended_is_queued_again_under_a_new_delivery(
    database: Database,
) -> None:
    add_job(database)
    first = claim(database, lease_seconds=-1)
    assert first is not None

    with database.writing() as session:
        taken = lifecycle.take_back_lost(session, attempts_max=ATTEMPTS_MAX)

    job = read(database)
    assert (taken, job.state, job.delivery) == (1, JobState.QUEUED, 2)
    with pytest.raises(Replaced), database.writing() as session:
        lifecycle.beat(session, "job_1", first.attempt, lease_seconds=LEASE_SECONDS)


def test_a_job_whose_lease_has_not_ended_is_left_alone(database: Database) -> None:
    add_job(database)
    claim(database)

    with database.writing() as session:
        taken = lifecycle.take_back_lost(session, attempts_max=ATTEMPTS_MAX)

    assert (taken, state(database)) == (0, JobState.RUNNING)


def test_a_beat_renews_the_lease_by_the_database_clock(database: Database) -> None:
    add_job(database)
    claimed = claim(database, lease_seconds=1)
    assert claimed is not None

    with database.writing() as session:
        lifecycle.beat(session, "job_1", claimed.attempt, lease_seconds=100)
        now = clock(session)

    ends_at = read(database).lease_ends_at
    assert ends_at is not None
    assert timedelta(seconds=95) < ends_at - now <= timedelta(seconds=100)


def test_stopping_the_service_gives_jobs_back_without_counting_a_death(
    database: Database,
) -> None:
    add_job(database)
    claim(database)

    with database.writing() as session:
        lifecycle.give_back_all(session)

    job = read(database)
    assert (job.state, job.deaths, job.delivery) == (JobState.QUEUED, 0, 2)


def test_a_copy_of_a_delivery_claims_nothing_once_the_job_has_ended(database: Database) -> None:
    add_job(database)
    claimed = claim(database)
    assert claimed is not None
    with database.writing() as session:
        lifecycle.finish(session, "job_1", claimed.attempt, JobState.SUCCEEDED, reason="finished")

    again = claim(database)

    assert again is None
    assert read(database).attempt == claimed.attempt


def test_a_cancelled_job_is_not_run_again_after_its_worker_died(database: Database) -> None:
    add_job(database)
    claim(database, lease_seconds=-1)
    with database.writing() as session:
        row = queries.find_and_lock(session, "job_1")
        assert row is not None
        lifecycle.cancel(session, row)

    with database.writing() as session:
        lifecycle.take_back_lost(session, attempts_max=ATTEMPTS_MAX)

    assert state(database) == JobState.CANCELLED


def test_a_cancel_that_was_accepted_is_kept_even_if_training_ends_first(
    database: Database,
) -> None:
    add_job(database)
    claimed = claim(database)
    assert claimed is not None
    with database.writing() as session:
        row = queries.find_and_lock(session, "job_1")
        assert row is not None
        lifecycle.cancel(session, row)

    with database.writing() as session:
        ended = lifecycle.finish(
            session,
            "job_1",
            claimed.attempt,
            JobState.SUCCEEDED,
            reason="finished",
            model_id="mdl_1",
        )

    job = read(database)
    assert (ended, job.state, job.model_id) == (False, JobState.CANCELLED, None)


def test_a_delivery_that_nobody_claims_is_sent_anew_under_another_number(
    database: Database,
) -> None:
    add_job(database)

    with database.writing() as session:
        lifecycle.send_anew(session, "job_1", 1)
        lifecycle.send_anew(session, "job_1", 1)  # a second dispatcher found the same

    assert read(database).delivery == 2
    assert claim(database, delivery=1) is None
    assert claim(database, delivery=2) is not None


def test_history_of_an_attempt_that_was_lost_does_not_mix_with_the_next(
    database: Database,
) -> None:
    add_job(database)
    first = claim(database)
    assert first is not None
    with database.writing() as session:
        records = np.array([[0.0, 9.0, 9.0, 9.0]])
        save(session, first.attempt, records)
        queries.delete_checkpoint(session, "job_1")

    second = claim(database)
    assert second is not None
    with database.writing() as session:
        records = np.array([[0.0, 1.0, 2.0, 3.0]])
        save(session, second.attempt, records)

    with database.reading() as session:
        kept = history.join(queries.history_blocks(session, "job_1"))
    assert kept.tolist() == [[0.0, 1.0, 2.0, 3.0]]


def test_the_next_attempt_goes_on_from_the_checkpoint_with_the_history_up_to_it(
    database: Database,
) -> None:
    add_job(database)
    first = claim(database)
    assert first is not None
    records = np.array([[0.0, 9.0, 9.0, 9.0], [1.0, 8.0, 8.0, 8.0]])
    with database.writing() as session:
        save(session, first.attempt, records)

    second = claim(database)

    assert second is not None
    assert second.checkpoint == SavedState(1, b"state", {"numpy": "1"})
    with database.reading() as session:
        kept = history.join(queries.history_blocks(session, "job_1"))
    assert kept.tolist() == records.tolist()
    assert read(database).progress == {"epoch": 1}


def test_a_replaced_worker_cannot_store_a_checkpoint(database: Database) -> None:
    add_job(database)
    first = claim(database)
    claim(database)
    assert first is not None

    with database.writing() as session, pytest.raises(Replaced):
        save(session, first.attempt, np.array([[5.0, 1.0, 1.0, 1.0]]))

    with database.reading() as session:
        assert queries.checkpoint(session, "job_1") is None


def test_a_job_that_has_ended_leaves_no_checkpoint(database: Database) -> None:
    add_job(database)
    claimed = claim(database)
    assert claimed is not None
    with database.writing() as session:
        save(session, claimed.attempt, np.array([[0.0, 9.0, 9.0, 9.0]]))

    with database.writing() as session:
        lifecycle.finish(session, "job_1", claimed.attempt, JobState.SUCCEEDED, reason="finished")

    with database.reading() as session:
        assert queries.checkpoint(session, "job_1") is None


@pytest.mark.parametrize("lost", [False, True])
def test_a_pause_is_kept_when_the_worker_stops_or_dies_first(
    database: Database, lost: bool
) -> None:
    add_job(database)
    claimed = claim(database)
    assert claimed is not None
    with database.writing() as session:
        lifecycle.pause(session, locked(session))

    with database.writing() as session:
        if lost:
            lifecycle.take_back(session, locked(session), attempts_max=ATTEMPTS_MAX)
        else:
            lifecycle.give_back_all(session)

    assert state(database) == JobState.PAUSED
    assert claim(database) is None


def test_a_resumed_job_is_claimed_under_a_new_delivery_only(database: Database) -> None:
    add_job(database)
    with database.writing() as session:
        lifecycle.pause(session, locked(session))
        lifecycle.resume(session, locked(session))

    assert claim(database, delivery=1) is None
    assert claim(database, delivery=2) is not None


def test_every_move_is_kept_in_order(database: Database) -> None:
    add_job(database)
    claim(database)
    second = claim(database)
    assert second is not None
    with database.writing() as session:
        lifecycle.finish(session, "job_1", second.attempt, JobState.SUCCEEDED, reason="finished")

    with database.reading() as session:
        moves = [
            (move.state, move.reason, move.attempt)
            for move in queries.transitions(session, ["job_1"])
        ]

    assert moves == [
        ("running", "claimed", 1),
        ("queued", "worker_lost", 1),
        ("running", "claimed", 2),
        ("succeeded", "finished", 2),
    ]


def add_job(database: Database, *, delivery: int = 1) -> None:
    with database.writing() as session:
        session.add(
            JobRow(
                id="job_1",
                owner="default",
                name="a job",
                dataset_id=None,
                spec={},
                resolved_spec={},
                state=JobState.QUEUED,
                delivery=delivery,
                attempt=0,
                deaths=0,
                created_at=clock(session),
            )
        )


def claim(
    database: Database, *, delivery: int = 1, lease_seconds: float = LEASE_SECONDS
) -> Claim | None:
    with database.writing() as session:
        return lifecycle.claim(
            session,
            "job_1",
            delivery,
            worker="host:1",
            lease_seconds=lease_seconds,
            attempts_max=ATTEMPTS_MAX,
        )


def save(session: Session, attempt: int, records: Array) -> None:
    lifecycle.save(
        session,
        "job_1",
        attempt,
        lease_seconds=LEASE_SECONDS,
        progress={"epoch": int(records[-1, 0])},
        records=records,
        checkpoint=SavedState(int(records[-1, 0]), b"state", {"numpy": "1"}),
    )


def locked(session: Session) -> JobRow:
    row = queries.find_and_lock(session, "job_1")
    assert row is not None
    return row


def read(database: Database) -> JobRow:
    with database.reading() as session:
        return session.scalars(sa.select(JobRow)).one()


def state(database: Database) -> str:
    return read(database).state
