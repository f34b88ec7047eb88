"""A job that runs in a thread of the test, so that it can be met in the middle."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from app.jobs.training_run import run_on
from app.jobs.worker import Worker
from tests.builders import Api, Json

EPOCHS = 4000
# Ends by its epochs: some seconds of small steps.
SPEC: dict[str, Any] = {
    "solver": {"name": "adam", "epochs": EPOCHS, "tolerance": 0.0, "batch_size": 16},
    "early_stopping": None,
}


def table() -> dict[str, Any]:
    random = np.random.default_rng(5)
    x = random.normal(size=(200, 5))
    y = x @ np.arange(5.0) + random.normal(size=200)
    return {f"x{k}": x[:, k] for k in range(5)} | {"y": y}


class Running:
    """A job that runs in a thread of this process until it is told to end."""

    def __init__(self, api: Api, worker: Worker, job_id: str, delivery: int) -> None:
        self.api, self.job_id = api, job_id
        self.thread = threading.Thread(target=run_on, args=(worker, job_id, delivery))
        self.thread.start()

    def job(self) -> Json:
        return self.api.get(f"/v1/jobs/{self.job_id}")

    def until(self, holds: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + 20
        while not holds(job := self.job()):
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
        return job

    def ask(self, action: str, status: int | None = 202) -> Json:
        return self.api.post(f"/v1/jobs/{self.job_id}/{action}", None, status)

    def ended(self) -> Json:
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()
        return self.job()


def has_begun(job: Json) -> bool:
    # Queued again, it still tells how far the attempt before had come.
    running = job["state"] == "running" and job["progress"] is not None
    return running and job["progress"]["epoch"] >= 20
