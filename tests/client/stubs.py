"""A service that answers what a test wrote down: for failures that a real one does not have."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from app.client import Backsolve

MOMENT = "2026-01-02T03:04:05.678901Z"
JOB: dict[str, Any] = {
    "id": "job_1",
    "name": "strength",
    "state": "queued",
    "terminal": False,
    "allowed_actions": ["cancel"],
    "dataset_id": "ds_1",
    "spec": {},
    "progress": None,
    "stop_reason": None,
    "scores": None,
    "model_id": None,
    "error": None,
    "attempt": 0,
    "wanted": None,
    "created_at": MOMENT,
    "started_at": None,
    "ended_at": None,
}
DATASET: dict[str, Any] = {
    "id": "ds_1",
    "name": "mixes",
    "row_count": 1,
    "columns": [],
    "byte_count": 4,
    "content_sha256": "",
    "created_at": MOMENT,
}
MODEL: dict[str, Any] = {
    "id": "mdl_1",
    "name": "strength",
    "version": 1,
    "job_id": "job_1",
    "dataset_id": "ds_1",
    "activation": "identity",
    "cost": "half_squared_error",
    "inputs": [{"name": "age", "kind": "numeric", "minimum": 1.0, "maximum": 3.0, "levels": None}],
    "outputs": [{"name": "strength", "minimum": 0.0, "maximum": 9.0}],
    "scores": {},
    "parameters_sha256": "",
    "created_at": MOMENT,
}

Answer = httpx.Response | Exception


class Stub:
    """Gives its answers one after the other, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.requests]


@contextmanager
def client(answer: Callable[[httpx.Request], httpx.Response]) -> Iterator[Backsolve]:
    with Backsolve("http://service", transport=httpx.MockTransport(answer)) as backsolve:
        yield backsolve


def problem(status: int, code: str = "a_code", **fields: Any) -> httpx.Response:
    body = {"status": status, "code": code, "detail": "It is so.", "request_id": "r1", **fields}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


def ok(body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)
