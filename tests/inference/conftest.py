"""One service on SQLite for all that only asks models: invert never looks at the database."""

from collections.abc import Iterator

import httpx
import pytest

from app.jobs.training_run import run_on
from app.jobs.worker import worker_of
from app.settings import Settings
from tests.builders import Api
from tests.conftest import migrated_url
from tests.inference.lab import Lab
from tests.servers import serving


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Its models are trained once, when a test first asks for them."""
    folder = tmp_path_factory.mktemp("lab")
    settings = Settings(database_url=migrated_url(request, "sqlite", folder), data_dir=folder)
    worker = worker_of(settings)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Lab(Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery)))
    worker.database.dispose()
