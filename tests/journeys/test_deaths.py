"""Processes are killed for real; jobs end all the same."""

import itertools
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.builders import Json
from tests.journeys.caller import Caller
from tests.servers import Service, running_service

# Trains until its time is over, whatever the machine: long enough to be killed in the middle.
LONG_SPEC = {
    "solver": {"name": "gradient_descent", "epochs": 1_000_000, "tolerance": 0.0, "batch_size": 50},
    "early_stopping": None,
    "limits": {"max_seconds": 3.0},
}

# Until it is stopped.
ENDLESS_SPEC = LONG_SPEC | {"limits": {"max_seconds": 600.0}}
EPOCHS = 8000
# Ends by its epochs, after some seconds.
COUNTED_SPEC = LONG_SPEC | {
    "solver": {
        "name": "momentum",
        "epochs": EPOCHS,
        "tolerance": 0.0,
        "batch_size": 50,
    },
    "limits": {"max_seconds": 600.0},
}


def noisy_table() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(4000, 20))
    y = np.random.default_rng(1).normal(size=4000)
    return {f"x{k}": x[:, k] for k in range(20)} | {"y": y}


def test_a_job_whose_worker_is_killed_ends_well_on_another(caller: Caller) -> None:
    job_id = caller.queue(caller.upload(noisy_table()), ["y"], **LONG_SPEC)
    running = caller.wait(job_id, "running")

    os.kill(worker_pid(running), signal.SIGKILL)
    killed_at = time.monotonic()
    while caller.job(job_id)["attempt"] < 2:
        assert time.monotonic() - killed_at < 20
        time.sleep(0.02)
    ended = caller.wait(job_id)

    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    assert [move["reason"] for move in ended["transitions"]] == [
        "created",
        "claimed",
        "worker_lost",
        "claimed",
        "finished",
    ]


@pytest.mark.slow
def test_killed_twice_and_paused_a_job_gives_the_bits_of_one_that_was_left_alone(
    caller: Caller,
) -> None:
    dataset_id = caller.upload(noisy_table())
    alone = caller.wait(caller.queue(dataset_id, ["y"], **COUNTED_SPEC))
    job_id = caller.queue(dataset_id, ["y"], **COUNTED_SPEC)

    for attempt in (1, 2):
        running = caller.wait_for(job_id, partial(has_come, attempt=attempt, epoch=1000 * attempt))
        os.kill(worker_pid(running), signal.SIGKILL)
    caller.wait_for(job_id, partial(has_come, attempt=3, epoch=3000))
    caller.client.post(f"/v1/jobs/{job_id}/pause")
    paused = caller.wait(job_id, "paused")
    caller.client.post(f"/v1/jobs/{job_id}/resume")
    ended = caller.wait(job_id)

    assert (ended["state"], ended["attempt"]) == ("succeeded", 4)
    assert paused["progress"]["epoch"] < EPOCHS
    assert caller.parameters(ended) == caller.parameters(alone)
    assert caller.history(ended) == caller.history(alone)


def runs(job: Json, *, attempt: int) -> bool:
    return (job["state"], job["attempt"]) == ("running", attempt)


def has_come(job: Json, *, attempt: int, epoch: int) -> bool:
    progress = job["progress"]
    return job["attempt"] == attempt and progress is not None and progress["epoch"] >= epoch


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_workers_that_die_again_and_again_are_replaced(url: str, tmp_path: Path) -> None:
    """Also while Dask looks whether a worker that died has come back, 15 s later by default."""
    settings = {"BACKSOLVE_DATABASE_URL": url, "BACKSOLVE_ATTEMPTS_MAX": "1000"}
    with running_service(tmp_path, **settings) as service, Caller(service.url) as caller:
        dataset_id = caller.upload(noisy_table())
        job_id = caller.queue(dataset_id, ["y"], **ENDLESS_SPEC)
        until = time.monotonic() + 25
        for deaths in itertools.count():
            running = caller.wait_for(job_id, partial(runs, attempt=deaths + 1))
            if time.monotonic() > until:
                break
            os.kill(worker_pid(running), signal.SIGKILL)
        jobs = [job_id, caller.queue(dataset_id, ["y"], **ENDLESS_SPEC)]
        workers = {worker_pid(caller.wait(job, "running")) for job in jobs}
        for job in jobs:
            caller.client.post(f"/v1/jobs/{job}/stop")
        ended = [caller.wait(job)["state"] for job in jobs]

    assert len(workers) == 2
    assert ended == ["succeeded", "succeeded"]


@pytest.mark.slow
def test_after_the_whole_service_was_killed_its_jobs_end_well(
    own_service: Service, own_caller: Caller
) -> None:
    dataset_id = own_caller.upload(noisy_table())
    jobs = [own_caller.queue(dataset_id, ["y"], **LONG_SPEC) for _ in range(3)]
    own_caller.wait(jobs[0], "running")

    kill_all(own_service)
    own_service.start()
    ended = [own_caller.wait(job) for job in jobs]

    assert {job["state"] for job in ended} == {"succeeded"}
    assert all(job["model_id"] for job in ended)


@pytest.mark.slow
def test_a_stop_gives_running_jobs_back_and_leaves_no_process(
    own_service: Service, own_caller: Caller
) -> None:
    job_id = own_caller.queue(own_caller.upload(noisy_table()), ["y"], **LONG_SPEC)
    own_caller.wait(job_id, "running")
    assert own_service.process is not None
    family = psutil.Process(own_service.process.pid).children(recursive=True)

    code = own_service.stop(signal.SIGINT)
    survivors = psutil.wait_procs(family, timeout=5)[1]
    own_service.start()
    ended = own_caller.wait(job_id)

    assert (code, survivors) == (0, [])
    assert ended["state"] == "succeeded"
    assert "Traceback" not in own_service.log.read_text()


@pytest.mark.slow
def test_a_follower_is_told_that_the_service_stops_and_holds_nobody_up(
    url: str, tmp_path: Path
) -> None:
    patient = {"BACKSOLVE_DATABASE_URL": url, "BACKSOLVE_SHUTDOWN_SECONDS": "600"}
    with running_service(tmp_path, **patient) as service, Caller(service.url) as caller:
        job_id = caller.queue(caller.upload(noisy_table()), ["y"], **ENDLESS_SPEC)
        caller.wait(job_id, "running")
        with caller.client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            while "history" not in next(lines):
                pass
            stopping = threading.Thread(target=service.stop)
            stopping.start()
            told = list(lines)
        stopping.join()

    assert told[-3:] == ["event: bye", "data: {}", ""]


def test_a_running_job_is_cancelled_within_about_a_second(caller: Caller) -> None:
    job_id = caller.queue(caller.upload(noisy_table()), ["y"], **LONG_SPEC)
    caller.wait(job_id, "running")

    answer = caller.client.post(f"/v1/jobs/{job_id}/cancel")
    ended = caller.wait(job_id)

    assert answer.status_code == 202
    assert ended["state"] == "cancelled"
    assert ended["model_id"] is None


def test_progress_and_history_can_be_watched_while_a_job_runs(caller: Caller) -> None:
    job_id = caller.queue(caller.upload(noisy_table()), ["y"], **LONG_SPEC)

    counts = []
    while not (job := caller.job(job_id))["terminal"]:
        if job["progress"]:
            history = caller.client.get(f"/v1/jobs/{job_id}/history").json()
            counts.append(history["epoch_count"])
        time.sleep(0.3)

    assert len(set(counts)) >= 2
    assert counts == sorted(counts)


def worker_pid(job: dict[str, object]) -> int:
    transitions = job["transitions"]
    assert isinstance(transitions, list)
    return int(transitions[-1]["worker"].rpartition(":")[2])


def kill_all(service: Service) -> None:
    """As if the power went: the process and all that it started, at once."""
    assert service.process is not None
    family = [
        psutil.Process(service.process.pid),
        *psutil.Process(service.process.pid).children(recursive=True),
    ]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)
    service.process.wait()
