"""A running service as the benches of jobs speak to it, and what they send."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sklearn.datasets import load_iris

from tests.builders import csv_of
from tests.postgres import running_postgres
from tests.servers import running_service

Json = dict[str, Any]
Columns = dict[str, np.ndarray[Any, np.dtype[np.float64]]]

IRIS_JOB: Json = {"targets": ["petal_width"], "solver": {"name": "closed_form"}}
# Some seconds of small steps, which need no other core and hardly any memory.
LONG_JOB: Json = {
    "targets": ["y"],
    "solver": {"name": "adam", "epochs": 6000, "tolerance": 0.0, "batch_size": 32},
    "early_stopping": None,
}
ENDLESS_JOB: Json = LONG_JOB | {"solver": LONG_JOB["solver"] | {"epochs": 1_000_000}}


class Caller:
    """One client of a running service."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60.0)

    def upload(self, columns: Columns) -> str:
        headers = {"content-type": "text/csv"}
        answer = self.http.post("/v1/datasets", content=csv_of(columns), headers=headers)
        return str(answer.raise_for_status().json()["id"])

    def create(self, dataset_id: str, spec: Json, *, wait_seconds: int = 0) -> Json:
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        body = {"dataset_id": dataset_id, **spec}
        answer = self.http.post("/v1/jobs", json=body, headers=headers)
        job: Json = answer.raise_for_status().json()
        return job

    def job(self, job_id: str) -> Json:
        job: Json = self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        return job

    def until(self, job_id: str, holds: Callable[[Json], bool]) -> Json:
        while not holds(job := self.job(job_id)):
            time.sleep(0.01)
        return job

    def ended(self, job_id: str) -> Json:
        """Awaited by the service, which costs it less than being asked again and again."""
        job: Json = {"terminal": False}
        while not job["terminal"]:
            answer = self.http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=30"})
            job = answer.raise_for_status().json()
        if job["state"] != "succeeded":
            raise RuntimeError(f"a job has {job['state']}: {job['error']}")
        return job

    def cancel(self, job_id: str) -> None:
        self.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        self.until(job_id, lambda job: bool(job["terminal"]))


def iris() -> Columns:
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return dict(zip(names, load_iris().data.T, strict=True))


def noise() -> Columns:
    random = np.random.default_rng(0)
    return {**{f"x{k}": random.normal(size=2000) for k in range(20)}, "y": random.normal(size=2000)}


@contextmanager
def service(database: str, **settings: Any) -> Iterator[Caller]:
    """`python -m app run` on a fresh database, which syncs what it acknowledges."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backsolve-bench-")))
        if database == "postgresql":
            settings["DATABASE_URL"] = stack.enter_context(running_postgres(durable=True))
        given = {f"BACKSOLVE_{name}": str(value) for name, value in settings.items()}
        running = stack.enter_context(running_service(folder, **given))
        caller = Caller(running.url)
        # The workers have imported everything once a job has ended.
        dataset_id = caller.upload(iris())
        for _ in range(4):
            caller.ended(caller.create(dataset_id, IRIS_JOB)["id"])
        yield caller
