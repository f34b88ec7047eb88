"""Processes are killed for real; jobs end all the same."""

import os
import signal
import time

import numpy as np
import psutil

from tests.journeys.caller import Caller
from tests.servers import Service

# Trains until its time is over, whatever the machine: long enough to be killed in the middle.
LONG_SPEC = {
    "solver": {"name": "gradient_descent", "epochs": 1_000_000, "tolerance": 0.0, "batch_size": 50},
    "early_stopping": None,
    "limits": {"max_seconds": 3.0},
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
