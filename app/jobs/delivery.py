"""Dask runs what the rows say. Dask's own view of a task is never read: only rows decide.

Each choice here has a reason in docs/decisions/0003: a key is never used twice, no result is kept,
workers hold no memory limit of Dask's, and the scheduler never gives up on a task by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dask
from distributed import Client, LocalCluster, Security, fire_and_forget

from app.jobs import training_run

DASK_CONFIG = {
    # Every task on a dead worker counts as failed here, bystanders too; the rows count deaths.
    "distributed.scheduler.allowed-failures": 1000,
    # A frozen worker is found by its job's lease, so that a long computation is left alone.
    "distributed.scheduler.worker-ttl": "30 minutes",
    "distributed.comm.timeouts.tcp": "15s",
    "distributed.worker.profile.enabled": False,
    "distributed.diagnostics.nvml": False,
    # What a worker that is stopped or killed prints is no news: rows and dispatcher tell it.
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    "distributed.admin.large-graph-warning-threshold": "1GiB",
}
CONNECT_SECONDS = 30
ANSWER_SECONDS = 10


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

    Dask keeps its own files in `folder`.
    """
    with (
        dask.config.set(DASK_CONFIG | {"temporary-directory": str(folder)}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=Security.temporary(),
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            preload=["app.jobs.training_run"],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Cluster(client)


@contextmanager
def remote_cluster(address: str) -> Iterator[Cluster]:
    """A cluster that runs elsewhere. Raises OSError while its scheduler cannot be reached."""
    with (
        dask.config.set(DASK_CONFIG),
        Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client,
    ):
        yield Cluster(client)
