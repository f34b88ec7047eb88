"""The recipe of docs/operations.md: a copy made under load is put back, and all of it works."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.builders import Json, checked, plane
from tests.journeys.caller import Caller
from tests.servers import ROOT, running_service

JOBS = 4


def app(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        env=os.environ | {"BACKSOLVE_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def uploads_and_jobs(url: str) -> Iterator[None]:
    """Somebody trains, and uploads and deletes all the time."""
    done = threading.Event()

    def load() -> None:
        with Caller(url) as caller:
            for _ in range(JOBS):
                caller.queue(caller.upload(plane()), ["y"])
            while not done.is_set():
                caller.client.delete(f"/v1/datasets/{caller.upload(plane(20))}")

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_backup_made_under_load_is_restored_whole(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    with running_service(live) as service, Caller(service.url) as caller:
        model_id = caller.wait(caller.queue(caller.upload(plane()), ["y"]))["model_id"]
        before = caller.predict(model_id, np.array([[10.0, 0.5]]))
        with uploads_and_jobs(service.url):
            backup = app(live, "backup", str(copy))
        again = app(live, "backup", str(copy))

    assert backup.returncode == 0, backup.stderr
    with running_service(copy) as service, Caller(service.url) as caller:
        after = caller.predict(model_id, np.array([[10.0, 0.5]]))
        jobs = [caller.wait(job["id"]) for job in everything(caller, "/v1/jobs")]
        for dataset in everything(caller, "/v1/datasets"):
            preview = caller.client.get(f"/v1/datasets/{dataset['id']}/rows")
            # One that was deleted between the two copies is listed, and has no rows.
            assert preview.status_code == (200 if preview.is_success else 404)
            assert preview.is_success or dataset["row_count"] == 20

    assert again.returncode == 1
    assert "is kept" in again.stderr
    assert after == pytest.approx(before, abs=0.0)
    assert {job["state"] for job in jobs} == {"succeeded"}


def everything(caller: Caller, path: str) -> list[Json]:
    items, cursor = [], None
    while True:
        params = {"limit": 100} | ({} if cursor is None else {"cursor": cursor})
        page = checked(caller.client.get(path, params=httpx.QueryParams(params)), 200)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


def test_a_database_on_a_server_is_left_to_its_own_tools(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "backup", str(tmp_path / "copy")],
        cwd=ROOT,
        env=os.environ | {"BACKSOLVE_DATABASE_URL": "postgresql+psycopg://nobody@nowhere/none"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pg_dump" in done.stderr
    assert not (tmp_path / "copy").exists()
