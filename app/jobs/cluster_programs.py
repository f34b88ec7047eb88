"""The programs of a cluster on several machines, and what they tell Dask.

Each choice has its reason in docs/decisions/0003.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from app.jobs.credentials import credentials_of
from app.settings import Settings

DASK_CONFIG: Mapping[str, Any] = {
    # Every task on a dead worker counts as failed here, bystanders too; the rows count deaths.
    "distributed.scheduler.allowed-failures": 1000,
    # A frozen worker is found by its job's lease, so that a long computation is left alone.
    "distributed.scheduler.worker-ttl": "30 minutes",
    # So long after a death Dask gives up whoever starts that worker anew, if it is down just then,
    # be it from another death. A worker that is gone for good is missed by the dispatcher.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # Half of the default: a machine that vanishes without a word is noticed in about 12 s.
    "distributed.comm.timeouts.tcp": "15s",
    "distributed.worker.profile.enabled": False,
    # Dask looks at itself fifty times a second in every process, which takes the GIL from training.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "30s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.diagnostics.nvml": False,
    "distributed.admin.large-graph-warning-threshold": "1GiB",
    # Served in plain HTTP, to whoever asks.
    "distributed.scheduler.http.routes": ["distributed.http.health"],
    "distributed.worker.http.routes": ["distributed.http.health"],
}
# A second thread adds up in another order, and is no gain on a busy machine.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# The first job would wait for the import.
PRELOAD = "app.jobs.training_run"


class Program(NamedTuple):
    """To be started in place of this process: numpy must find its environment when it is loaded."""

    words: list[str]
    environment: dict[str, str]


def scheduler_program(settings: Settings, *, health_port: int) -> Program:
    """Dask's own. It listens where BACKSOLVE_SCHEDULER_ADDRESS says that it is.

    Raises FileNotFoundError if a certificate is missing.
    """
    address = urlsplit(settings.resolved_scheduler_address)
    words = [
        f"--protocol={address.scheme}",
        f"--host={address.hostname}",
        f"--port={address.port}",
        "--no-dashboard",
        f"--dashboard-address=:{health_port}",
        f"--preload={PRELOAD}",
    ]
    credentials = credentials_of(settings)
    if credentials is not None:
        words += [
            f"--tls-ca-file={credentials.ca}",
            f"--tls-cert={credentials.cert}",
            f"--tls-key={credentials.key}",
        ]
    config = dict(map(as_variable, DASK_CONFIG.items()))
    return program("distributed.cli.dask_scheduler", words, config)


def worker_program(settings: Settings, *, port: int, health_port: int) -> Program:
    """Ours: Dask's own gives no job back when it is told to stop.

    Raises FileNotFoundError if a certificate is missing.
    """
    credentials_of(settings)
    return program("app.jobs.cluster_worker", [str(port), str(health_port)], {})


def program(module: str, words: list[str], environment: dict[str, str]) -> Program:
    return Program([sys.executable, "-m", module, *words], {**os.environ, **THREADS, **environment})


def as_variable(item: tuple[str, Any]) -> tuple[str, str]:
    """A row of Dask's configuration as the environment variable that sets it."""
    name, value = item
    return "DASK_" + name.replace(".", "__").replace("-", "_").upper(), str(value)
