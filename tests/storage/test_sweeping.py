"""What dead processes left is swept, and nothing else."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.settings import Settings
from app.storage import sweeping
from app.storage.blobs import FolderBlobs
from app.storage.database import Database
from app.storage.sweeping import sweep
from tests.builders import Api, csv_of, plane
from tests.servers import ROOT, free_port

DAY = 24.0


@pytest.fixture
def blobs(settings: Settings) -> FolderBlobs:
    return FolderBlobs(settings.resolved_storage_folder)


def age(blobs: FolderBlobs, *, hours: float) -> None:
    """Makes everything that is stored so much older."""
    for path in blobs.folder.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 3600 * hours
            os.utime(path, (moment, moment))


def orphan(blobs: FolderBlobs, key: str) -> None:
    with blobs.create(key) as file:
        file.write(b"x")


def keys(blobs: FolderBlobs) -> set[str]:
    return {blob.key for blob in blobs.stored()}


def test_what_no_dataset_names_is_removed_once_it_is_old(
    api: Api, database: Database, blobs: FolderBlobs
) -> None:
    named = [api.upload(plane()) for _ in range(3)]
    orphan(blobs, "ds_old")
    age(blobs, hours=25)
    orphan(blobs, "ds_young")

    removed = sweep(database, blobs, orphan_hours=DAY)

    assert removed == 1
    assert keys(blobs) == {*named, "ds_young"}
    assert all(api.get(f"/v1/datasets/{dataset}/rows")["items"] for dataset in named)


def test_a_store_of_which_the_database_knows_nothing_is_left_alone(
    database: Database, blobs: FolderBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    """It is somebody else's, or all that is left of a database that was lost."""
    orphan(blobs, "ds_old")
    age(blobs, hours=25)

    with caplog.at_level(logging.ERROR):
        removed = sweep(database, blobs, orphan_hours=DAY)

    assert removed == 0
    assert keys(blobs) == {"ds_old"}
    assert "Nothing is removed" in caplog.text


def test_many_keys_are_asked_for_in_pieces(
    api: Api, database: Database, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "KEYS_AT_ONCE", 2)
    named = {api.upload(plane()) for _ in range(3)}
    for number in range(4):
        orphan(blobs, f"ds_{number}")

    assert sweep(database, blobs, orphan_hours=-1.0) == 4
    assert keys(blobs) == named


@contextmanager
def no_row_can_be_written(database: Database) -> Iterator[None]:
    with database.writing() as session:
        # On SQLite the lock is taken with the first statement of a session that writes.
        lock = "SELECT 1" if database.is_sqlite else "LOCK TABLE datasets IN EXCLUSIVE MODE"
        session.execute(text(lock))
        yield


def wait_for_blob(blobs: FolderBlobs, *, besides: set[str]) -> None:
    deadline = time.monotonic() + 30
    while not keys(blobs) - besides:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def upload(url: str, answers: list[httpx.Response | httpx.TransportError]) -> None:
    try:
        headers = {"content-type": "text/csv"}
        answers.append(
            httpx.post(f"{url}/v1/datasets", content=csv_of(plane()), headers=headers, timeout=60)
        )
    except httpx.TransportError as error:
        answers.append(error)


@contextmanager
def api_process(settings: Settings, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    environment = {
        "BACKSOLVE_DATA_DIR": str(settings.data_dir),
        "BACKSOLVE_DATABASE_URL": settings.database_url,
        "BACKSOLVE_PORT": str(port),
    }
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=ROOT,
            env=os.environ | environment,
            stderr=file,
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not is_alive(url):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        try:
            yield process, url
        finally:
            process.kill()


def is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_the_blob_of_an_upload_that_was_killed_before_its_row_is_swept(
    settings: Settings, database: Database, blobs: FolderBlobs, tmp_path: Path
) -> None:
    answers: list[httpx.Response | httpx.TransportError] = []
    with api_process(settings, tmp_path / "log") as (process, url):
        upload(url, answers)
        whole = keys(blobs)
        with no_row_can_be_written(database):
            thread = threading.Thread(target=upload, args=(url, answers))
            thread.start()
            wait_for_blob(blobs, besides=whole)
            process.send_signal(signal.SIGKILL)
            thread.join()
    left = keys(blobs)
    age(blobs, hours=25)

    removed = sweep(database, blobs, orphan_hours=DAY)

    assert len(whole) == 1
    assert len(left) == 2
    assert isinstance(answers[1], httpx.TransportError)
    assert (removed, keys(blobs)) == (1, whole)


def test_an_upload_that_waits_for_its_row_is_not_swept(
    api: Api, database: Database, blobs: FolderBlobs
) -> None:
    whole = {api.upload(plane())}
    answers: list[httpx.Response | httpx.TransportError] = []
    with no_row_can_be_written(database):
        thread = threading.Thread(target=upload, args=(str(api.client.base_url), answers))
        thread.start()
        wait_for_blob(blobs, besides=whole)
        removed = sweep(database, blobs, orphan_hours=DAY)
    thread.join()

    assert removed == 0
    assert isinstance(answers[0], httpx.Response)
    assert answers[0].status_code == 201
    assert api.get(f"/v1/datasets/{answers[0].json()['id']}/rows")["items"]
