"""What the programs of a cluster are told."""

import importlib
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from app.jobs.cluster_programs import DASK_CONFIG, THREADS, scheduler_program, worker_program
from app.jobs.credentials import credentials_of, files_in, make_credentials
from app.settings import Settings
from tests.servers import ROOT

ADDRESS = "tcp://127.0.0.1:8786"


def test_every_row_of_the_configuration_is_one_that_dask_knows() -> None:
    """A name with a mistake in it would be taken, and do nothing."""
    importlib.import_module("distributed")  # it brings its part of the configuration
    known = {name for name in DASK_CONFIG if dask.config.get(name, default=dask) is not dask}

    assert set(DASK_CONFIG) - known == set()


SHOWN = """
import sys, dask, distributed
from app.jobs.cluster_programs import DASK_CONFIG
print({name: dask.config.get(name) for name in DASK_CONFIG} == dict(DASK_CONFIG))
"""


def test_the_scheduler_is_told_the_configuration_by_its_environment() -> None:
    program = scheduler_program(Settings(scheduler_address=ADDRESS), health_port=0)

    done = subprocess.run(
        [sys.executable, "-c", SHOWN],
        cwd=ROOT,
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "True\n", done.stderr


def test_a_worker_computes_with_one_thread_from_the_start() -> None:
    program = worker_program(Settings(scheduler_address=ADDRESS), port=0, health_port=0)

    assert program.environment.items() >= THREADS.items()
    assert THREADS["OMP_NUM_THREADS"] == "1"


def test_nothing_but_health_is_told_in_plain_http() -> None:
    for role in ("scheduler", "worker"):
        assert DASK_CONFIG[f"distributed.{role}.http.routes"] == ["distributed.http.health"]


def test_with_certificates_the_scheduler_is_told_of_them_and_of_no_plain_protocol(
    tmp_path: Path,
) -> None:
    make_credentials(tmp_path)
    settings = Settings(scheduler_address=ADDRESS, tls_dir=str(tmp_path))

    words = scheduler_program(settings, health_port=0).words

    assert "--protocol=tls" in words
    assert f"--tls-ca-file={tmp_path / 'ca.pem'}" in words
    assert not any("tcp" in word for word in words)


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_a_missing_certificate_is_named_and_nothing_starts(tmp_path: Path, role: str) -> None:
    make_credentials(tmp_path)
    (tmp_path / "key.pem").unlink()

    done = subprocess.run(
        [sys.executable, "-m", "app", role],
        cwd=ROOT,
        env={"BACKSOLVE_SCHEDULER_ADDRESS": ADDRESS, "BACKSOLVE_TLS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == f"BACKSOLVE_TLS_DIR: there is no {tmp_path / 'key.pem'}\n"


def test_certificates_are_made_once_and_only_their_owner_reads_the_key(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "app", "certificates", str(tmp_path / "tls")]
    first, second = (
        subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        for _ in range(2)
    )

    files = credentials_of(Settings(tls_dir=str(tmp_path / "tls")))
    assert files == files_in(tmp_path / "tls")
    assert (first.returncode, second.returncode) == (0, 1), first.stderr + second.stderr
    assert "is there already" in second.stderr
    assert files is not None
    assert files.key.stat().st_mode & 0o777 == 0o600
