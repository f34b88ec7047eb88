"""Waiting for a job always ends, in a way that tells how the job did."""

import itertools
import time
from datetime import datetime
from typing import Any

import pytest

from app.client import (
    BacksolveError,
    Conflict,
    Job,
    JobCancelled,
    JobFailed,
    QueuePlace,
    WaitTimeout,
)
from tests.client.stubs import JOB, MODEL, Stub, client, ok, problem

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


def test_a_paused_job_is_waited_for_until_it_goes_on(pauses: list[float]) -> None:
    paused = {**running(3), "state": "paused"}

    with client(Stub(*[ok(paused)] * 5, ok(running(4)), ok(SUCCEEDED))) as backsolve:
        job = backsolve.job("job_1").wait()

    assert job.state == "succeeded"
    assert len(pauses) == 5


def test_a_queued_job_tells_where_it_waits() -> None:
    moment = "2026-01-02T03:04:05Z"
    waiting = {**JOB, "queue": {"position": 3, "expected_start_at": moment}}

    with client(Stub(ok(waiting), ok(running(1)))) as backsolve:
        queued, started = (backsolve.job("job_1") for _ in range(2))

    assert queued.queue == QueuePlace(3, datetime.fromisoformat(moment))
    assert started.queue is None


@pytest.mark.parametrize("action", ["cancel", "stop", "pause", "resume"])
def test_an_action_is_asked_for_once_and_the_job_is_as_it_was_answered(action: str) -> None:
    stub = Stub(ok(running(3)), ok({**running(4), "wanted": action}))

    with client(stub) as backsolve:
        job = backsolve.job("job_1")
        answered = getattr(job, action)()

    assert answered is job
    assert job.wanted == action
    assert job.progress is not None
    assert (job.progress.epoch, job.progress.eta_seconds) == (4, None)
    assert stub.requests[1].method == "POST"
    assert stub.paths[1:] == [f"/v1/jobs/job_1/{action}"]


def test_an_action_that_cannot_be_is_a_conflict() -> None:
    refused = problem(409, "action_not_allowed", allowed_actions=["cancel"])

    with client(Stub(ok(running(3)), refused)) as backsolve, pytest.raises(Conflict) as caught:
        backsolve.job("job_1").resume()

    assert caught.value.code == "action_not_allowed"


def test_polling_begins_fast_and_becomes_gentle(pauses: list[float]) -> None:
    with client(Stub(*[ok(JOB)] * 20, ok(SUCCEEDED))) as backsolve:
        backsolve.job("job_1").wait()

    assert pauses[0] == 0.05
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_service_that_waits_for_the_end_is_not_asked_again_and_again(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=7)  # every look at it is seven seconds later
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    stub = Stub(ok(JOB), ok(running(1)), ok(running(2)), ok(SUCCEEDED))

    with client(stub) as backsolve:
        backsolve.job("job_1").wait(timeout_seconds=60)

    asked = [request.headers.get("Prefer") for request in stub.requests]
    assert asked == [None, "wait=10", "wait=10", "wait=10"]
    assert pauses == []


def test_progress_that_is_to_be_told_is_not_waited_for(pauses: list[float]) -> None:
    stub = Stub(ok(JOB), ok(running(1)), ok(SUCCEEDED))

    with client(stub) as backsolve:
        backsolve.job("job_1").wait(on_progress=lambda _: None)

    assert [request.headers.get("Prefer") for request in stub.requests] == [None] * 3
    assert len(pauses) == 1


def test_a_job_without_a_model_says_so() -> None:
    with client(Stub(ok(running(1)))) as backsolve, pytest.raises(BacksolveError, match="running"):
        backsolve.job("job_1").model()
