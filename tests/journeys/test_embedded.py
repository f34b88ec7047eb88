"""A dispatcher with workers of its own: they belong to it, and end with it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.journeys.caller import Caller
from tests.journeys.conftest import KINDS
from tests.journeys.test_deaths import LONG_SPEC, noisy_table
from tests.servers import ROOT, Service


def worker_folders(folder: Path) -> set[Path]:
    """Those in which Dask keeps what belongs to one worker process."""
    return {path for path in (folder / "workers").rglob("worker-*") if path.is_dir()}


@pytest.mark.slow
def test_workers_end_with_a_service_that_was_killed_and_their_folders_with_the_next(
    own_service: Service, own_caller: Caller, tmp_path: Path
) -> None:
    job_id = own_caller.queue(own_caller.upload(noisy_table()), ["y"], **LONG_SPEC)
    own_caller.wait(job_id, "running")
    assert own_service.process is not None
    family = psutil.Process(own_service.process.pid).children(recursive=True)
    left = worker_folders(tmp_path)

    own_service.process.send_signal(signal.SIGKILL)
    survivors = psutil.wait_procs(family, timeout=30)[1]
    own_service.process.wait()
    own_service.start()
    ended = own_caller.wait(job_id)

    assert len(family) >= 4
    assert survivors == []
    assert ended["state"] == "succeeded"
    assert left
    assert worker_folders(tmp_path) & left == set()


@pytest.mark.parametrize("url", KINDS, indirect=True)
def test_a_second_dispatcher_with_workers_of_its_own_is_refused(
    own_service: Service, own_caller: Caller
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "app", "dispatch"],
        cwd=ROOT,
        env=own_service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 1
    assert "Another dispatcher already has workers" in second.stderr
    job_id = own_caller.queue(own_caller.upload({"a": [1, 2, 3], "y": [2, 4, 6]}), ["y"])
    assert own_caller.wait(job_id)["attempt"] == 1
