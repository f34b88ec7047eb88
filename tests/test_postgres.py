"""The throw-away PostgreSQL of the tests keeps its promises."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from tests import postgres

HOLDER = """
import time
from tests.postgres import running_postgres
with running_postgres() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def folder_of(url: str) -> Path:
    return Path(str(sa.make_url(url).query["host"]))


def wait_until_gone(folder: Path, data: Path, postmaster: int) -> None:
    deadline = time.monotonic() + 20
    while folder.exists() or data.exists() or psutil.pid_exists(postmaster):
        assert time.monotonic() < deadline, f"{folder}, {data} or the server is still there"
        time.sleep(0.05)


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKSOLVE_TEST_POSTGRES_URL", raising=False)


@pytest.mark.usefixtures("own_server")
def test_the_server_speaks_utf8_and_utc_and_is_private_to_its_folder() -> None:
    with postgres.running_postgres() as url:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            shown = {
                name: connection.scalar(sa.text(f"SHOW {name}"))
                for name in ("server_encoding", "timezone", "listen_addresses")
            }
            collation = connection.scalar(
                sa.text("SELECT datcollate FROM pg_database WHERE datname = 'postgres'")
            )
            in_utf8 = connection.scalar(sa.text("SELECT 'é' || chr(8364)"))
        engine.dispose()
        mode = folder_of(url).stat().st_mode

    assert shown == {"server_encoding": "UTF8", "timezone": "UTC", "listen_addresses": ""}
    assert (collation, in_utf8) == ("C", "é€")
    assert mode & 0o077 == 0


@pytest.mark.usefixtures("own_server")
def test_nothing_is_left_after_kill_9_of_the_tests() -> None:
    root = Path(postgres.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        folder = folder_of(holder.stdout.readline().strip())
        lock = (folder / ".s.PGSQL.5432.lock").read_text().split()
        postmaster, data = int(lock[0]), Path(lock[1])
        assert psutil.pid_exists(postmaster)

        os.kill(holder.pid, signal.SIGKILL)

        wait_until_gone(folder, data, postmaster)


def test_a_named_server_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKSOLVE_TEST_POSTGRES_URL", "postgresql+psycopg://named/server")

    with postgres.running_postgres() as url:
        assert url == "postgresql+psycopg://named/server"
