"""Waiting for a job always ends, in a way that tells how the job did."""

import time
from typing import Any

import pytest

from app.client import BacksolveError, Job, JobCancelled, JobFailed, WaitTimeout
from tests.client.stubs import JOB, MODEL, Stub, client, ok

SUCCEEDED = {**JOB, "state": "succeeded", "terminal": True, "model_id": "mdl_1"}
FAULT = {"code": "diverged", "detail": "Lower the learning rate."}
FAILED = {**JOB, "state": "failed", "terminal": True, "error": FAULT}
CANCELLED = {**JOB, "state": "cancelled", "terminal": True}


def running(epoch: int) -> dict[str, Any]:
    progress = {"epoch": epoch, "epochs": 9, "fraction": epoch / 9, "cost": 1.0}
    return {**JOB, "state": "running", "progress": progress}


@pytest.mark.usefixtures("pauses")
def test_wait_ends_with_the_model_in_reach() -> None:
    stub = Stub(ok(JOB), ok(running(1)), ok(SUCCEEDED), ok(MODEL))

    with client(stub) as backsolve:
        job = backsolve.train("ds_1", "strength")
        model = job.wait().model()

    assert job.state == "succeeded"
    assert model.id == job.model_id == "mdl_1"


@pytest.mark.usefixtures("pauses")
def test_progress_is_told_once_for_each_move() -> None:
    answers = [JOB, JOB, running(1), running(1), running(5), SUCCEEDED]
    seen: list[tuple[str, int | None]] = []

    def note(job: Job) -> None:
        seen.append((job.state, job.progress.epoch if job.progress else None))

    with client(Stub(*map(ok, answers))) as backsolve:
        backsolve.job("job_1").wait(on_progress=note)

    assert seen == [("queued", None), ("running", 1), ("running", 5), ("succeeded", None)]


@pytest.mark.usefixtures("pauses")
def test_a_failed_job_raises_its_code_and_remedy() -> None:
    with client(Stub(ok(JOB), ok(FAILED))) as backsolve, pytest.raises(JobFailed) as caught:
        backsolve.job("job_1").wait()

    assert (caught.value.job_id, caught.value.code) == ("job_1", "diverged")
    assert "Lower the learning rate." in str(caught.value)


@pytest.mark.usefixtures("pauses")
def test_a_cancelled_job_raises() -> None:
    with client(Stub(ok(JOB), ok(CANCELLED))) as backsolve, pytest.raises(JobCancelled):
        backsolve.job("job_1").wait()


def test_waiting_gives_up_in_time_and_the_job_stays_as_it_is() -> None:
    with client(Stub(ok(running(3)))) as backsolve:
        job = backsolve.job("job_1")
        started = time.monotonic()
        with pytest.raises(WaitTimeout, match=r"still running after 0\.2 s"):
            job.wait(0.2)

    assert 0.2 <= time.monotonic() - started < 2
    assert job.state == "running"


def test_polling_begins_fast_and_becomes_gentle(pauses: list[float]) -> None:
    with client(Stub(*[ok(JOB)] * 20, ok(SUCCEEDED))) as backsolve:
        backsolve.job("job_1").wait()

    assert pauses[0] == 0.05
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_job_without_a_model_says_so() -> None:
    with client(Stub(ok(running(1)))) as backsolve, pytest.raises(BacksolveError, match="running"):
        backsolve.job("job_1").model()
