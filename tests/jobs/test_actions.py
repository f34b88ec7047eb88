"""Stop, pause and resume through the API, with the run in this process."""

import time
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.jobs import lifecycle, recorder, training_run
from app.jobs.prepared_data import PreparedData, prepare
from app.jobs.training_run import run_on
from app.jobs.worker import Worker
from tests.builders import Api, Json
from tests.jobs.running import EPOCHS, SPEC, Running, has_begun, table


def parameters(api: Api, job: Json) -> Json:
    return api.get(f"/v1/models/{job['model_id']}/parameters", space="scaled")


def test_a_paused_job_goes_on_to_the_same_bits_as_one_that_never_stopped(
    api: Api, worker: Worker
) -> None:
    dataset = api.upload(table())
    whole = api.train(dataset, ["y"], **SPEC)
    cut = api.queue(dataset, ["y"], **SPEC)

    for delivery in (1, 2, 3):
        running = Running(api, worker, cut["id"], delivery)
        running.until(has_begun)
        if delivery < 3:
            running.ask("pause")
            paused = running.ended()
            assert (paused["state"], paused["allowed_actions"]) == (
                "paused",
                ["cancel", "stop", "resume"],
            )
            running.ask("resume")
    ended = running.ended()

    assert ended["state"] == "succeeded"
    assert ended["progress"]["epoch"] == EPOCHS
    assert [move["reason"] for move in ended["transitions"]].count("paused_by_user") == 2
    assert parameters(api, ended) == parameters(api, whole)
    assert history(api, ended) == history(api, whole)


def history(api: Api, job: Json) -> Json:
    whole = api.get(f"/v1/jobs/{job['id']}/history", max_points=10_000)
    assert whole["epoch"] == list(range(EPOCHS + 1))
    return {name: whole[name] for name in ("cost", "validation_cost", "step_norm")}


def test_a_worker_told_to_stop_gives_the_job_back_with_its_checkpoint(
    api: Api, worker: Worker
) -> None:
    dataset = api.upload(table())
    whole = api.train(dataset, ["y"], **SPEC)
    job = api.queue(dataset, ["y"], **SPEC)
    running = Running(api, worker, job["id"], 1)
    running.until(has_begun)

    worker.stopping.set()
    given_back = running.ended()
    worker.stopping.clear()
    ended = Running(api, worker, job["id"], 2).ended()

    assert (given_back["state"], given_back["transitions"][-1]["reason"]) == (
        "queued",
        "worker_stopped",
    )
    assert given_back["progress"]["epoch"] >= 20
    assert parameters(api, ended) == parameters(api, whole)


def test_a_stopped_job_keeps_the_model_of_what_is_done(api: Api, worker: Worker) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    running = Running(api, worker, job["id"], 1)
    running.until(has_begun)

    running.ask("stop")
    # Again: it may have ended between the two.
    running.ask("stop", None)
    ended = running.ended()

    assert (ended["state"], ended["stop_reason"]) == ("succeeded", "user")
    assert 20 <= ended["progress"]["epoch"] < EPOCHS
    assert ended["scores"]["training"]["r2"] > 0.0
    assert running.ask("stop", 200)["model_id"] == ended["model_id"]


def test_a_paused_job_can_be_stopped_and_keeps_its_model(api: Api, worker: Worker) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    running = Running(api, worker, job["id"], 1)
    running.until(has_begun)
    running.ask("pause")
    paused = running.ended()

    running.ask("stop")
    ended = Running(api, worker, job["id"], 2).ended()

    assert (ended["state"], ended["stop_reason"]) == ("succeeded", "user")
    assert ended["progress"]["epoch"] == paused["progress"]["epoch"]


def test_a_queued_job_is_paused_at_once_and_runs_only_when_resumed(
    api: Api, worker: Worker
) -> None:
    job = api.queue(api.upload(table()), ["y"])

    paused = api.post(f"/v1/jobs/{job['id']}/pause", None, 200)
    again = api.post(f"/v1/jobs/{job['id']}/pause", None, 200)
    run_on(worker, job["id"], 1)
    refused = api.post(f"/v1/jobs/{job['id']}/stop", None, 409)
    resumed = api.post(f"/v1/jobs/{job['id']}/resume", None, 202)

    assert (paused["state"], again["state"], resumed["state"]) == ("paused", "paused", "queued")
    assert (refused["code"], refused["allowed_actions"]) == (
        "action_not_allowed",
        ["cancel", "resume"],
    )
    assert api.get(f"/v1/jobs/{job['id']}")["attempt"] == 0


@pytest.mark.parametrize("action", ["stop", "pause", "resume"])
def test_a_job_that_has_ended_cannot_be_told_anything_else(api: Api, action: str) -> None:
    job = api.train(api.upload(table()), ["y"])

    refused = api.post(f"/v1/jobs/{job['id']}/{action}", None, 409)

    assert refused["code"] == "job_ended"
    assert job["allowed_actions"] == []


def test_what_was_asked_of_a_running_job_is_told_until_it_has_happened(
    api: Api, worker: Worker
) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    running = Running(api, worker, job["id"], 1)
    running.until(has_begun)

    asked = running.ask("pause")
    ended = running.ended()

    assert asked["wanted"] == "pause"
    assert ended["wanted"] is None
    assert ended["progress"]["rows_per_second"] > 0
    assert ended["progress"]["eta_seconds"] > 0


def test_a_job_is_given_back_while_its_table_is_still_being_read(
    api: Api, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    prepared: list[PreparedData] = []

    def prepare_and_tell(*given: Any, **named: Any) -> PreparedData:
        prepared.append(prepare(*given, **named))
        return prepared[0]

    monkeypatch.setattr(training_run, "prepare", prepare_and_tell)
    worker.stopping.set()

    run_on(worker, job["id"], 1)

    given_back = api.get(f"/v1/jobs/{job['id']}")
    assert prepared == []
    assert given_back["transitions"][-1]["reason"] == "worker_stopped"


@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize(("wanted", "state"), [("pause", "paused"), (None, "queued")])
def test_a_job_that_is_left_while_its_table_is_read_waits_for_the_database(
    api: Api,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    state: str,
    failures: int,
) -> None:
    """What it left for is no reason to give up telling so. Nothing wanted: its worker stops."""
    job = api.queue(api.upload(table()), ["y"], **SPEC)
    release = lifecycle.release
    failed: list[bool] = []

    def prepare_when_asked(*given: Any, **named: Any) -> PreparedData:
        if wanted is None:
            worker.stopping.set()
        else:
            api.post(f"/v1/jobs/{job['id']}/{wanted}", None, 202)
            time.sleep(2 * worker.settings.heartbeat_seconds)
        return prepare(*given, **named)

    def release_at_last(*given: Any, **named: Any) -> None:
        if len(failed) < failures:
            failed.append(True)
            raise OperationalError("UPDATE", None, Exception("away"))
        release(*given, **named)

    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(training_run, "prepare", prepare_when_asked)
    monkeypatch.setattr(lifecycle, "release", release_at_last)

    run_on(worker, job["id"], 1)

    left = api.get(f"/v1/jobs/{job['id']}")
    assert len(failed) == failures
    assert (left["state"], left["error"]) == (state, None)
