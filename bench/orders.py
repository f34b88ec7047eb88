"""How soon a worker does what it is told: `dev.py bench orders`.

SIGTERM: until the process has ended, its job given back with a checkpoint. Cancel, pause and stop:
from the request to the new state, asked in the middle of an epoch of some seconds.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench._service import ENDLESS_JOB, Caller, Columns, Json, noise
from bench.vanish import migrate
from tests.journeys.machines import Machines
from tests.postgres import running_postgres

REPEATS = 5
ACTIONS = ("cancel", "pause", "stop")
# One epoch is 240,000 steps.
LONG_EPOCHS: Json = {
    "targets": ["y"],
    "solver": {
        "name": "gradient_descent",
        "epochs": 1000,
        "tolerance": 0.0,
        "batch_size": 1,
        "learning_rate": 1e-6,
    },
    "early_stopping": None,
}


def tall() -> Columns:
    random = np.random.default_rng(0)
    columns = {f"x{k}": random.normal(size=300_000) for k in range(4)}
    return columns | {"y": random.normal(size=300_000)}


def stopped_after(machines: Machines, caller: Caller, dataset_id: str) -> float:
    """Seconds until the worker of a running job has ended; another one takes its place."""
    job_id = caller.create(dataset_id, ENDLESS_JOB)["id"]
    job = caller.until(job_id, lambda job: job["progress"] is not None)
    pid = int(job["transitions"][-1]["worker"].rpartition(":")[2])
    name = next(name for name, process in machines.processes.items() if process.pid == pid)
    started = time.perf_counter()
    code = machines.stop(name)
    seconds = time.perf_counter() - started
    reasons = [move["reason"] for move in caller.job(job_id)["transitions"]]
    if code or "worker_stopped" not in reasons:
        raise RuntimeError(f"the worker ended with {code}, its job with {reasons}")
    caller.cancel(job_id)
    machines.start(name, "worker")
    return seconds


def obeyed_after(caller: Caller, dataset_id: str, action: str) -> float:
    """Seconds from the request until the job runs no more."""
    job_id = caller.create(dataset_id, LONG_EPOCHS)["id"]
    # A stop needs an epoch that it can keep.
    caller.until(job_id, lambda job: (job["progress"] or {}).get("epoch", -1) >= 0)
    time.sleep(0.5)
    started = time.perf_counter()
    caller.http.post(f"/v1/jobs/{job_id}/{action}").raise_for_status()
    job = caller.until(job_id, lambda job: job["state"] != "running")
    seconds = time.perf_counter() - started
    if not job["terminal"]:
        caller.cancel(job_id)
    return seconds


def main() -> None:
    table = Table("order", "median s", "longest s")
    with (
        tempfile.TemporaryDirectory(prefix="backsolve-bench-") as name,
        running_postgres(durable=True) as url,
        Machines(
            Path(name),
            BACKSOLVE_DATABASE_URL=url,
            BACKSOLVE_STORAGE_URL=str(Path(name) / "blobs"),
        ) as machines,
    ):
        migrate(url)
        machines.start_all(workers=2)
        caller = Caller(machines.url)
        small, large = caller.upload(noise()), caller.upload(tall())
        found = {
            "SIGTERM": [
                stopped_after(machines, caller, small) for _ in track(range(REPEATS), "SIGTERM")
            ]
        }
        for action in ACTIONS:
            found[action] = [
                obeyed_after(caller, large, action) for _ in track(range(REPEATS), action)
            ]
    for order, seconds in found.items():
        table.add_row(order, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
