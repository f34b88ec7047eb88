"""How quickly jobs are delivered, and how fast they go on after a death: `dev.py bench jobs`.

Everything runs as users run it: the service as processes of its own, spoken to over HTTP. Times are
the caller's, from sending the request, unless a column says that they are the service's.
"""

import argparse
import os
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from bench._report import environment, environment_lines
from bench._service import ENDLESS_JOB, IRIS_JOB, LONG_JOB, Caller, Json, iris, noise, service

CALLERS = 4
LONG_JOBS = 4
LEASE_SECONDS = 10.0
SETTLING_SECONDS = 5.0
DATABASES = ("sqlite", "postgresql")


class Latency(NamedTuple):
    """Seconds of each job, run one after the other."""

    caller: list[float]
    service: list[float]


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def latency(caller: Caller, jobs: int) -> Latency:
    """One job at a time, awaited with `Prefer: wait`."""
    dataset_id = caller.upload(iris())
    found = Latency([], [])
    for _ in range(jobs):
        started = time.perf_counter()
        job = caller.create(dataset_id, IRIS_JOB, wait_seconds=30)
        found.caller.append(time.perf_counter() - started)
        caller.ended(job["id"])
        found.service.append(seconds_between(job["created_at"], job["ended_at"]))
    return found


class Throughput(NamedTuple):
    """Of many jobs that are sent at once, until the last has ended.

    `processor_seconds` is what all processes but this one spend on a job, `gap_seconds` the median
    from a job's end to the start of the next one on its worker, and `run_seconds` between the two.
    """

    jobs_per_second: float
    processor_seconds: float
    run_seconds: float
    gap_seconds: float


def throughput(caller: Caller, jobs: int) -> Throughput:
    dataset_id = caller.upload(iris())
    spent = processor_seconds()
    with ThreadPoolExecutor(CALLERS) as callers:
        started = time.perf_counter()
        made = list(callers.map(lambda _: caller.create(dataset_id, IRIS_JOB)["id"], range(jobs)))
    for job_id in reversed(made):
        caller.ended(job_id)
    seconds = time.perf_counter() - started
    spent = processor_seconds() - spent
    runs, gaps = runs_and_gaps([caller.job(job_id) for job_id in made])
    return Throughput(
        jobs / seconds, spent / jobs, statistics.median(runs), statistics.median(gaps)
    )


def processor_seconds() -> float:
    """What the service and its database have spent so far."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(spent.user + spent.system for spent in times)


def runs_and_gaps(jobs: list[Json]) -> tuple[list[float], list[float]]:
    """How long each job ran, and what lay between two on the same worker."""
    moves = sorted((job["transitions"][-2:] for job in jobs), key=lambda pair: str(pair[0]["at"]))
    runs = [seconds_between(claimed["at"], ended["at"]) for claimed, ended in moves]
    gaps = []
    for worker in {claimed["worker"] for claimed, _ in moves}:
        its = [pair for pair in moves if pair[0]["worker"] == worker]
        gaps += [seconds_between(a[1]["at"], b[0]["at"]) for a, b in pairwise(its)]
    return runs, gaps


def long_jobs_seconds(caller: Caller) -> float:
    dataset_id = caller.upload(noise())
    started = time.perf_counter()
    made = [caller.create(dataset_id, LONG_JOB)["id"] for _ in range(LONG_JOBS)]
    for job_id in made:
        caller.ended(job_id)
    return time.perf_counter() - started


def recovery_seconds(caller: Caller, number: signal.Signals) -> float:
    """From a worker's death, or its freezing, until its job goes on elsewhere."""
    job_id = caller.create(caller.upload(noise()), ENDLESS_JOB)["id"]
    job = caller.until(job_id, lambda job: job["progress"] is not None)
    pid = int(job["transitions"][-1]["worker"].rpartition(":")[2])
    os.kill(pid, number)
    started = time.perf_counter()
    caller.until(job_id, lambda job: job["attempt"] == 2)
    seconds = time.perf_counter() - started
    if number == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
    caller.cancel(job_id)
    time.sleep(SETTLING_SECONDS)  # until the worker that died has been replaced
    return seconds


def main() -> None:
    options = parsed()
    console = Console()
    console.print(*environment_lines(environment()), sep="\n")
    small = Table("database", "p50 ms", "p95 ms", "service p50 ms")
    many = Table("database", "jobs/s, 2 workers", "processor ms", "run ms", "gap ms")
    scale = Table("database", "1 worker s", "2 workers s", "x")
    deaths = Table("database", "killed s", f"frozen s (lease {LEASE_SECONDS:g} s)")
    for database in options.databases:
        with console.status(f"{database}: small jobs"), service(database) as caller:
            times = latency(caller, options.jobs)
            rate = throughput(caller, 2 * options.jobs)
        small.add_row(database, *milliseconds(times))
        many.add_row(database, f"{rate.jobs_per_second:.0f}", *map(ms, rate[1:]))
        with console.status(f"{database}: one worker and two"):
            scale.add_row(database, *scaling(database, options.repeats))
        with (
            console.status(f"{database}: deaths"),
            service(database, LEASE_SECONDS=LEASE_SECONDS) as caller,
        ):
            killed = [recovery_seconds(caller, signal.SIGKILL) for _ in range(options.repeats)]
            frozen = recovery_seconds(caller, signal.SIGSTOP)
        deaths.add_row(database, ", ".join(f"{s:.2f}" for s in killed), f"{frozen:.1f}")
    console.print("Small jobs: iris, closed form, one after the other", small)
    console.print(f"{2 * options.jobs} of them at once: of each job, and between two", many)
    console.print(f"{LONG_JOBS} independent jobs, medians of interleaved runs", scale)
    console.print("Until the job of a worker goes on elsewhere", deaths)


def milliseconds(times: Latency) -> tuple[str, str, str]:
    p95 = statistics.quantiles(times.caller, n=20)[-1]
    return ms(statistics.median(times.caller)), ms(p95), ms(statistics.median(times.service))


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}"


def scaling(database: str, repeats: int) -> tuple[str, str, str]:
    """Both services are up throughout and take turns, so that the machine's moods hit both."""
    with service(database, WORKERS=1) as one, service(database, WORKERS=2) as two:
        times = [(long_jobs_seconds(one), long_jobs_seconds(two)) for _ in range(repeats)]
    ratio = statistics.median(first / second for first, second in times)
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{first:.1f}", f"{second:.1f}", f"{ratio:.2f}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench jobs", description=__doc__)
    parser.add_argument("--databases", nargs="+", default=DATABASES, choices=DATABASES)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
