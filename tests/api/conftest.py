"""One service for each database, with a dataset, a job and a model, shared by many small tests."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from app.jobs.training_run import run_on
from app.jobs.worker import worker_of
from app.settings import Settings
from tests.builders import Api
from tests.conftest import new_postgres
from tests.servers import serving

TABLE: dict[str, Any] = {
    "kind": ["u", "v"] * 20,
    "a": [float(number) for number in range(40)],
    "y": [3.0 * number + 1 for number in range(40)],
}


class Served(NamedTuple):
    """A running service and what is in it."""

    api: Api
    client: httpx.Client
    url: str
    dataset_id: str
    job_id: str
    model_id: str

    def filled(self, text: str) -> str:
        """The text with the ids of what exists in the place of DATASET, JOB and MODEL."""
        for word, value in (
            ("DATASET", self.dataset_id),
            ("JOB", self.job_id),
            ("MODEL", self.model_id),
        ):
            text = text.replace(word, value)
        return text


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Tests may add to it, and must leave alone what is there."""
    folder = tmp_path_factory.mktemp("served")
    if request.param == "sqlite":
        path = folder / "backsolve.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        url = f"sqlite:///{path}"
    else:
        url = new_postgres(request, template=request.getfixturevalue("postgres_template"))
    settings = Settings(database_url=url, data_dir=folder)
    worker = worker_of(settings)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=30) as client:
        api = Api(client, lambda job_id, delivery: run_on(worker, job_id, delivery))
        dataset_id = api.upload(TABLE)
        job = api.train(dataset_id, ["y"])
        yield Served(api, client, address, dataset_id, job["id"], job["model_id"])
    worker.database.dispose()
