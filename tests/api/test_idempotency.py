"""One key, one thing created: however often and however much at once it is asked for."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from app.settings import Settings
from app.storage import kept_answers
from app.storage.database import Database
from app.storage.tables import KeptAnswerRow
from tests.builders import Api, csv_of, plane
from tests.servers import serving

AT_ONCE = 20


def post_job(api: Api, dataset_id: str, key: str, **spec: object) -> httpx.Response:
    body = {"dataset_id": dataset_id, "targets": ["y"], **spec}
    return api.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})


def post_table(api: Api, text: str, key: str, name: str = "table") -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "text/csv"}
    return api.client.post("/v1/datasets", content=text, params={"name": name}, headers=headers)


def test_the_same_request_again_gets_the_first_answer_word_for_word(api: Api) -> None:
    dataset = api.upload(plane())

    first, again = (post_job(api, dataset, "one") for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(api.get("/v1/jobs")["items"]) == 1


def test_another_request_under_the_same_key_is_refused(api: Api) -> None:
    dataset = api.upload(plane())
    post_job(api, dataset, "one")

    refused = post_job(api, dataset, "one", seed=7)

    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(api.get("/v1/jobs")["items"]) == 1


def test_a_request_that_failed_may_be_mended_under_its_key(api: Api) -> None:
    dataset = api.upload(plane())

    refused = post_job(api, "ds_unknown", "one")
    mended = post_job(api, dataset, "one")

    assert (refused.status_code, mended.status_code) == (404, 202)


def test_a_table_is_stored_once_and_keys_of_other_routes_are_other_keys(
    api: Api, settings: Settings
) -> None:
    text = csv_of(plane())
    first, again = (post_table(api, text, "one") for _ in range(2))

    other_name = post_table(api, text, "one", name="another")
    job = post_job(api, first.json()["id"], "one")

    assert (first.status_code, again.status_code, job.status_code) == (201, 201, 202)
    assert again.content == first.content
    assert other_name.json()["code"] == "idempotency_key_reused"
    assert len(api.get("/v1/datasets")["items"]) == 1
    assert (
        len([path for path in settings.resolved_storage_folder.rglob("*") if path.is_file()]) == 1
    )


def test_the_answer_is_kept_over_a_restart_and_forgotten_in_time(
    api: Api, settings: Settings, database: Database
) -> None:
    first = post_job(api, api.upload(plane()), "one")
    body = {"dataset_id": first.json()["spec"]["dataset_id"], "targets": ["y"]}

    with serving(settings) as url:
        headers = {"Idempotency-Key": "one"}
        again = httpx.post(f"{url}/v1/jobs", json=body, headers=headers)
    with database.writing() as session:
        kept_answers.forget_old(session, days=1.0)
        kept = session.scalar(sa.select(sa.func.count()).select_from(KeptAnswerRow))
        kept_answers.forget_old(session, days=-1.0)
        left = session.scalar(sa.select(sa.func.count()).select_from(KeptAnswerRow))

    assert again.content == first.content
    assert (kept, left) == (1, 0)


@pytest.mark.parametrize("key", ["", "a key", "k\u00e4y", "x" * 256])
def test_a_key_that_is_no_key_is_refused(api: Api, key: str) -> None:
    response = api.client.post(
        "/v1/jobs",
        json={"dataset_id": "ds_1", "targets": ["y"]},
        headers={b"Idempotency-Key": key.encode("latin-1")},
    )

    assert response.status_code == 422


@pytest.mark.parametrize(
    "rounds", [5, pytest.param(1000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_twenty_requests_at_once_under_one_key_are_one_job(api: Api, rounds: int) -> None:
    dataset = api.upload(plane())

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in range(rounds):
            key = uuid4().hex
            answers = list(
                threads.map(lambda _, key=key: post_job(api, dataset, key), range(AT_ONCE))
            )

            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.content for answer in answers}) == 1
            replays = [answer.headers.get("Idempotency-Replayed") for answer in answers]
            assert replays.count(None) == 1
