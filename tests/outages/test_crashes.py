"""PostgreSQL crashes under load: what was acknowledged is there, and no answer is a 500."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest

from app.jobs.training_run import run_on
from app.jobs.worker import worker_of
from app.settings import Settings
from app.storage import migrations
from app.storage.database import database_of
from tests.api.problems import problem_of
from tests.builders import Api
from tests.jobs.running import SPEC, Running, has_begun, table
from tests.outages.conftest import in_time
from tests.postgres import OwnPostgres, own_postgres
from tests.servers import serving

CALLERS = 4
RECOVERY_SECONDS = 2.0
CYCLES = [3, pytest.param(100, marks=pytest.mark.slow)]


class Crashing(NamedTuple):
    """A service on a server of its own, which a test may crash."""

    server: OwnPostgres
    api: Api
    settings: Settings

    def kill_a_backend(self) -> None:
        """As the kernel does when memory is short: the server ends all its others, and recovers."""
        connection = connection_to(self.server)
        backends = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        found: list[int] = []

        def look_for_others() -> bool:
            pids = [row[0] for row in connection.execute(backends)]
            found[:] = [pid for pid in pids if pid != connection.info.backend_pid]
            return bool(found)

        until(look_for_others)  # a pool that was just emptied fills again under load
        os.kill(found[0], signal.SIGKILL)
        until(lambda: is_broken(connection))
        connection.close()
        until(lambda: answers(self.server))


def is_broken(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        # The tests' servers may lose what they acknowledged; this one may not.
        with connection_to(server) as connection:
            connection.execute("ALTER DATABASE postgres SET synchronous_commit = on")
        yield server


@pytest.fixture
def crashing(server: OwnPostgres, tmp_path: Path) -> Iterator[Crashing]:
    settings = Settings(
        database_url=server.url,
        data_dir=tmp_path,
        heartbeat_seconds=0.05,
        owner_jobs_max=10**6,
        queued_jobs_max=10**6,
    )
    database = database_of(settings)
    migrations.upgrade(database)
    database.dispose()
    worker = worker_of(settings)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        api = Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))
        yield Crashing(server, api, settings)
    worker.database.dispose()


def connection_to(server: OwnPostgres) -> psycopg.Connection:
    return psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True)


def answers(server: OwnPostgres) -> bool:
    try:
        with connection_to(server) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def is_ready(api: Api) -> bool:
    return api.client.get("/readyz").status_code == 200


def until(holds: Callable[[], bool]) -> float:
    """The seconds until it held."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 30
        time.sleep(0.01)
    return time.monotonic() - started


class Load:
    """Callers who create jobs, each sent until it is acknowledged, under a key of its own."""

    def __init__(self, api: Api, dataset_id: str) -> None:
        self.api, self.dataset_id = api, dataset_id
        self.done = threading.Event()
        self.acknowledged: list[str] = []

    def ask_until_done(self) -> None:
        while not self.done.is_set():
            self.create(uuid4().hex)

    def create(self, key: str) -> None:
        body = {"dataset_id": self.dataset_id, "targets": ["y"]}
        while (answer := self.post(body, key)).status_code == 503:
            assert problem_of(answer)["code"] == "database_unavailable"
            assert answer.headers["Retry-After"]
            time.sleep(0.02)
        assert answer.status_code == 202, answer.text
        self.acknowledged.append(answer.json()["id"])

    def post(self, body: object, key: str) -> httpx.Response:
        return self.api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})

    def wait_for_another(self) -> None:
        """So that there is load between one strike and the next."""
        count = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > count)


@pytest.mark.parametrize("cycles", CYCLES)
@pytest.mark.parametrize("crash", ["kill_a_backend", "restart"])
def test_what_was_acknowledged_under_load_is_there_once_and_soon(
    crashing: Crashing, crash: str, cycles: int
) -> None:
    strike = crashing.server.crash if crash == "restart" else crashing.kill_a_backend
    load = Load(crashing.api, crashing.api.upload(table()))

    recoveries = []
    with ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(load.ask_until_done) for _ in range(CALLERS)]
        try:
            for _ in range(cycles):
                strike()
                recoveries.append(until(lambda: is_ready(crashing.api)))
                load.wait_for_another()
        finally:
            load.done.set()
        for caller in asking:
            caller.result()

    assert in_time(recoveries, RECOVERY_SECONDS)
    with connection_to(crashing.server) as connection:
        query = "SELECT id FROM jobs WHERE dataset_id = %s"
        stored = [row[0] for row in connection.execute(query, (load.dataset_id,))]
    assert sorted(stored) == sorted(load.acknowledged)


def test_a_job_runs_through_crashes_of_the_database_to_the_same_bits(crashing: Crashing) -> None:
    api, worker = crashing.api, worker_of(crashing.settings)
    dataset_id = api.upload(table())
    alone = api.train(dataset_id, ["y"], **SPEC)
    running = Running(api, worker, api.queue(dataset_id, ["y"], **SPEC)["id"], 1)
    running.until(has_begun)

    crashing.server.crash()
    until(lambda: is_ready(api))
    crashing.kill_a_backend()
    running.thread.join(60)
    until(lambda: is_ready(api))
    ended = running.ended()

    worker.database.dispose()
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
    assert parameters(api, ended) == parameters(api, alone)
    assert api.get(f"/v1/jobs/{ended['id']}/history", max_points=10_000)["epoch_count"] == (
        alone["progress"]["epoch"] + 1
    )


def parameters(api: Api, job: dict[str, object]) -> object:
    return api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")
