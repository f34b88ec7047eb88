"""How long until the job of a machine that vanishes goes on elsewhere: `dev.py bench vanish`.

Root only: the machine is a network namespace, and vanishes when its cable is pulled. Scheduler,
dispatcher, API and another worker stay. The database is reached by a Unix socket, so that the
worker that vanished renews its lease all the while: what is measured is the scheduler's notice.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.settings import Settings
from app.storage import migrations
from app.storage.database import database_of
from bench._service import ENDLESS_JOB, Caller, noise
from tests.journeys.machines import Machines, answers
from tests.postgres import running_postgres

SPACE = "backsolve-away"
NEAR, FAR = "10.213.77.1", "10.213.77.2"
REPEATS = 3


def main() -> int:
    console = Console()
    if os.geteuid() != 0:
        console.print("Only root can make a machine vanish.")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="backsolve-bench-") as name,
        running_postgres() as url,
        away_machine(),
    ):
        migrate(url)
        with Machines(
            Path(name),
            BACKSOLVE_DATABASE_URL=url,
            BACKSOLVE_STORAGE_URL=str(Path(name) / "blobs"),
        ) as machines:
            address = f"tcp://{NEAR}:{machines.scheduler_port}"
            machines.environment["BACKSOLVE_SCHEDULER_ADDRESS"] = address
            machines.start_scheduler()
            machines.start("api", "serve")
            machines.start("dispatcher", "dispatch")
            machines.until(lambda: answers(f"{machines.url}/readyz"))
            with console.status("a machine vanishes"):
                seconds = [vanish_seconds(machines) for _ in range(REPEATS)]
    found = ", ".join(f"{value:.1f}" for value in seconds)
    console.print(
        f"The job went on elsewhere after {found} s; median {statistics.median(seconds):.1f} s"
    )
    return 0


def migrate(url: str) -> None:
    database = database_of(Settings(database_url=url))
    migrations.upgrade(database)
    database.dispose()


@contextmanager
def away_machine() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        ip("link", "add", "bs-near", "type", "veth", "peer", "name", "bs-far", "netns", SPACE)
        ip("addr", "add", f"{NEAR}/24", "dev", "bs-near")
        ip("link", "set", "bs-near", "up")
        inside("ip", "addr", "add", f"{FAR}/24", "dev", "bs-far")
        inside("ip", "link", "set", "bs-far", "up")
        inside("ip", "link", "set", "lo", "up")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def inside(*words: str) -> None:
    subprocess.run(["ip", "netns", "exec", SPACE, *words], check=True)


def vanish_seconds(machines: Machines) -> float:
    """The away machine gets a job, another one starts, and the cable is pulled."""
    environment = {**machines.environment, "BACKSOLVE_DATA_DIR": str(machines.folder / "away")}
    with (machines.folder / "away.log").open("ab") as log:
        away = subprocess.Popen(
            ["ip", "netns", "exec", SPACE, sys.executable, "-m", "app", "worker"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    caller = Caller(machines.url)
    job_id = caller.create(caller.upload(noise()), ENDLESS_JOB)["id"]
    caller.until(job_id, lambda job: job["progress"] is not None)
    machines.start("worker", "worker")
    time.sleep(5.0)
    ip("link", "set", "bs-near", "down")
    pulled_at = time.monotonic()
    caller.until(job_id, lambda job: job["attempt"] == 2)
    seconds = time.monotonic() - pulled_at
    caller.cancel(job_id)
    away.kill()
    away.wait()
    machines.kill("worker")
    ip("link", "set", "bs-near", "up")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
