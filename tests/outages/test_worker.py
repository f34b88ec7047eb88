"""A worker whose database goes away: it leaves its job before another may have it."""

import time
from collections.abc import Iterator

import httpx
import pytest

from app.jobs import lifecycle, training_run
from app.jobs.training_run import run_on
from app.jobs.worker import Worker, worker_of
from app.settings import Settings
from app.storage.database import Database
from tests.api.test_transactions import before_each_commit
from tests.builders import Api, Json
from tests.jobs.running import SPEC, Running, has_begun, table
from tests.servers import serving
from tests.toxic import Mode, Proxy

LEASE_SECONDS = 3.0
LONG_SPEC = {**SPEC, "solver": {**SPEC["solver"], "epochs": 400_000}}


@pytest.fixture
def api(direct_url: str, through: Settings) -> Iterator[Api]:
    """An API that always reaches the database."""
    settings = through.model_copy(update={"database_url": direct_url})
    worker = worker_of(settings)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))
    worker.database.dispose()


@pytest.fixture
def cut_off(through: Settings) -> Iterator[Worker]:
    """A worker behind the proxy. Its process must not end with a run that does."""

    def abandon() -> None:
        raise AssertionError("the run should have ended by itself")

    settings = through.model_copy(update={"lease_seconds": LEASE_SECONDS})
    worker = worker_of(settings)._replace(abandon=abandon)
    yield worker
    worker.database.dispose()


def test_a_worker_that_cannot_renew_its_lease_leaves_and_another_ends_the_job(
    api: Api, cut_off: Worker, between: Proxy, direct_url: str
) -> None:
    dataset = api.upload(table())
    whole = api.train(dataset, ["y"], **SPEC)
    job = api.queue(dataset, ["y"], **LONG_SPEC)
    running = Running(api, cut_off, job["id"], 1)
    running.until(has_begun)

    between.set(Mode.BLACK_HOLE)
    cut_at = time.monotonic()
    running.thread.join(timeout=30)
    left_after = time.monotonic() - cut_at
    row = running.job()

    assert left_after < LEASE_SECONDS
    assert (row["state"], row["attempt"]) == ("running", 1)
    assert whole["state"] == "succeeded"
    taken = taken_back(api, job["id"], direct_url)
    assert (taken["state"], taken["progress"]["epoch"] >= 20) == ("queued", True)


def test_what_a_worker_had_locked_when_it_vanished_keeps_nobody_from_its_job(
    api: Api, cut_off: Worker, between: Proxy, direct_url: str
) -> None:
    job = api.queue(api.upload(table()), ["y"], **LONG_SPEC)
    running = Running(api, cut_off, job["id"], 1)
    running.until(has_begun)

    # A commit of the worker's: nobody else here commits while this lasts.
    with before_each_commit(lambda: between.set(Mode.BLACK_HOLE)):
        running.thread.join(timeout=30)

    assert taken_back(api, job["id"], direct_url)["state"] == "queued"


def taken_back(api: Api, job_id: str, url: str) -> Json:
    """The job once the dispatcher has found that its lease is over."""
    database = Database(url, busy_seconds=10)
    deadline = time.monotonic() + 2 * LEASE_SECONDS
    while (job := api.get(f"/v1/jobs/{job_id}"))["state"] == "running":
        with database.writing() as session:
            lifecycle.take_back_lost(session, attempts_max=3)
        assert time.monotonic() < deadline
    database.dispose()
    return job


def test_a_short_outage_costs_nothing_and_changes_no_bit(
    api: Api, cut_off: Worker, between: Proxy
) -> None:
    dataset = api.upload(table())
    whole = api.train(dataset, ["y"], **SPEC)
    running = Running(api, cut_off, api.queue(dataset, ["y"], **SPEC)["id"], 1)
    running.until(has_begun)

    between.set(Mode.BLACK_HOLE)
    time.sleep(0.8)
    between.set(Mode.PASS)
    ended = running.ended()

    assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
    assert parameters(api, ended) == parameters(api, whole)


def test_a_run_that_does_not_end_ends_its_process_before_the_lease_does(
    api: Api, cut_off: Worker, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned: list[float] = []
    worker = cut_off._replace(abandon=lambda: abandoned.append(time.monotonic()))
    job = api.queue(api.upload(table()), ["y"], **SPEC)

    def never_listens(*_: object, **__: object) -> None:
        between.set(Mode.BLACK_HOLE)
        time.sleep(LEASE_SECONDS + 1.0)
        raise MemoryError

    monkeypatch.setattr(training_run, "prepare", never_listens)
    begun_at = time.monotonic()
    run_on(worker, job["id"], 1)

    assert len(abandoned) == 1
    assert abandoned[0] - begun_at < LEASE_SECONDS


def parameters(api: Api, job: Json) -> Json:
    return api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")
