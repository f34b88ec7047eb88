"""A disk that is full: nothing acknowledged is lost, what is stored can be used, jobs wait."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from app.settings import Settings
from tests.api.problems import problem_of
from tests.builders import csv_of, plane
from tests.conftest import migrated_url
from tests.journeys.caller import Caller
from tests.journeys.test_deaths import LONG_SPEC, noisy_table
from tests.servers import Service, running_service, serving

CSV = {"content-type": "text/csv"}
SMALL_BYTES = 4 * 2**20
DISK_BYTES = 2**20


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """Everything, on SQLite."""
    url = migrated_url(request, "sqlite", tmp_path)
    with running_service(tmp_path, BACKSOLVE_DATABASE_URL=url) as service:
        yield service


@pytest.mark.slow
def test_while_files_cannot_grow_nothing_is_lost_and_then_all_goes_on(service: Service) -> None:
    with Caller(service.url) as caller:
        dataset_id = caller.upload(noisy_table())
        model_id = caller.wait(caller.queue(dataset_id, ["y"]))["model_id"]
        running = caller.queue(dataset_id, ["y"], **LONG_SPEC)
        caller.wait(running, "running")

        limit_files(service, SMALL_BYTES)
        acknowledged, refused = asked_until_refused(caller, dataset_id)
        predicted = caller.predict(model_id, np.zeros((1, 20)))
        upload = caller.client.post("/v1/datasets", content=b"x,y\n1,2\n" * 10**6, headers=CSV)
        limit_files(service, resource.RLIM_INFINITY)
        ended = caller.wait(running)
        again = caller.queue(dataset_id, ["y"])
        jobs = set(all_jobs(caller))

    assert (refused.status_code, problem_of(refused)["code"]) == (507, "storage_full")
    assert refused.headers["Retry-After"]
    assert upload.status_code == 507
    assert predicted.shape == (1, 1)
    assert ended["state"] == "succeeded"
    # The first two ran beside those that were acknowledged, and nothing else is there.
    assert jobs >= {*acknowledged, again}
    assert len(jobs) == len(acknowledged) + 3


def all_jobs(caller: Caller) -> Iterator[str]:
    cursor = None
    while True:
        page = caller.client.get(
            "/v1/jobs", params={"limit": 100} | ({"cursor": cursor} if cursor else {})
        )
        yield from (job["id"] for job in page.json()["items"])
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return


def limit_files(service: Service, size: int) -> None:
    """No process of the service can make a file larger than `size` bytes."""
    assert service.process is not None
    parent = psutil.Process(service.process.pid)
    for process in [parent, *parent.children(recursive=True)]:
        process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def asked_until_refused(caller: Caller, dataset_id: str) -> tuple[list[str], httpx.Response]:
    """Jobs with long names, until there is no room for another."""
    acknowledged: list[str] = []
    deadline = time.monotonic() + 60
    while True:
        body = {"dataset_id": dataset_id, "targets": ["y"], "name": "n" * 200}
        answer = caller.client.post("/v1/jobs", json=body)
        if answer.status_code != 202:
            return acknowledged, answer
        acknowledged.append(answer.json()["id"])
        assert time.monotonic() < deadline


def test_a_database_that_cannot_grow_keeps_what_it_acknowledged_and_grows_again(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = Settings(database_url=migrated_url(request, "sqlite", tmp_path), data_dir=tmp_path)
    with page_limit() as limit, serving(settings) as url, Caller(url) as caller:
        dataset_id = caller.upload(plane())
        limit.append(1)  # no more than there are
        acknowledged, refused = asked_until_refused(caller, dataset_id)
        readable = caller.client.get(f"/v1/datasets/{dataset_id}/rows")
        limit.append(2**30)
        after = caller.queue(dataset_id, ["y"])
        jobs = sorted(all_jobs(caller))

    assert (refused.status_code, problem_of(refused)["code"]) == (507, "storage_full")
    assert readable.status_code == 200
    assert jobs == sorted([*acknowledged, after])


@contextmanager
def page_limit() -> Iterator[list[int]]:
    """The last number given is the most pages that SQLite databases of this process may have."""
    limit: list[int] = []

    def set_limit(connection: Any, *_: object) -> None:
        if limit:
            connection.execute(f"PRAGMA max_page_count = {limit[-1]}")

    event.listen(Pool, "checkout", set_limit)
    try:
        yield limit
    finally:
        event.remove(Pool, "checkout", set_limit)


@pytest.fixture
def tablespace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database on PostgreSQL whose jobs and datasets are on a disk of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    url = migrated_url(request, "postgresql", tmp_path)
    with mounted_small_disk() as disk:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            for table in ("jobs", "datasets"):
                connection.execute(f"ALTER TABLE {table} SET TABLESPACE small")
        yield url
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            for table in ("jobs", "datasets"):
                connection.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            connection.execute("DROP TABLESPACE small")


def small_disk() -> Path:
    # PostgreSQL may run as another user, who cannot reach the folders of tests.
    return Path("/tmp") / f"backsolve-small-{os.getpid()}"  # noqa: S108


@contextmanager
def mounted_small_disk() -> Iterator[Path]:
    disk = small_disk()
    disk.mkdir()
    owner = "uid=nobody,gid=nogroup,mode=700"
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},{owner}", "tmpfs", str(disk)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        disk.rmdir()
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


@pytest.mark.slow
def test_on_postgresql_a_full_disk_is_told_and_what_was_acknowledged_is_there(
    tablespace: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=tablespace, data_dir=tmp_path)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        uploaded = []
        # The description of a table with many columns is some hundred kilobytes.
        wide = csv_of({f"column_{k}": [0.5, 1.5] for k in range(1000)})
        while (answer := client.post("/v1/datasets", content=wide, headers=CSV)).status_code == 201:
            uploaded.append(answer.json()["id"])
            assert len(uploaded) < 1000
        problem = problem_of(answer)
        listed = [client.get(f"/v1/datasets/{dataset}").status_code for dataset in uploaded]
        subprocess.run(["mount", "-o", f"remount,size={SMALL_BYTES}", small_disk()], check=True)
        after = client.post("/v1/datasets", content=csv_of(plane()), headers=CSV)

    assert (answer.status_code, problem["code"]) == (507, "storage_full")
    assert set(listed) == {200}
    assert after.status_code == 201
