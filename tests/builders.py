"""What tests start from."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import ArrayLike

Json = dict[str, Any]


class Api:
    """The API as tests speak to it: every answer is checked for its status at once."""

    def __init__(self, client: httpx.Client, run: Callable[[str, int], None]) -> None:
        self.client = client
        self.run = run

    def get(self, path: str, status: int = 200, **params: Any) -> Json:
        given = {name: value for name, value in params.items() if value is not None}
        return checked(self.client.get(path, params=given), status)

    def post(self, path: str, body: Any, status: int | None = 200, **params: Any) -> Json:
        return checked(self.client.post(path, json=body, params=params), status)

    def upload(self, columns: Mapping[str, ArrayLike], name: str = "table") -> str:
        """The id of a dataset with these columns, sent as CSV."""
        response = self.client.post(
            "/v1/datasets",
            content=csv_of(columns),
            params={"name": name},
            headers={"content-type": "text/csv"},
        )
        return str(checked(response, 201)["id"])

    def queue(self, dataset_id: str, targets: Sequence[str], **spec: Any) -> Json:
        body = {"dataset_id": dataset_id, "targets": list(targets), **spec}
        return self.post("/v1/jobs", body, 202)

    def train(self, dataset_id: str, targets: Sequence[str], **spec: Any) -> Json:
        """A job that has been run to its end."""
        job = self.queue(dataset_id, targets, **spec)
        self.run(job["id"], 1)
        return self.get(f"/v1/jobs/{job['id']}")

    def model_id(self, dataset_id: str, targets: Sequence[str], **spec: Any) -> str:
        job = self.train(dataset_id, targets, **spec)
        assert job["state"] == "succeeded", job["error"]
        return str(job["model_id"])


def checked(response: httpx.Response, status: int | None) -> Json:
    assert status is None or response.status_code == status, response.text
    answer: Json = response.json()
    return answer


def csv_of(columns: Mapping[str, ArrayLike]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(
        zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    )
    return text.getvalue()


def plane(rows: int = 60, *, noise: float = 0.0, seed: int = 1) -> dict[str, Any]:
    """A table with y = 2 a - 3 c + 5 and a bit of noise, if wanted."""
    random = np.random.default_rng(seed)
    a, c = random.normal(10, 3, rows), random.uniform(-1, 1, rows)
    return {"a": a, "c": c, "y": 2 * a - 3 * c + 5 + noise * random.normal(size=rows)}
