"""Followers of a job, however often they are cut off, are told everything, and that once."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from app.api.auth import DEFAULT_OWNER
from app.jobs import events, history, queries, service
from app.jobs.events import START, Place, place_of
from app.jobs.service import WatchedJob
from app.jobs.states import JobState
from app.jobs.worker import Worker
from app.storage.database import Database, Session
from tests.builders import Api, plane
from tests.jobs.running import EPOCHS, SPEC, Running, table


class Told(NamedTuple):
    id: str | None
    kind: str
    data: dict[str, Any]


def stream(api: Api, job_id: str, last: str | None = None) -> Iterator[Told]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with api.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code in (200, 204), response.read()
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                yield Told(fields.get("id"), fields["event"], json.loads(fields["data"]))
                fields = {}


def epochs(told: list[Told]) -> list[int]:
    return [epoch for one in told if one.kind == "history" for epoch in one.data["epoch"]]


def states(told: list[Told]) -> list[str]:
    return [one.data["state"] for one in told if one.kind == "state"]


def test_a_stream_tells_every_state_and_epoch_once_and_ends_with_the_job(
    api: Api, worker: Worker
) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    running = Running(api, worker, job["id"], 1)

    told = list(stream(api, job["id"]))

    ended = running.ended()
    assert states(told) == ["queued", "running", "succeeded"]
    assert told[-1].data["model_id"] == ended["model_id"]
    assert epochs(told) == list(range(EPOCHS + 1))
    assert any(one.kind == "progress" for one in told)


@pytest.mark.parametrize("cuts", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_a_follower_that_is_cut_off_again_and_again_misses_and_repeats_nothing(
    api: Api, worker: Worker, cuts: int
) -> None:
    spec = SPEC | {"solver": SPEC["solver"] | {"epochs": EPOCHS * (1 + cuts // 100)}}
    job = api.queue(api.upload(table()), ["y"], **spec)
    running = Running(api, worker, job["id"], 1)
    random, kept, last = np.random.default_rng(cuts), list[Told](), None

    for _ in range(cuts):
        for one, _ in zip(
            stream(api, job["id"], last), range(int(random.integers(1, 4))), strict=False
        ):
            kept += [one] if one.id else []
            last = one.id or last
    kept += [one for one in stream(api, job["id"], last) if one.id]

    running.ended()
    assert states(kept) == ["queued", "running", "succeeded"]
    assert epochs(kept) == list(range(spec["solver"]["epochs"] + 1))


def test_a_follower_of_a_job_that_ended_is_told_that_nothing_comes(api: Api) -> None:
    job = api.train(api.upload(plane()), ["y"])
    last = list(stream(api, job["id"]))[-1].id
    assert last is not None

    response = api.client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": last})

    assert response.status_code == 204


def test_the_feed_tells_the_same_as_the_stream(api: Api) -> None:
    job = api.train(api.upload(plane()), ["y"])
    streamed = [one for one in stream(api, job["id"]) if one.id]

    feed = ask_feed(api, job["id"])
    behind = ask_feed(api, job["id"], after=feed["items"][0]["id"])

    told = [(one["id"], one["event"], one["data"]) for one in feed["items"]]
    assert told == [tuple(one) for one in streamed]
    assert (feed["terminal"], feed["next"]) == (True, streamed[-1].id)
    assert behind["items"] == feed["items"][1:]


def test_the_feed_waits_for_what_is_new(api: Api, worker: Worker) -> None:
    job = api.queue(api.upload(plane()), ["y"])
    first = ask_feed(api, job["id"])

    quiet = ask_feed(api, job["id"], after=first["next"], wait=0.3)
    running = Running(api, worker, job["id"], 1)
    news = ask_feed(api, job["id"], after=first["next"], wait=20)

    running.ended()
    assert (quiet["items"], quiet["terminal"]) == ([], False)
    assert news["items"][0]["data"]["state"] == "running"


def test_an_end_between_two_reads_is_told_the_next_time_with_its_model(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is read, then the job ends, then its moves are read."""
    job = api.train(api.upload(plane()), ["y"])
    read = service.get

    def before_the_end(session: Session, owner: str, job_id: str) -> WatchedJob:
        watched = read(session, owner, job_id)
        session.expunge(watched.row)
        watched.row.state, watched.row.model_id = JobState.RUNNING, None
        return watched

    with database.reading() as session, monkeypatch.context() as patch:
        patch.setattr(service, "get", before_the_end)
        early = events.news(session, DEFAULT_OWNER, job["id"], START)
    with database.reading() as session:
        late = events.news(session, DEFAULT_OWNER, job["id"], early.place)

    early_states = [event.data["state"] for event in early.events if event.kind == "state"]
    assert (early_states, early.ended) == (["queued", "running"], False)
    assert late.events[-1].data["state"] == "succeeded"
    assert late.events[-1].data["model_id"] == job["model_id"]
    assert late.ended


def test_a_place_beyond_the_end_is_the_end(api: Api) -> None:
    job = api.train(api.upload(plane()), ["y"])

    headers = {"Last-Event-ID": "1000000.99"}
    response = api.client.get(f"/v1/jobs/{job['id']}/events", headers=headers)

    assert response.status_code == 204
    assert ask_feed(api, job["id"], after="1000000.99")["terminal"]


@pytest.mark.parametrize("place", ["x", "1", "1.", "-2.0", "1.1.1", "1e3.0", "9" * 30 + ".0"])
def test_a_place_that_is_none_is_refused(api: Api, place: str) -> None:
    job = api.queue(api.upload(plane()), ["y"])

    response = api.client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": place})

    assert response.status_code == 422


def test_a_place_is_read_as_it_is_written() -> None:
    for place in (START, Place(0, 1), Place(10**12, 7)):
        assert place_of(str(place)) == place


def test_a_long_history_is_told_in_portions(
    api: Api, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BLOCKS_MAX", 1)
    monkeypatch.setattr(history, "BLOCK_RECORDS", 500)
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    Running(api, worker, job["id"], 1).ended()

    told = list(stream(api, job["id"]))

    assert epochs(told) == list(range(EPOCHS + 1))
    assert states(told) == ["queued", "running", "succeeded"]
    assert len([one for one in told if one.kind == "history"]) > 1


def test_progress_is_the_same_in_the_job_the_list_and_the_stream(
    api: Api, database: Database
) -> None:
    job = api.queue(api.upload(plane()), ["y"])
    progress = {
        "epoch": 3,
        "epochs": 500,
        "fraction": 0.006,
        "cost": 0.1 + 0.2,
        "validation_cost": None,
        "rows_per_second": 1e6 / 3,
        "eta_seconds": 2 / 3,
    }
    with database.writing() as session:
        row = queries.find_and_lock(session, job["id"])
        assert row is not None
        row.state, row.progress = JobState.RUNNING, progress

    alone = api.get(f"/v1/jobs/{job['id']}")["progress"]
    listed = api.get("/v1/jobs")["items"][0]["progress"]
    feed = ask_feed(api, job["id"])["items"]
    streamed = [one["data"] for one in feed if one["event"] == "progress"]

    assert (alone, listed, streamed) == (progress, progress, [progress])


def ask_feed(api: Api, job_id: str, **params: Any) -> dict[str, Any]:
    response: httpx.Response = api.client.get(
        f"/v1/jobs/{job_id}/events", params=params, headers={"Accept": "application/json"}
    )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
