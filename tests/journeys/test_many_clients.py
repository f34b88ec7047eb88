"""Forty clients at once: no 5xx, no lost job, no lock error."""

import random
import threading
import time
from collections import Counter

import httpx
import pytest

from tests.builders import csv_of, plane
from tests.journeys.caller import Caller
from tests.servers import Service

CLIENTS = 40


def test_forty_clients_lose_nothing(service: Service) -> None:
    storm(service, seconds=3)


@pytest.mark.slow
def test_forty_clients_lose_nothing_for_a_minute(service: Service) -> None:
    storm(service, seconds=60)


def storm(service: Service, *, seconds: float) -> None:
    with Caller(service.url) as caller:
        dataset_id = caller.upload(plane())
        model_id = caller.wait(caller.queue(dataset_id, ["y"]))["model_id"]
        until = time.monotonic() + seconds
        clients = [
            Client(service.url, dataset_id, model_id, until, seed) for seed in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

        statuses = sum((client.statuses for client in clients), Counter[int]())
        failures = [failure for client in clients for failure in client.failures]
        jobs = [job for client in clients for job in client.jobs]
        print(f"{CLIENTS} clients, {seconds} s: {dict(statuses)}, {len(jobs)} jobs")
        assert failures == []
        assert set(statuses) <= {200, 201, 202}
        assert jobs
        assert {caller.wait(job)["state"] for job in jobs} == {"succeeded"}
    assert "locked" not in service.log.read_text()


class Client(threading.Thread):
    """Posts small jobs now and then, predictions and inversions all the time."""

    def __init__(self, url: str, dataset_id: str, model_id: str, until: float, seed: int) -> None:
        super().__init__()
        self.url, self.dataset_id, self.model_id, self.until = url, dataset_id, model_id, until
        self.random = random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.jobs: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=60) as client:
                while time.monotonic() < self.until:
                    self.act(client)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))

    def act(self, client: httpx.Client) -> None:
        draw = self.random.random()
        if draw < 0.03:
            body = {"dataset_id": self.dataset_id, "targets": ["y"]}
            response = client.post("/v1/jobs", json=body)
            if response.status_code == 202:
                self.jobs.append(response.json()["id"])
        elif draw < 0.05:
            response = client.post(
                "/v1/datasets", content=csv_of(plane(20)), headers={"content-type": "text/csv"}
            )
        elif draw < 0.15:
            response = client.get("/v1/jobs", params={"limit": 5})
        elif draw < 0.25:
            response = client.post(f"/v1/models/{self.model_id}/invert", json={"target": {"y": 3}})
        else:
            row = {"a": self.random.uniform(5, 15), "c": self.random.uniform(-1, 1)}
            response = client.post(f"/v1/models/{self.model_id}/predict", json={"rows": [row]})
        self.statuses[response.status_code] += 1
        if response.status_code >= 400:
            self.failures.append(response.text[:300])
