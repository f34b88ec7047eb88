"""Dask runs what the rows say. Dask's own view of a task is never read: only rows decide.

Each choice here has a reason in docs/decisions/0003: a key is never used twice, no result is kept,
workers hold no memory limit of Dask's, and the scheduler never gives up on a task by itself.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dask
from distributed import Client, LocalCluster, Security, Worker, fire_and_forget

from app.jobs import training_run
from app.jobs.cluster_programs import DASK_CONFIG, PRELOAD
from app.jobs.credentials import Credentials, credentials_of
from app.settings import Settings

# What a worker that is stopped or killed prints is no news: rows and dispatcher tell it.
QUIET_WORKERS = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}
CONNECT_SECONDS = 30
ANSWER_SECONDS = 10
CLOSE_SECONDS = 5


class SchedulerState(NamedTuple):
    """`generation` changes when the scheduler was started anew and has forgotten everything.

    `slots` is how many jobs can run at once.
    """

    generation: str
    slots: int


class Cluster(NamedTuple):
    client: Client

    def state(self) -> SchedulerState:
        """Raises OSError while the scheduler is away.

        Asked directly: `Client.scheduler_info` hides errors behind what it knew before, and a
        client that has to reconnect is slower at it than a new one.
        """
        if self.client.status != "running" or self.client.scheduler is None:
            raise ConnectionError("the scheduler is away")
        identity = self.client.sync(
            self.client.scheduler.identity, n_workers=0, callback_timeout=ANSWER_SECONDS
        )
        return SchedulerState(str(identity["id"]), int(identity["total_threads"]))

    def deliver(self, job_id: str, delivery: int) -> None:
        """Runs the job on some worker. The same delivery twice is one run."""
        future = self.client.submit(
            training_run.run,
            job_id,
            delivery,
            key=f"job-{job_id}-{delivery}",
            pure=False,
            fifo_timeout="0ms",
        )
        fire_and_forget(future)


@contextmanager
def local_cluster(workers: int, folder: Path) -> Iterator[Cluster]:
    """Worker processes on this machine, reachable from nowhere else and by nobody else.

    Dask keeps its own files in `folder`. Raises OSError if a worker does not come to life.
    """
    with (
        dask.config.set({**DASK_CONFIG, **QUIET_WORKERS, "temporary-directory": str(folder)}),
        started_workers(workers) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Cluster(client)


def started_workers(workers: int) -> LocalCluster:
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=Security.temporary(),
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            preload=[PRELOAD],
        )
    except RuntimeError as error:
        raise ConnectionError("a worker died while it was being started") from error


@contextmanager
def remote_cluster(address: str, credentials: Credentials | None) -> Iterator[Cluster]:
    """A cluster that runs elsewhere. Raises OSError while its scheduler cannot be reached."""
    with (
        dask.config.set(dict(DASK_CONFIG)),
        Client(
            address,
            timeout=CONNECT_SECONDS,
            set_as_default=False,
            security=None if credentials is None else security(credentials),
        ) as client,
    ):
        yield Cluster(client)


def work(settings: Settings, *, port: int, health_port: int) -> None:
    """Is a worker of a cluster, until a signal stops it or its scheduler is gone for good."""
    with dask.config.set(dict(DASK_CONFIG)):
        asyncio.run(working(settings, port=port, health_port=health_port))


async def working(settings: Settings, *, port: int, health_port: int) -> None:
    credentials = credentials_of(settings)
    worker = await Worker(
        settings.resolved_scheduler_address,
        nthreads=1,
        memory_limit=0,
        local_directory=str(settings.data_dir.resolve() / "workers"),
        port=port,
        dashboard=False,
        dashboard_address=f":{health_port}",
        preload=[PRELOAD],
        security=None if credentials is None else security(credentials),
    )
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    ends = [asyncio.create_task(asked.wait()), asyncio.create_task(worker.finished())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await worker.close(timeout=CLOSE_SECONDS)


def security(credentials: Credentials) -> Security:
    """For whichever side of a connection: nothing is said in plain."""
    ca, cert, key = map(str, credentials)
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=cert,
        tls_client_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
    )
