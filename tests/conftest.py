"""Real databases, real files, real processes; a fake only for time and for failure."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from threadpoolctl import threadpool_limits

from app.jobs.training_run import run_on
from app.jobs.worker import Worker, worker_of
from app.settings import Settings
from app.storage import migrations
from app.storage.database import Database
from tests.builders import Api
from tests.postgres import running_postgres
from tests.servers import serving

counter = itertools.count()

# The same examples in every run; tests say how many.
hypothesis_settings.register_profile("seeded", derandomize=True, database=None, deadline=None)
hypothesis_settings.load_profile("seeded")


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
    """The developer's own BACKSOLVE_ variables must not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("BACKSOLVE_") and not name.startswith("BACKSOLVE_TEST_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run on as many processes as there are cores: further threads would only wait."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """The name of a migrated database, which PostgreSQL copies faster than it is migrated."""
    name = f"backsolve_template_{os.getpid()}"
    create_postgres(postgres_url, name, template="template0")
    database = Database(database_url(postgres_url, name), busy_seconds=10)
    migrations.upgrade(database)
    database.dispose()
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "backsolve.db"
    database = Database(f"sqlite:///{path}", busy_seconds=10)
    migrations.upgrade(database)
    database.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return new_postgres(request, template="template0")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database, once on each kind."""
    return migrated_url(request, request.param, tmp_path)


def migrated_url(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    if kind == "sqlite":
        path = folder / "backsolve.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        return f"sqlite:///{path}"
    return new_postgres(request, template=request.getfixturevalue("postgres_template"))


def new_postgres(request: pytest.FixtureRequest, *, template: str) -> str:
    """The URL of a new database, which is dropped when the fixture that asked for it ends."""
    server: str = request.getfixturevalue("postgres_url")
    name = f"backsolve_{os.getpid()}_{next(counter)}"
    create_postgres(server, name, template=template)
    request.addfinalizer(lambda: administer(server, f'DROP DATABASE "{name}" WITH (FORCE)'))
    return database_url(server, name)


def create_postgres(server: str, name: str, *, template: str) -> None:
    # Copying files is several times faster than writing them through the log.
    administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')


def administer(server: str, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def database_url(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=url, data_dir=tmp_path, heartbeat_seconds=0.05)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.resolved_database_url, busy_seconds=10)
    yield database
    database.dispose()


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    def abandon() -> None:
        raise AssertionError("a run did not end in time: its process, this one, would have")

    worker = worker_of(settings)._replace(abandon=abandon)
    yield worker
    worker.database.dispose()


@pytest.fixture
def api(settings: Settings, worker: Worker) -> Iterator[Api]:
    """The API on a real socket; its jobs run in this process, when `api.train` asks for it."""
    with serving(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))
