"""A caller who writes down what was promised to it, and asks again until it has an answer."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import httpx

from tests.builders import csv_of
from tests.storm.work import SPECS, Json, table

LIVE_JOBS = 4
TIMEOUT_SECONDS = 20.0
PAUSE_SHARE = 0.3
AGAIN_SHARE = 0.2


class Client:
    """Every answer is a line of the journal, synced before the next request."""

    def __init__(self, url: str, folder: Path, name: str, chance: random.Random) -> None:
        self.url, self.folder, self.name, self.chance = url, folder, name, chance
        self.dataset_id = (folder / "dataset").read_text()
        self.journal = (folder / f"journal-{name}").open("a")
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS)
        self.jobs: list[tuple[str, Json]] = []

    def work(self) -> None:
        """Creates jobs and plays with them until it is calm; then sees that all of them go on."""
        count = 0
        while not (self.folder / "calm").exists():
            if len(self.live()) < LIVE_JOBS:
                self.create(f"{self.name}-{count}", self.chance.choice(sorted(SPECS)))
                count += 1
            if self.chance.random() < AGAIN_SHARE:
                self.send_again()
            if self.chance.random() < PAUSE_SHARE:
                self.pause_and_resume()
            time.sleep(self.chance.uniform(0.0, 0.1))
        for job_id in self.live():
            self.ask("POST", f"/v1/jobs/{job_id}/resume")

    def create(self, key: str, spec: str) -> None:
        body = {"dataset_id": self.dataset_id, **SPECS[spec]}
        created = self.ask("POST", "/v1/jobs", body, key=key)
        self.note({"key": key, "spec": spec, "job_id": created["id"]})
        self.jobs.append((created["id"], {"key": key, "spec": spec, "body": body}))

    def send_again(self) -> None:
        """The same request with the same key, as if its answer had been lost."""
        if self.jobs:
            _, made = self.chance.choice(self.jobs[-20:])
            again = self.ask("POST", "/v1/jobs", made["body"], key=made["key"])
            self.note({"key": made["key"], "spec": made["spec"], "job_id": again["id"]})

    def pause_and_resume(self) -> None:
        live = self.live()
        if live:
            job_id = self.chance.choice(live)
            self.ask("POST", f"/v1/jobs/{job_id}/pause")
            time.sleep(self.chance.uniform(0.0, 0.5))
            self.ask("POST", f"/v1/jobs/{job_id}/resume")

    def live(self) -> list[str]:
        """Its own jobs that have not ended, as far as it knows."""
        found = [job for job, _ in self.jobs[-3 * LIVE_JOBS :]]
        return [job for job in found if not self.ask("GET", f"/v1/jobs/{job}")["terminal"]]

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Json:
        """The answer, asked for as often as it takes. One that is no promise is noted."""
        headers = {} if key is None else {"Idempotency-Key": key}
        while True:
            try:
                answer = self.http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code < 500:
                found: Json = answer.json()
                return found
            self.note({"status": answer.status_code, "headers": dict(answer.headers)})
            time.sleep(0.1)

    def note(self, entry: Json) -> None:
        self.journal.write(json.dumps(entry) + "\n")
        self.journal.flush()
        os.fsync(self.journal.fileno())


def prelude(url: str, folder: Path) -> None:
    """Leaves the dataset's id, and the job of each kind that ran undisturbed."""
    with httpx.Client(base_url=url, timeout=60.0) as http:
        uploaded = http.post(
            "/v1/datasets", content=csv_of(table()), headers={"content-type": "text/csv"}
        )
        dataset_id = uploaded.json()["id"]
        (folder / "dataset").write_text(dataset_id)
        jobs = {}
        for name, spec in SPECS.items():
            created = http.post("/v1/jobs", json={"dataset_id": dataset_id, **spec}).json()
            while not http.get(f"/v1/jobs/{created['id']}").json()["terminal"]:
                time.sleep(0.05)
            jobs[name] = created["id"]
    (folder / "undisturbed").write_text(json.dumps(jobs))
