"""A storm: faults, then calm, then the checker. Prints a report as JSON; 1 if anything is wrong."""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# One thread, set before NumPy is imported: a process with more cannot be forked safely.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from rich.progress import Progress
from sqlalchemy import func, select

from app.settings import Settings
from app.storage import migrations
from app.storage.database import Database
from app.storage.tables import JobRow, JobTransitionRow
from tests.postgres import running_postgres
from tests.storm import checker, nemesis
from tests.storm.breakages import BREAKAGES
from tests.storm.children import Plan
from tests.storm.machine import Machine, machine

CLIENTS = 2
CALM_SECONDS_MAX = 120.0
PRELUDE_SECONDS_MAX = 120.0
SETTINGS = {
    "LEASE_SECONDS": 1.5,
    "HEARTBEAT_SECONDS": 0.05,
    "DISPATCH_SECONDS": 0.2,
    "ATTEMPTS_MAX": 1_000_000,
    "DATABASE_BUSY_SECONDS": 10.0,
}


def main() -> int:
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="backsolve-storm-") as name:
        folder = Path(options.folder or name)
        folder.mkdir(exist_ok=True)
        with database_of(options.database, folder) as url:
            report = storm(plan_of(options, folder, url), options.faults, options.pace)
    json.dump(report, sys.stdout, indent=2)
    print()
    return 1 if report["violations"] else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--pace", type=float, default=0.2, help="Mean seconds between faults.")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--breakage", choices=sorted(BREAKAGES), help="Break the build like this.")
    parser.add_argument("--folder", help="Where to leave everything, for a look afterwards.")
    return parser.parse_args()


@contextmanager
def database_of(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'backsolve.db'}"
        return
    with running_postgres(durable=True) as url:
        yield url


def plan_of(options: argparse.Namespace, folder: Path, url: str) -> Plan:
    given = {**SETTINGS, "DATABASE_URL": url, "DATA_DIR": folder}
    os.environ.update({f"BACKSOLVE_{name}": str(value) for name, value in given.items()})
    settings = Settings()
    database = Database(url, busy_seconds=10)
    migrations.upgrade(database)
    database.dispose()
    return Plan(folder, settings, options.seed, options.breakage)


def storm(plan: Plan, faults: int, pace: float) -> dict[str, Any]:
    chance = random.Random(plan.seed)
    calm = plan.folder / "calm"
    calm.touch()
    with machine(plan, chance) as running:
        in_peace(running)
        calm.unlink()
        started = time.monotonic()
        for _ in range(CLIENTS):
            running.start("client")
        struck = rage(running, faults, pace)
        storm_seconds = time.monotonic() - started
        calm.touch()
        until_ended(running)
        deaths = dict(running.deaths)
    database = Database(plan.settings.resolved_database_url, busy_seconds=10)
    report = {
        "seed": plan.seed,
        "database": database.engine.dialect.name,
        "breakage": plan.breakage,
        "faults": struck.total() + len(failpoints(plan)),
        "struck": dict(struck),
        "failpoints": dict(Counter(failpoints(plan))),
        "deaths": deaths,
        "storm_seconds": round(storm_seconds, 1),
        "calm_seconds": round(time.monotonic() - started - storm_seconds, 1),
        **counts(database),
        "violations": checker.violations(database, plan.folder),
    }
    database.dispose()
    return report


def rage(running: Machine, faults: int, pace: float) -> Counter[str]:
    """Faults of all kinds, until there have been so many; deaths at failpoints count too."""
    struck: Counter[str] = Counter()
    with Progress(disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("storm", total=faults)
        while (done := struck.total() + len(failpoints(running.plan))) < faults:
            bar.update(task, completed=done)
            running.run(running.chance.uniform(0.2 * pace, 1.8 * pace))
            name = nemesis.strike(running)
            if name is not None:
                struck[name] += 1
    return struck


def failpoints(plan: Plan) -> list[str]:
    path = plan.folder / "failpoints"
    return path.read_text().split() if path.exists() else []


def in_peace(running: Machine) -> None:
    running.start("prelude")
    assert are_gone(running, "prelude", PRELUDE_SECONDS_MAX), (
        running.plan.folder / "log"
    ).read_text()


def until_ended(running: Machine) -> None:
    """Gives the jobs as long as they may need; those that have not ended are found out."""
    if are_gone(running, "client", CALM_SECONDS_MAX):
        running.start("watcher")
        are_gone(running, "watcher", CALM_SECONDS_MAX)
    # What is frozen still wakes up, and must change nothing.
    while any(child.frozen_until for child in running.children.values()):
        running.run(0.1)
    running.run(1.0)


def are_gone(running: Machine, role: str, seconds_max: float) -> bool:
    """Whether all of a role have ended in time."""
    deadline = time.monotonic() + seconds_max
    while running.of(role) and time.monotonic() < deadline:
        running.run(0.1)
    return not running.of(role)


def counts(database: Database) -> dict[str, int]:
    with database.reading() as session:
        reasons = Counter(session.scalars(select(JobTransitionRow.reason)))
        jobs = session.scalar(select(func.count()).select_from(JobRow)) or 0
    names = ("worker_lost", "worker_stopped", "paused_by_user", "finished")
    return {"jobs": jobs, **{name: reasons[name] for name in names}}


if __name__ == "__main__":
    sys.exit(main())
