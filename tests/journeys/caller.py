"""A user of the service, over HTTP and nothing else."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import ArrayLike

from tests.builders import Json, checked, csv_of

PATIENCE_SECONDS = 60


class Caller:
    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def upload(self, columns: Mapping[str, ArrayLike]) -> str:
        response = self.client.post(
            "/v1/datasets", content=csv_of(columns), headers={"content-type": "text/csv"}
        )
        return str(checked(response, 201)["id"])

    def queue(self, dataset_id: str, targets: list[str], **spec: Any) -> str:
        body = {"dataset_id": dataset_id, "targets": targets, **spec}
        return str(checked(self.client.post("/v1/jobs", json=body), 202)["id"])

    def job(self, job_id: str) -> Json:
        return checked(self.client.get(f"/v1/jobs/{job_id}"), 200)

    def wait(self, job_id: str, *states: str) -> Json:
        """The job once it is in one of the states, or has ended if none is named."""
        return self.wait_for(
            job_id, lambda job: job["state"] in states or (not states and job["terminal"])
        )

    def wait_for(self, job_id: str, holds: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(job := self.job(job_id)):
            assert not job["terminal"], job
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        return job

    def parameters(self, job: Json) -> Json:
        path = f"/v1/models/{job['model_id']}/parameters"
        return checked(self.client.get(path, params={"space": "scaled"}), 200)

    def history(self, job: Json) -> list[Any]:
        """Epochs, costs and step norms."""
        path = f"/v1/jobs/{job['id']}/history"
        found = checked(self.client.get(path, params={"max_points": 100_000}), 200)
        return [found["epoch"], found["cost"], found["step_norm"]]

    def predict(self, model_id: str, x: np.ndarray) -> np.ndarray:
        """Predictions (N, m) for a matrix (N, k)."""
        response = self.client.post(f"/v1/models/{model_id}/predict", json={"x": x.tolist()})
        return np.array([list(p["y"].values()) for p in checked(response, 200)["predictions"]])

    def invert(self, model_id: str, **question: Any) -> Json:
        return checked(self.client.post(f"/v1/models/{model_id}/invert", json=question), 200)
