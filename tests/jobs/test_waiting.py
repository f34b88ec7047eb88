"""Prefer: wait=n answers when the job has ended, and costs the service next to nothing."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from app.api.auth import DEFAULT_OWNER
from app.api.preferences import wait_seconds
from app.jobs import following
from app.jobs.events import START
from app.jobs.worker import Worker
from app.settings import Settings
from app.storage.database import Database
from tests.builders import Api, Json, plane
from tests.jobs.running import Running
from tests.servers import serving

# More than there are threads for requests, or connections to the database.
WAITERS = 60


def post(api: Api, dataset_id: str, **headers: str) -> httpx.Response:
    body = {"dataset_id": dataset_id, "targets": ["y"]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.post("/v1/jobs", json=body, headers=named)


def first_job(api: Api) -> Json:
    deadline = time.monotonic() + 20
    while not (jobs := api.get("/v1/jobs")["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job: Json = jobs[0]
    return job


def test_a_job_that_ends_within_the_wait_is_answered_with_its_model(
    api: Api, worker: Worker
) -> None:
    dataset = api.upload(plane())

    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(post, api, dataset, Prefer="wait=30")
        running = Running(api, worker, first_job(api)["id"], 1)
        answer = asked.result()

    job = running.ended()
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "wait=30")
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.json() == job
    assert job["model_id"] is not None


def test_what_waits_is_answered_when_the_server_stops(api: Api, database: Database) -> None:
    job = api.queue(api.upload(plane()), ["y"])
    of_job = (database, DEFAULT_OWNER, job["id"])
    first = following.read(*of_job, START)

    def stops() -> bool:
        return True

    async def answers() -> tuple[list[bytes], Json]:
        await following.until_ended(*of_job, wait_seconds=600, is_stopping=stops)
        feed = await following.feed(*of_job, first.place, wait_seconds=600, is_stopping=stops)
        told = following.stream(*of_job, first, is_stopping=stops)
        return [part async for part in told], feed

    told, feed = asyncio.run(asyncio.wait_for(answers(), timeout=20))

    assert b"event: state" in told[1]
    assert told[-1] == b"event: bye\ndata: {}\n\n"
    assert (feed["items"], feed["terminal"]) == ([], False)


def test_a_job_that_does_not_end_in_time_is_answered_as_it_is(api: Api, settings: Settings) -> None:
    dataset = api.upload(plane())
    with serving(settings.model_copy(update={"wait_seconds_max": 1})) as url:
        started = time.monotonic()
        answer = httpx.post(
            f"{url}/v1/jobs",
            json={"dataset_id": dataset, "targets": ["y"]},
            headers={"Prefer": "wait=59"},
        )
        seconds = time.monotonic() - started

    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    assert (answer.json()["state"], answer.json()["queue"]["position"]) == ("queued", 1)
    assert seconds >= 1


def test_a_replay_may_wait_and_is_word_for_word_without_waiting(api: Api) -> None:
    dataset = api.upload(plane())
    first = post(api, dataset, Idempotency_Key="one")
    api.run(first.json()["id"], 1)

    waited = post(api, dataset, Idempotency_Key="one", Prefer="wait=5")
    again = post(api, dataset, Idempotency_Key="one")

    assert (waited.status_code, again.status_code) == (201, 202)
    assert waited.json()["state"] == "succeeded"
    assert waited.headers["Idempotency-Replayed"] == "true"
    assert waited.headers["Location"] == first.headers["Location"]
    assert again.content == first.content
    assert len(api.get("/v1/jobs")["items"]) == 1


def test_many_waiters_hold_neither_threads_nor_connections_and_hear_of_the_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    is_live = following.is_live

    def counted(database: Database, owner: str, job_id: str) -> bool:
        looks.append(job_id)
        return is_live(database, owner, job_id)

    monkeypatch.setattr(following, "is_live", counted)
    job = api.queue(api.upload(plane()), ["y"])
    path, headers = f"/v1/jobs/{job['id']}", {"Prefer": "wait=25"}
    limits = httpx.Limits(max_connections=WAITERS)

    with (
        httpx.Client(base_url=api.client.base_url, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(WAITERS) as threads,
    ):
        asked = [threads.submit(client.get, path, headers=headers) for _ in range(WAITERS)]
        started = time.monotonic()
        while len(looks) < 3 * WAITERS:
            assert time.monotonic() - started < 20
            time.sleep(0.01)
        api.post(f"{path}/cancel", None, 200)
        answers = [one.result() for one in asked]

    assert time.monotonic() - started < 20
    assert {answer.json()["state"] for answer in answers} == {"cancelled"}
    assert {answer.headers["Preference-Applied"] for answer in answers} == {"wait=25"}
    assert {answer.headers["Vary"] for answer in answers} == {"Prefer"}


def test_nobody_waits_for_a_job_that_is_none(api: Api) -> None:
    started = time.monotonic()

    answer = api.client.get("/v1/jobs/job_none", headers={"Prefer": "wait=25"})

    assert answer.json()["code"] == "job_not_found"
    assert time.monotonic() - started < 20


def test_a_database_that_goes_away_during_the_wait_takes_no_job_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise OperationalError("SELECT", {}, Exception("away"))

    dataset = api.upload(plane())
    with monkeypatch.context() as patch:
        patch.setattr(following, "is_live", away)
        answer = post(api, dataset, Prefer="wait=5")

    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    assert answer.json()["id"] == first_job(api)["id"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        (["wait=10"], 10),
        (['respond-async, WAIT = "7"; more=1'], 7),
        (["return=minimal", "wait=3"], 3),
        (["wait=3", "wait=9"], 3),
        (["wait=99999999"], 60),
        (["wait=0"], 0),
        (["wait"], None),
        (["wait=soon"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=9999999999"], None),
        (['foo="a, wait=5"'], None),
        (['foo="a'], None),
        (["awaited=5"], None),
        (["a" * 2000 + ", wait=5"], None),
    ],
)
def test_a_preference_is_read_as_the_rfc_has_it_or_ignored(
    prefer: list[str] | None, seconds: int | None
) -> None:
    assert wait_seconds(prefer, seconds_max=60) == seconds
