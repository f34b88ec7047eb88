"""What a run writes of an epoch that is not over: nothing, but it listens."""

import math
import time
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from app.jobs import lifecycle
from app.jobs.recorder import Ending, Recorder
from app.jobs.worker import Worker
from app.numeric.method import Settings
from app.numeric.rows import rows_of
from app.numeric.training import Progress, TrainingData, TrainingPlan, train
from app.storage.tables import JobRow
from tests.builders import Api, plane
from tests.jobs.running import SPEC, Running, table


def progress_of(*, epoch: int, batch: int) -> Progress:
    x = np.random.default_rng(0).normal(size=(20, 2))
    plan = TrainingPlan("identity", "half_squared_error", "gradient_descent", Settings())
    first = next(train(TrainingData(rows_of(x, x[:, :1])), plan))
    return first._replace(epoch=epoch, batch=batch)


@pytest.fixture
def recorder(api: Api, worker: Worker) -> Recorder:
    """That of a running job."""
    job = api.queue(api.upload(plane()), ["y"])
    with worker.database.writing() as session:
        claim = lifecycle.claim(
            session, job["id"], 1, worker="host:1", lease_seconds=60.0, attempts_max=3
        )
    assert claim is not None
    return Recorder(worker, claim)


def test_an_epoch_that_is_not_over_leaves_no_record(recorder: Recorder) -> None:
    for epoch, batch in ((0, 0), (0, 40), (0, 80), (1, 0), (1, 40)):
        recorder.add(progress_of(epoch=epoch, batch=batch), epochs=5, rows=20)

    assert [record[0] for record in recorder.records] == [0, 1]
    assert recorder.progress is not None
    assert recorder.progress["epoch"] == 1


def test_a_job_is_cancelled_in_the_middle_of_an_epoch(api: Api, recorder: Recorder) -> None:
    api.post(f"/v1/jobs/{recorder.claim.job_id}/cancel", None, 202)
    recorder.lease.written_at = -math.inf

    ending = recorder.add(progress_of(epoch=0, batch=40), epochs=5, rows=20)

    assert ending is Ending.CANCEL


def test_the_lease_is_renewed_while_one_step_takes_long(recorder: Recorder, worker: Worker) -> None:
    def lease() -> datetime:
        with worker.database.reading() as session:
            row = session.get(JobRow, recorder.claim.job_id)
            assert row is not None
            assert row.lease_ends_at is not None
            return row.lease_ends_at

    claimed_until = lease()
    deadline = time.monotonic() + 30

    with recorder.lease.kept():
        while lease() <= claimed_until:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_checkpoint_is_written_without_reading_the_one_before(api: Api, worker: Worker) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    event.listen(worker.database.engine, "before_cursor_execute", note)
    running = Running(api, worker, job["id"], 1)
    running.until(lambda _: saves(statements) > 3)
    running.ask("cancel")
    running.ended()

    reads = [s for s in statements if s.startswith("SELECT") and "checkpoints.state" in s]
    assert len(reads) <= 1  # of the claim


def saves(statements: list[str]) -> int:
    return sum("UPDATE checkpoints" in statement for statement in statements)
