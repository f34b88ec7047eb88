"""What was answered with a 2xx is stored, and what was not answered with one is not."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.pool import Pool

from app.settings import Settings
from app.storage.blobs import FolderBlobs
from app.storage.database import Database, Session
from app.storage.tables import DatasetRow, JobRow
from tests.api.problems import problem_of
from tests.builders import Api, csv_of, plane

CALLERS = 20
CSV = {"content-type": "text/csv"}
Row = type[DatasetRow] | type[JobRow]


@contextmanager
def before_each_commit(action: Callable[[], None]) -> Iterator[None]:
    def run(_: Session) -> None:
        action()

    event.listen(Session, "before_commit", run)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", run)


def fail() -> None:
    raise OSError("the disk is gone")


def count(database: Database, row: Row) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(row)) or 0


def blobs(settings: Settings) -> list[Path]:
    return [path for path in settings.resolved_storage_folder.rglob("*") if path.is_file()]


def post_table(api: Api, body: str | None = None) -> httpx.Response:
    return api.client.post(
        "/v1/datasets", content=csv_of(plane()) if body is None else body, headers=CSV
    )


def post_job(api: Api, dataset_id: str, **spec: Any) -> httpx.Response:
    return api.client.post("/v1/jobs", json={"dataset_id": dataset_id, "targets": ["y"], **spec})


def test_an_upload_whose_commit_fails_is_a_500_and_leaves_no_row(
    api: Api, database: Database, settings: Settings
) -> None:
    with before_each_commit(fail):
        response = post_table(api)

    assert (response.status_code, problem_of(response)["code"]) == (500, "internal_error")
    assert count(database, DatasetRow) == 0
    # The blob goes first, so that no row ever points at nothing: it stays, and nothing names it.
    assert len(blobs(settings)) == 1
    assert post_table(api).status_code == 201


def test_a_job_whose_commit_fails_is_a_500_and_leaves_no_row(api: Api, database: Database) -> None:
    dataset_id = api.upload(plane())

    with before_each_commit(fail):
        response = post_job(api, dataset_id)

    assert (response.status_code, problem_of(response)["code"]) == (500, "internal_error")
    assert "location" not in response.headers
    assert count(database, JobRow) == 0


def test_a_cancellation_whose_commit_fails_is_a_500_and_cancels_nothing(api: Api) -> None:
    job = api.queue(api.upload(plane()), ["y"])

    with before_each_commit(fail):
        response = api.client.post(f"/v1/jobs/{job['id']}/cancel")

    assert problem_of(response)["status"] == 500
    assert api.get(f"/v1/jobs/{job['id']}") == job


def test_a_deletion_whose_commit_fails_is_a_500_and_keeps_the_rows_readable(api: Api) -> None:
    dataset_id = api.upload(plane())

    with before_each_commit(fail):
        response = api.client.delete(f"/v1/datasets/{dataset_id}")

    assert problem_of(response)["status"] == 500
    assert len(api.get(f"/v1/datasets/{dataset_id}/rows")["items"]) == 20


def test_a_deletion_takes_the_blob_along(api: Api, settings: Settings) -> None:
    dataset_id = api.upload(plane())

    response = api.client.delete(f"/v1/datasets/{dataset_id}")

    assert response.status_code == 204
    assert blobs(settings) == []


def test_nothing_waits_for_the_store_in_a_transaction(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's only write lock would be held meanwhile, or PostgreSQL end the transaction."""
    dataset_id = api.upload(plane())
    connections, found = [0], []

    def note(method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            found.append(connections[0])
            return method(*given)

        return noted

    def count_by(step: int) -> Callable[..., None]:
        def counted(*_: Any) -> None:
            connections[0] += step

        return counted

    out, back = count_by(1), count_by(-1)
    monkeypatch.setattr(FolderBlobs, "local", note(FolderBlobs.local))
    monkeypatch.setattr(FolderBlobs, "delete", note(FolderBlobs.delete))
    event.listen(Pool, "checkout", out)
    event.listen(Pool, "checkin", back)
    try:
        api.get(f"/v1/datasets/{dataset_id}/rows")
        api.client.delete(f"/v1/datasets/{dataset_id}")
    finally:
        event.remove(Pool, "checkout", out)
        event.remove(Pool, "checkin", back)

    assert found == [0, 0]


def test_rows_whose_dataset_is_deleted_at_this_moment_are_a_404(
    api: Api, settings: Settings
) -> None:
    dataset_id = api.upload(plane())
    for path in blobs(settings):
        path.unlink()

    response = api.client.get(f"/v1/datasets/{dataset_id}/rows")

    assert (response.status_code, problem_of(response)["code"]) == (404, "dataset_not_found")


def test_an_answer_waits_for_the_commit_however_slow_it_is(api: Api, database: Database) -> None:
    with before_each_commit(lambda: time.sleep(0.3)):
        created = post_table(api)
        datasets = count(database, DatasetRow)
        accepted = post_job(api, created.json()["id"])
        jobs = count(database, JobRow)

    assert (created.status_code, datasets) == (201, 1)
    assert (accepted.status_code, jobs) == (202, 1)


@pytest.mark.parametrize(
    "body",
    ["", "a,a\n1,2\n", "a,b\n1\n", "a,b\n1,x\x00\n"],
    ids=["empty", "twice", "ragged", "NUL"],
)
def test_a_refused_upload_leaves_no_row_and_no_file(
    api: Api, database: Database, settings: Settings, body: str
) -> None:
    response = post_table(api, body)

    assert problem_of(response)["status"] == 422
    assert (count(database, DatasetRow), blobs(settings)) == (0, [])


def test_an_upload_whose_file_cannot_be_written_leaves_no_row_and_no_file(
    api: Api, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.whole_files.os.fsync", lambda _: fail())

    response = post_table(api)

    assert problem_of(response)["status"] == 500
    assert (count(database, DatasetRow), blobs(settings)) == (0, [])


def test_a_refused_job_leaves_no_row(api: Api, database: Database) -> None:
    dataset_id = api.upload(plane())

    refused = post_job(api, dataset_id, inputs=["nope"])
    checked = api.client.post(
        "/v1/jobs",
        json={"dataset_id": dataset_id, "targets": ["y"]},
        params={"validate_only": True},
    )

    assert (refused.status_code, checked.status_code) == (422, 200)
    assert count(database, JobRow) == 0


def test_callers_who_come_at_once_are_all_served(api: Api, database: Database) -> None:
    with ThreadPoolExecutor(CALLERS) as callers:
        uploads = list(callers.map(lambda _: post_table(api), range(CALLERS)))
        ids = [upload.json()["id"] for upload in uploads]
        jobs = list(callers.map(lambda dataset_id: post_job(api, dataset_id), ids))
        mixed = list(callers.map(lambda number: one_of_many(api, ids, number), range(3 * CALLERS)))

    assert Counter(upload.status_code for upload in uploads) == {201: CALLERS}
    assert Counter(job.status_code for job in jobs) == {202: CALLERS}
    assert len({job.json()["id"] for job in jobs}) == len(set(ids)) == CALLERS
    assert [answer.text for answer in mixed if not answer.is_success] == []
    assert (count(database, DatasetRow), count(database, JobRow)) == (2 * CALLERS, 2 * CALLERS)


def one_of_many(api: Api, ids: list[str], number: int) -> httpx.Response:
    if number % 3 == 0:
        return post_table(api)
    if number % 3 == 1:
        return post_job(api, ids[0])
    return api.client.get("/v1/jobs", params={"limit": 100})


def test_callers_who_cancel_one_job_at_once_all_see_it_cancelled(api: Api) -> None:
    job = api.queue(api.upload(plane()), ["y"])

    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(
            callers.map(lambda _: api.client.post(f"/v1/jobs/{job['id']}/cancel"), range(CALLERS))
        )

    assert Counter(answer.status_code for answer in answers) == {200: CALLERS}
    moves = api.get(f"/v1/jobs/{job['id']}")["transitions"]
    assert [move["state"] for move in moves] == ["queued", "cancelled"]


def test_a_dataset_is_deleted_or_trained_on_and_never_both(api: Api) -> None:
    ids = [api.upload(plane()) for _ in range(10)]

    with ThreadPoolExecutor(CALLERS) as callers:
        deletions = callers.map(lambda i: api.client.delete(f"/v1/datasets/{i}").status_code, ids)
        jobs = callers.map(lambda dataset_id: post_job(api, dataset_id).status_code, ids)
        outcomes = set(zip(deletions, jobs, strict=True))

    assert outcomes <= {(204, 404), (409, 202)}
